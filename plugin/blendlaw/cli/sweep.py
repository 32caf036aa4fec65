"""``blendlaw sweep``: the runs of a folder, done, and their losses put together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import emit, json_option, log, table
from blendlaw.errors import InputError

if TYPE_CHECKING:
    from blendlaw.sweep.gather import Gathered
    from blendlaw.sweep.loop import Launcher
    from blendlaw.sweep.runs import SweptRun

OBSERVATIONS = "observations.jsonl"


@click.command("sweep")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--at-once", type=click.IntRange(1), help="Runs at a time.  [default: as fit here]")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="Of each run.")
@click.option("--gpus", default=0, show_default=True, help="Of this machine; 0 trains on the CPU.")
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="Of a run.")
@click.option("--split", type=click.Choice(["valid", "train"]), default="valid", show_default=True)
@click.option("--curves", is_flag=True, help="Losses on the way too, where the schedule allows it.")
@click.option("--law", help="Fit this law (or auto) whenever a run has ended.")
@click.option(
    "--slurm", multiple=True, metavar="KEY=VALUE", help="As jobs of Slurm: partition=gpu, time=240…"
)
@click.option("--dry-run", is_flag=True, help="Show the Slurm script, and submit nothing.")
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
    slurm: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Do the runs of FOLDER, each a folder with a plan.toml, with the trainer.

    They train on this machine or, with --slurm, as jobs of a cluster.

    What they measured goes to FOLDER/observations.jsonl as they end. Killed at any moment, the
    same command goes on; runs that are done are not done again.
    """
    from blendlaw.files import write_atomically
    from blendlaw.observations import format_observations
    from blendlaw.sweep.gather import gather
    from blendlaw.sweep.loop import sweep
    from blendlaw.sweep.refit import Refits
    from blendlaw.sweep.runs import find_runs
    from blendlaw.trainer_process import missing

    runs = find_runs(folder)
    if dry_run:
        emit(_script(folder, runs, at_once, ranks, slurm))
        return
    if absent := missing():
        raise InputError(f"training needs {', '.join(absent)}: pip install 'blendlaw[train]'")
    launcher = _launcher(folder, runs, at_once, ranks, gpus, slurm)
    refits = None if law is None else Refits(folder, law)

    def written(_: SweptRun | None = None) -> Gathered:
        found = gather(runs, split="train" if split == "train" else "valid", curves=curves)
        if found.observations:
            rows = list(found.observations)
            write_atomically(folder / OBSERVATIONS, format_observations(rows, "jsonl"))
            if refits is not None and (told := refits.again(found)) is not None:
                log(told)
        return found

    with _bars(runs) as progress:
        failures = sweep(
            folder,
            runs,
            launcher,
            retries=retries,
            progress=progress,
            finished=written,
            say=log,
        )
    found = written()
    done = {run.name: run.done for run in runs}
    counts = {"observations": len(found.observations), "left_out": found.left_out}
    emit(json.dumps({"done": done} | counts, indent=2) if as_json else _table(runs))
    if found.left_out:
        log(f"left out {found.left_out} losses in the midst of a schedule")
    for failure in failures:
        log(f"{failure}\n{failure.tail}")
    if failures:
        raise InputError(f"{len(failures)} of {len(runs)} runs failed: see above", file=folder)
    count = f"{len(found.observations)} observations of {found.runs} runs"
    log(f"wrote {folder / OBSERVATIONS}: {count}")


def _launcher(
    folder: Path,
    runs: list[SweptRun],
    at_once: int | None,
    ranks: int,
    gpus: int,
    slurm: Sequence[str],
) -> Launcher:
    """Where the runs are done."""
    from blendlaw.sweep.local import Local, environment_of
    from blendlaw.sweep.slurm import Slurm, parameters

    if not slurm:
        fit = max(1, (gpus or len(os.sched_getaffinity(0))) // ranks)
        return Local(at_once or fit, ranks, environment_of(gpus), log)
    if gpus:
        raise click.UsageError("--gpus is of this machine: give jobs --slurm gpus_per_node=N")
    return Slurm(folder, at_once or len(runs), ranks, parameters(slurm), say=log)


def _script(
    folder: Path, runs: list[SweptRun], at_once: int | None, ranks: int, slurm: Sequence[str]
) -> str:
    """What sbatch would be given."""
    if not slurm:
        raise click.UsageError("--dry-run shows the script of --slurm KEY=VALUE")
    from blendlaw.sweep.slurm import Slurm, parameters

    left = [run for run in runs if not run.done]
    if not left:
        raise InputError("all runs are done: there is nothing to submit", file=folder)
    return Slurm(folder, at_once or len(runs), ranks, parameters(slurm)).script(left)


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
