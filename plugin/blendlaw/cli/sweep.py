"""``blendlaw sweep``: the runs of a folder, done, and their losses put together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import emit, json_option, log, table
from blendlaw.errors import InputError

if TYPE_CHECKING:
    from blendlaw.sweep.gather import Gathered
    from blendlaw.sweep.runs import SweptRun

OBSERVATIONS = "observations.jsonl"
FIT = "fit.json"


@click.command("sweep")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--at-once", type=click.IntRange(1), help="Runs at a time.  [default: cores / ranks]")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="Of each run.")
@click.option("--gpus", default=0, show_default=True, help="Of this machine; 0 trains on the CPU.")
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="Of a run.")
@click.option("--split", type=click.Choice(["valid", "train"]), default="valid", show_default=True)
@click.option("--curves", is_flag=True, help="Losses on the way too, where the schedule allows it.")
@click.option("--law", help="Fit this law (or auto) whenever a run has ended.")
@json_option
def command(
    folder: Path,
    at_once: int | None,
    ranks: int,
    gpus: int,
    retries: int,
    split: str,
    curves: bool,
    law: str | None,
    as_json: bool,
) -> None:
    """Do the runs of FOLDER, each a folder with a plan.toml, with the trainer.

    What they measured goes to FOLDER/observations.jsonl as they end. Killed at any moment, the
    same command goes on; runs that are done are not done again.
    """
    from blendlaw.sweep.gather import gather
    from blendlaw.sweep.local import environment_of, sweep
    from blendlaw.sweep.runs import find_runs
    from blendlaw.trainer_process import missing

    if absent := missing():
        raise InputError(f"training needs {', '.join(absent)}: pip install 'blendlaw[train]'")
    runs = find_runs(folder)

    def written(_: SweptRun | None = None) -> Gathered:
        found = gather(runs, split="train" if split == "train" else "valid", curves=curves)
        _write(folder, found, law)
        return found

    cores = len(os.sched_getaffinity(0))
    with _bars(runs) as progress:
        failures = sweep(
            folder,
            runs,
            at_once=at_once or max(1, (gpus or cores) // ranks),
            ranks=ranks,
            retries=retries,
            environment=environment_of(gpus),
            progress=progress,
            finished=written,
            say=log,
        )
    found = written()
    done = {run.name: run.done for run in runs}
    told = {"done": done, "observations": len(found.observations), "left_out": found.left_out}
    emit(json.dumps(told, indent=2) if as_json else _table(runs))
    if found.left_out:
        log(f"left out {found.left_out} losses in the midst of a schedule")
    for failure in failures:
        log(f"{failure}\n{failure.tail}")
    if failures:
        raise InputError(f"{len(failures)} of {len(runs)} runs failed: see above", file=folder)
    count = f"{len(found.observations)} observations of {found.runs} runs"
    log(f"wrote {folder / OBSERVATIONS}: {count}")


def _write(folder: Path, found: Gathered, law: str | None) -> None:
    """The observations so far and, if they can be fitted yet, the fit."""
    from blendlaw.files import write_atomically
    from blendlaw.fitting import fit
    from blendlaw.observations import format_observations

    if not found.observations:
        return
    rows = list(found.observations)
    write_atomically(folder / OBSERVATIONS, format_observations(rows, "jsonl"))
    if law is None:
        return
    try:
        fitted = fit(rows, law)
    except InputError as error:
        log(f"not fitted after {found.runs} runs: {error}")
    else:
        write_atomically(folder / FIT, fitted.to_json())


@contextmanager
def _bars(runs: list[SweptRun]) -> Iterator[Callable[[SweptRun], None]]:
    """One bar of all steps and one for each run under way; silent without a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        if bar.disable:  # nobody watches: nothing need be read
            yield lambda run: None
            return
        steps = {run.name: run.step() for run in runs}
        every = bar.add_task("all runs", total=sum(run.steps for run in runs))
        tasks: dict[str, TaskID] = {}

        def show(run: SweptRun) -> None:
            if run.name not in tasks:
                tasks[run.name] = bar.add_task(run.name, total=run.steps)
            step = steps[run.name] = run.step()
            bar.update(tasks[run.name], completed=step, visible=step < run.steps)
            bar.update(every, completed=sum(steps.values()))

        yield show


def _table(runs: list[SweptRun]) -> str:
    def row(run: SweptRun) -> list[str]:
        size, tokens = f"{run.plan.run.params:.3g}", f"{run.plan.run.tokens:.3g}"
        steps = f"{run.step():,} of {run.steps:,}"
        return [run.name, size, tokens, steps, "done" if run.done else "failed"]

    rows = [row(run) for run in runs]
    return table(("run", "params", "tokens", "steps", ""), rows)
