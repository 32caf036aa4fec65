"""blendlaw experiments: which proxy runs to do before the large one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import emit, json_option, log, table

if TYPE_CHECKING:
    from blendlaw.experiments import Experiments


@click.command("experiments")
@click.argument("plan", type=click.Path())
@click.option("--flops", type=float, help="The budget, 6·N·D summed over the runs.")
@click.option("--gpu-hours", type=float, help="Instead: the budget in hours of one GPU.")
@click.option("--tflops", type=float, help="What a GPU reaches, in 1e12 FLOPs a second.")
@click.option("--law", help="The law that is to be fitted (default: the plan's refit.law).")
@click.option("--observations", type=click.Path(), multiple=True, help="What is measured already.")
@click.option("--params", type=float, multiple=True, help="A model size to choose among.")
@click.option("--tokens", type=float, multiple=True, help="A token budget to choose among.")
@click.option("--runs", type=int, default=64, show_default=True, help="At most so many.")
@click.option("--noise", type=float, help="Relative standard deviation of a loss.")
@click.option("-o", "--output", type=click.Path(), help="Write a folder of every run in here.")
@json_option
def command(
    plan: str,
    flops: float | None,
    gpu_hours: float | None,
    tflops: float | None,
    law: str | None,
    observations: Sequence[str],
    params: Sequence[float],
    tokens: Sequence[float],
    runs: int,
    noise: float | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Choose small runs that make the allocation of PLAN's run as certain as a budget can."""
    from blendlaw.experiments import experiments
    from blendlaw.experiments.folders import designs, stated, write_runs
    from blendlaw.observations import read_observations
    from blendlaw.plan import read_plan
    from blendlaw.where import refuse_mixed_splits

    if (gpu_hours is None) != (tflops is None):
        raise click.UsageError("--gpu-hours and --tflops go together")
    an_hour = None if tflops is None else 3600e12 * tflops
    given = [flops] if an_hour is None or gpu_hours is None else [flops, gpu_hours * an_hour]
    budgets = [budget for budget in given if budget is not None]
    if len(budgets) != 1:
        raise click.UsageError("give the budget as --flops or as --gpu-hours with --tflops")
    planned = read_plan(plan)
    seen = read_observations(*observations) if observations else []
    refuse_mixed_splits(seen)
    before = designs(output) if output is not None else []
    found = experiments(
        planned,
        flops=budgets[0],
        law=law,
        observations=seen,
        sizes=params,
        levels=tokens,
        noise=noise,
        most=runs,
        first=1 + sum(len(design.runs) for design in before),
    )
    if output is not None:
        write_runs(found, planned, output, stated(plan))
        log(describe(found, an_hour).rstrip("\n"))
    else:
        emit(found.to_json() if as_json else describe(found, an_hour))


def describe(found: Experiments, an_hour: float | None = None) -> str:
    """The runs with their cost and what they bring; costs in GPU hours of ``an_hour`` FLOPs."""

    def cost(flops: float) -> str:
        return f"{flops:.3g}" if an_hour is None else f"{flops / an_hour:.3g}"

    unit = "FLOPs" if an_hour is None else "GPU hours"
    rows = [
        [
            run.name,
            f"{run.params:.3g}",
            f"{run.tokens:.3g}",
            cost(run.flops),
            f"{1e3 * run.regret:.3g}",
            _blend(run.weights),
        ]
        for run in found.runs
    ]
    columns = ["run", "params", "tokens", unit, "regret, 1e-3", "languages"]
    spans = (found.interval_before, found.interval_after)
    told = f"{found.observations} observations" if found.observations else "no observations"
    lines = [
        f"for {found.law}, {told}, noise {100 * found.noise:.2g}%: "
        f"{len(rows)} runs, {cost(found.flops)} of {cost(found.budget)} {unit}\n",
        table(columns, rows),
        "\n",
        table(
            ["language", "weight now", "90% before", "90% expected after"],
            [
                [name, f"{100 * weight:.2f}%", *(_span(span[name]) for span in spans)]
                for name, weight in found.weights.items()
            ],
        ),
        f"expected regret of the weights now: {1e3 * found.regret:.3g}e-3 nats of the mean loss\n",
    ]
    worth, count = found.worth_doing, len(found.runs)
    if found.enough is None:
        lines.append("! too few runs: some language has fewer losses than the law has parameters\n")
    if worth == count:
        lines.append(f"all {count} runs pay: more may\n")
    elif worth:
        lines.append(
            f"runs pay up to {found.runs[worth - 1].name}: what those after it cost would lower "
            "the loss more as training of the model itself\n"
        )
    else:
        lines.append(
            "no run pays: what it costs would lower the loss more as training of the model itself\n"
        )
    return "".join(lines)


def _blend(weights: dict[str, float]) -> str:
    seen = {name: weight for name, weight in weights.items() if weight > 0}
    if len(seen) == 1:
        return next(iter(seen))
    return ", ".join(f"{name} {100 * weight:.0f}%" for name, weight in seen.items())


def _span(span: tuple[float, float]) -> str:
    return f"[{100 * span[0]:.1f}, {100 * span[1]:.1f}]"
