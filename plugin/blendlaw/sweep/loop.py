"""The runs of a sweep done, wherever that is; what failed is started again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from blendlaw.schedule import claim
from blendlaw.sweep.runs import SweptRun
from blendlaw.trainer_process import Failed, newest_checkpoint

LOCK = "sweep"


class Work(Protocol):
    """A run under way."""

    def running(self) -> bool:
        """Whether it is; once it is not, the run is done. Raises Failed if it ended badly."""

    def leave(self) -> None:
        """The sweep ends before the run does."""


class Launcher(Protocol):
    """Where runs are done; asked how they are every ``poll`` seconds."""

    poll: float

    def start(self, waiting: Sequence[SweptRun], under_way: int) -> Sequence[tuple[SweptRun, Work]]:
        """Start those of ``waiting`` that there is room for beside ``under_way`` others."""


def sweep(
    folder: Path,
    runs: Iterable[SweptRun],
    launcher: Launcher,
    *,
    retries: int = 1,
    progress: Callable[[SweptRun], None] = lambda _: None,
    finished: Callable[[SweptRun], object] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Failed]:
    """Do the runs in ``folder`` that are not done; what failed for good.

    Each goes on where it stood. One that fails is started again ``retries`` times, and again for
    each time that it had written a checkpoint more. ``progress`` is told of runs under way,
    ``finished`` of those that end here. Killed at any moment, the same call goes on. Raises
    InputError if another sweep is at work in the folder; OSError.
    """
    with claim(folder / LOCK):
        return _sweep(list(runs), launcher, retries, progress, finished, say)


def _sweep(
    runs: list[SweptRun],
    launcher: Launcher,
    retries: int,
    progress: Callable[[SweptRun], None],
    finished: Callable[[SweptRun], object],
    say: Callable[[str], None],
) -> list[Failed]:
    waiting = [run for run in runs if not run.done]
    tries = {run.folder: 1 + retries for run in waiting}
    saved: dict[Path, int] = {}
    under_way: dict[Path, tuple[SweptRun, Work]] = {}
    failures: list[Failed] = []
    try:
        while waiting or under_way:
            for run, work in launcher.start(waiting, len(under_way)):
                waiting.remove(run)
                under_way[run.folder] = run, work
                saved[run.folder] = newest_checkpoint(run.folder)
            time.sleep(launcher.poll)
            for run, work in list(under_way.values()):
                progress(run)
                try:
                    if work.running():
                        continue
                    finished(run)
                except Failed as error:
                    further = newest_checkpoint(run.folder) > saved[run.folder]
                    tries[run.folder] -= not further
                    if tries[run.folder] > 0:
                        say(f"{run.name}: {error.problem}; it is started again")
                        waiting.append(run)
                    else:
                        failures.append(error)
                del under_way[run.folder]
    finally:
        for _, work in under_way.values():
            work.leave()
    return failures
