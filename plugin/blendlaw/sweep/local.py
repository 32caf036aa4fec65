"""The runs of a sweep done on this machine, some at once; what failed is started again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.schedule import claim
from blendlaw.sweep.runs import SweptRun
from blendlaw.trainer_process import Failed, TrainerProcess

POLL = 0.2  # seconds
LOCK = "sweep"


def sweep(
    folder: Path,
    runs: Iterable[SweptRun],
    *,
    at_once: int,
    ranks: int = 1,
    retries: int = 1,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[SweptRun], None] = lambda _: None,
    finished: Callable[[SweptRun], object] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Failed]:
    """Do the runs in ``folder`` that are not done, ``at_once`` at a time; what failed for good.

    Each is of ``ranks`` ranks and goes on where it stood. One that fails is started again
    ``retries`` times. ``progress`` is told of runs under way, ``finished`` of those that end here.
    Killed at any moment, the same call goes on. Raises InputError if another sweep is at work in
    the folder; OSError.
    """
    with claim(folder / LOCK):
        return _sweep(
            list(runs), at_once, ranks, retries, environment or {}, progress, finished, say
        )


def _sweep(
    runs: list[SweptRun],
    at_once: int,
    ranks: int,
    retries: int,
    environment: Mapping[str, str],
    progress: Callable[[SweptRun], None],
    finished: Callable[[SweptRun], object],
    say: Callable[[str], None],
) -> list[Failed]:
    waiting = [run for run in runs if not run.done]
    tries = {run.folder: 1 + retries for run in waiting}
    under_way: dict[Path, tuple[SweptRun, TrainerProcess]] = {}
    failures: list[Failed] = []
    told: set[Path] = set()
    try:
        while waiting or under_way:
            for run in list(waiting):
                if len(under_way) >= at_once:
                    break
                if not run.free():  # ranks of a killed sweep may train on for a moment
                    if run.folder not in told:
                        say(f"{run.name}: another process trains it, waiting")
                        told.add(run.folder)
                    continue
                waiting.remove(run)
                started = TrainerProcess(run.plan_file, run.folder, ranks, environment)
                under_way[run.folder] = run, started
            time.sleep(POLL)
            for run, process in list(under_way.values()):
                progress(run)
                try:
                    if process.running():
                        continue
                    run.finish()
                    finished(run)
                except Failed as error:
                    tries[run.folder] -= 1
                    if tries[run.folder] > 0:
                        say(f"{run.name}: {error.problem}; it is started again")
                        waiting.append(run)
                    else:
                        failures.append(error)
                del under_way[run.folder]
    finally:
        for _, process in under_way.values():
            process.end()
    return failures


def environment_of(gpus: int) -> dict[str, str]:
    """What runs that share a machine need: a thread each on the CPU."""
    if gpus < 0:
        raise InputError("must not be negative", value=gpus)
    return {} if gpus else {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
