"""The runs of a sweep on this machine, some at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from blendlaw.errors import InputError
from blendlaw.sweep.runs import SweptRun
from blendlaw.trainer_process import TrainerProcess


class Local:
    """Starts at most ``at_once`` runs here, of ``ranks`` ranks each, with ``environment`` added."""

    poll = 0.2

    def __init__(
        self,
        at_once: int,
        ranks: int = 1,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._at_once, self._ranks = at_once, ranks
        self._environment, self._say = environment or {}, say
        self._told: set[str] = set()

    def start(
        self, waiting: Sequence[SweptRun], under_way: int
    ) -> list[tuple[SweptRun, LocalWork]]:
        """See ``loop.Launcher``."""
        started: list[tuple[SweptRun, LocalWork]] = []
        for run in waiting:
            if under_way + len(started) >= self._at_once:
                break
            if run.free():
                run.entrust(None)  # no job of a cluster that is still to begin
                started.append((run, LocalWork(run, self._ranks, self._environment)))
            elif run.name not in self._told:  # ranks of a killed sweep may train on for a moment
                self._say(f"{run.name}: another process trains it, waiting")
                self._told.add(run.name)
        return started


class LocalWork:
    """A run that trains here."""

    def __init__(self, run: SweptRun, ranks: int, environment: Mapping[str, str]) -> None:
        self._run = run
        self._process = TrainerProcess(run.plan_file, run.folder, ranks, environment)

    def running(self) -> bool:
        """See ``loop.Work``."""
        if self._process.running():
            return True
        self._run.finish()
        return False

    def leave(self) -> None:
        """End it."""
        self._process.end()


def environment_of(gpus: int) -> dict[str, str]:
    """What runs that share a machine need: a thread each on the CPU."""
    if gpus < 0:
        raise InputError("must not be negative", value=gpus)
    return {} if gpus else {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
