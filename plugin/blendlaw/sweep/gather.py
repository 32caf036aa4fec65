"""What the runs of a sweep measured, put together as observations to fit.

A loss in the middle of a run is that of a model of fewer tokens only where the learning rate has
not begun to fall: then nothing in the run depends on how long it will be (Hägele et al. 2024,
arXiv:2405.18392). Under a cosine only the end counts (Hoffmann et al. 2022, arXiv:2203.15556,
section 3 and appendix B).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from blendlaw.observations import Observation, read_observations
from blendlaw.sweep.runs import SweptRun

Split = Literal["train", "valid"]


@dataclass(frozen=True)
class Gathered:
    """``observations`` of ``runs`` runs; ``left_out`` rows were in the midst of a schedule."""

    observations: tuple[Observation, ...]
    runs: int
    left_out: int


def gather(runs: Iterable[SweptRun], *, split: Split = "valid", curves: bool = False) -> Gathered:
    """Losses of ``split`` of the runs that are done: their last ones or, with ``curves``, all on
    the constant part of their learning rate.

    The two are not mixed: a rate that has fallen lowers the loss. Raises InputError, OSError.
    """
    found: list[Observation] = []
    left_out = count = 0
    for run in runs:
        if not run.done:
            continue
        count += 1
        rows = [o for o in read_observations(run.losses) if o.split == split]
        steps = {o.step for o in rows if o.step is not None}
        wanted = {step for step in steps if constant_at(run, step)} if curves else {run.steps}
        kept = [o for o in rows if o.step in wanted]
        found += kept
        left_out += len(rows) - len(kept)
    return Gathered(tuple(found), count, left_out)


def constant_at(run: SweptRun, step: int) -> bool:
    """Whether the learning rate of ``run`` has risen and not begun to fall by ``step``."""
    trainer = run.plan.trainer
    if step < trainer.rising(run.steps):
        return False
    if trainer.schedule == "constant":
        return True
    return trainer.schedule == "wsd" and step <= run.steps - trainer.falling(run.steps)
