"""``blendlaw blend``: the Megatron blend file of one stage of a plan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from blendlaw.cli.common import emit, json_option, load, log, output_option, table

if TYPE_CHECKING:
    from blendlaw.blend import Blend, BlendFormat
    from blendlaw.fitted import Fit
    from blendlaw.plan import Plan, Stage
    from blendlaw.policies import Proposal


@click.command("blend")
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@click.option(
    "--weights",
    "weights_file",
    type=click.Path(),
    help="Weights to use: an allocation.json, or JSON of language: weight.",
)
@click.option(
    "--fit",
    "fit_file",
    type=click.Path(),
    help="The fit.json for stages by law.",
)
@click.option(
    "--stage",
    "stage_name",
    help="Which stage [default: the first; with --weights or --fit, the first by law].",
)
@click.option(
    "--format",
    "format_name",
    default="per-split-json",
    show_default=True,
    help="per-split-json, per-split-sets, data-args, or one of a plugin.",
)
@json_option
@output_option
def command(
    plan_file: str,
    weights_file: str | None,
    fit_file: str | None,
    stage_name: str | None,
    format_name: str,
    as_json: bool,
    output: str | None,
) -> None:
    """Write the blend of a stage of PLAN as Megatron reads it.

    The table of what it means goes to stderr; with --json it goes to stdout as JSON, and the
    blend needs -o.
    """
    from blendlaw.blend import blend, render
    from blendlaw.fitted import Fit
    from blendlaw.plan import read_plan
    from blendlaw.policies import propose, within_limits
    from blendlaw.weights import read_weights

    if as_json and output is None:
        raise click.UsageError("--json takes stdout for the table: give the blend a file with -o")
    blend_format = _format(format_name)
    plan = read_plan(plan_file)
    fit = load(fit_file, Fit.from_json) if fit_file else None
    stage = _stage(plan, stage_name, guided=bool(weights_file or fit_file))
    plan = after_earlier_stages(plan, stage, fit)
    if weights_file:
        given = matched(read_weights(weights_file), plan.languages, weights_file)
        proposal = within_limits(plan, stage, given)
    else:
        proposal = propose(plan, stage, fit)
    made = blend(plan, plan.mixed(stage, proposal), stage.tokens)
    text = render(made, blend_format)
    if output is not None:
        emit(text, output)
    if as_json:
        emit(json.dumps(_as_json(stage, proposal, made), indent=2))
    else:
        log(_as_table(plan, stage, proposal, made))
    for prefix in made.dropped:
        log(f"left out, weight 0: {prefix}")
    if (made.valid or made.test) and format_name == "data-args":
        log("data-args holds training sources only: validation and test are left out")
    if output is None:
        emit(text)


def matched(weights: Mapping[str, float], languages: Iterable[str], file: str) -> dict[str, float]:
    """``weights`` by the names of ``languages``, which may be spelled otherwise (c++ and cpp).

    Raises InputError if a language has no weight, or if another has one above 0.
    """
    from blendlaw.errors import InputError
    from blendlaw.languages import canonical
    from blendlaw.nearest import nearest

    names = list(languages)
    spelled = {canonical(name): name for name in names} | {name: name for name in names}
    found: dict[str, float] = {}
    for key, weight in weights.items():
        name = spelled.get(key, spelled.get(canonical(key)))
        if name in found:
            raise InputError(f"a second weight of {name}", file, column=key)
        if name is not None:
            found[name] = weight
        elif weight > 0:
            raise InputError(
                f"the plan has no such language{nearest(key, names)}", file, column=key
            )
    if missing := [name for name in names if name not in found]:
        raise InputError(f"no weight of {', '.join(missing)}", file)
    return found


def _format(name: str) -> BlendFormat:
    from blendlaw.nearest import nearest
    from blendlaw.plugins import blend_formats

    formats = blend_formats()
    if name not in formats:
        hint = nearest(name, formats) or f": known are {', '.join(formats)}"
        raise click.UsageError(f"no blend format {name!r}{hint}")
    return formats[name]


def _stage(plan: Plan, name: str | None, guided: bool) -> Stage:
    if name is not None:
        return plan.stage(name)
    by_law = [stage for stage in plan.stages if guided and stage.weights == "law"]
    chosen = (by_law or plan.stages)[0]
    if len(plan.stages) > 1:
        log(f"stage {chosen.name} of {', '.join(s.name for s in plan.stages)} (--stage chooses)")
    return chosen


def after_earlier_stages(plan: Plan, stage: Stage, fit: Fit | None) -> Plan:
    """The plan with what the stages before ``stage`` consume, as far as that is known."""
    from blendlaw.policies import NoFit, propose

    for earlier in plan.stages[: plan.stages.index(stage)]:
        try:
            plan = plan.after(earlier, plan.mixed(earlier, propose(plan, earlier, fit)))
        except NoFit:
            log(f"stage {earlier.name} is by law and there is no fit: its tokens are not counted")
    return plan


def _as_table(plan: Plan, stage: Stage, proposal: Proposal, made: Blend) -> str:
    held = _held(plan, stage, proposal)
    shares = made.by_language()
    rows = []
    for source in made.sources:
        row = [source.prefix, source.language]
        if held:
            part = source.weight / shares[source.language]
            requested = plan.mixed(stage, proposal.requested)[source.language]
            row.append(f"{requested * part:.4f}")
        row += [
            f"{source.weight:.4f}",
            f"{source.tokens:.4g}",
            f"{source.samples:.4g}",
            "?" if source.epochs is None else f"{source.epochs:.2f}",
        ]
        rows.append([*row, held.get(source.language, "")] if held else row)
    requested_too = ["requested"] if held else []
    columns = ["source", "language", *requested_too, "weight", "tokens", "samples", "epochs"]
    title = f"stage {stage.name}: {made.tokens:.4g} tokens"
    return table([*columns, "limit"] if held else columns, rows, title)


def _held(plan: Plan, stage: Stage, proposal: Proposal) -> dict[str, str]:
    """What limit moved each language's weight; empty when none did."""
    from blendlaw.limits import plan_limits

    moved = {n: weight - proposal.requested[n] for n, weight in proposal.items()}
    if max(map(abs, moved.values())) < 1e-6:
        return {}
    bounds = plan_limits(plan, stage)
    return {
        name: "floor" if move > 0 and weight <= low else why if move < 0 and weight >= high else ""
        for (name, move), weight, low, high, why in zip(
            moved.items(), proposal.values(), bounds.lower, bounds.upper, bounds.reason, strict=True
        )
    }


def _as_json(stage: Stage, proposal: Proposal, made: Blend) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "tokens": made.tokens,
        "requested": proposal.requested,
        "weights": dict(proposal),
        "sources": [
            {
                "prefix": source.prefix,
                "language": source.language,
                "weight": source.weight,
                "tokens": source.tokens,
                "samples": source.samples,
                "unique_tokens": source.unique_tokens,
                "epochs": source.epochs,
            }
            for source in made.sources
        ],
        "dropped": made.dropped,
    }
