"""``blendlaw check``: lint a plan and a training command, and show what each stage trains on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from blendlaw.cli import check_launch
from blendlaw.cli.common import emit, json_option, load, table

if TYPE_CHECKING:
    from blendlaw.lint import Lint
    from blendlaw.plan import Plan
    from blendlaw.precision import Version


@click.command("check")
@click.argument("plan_file", metavar="[PLAN]", required=False, type=click.Path())
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
@click.option(
    "--command",
    "command_file",
    type=click.Path(),
    help="Check the training command in this script (- is stdin), against the plan if it is given.",
)
@click.option("--gpus", type=click.IntRange(1), help="Ranks, instead of what the script starts.")
@click.option("--megatron", callback=check_launch.megatron, help="The version it is for.")
@click.option("--env", "ask", is_flag=True, help="What is installed here, and for what it is fit.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    plan_file: str | None,
    fit_file: str | None,
    blend_file: str | None,
    stage_name: str | None,
    command_file: str | None,
    gpus: int | None,
    megatron: Version | None,
    ask: bool,
    as_json: bool,
) -> None:
    """Check PLAN: weights, tokens and epochs per language and stage, and what may go wrong.

    With --command, check a launch script too, which is read and never run; with --env, what is
    installed. Exits with 1 if there is an error; warnings and stages that wait for a fit are none.
    """
    if not (plan_file or command_file or ask):
        raise click.UsageError("nothing to check: give a PLAN, --command or --env")
    if (fit_file or blend_file or stage_name) and not plan_file:
        raise click.UsageError("--fit, --blend and --stage go with a PLAN")
    if stage_name and not blend_file:
        raise click.UsageError("--stage says which stage --blend is of")
    if (gpus or megatron) and not command_file:
        raise click.UsageError("--gpus and --megatron go with --command")
    result: dict[str, Any] = {}
    said, errors = [], 0
    plan = None
    if plan_file:
        plan, found = _linted(plan_file, fit_file, blend_file, stage_name)
        result |= asdict(found)
        said.append(_as_text(found))
        errors += len(found.errors)
    environment = None
    if ask:
        from blendlaw.environment import probe

        environment = probe()
        result["environment"] = [asdict(part) for part in environment.parts]
        said.append(check_launch.told(environment))
    if command_file:
        launch = check_launch.lint_command(command_file, gpus, megatron, plan, environment)
        result["launch"] = asdict(launch)
        said.append(str(launch))
        errors += len(launch.of("error"))
    if not errors and (plan_file or command_file):
        said.append("no errors")
    emit(json.dumps(result, indent=2) if as_json else "\n".join(filter(None, said)))
    if errors:
        context.exit(1)


def _linted(
    plan_file: str, fit_file: str | None, blend_file: str | None, stage_name: str | None
) -> tuple[Plan, Lint]:
    from blendlaw.blend import read_blend
    from blendlaw.errors import InputError
    from blendlaw.fitted import Fit
    from blendlaw.lint import from_blend, lint
    from blendlaw.plan import read_plan

    plan = read_plan(plan_file)
    fixed = {}
    if blend_file:
        stage = plan.stage(stage_name) if stage_name else plan.stages[0]
        splits = read_blend(blend_file)
        try:
            fixed[stage.name] = from_blend(plan, splits)
        except InputError as error:
            raise InputError(error.problem, blend_file, value=error.value) from None
    return plan, lint(plan, load(fit_file, Fit.from_json) if fit_file else None, fixed)


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
    lines = [table(columns, rows).rstrip("\n")] if rows else []
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"warning: {warning}" for warning in found.warnings]
    lines += [f"error: {error}" for error in found.errors]
    return "\n".join(lines)


def _epochs(epochs: float | None) -> str:
    return "?" if epochs is None else f"{epochs:.2f}"
