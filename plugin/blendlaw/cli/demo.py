"""blendlaw demo: the tour on the paper's data, then a small run of training on real code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import emit, json_option, log, progress_bar, table
from blendlaw.errors import InputError

if TYPE_CHECKING:
    from blendlaw.demo.outcome import Outcome


@click.command("demo")
@click.option("-o", "--output", default="out/demo", show_default=True, help="Folder to write to.")
@click.option("--offline", is_flag=True, help="No training: only the tour on the paper's data.")
@click.option(
    "--bootstrap", default=400, show_default=True, help="Refits for the tour's 90% intervals."
)
@json_option
def command(output: str, offline: bool, bootstrap: int, as_json: bool) -> None:
    """See all of it at work: a tour on the paper's data, then a run of training with two refits.

    The tour fits, allocates, blends and reports on the 420 runs of arXiv 2512.13472, in seconds.
    The run, of some minutes on two cores, trains a tiny model on real code of seven languages.
    Killed, the same command goes on where it was.
    """
    from blendlaw.trainer_process import missing

    absent = missing()
    if offline or absent:
        _tour(Path(output), bootstrap, as_json)
        if absent and not offline:
            log(
                f"no training, since there is no {' and no '.join(absent)}: "
                "pip install 'blendlaw[report,corpus,train]', in a clone make demo"
            )
    else:
        _run(Path(output), bootstrap, as_json)


def _tour(folder: Path, bootstrap: int, as_json: bool) -> None:
    from blendlaw.cli.demo_tour import as_data, summary
    from blendlaw.demo.tour import tour
    from blendlaw.report.training import is_run

    if is_run(folder):
        problem = "a training run is there, whose files the tour would replace: choose another -o"
        raise InputError(problem, file=folder)
    with progress_bar("fitting") as progress:
        found = tour(folder, bootstrap, progress)
    emit(as_data(found) if as_json else summary(found, str(folder)))


def _run(folder: Path, bootstrap: int, as_json: bool) -> None:
    from blendlaw.demo.run import run
    from blendlaw.demo.size import Size
    from blendlaw.demo.tour import done, tour
    from blendlaw.trainer_process import Failed

    offline = folder / "offline"
    if not done(offline):
        log("the tour on the paper's 420 runs")
        with progress_bar("fitting") as progress:
            tour(offline, bootstrap, progress)
    try:
        outcome = run(folder, Size(), bar=progress_bar, say=log)
    except Failed as error:
        log(error.tail)
        raise
    emit(json.dumps(asdict(outcome), indent=1) if as_json else summary(outcome))


def summary(outcome: Outcome) -> str:
    """What came of the run, on one screen."""
    from blendlaw.demo.outcome import CAVEAT, compared
    from blendlaw.demo.tour import can_report

    code = "generated code" if outcome.generated else "real code"
    rows = [
        [
            language,
            *(f"{100 * weights[language]:.1f}%" for weights in outcome.weights.values()),
            f"{outcome.epochs[language]:.2f}",
            f"{predicted:.3f}",
            f"{outcome.measured[language]:.3f}",
            f"{100 * (predicted / outcome.measured[language] - 1):+.1f}%",
        ]
        for language, predicted in outcome.predicted.items()
    ]
    means = fmean(outcome.predicted.values()), fmean(outcome.measured.values())
    error = f"{100 * outcome.error:.1f}%"
    rows.append(["mean", *[""] * (len(outcome.weights) + 1), *(f"{m:.3f}" for m in means), error])
    stages = [f"weight {stage}" for stage in outcome.weights]
    columns = ["language", *stages, "epochs", "predicted", "measured", "error"]
    seconds = ", ".join(f"{what} {time:.0f} s" for what, time in outcome.seconds.items())
    report = "report.html" if can_report() else "no report (pip install 'blendlaw[report]')"
    return "\n".join(
        [
            f"{code} of {len(rows) - 1} languages, {outcome.params:,.0f} parameters, "
            f"{outcome.tokens:,.0f} tokens; {outcome.split} losses at the end, and as the "
            f"{outcome.law} law predicted them before stage {outcome.guided}:",
            "",
            table(columns, rows),
            compared(outcome),
            f"! {CAVEAT}",
            "",
            f"wrote {outcome.folder}/: {report}, fit.json, allocation.json, blend.json (of stage "
            f"{outcome.guided}), plan.toml, losses.jsonl, schedule.jsonl; offline/ has the tour on "
            "the paper's data",
            seconds,
        ]
    )
