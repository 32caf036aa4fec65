"""``blendlaw check``: lint a plan, and show what each stage trains on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import emit, json_option, load, table

if TYPE_CHECKING:
    from blendlaw.lint import Lint


@click.command("check")
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@click.option(
    "--fit",
    "fit_file",
    type=click.Path(),
    help="The fit.json for stages by law.",
)
@click.option(
    "--blend",
    "blend_file",
    type=click.Path(),
    help="Hold this Megatron blend file against the plan.",
)
@click.option("--stage", "stage_name", help="The stage of --blend [default: the first].")
@json_option
@click.pass_context
def command(
    context: click.Context,
    plan_file: str,
    fit_file: str | None,
    blend_file: str | None,
    stage_name: str | None,
    as_json: bool,
) -> None:
    """Check PLAN: weights, tokens and epochs per language and stage, and what may go wrong.

    Exits with 1 if there is an error; warnings and stages that wait for a fit are not errors.
    """
    from blendlaw.blend import read_blend
    from blendlaw.errors import InputError
    from blendlaw.fitted import Fit
    from blendlaw.lint import from_blend, lint
    from blendlaw.plan import read_plan

    if stage_name and not blend_file:
        raise click.UsageError("--stage says which stage --blend is of")
    plan = read_plan(plan_file)
    fixed = {}
    if blend_file:
        stage = plan.stage(stage_name) if stage_name else plan.stages[0]
        splits = read_blend(blend_file)
        try:
            fixed[stage.name] = from_blend(plan, splits)
        except InputError as error:
            raise InputError(error.problem, blend_file, value=error.value) from None
    found = lint(plan, load(fit_file, Fit.from_json) if fit_file else None, fixed)
    emit(json.dumps(asdict(found), indent=2) if as_json else _as_text(found))
    if found.errors:
        context.exit(1)


def _as_text(found: Lint) -> str:
    rows = [
        [
            row.stage,
            row.language,
            f"{row.weight:.4f}"
            + (f" (asked {row.requested:.4f})" if abs(row.weight - row.requested) > 1e-6 else ""),
            f"{row.tokens:.4g}",
            _epochs(row.epochs),
            f"{row.total_tokens:.4g}",
            _epochs(row.total_epochs),
        ]
        for row in found.rows
    ]
    columns = ["stage", "language", "weight", "tokens", "epochs", "total tokens", "total epochs"]
    lines = [table(columns, rows)] if rows else []
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"warning: {warning}" for warning in found.warnings]
    lines += [f"error: {error}" for error in found.errors]
    if not found.errors:
        lines.append("no errors")
    return "\n".join(lines)


def _epochs(epochs: float | None) -> str:
    return "?" if epochs is None else f"{epochs:.2f}"
