"""What a design of experiments is: the runs to do, and what they are expected to bring."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from blendlaw import stored
from blendlaw.allocation_problem import Spans

VERSION = 1


@dataclass(frozen=True)
class ProxyRun:
    """One run to do: ``params`` and ``tokens`` (counts) at ``weights``, for ``flops`` (6·N·D).

    ``kind`` is alone, pair or mixture. ``regret`` is what is expected of the allocation once this
    run and all before it are measured, nats per token of the mean loss.
    """

    name: str
    kind: str
    params: float
    tokens: float
    weights: dict[str, float]
    flops: float
    regret: float


@dataclass(frozen=True)
class Experiments:
    """The runs that make an allocation of ``tokens`` to a model of ``params`` (counts) surest.

    ``weights`` are those that are best by what is known now; ``regret`` is how much lower the mean
    loss would be, in expectation, if the parameters were known (nats per token). Intervals are of
    the best weights, 90%, before and after all runs. After ``enough`` runs every language has as
    many losses as the law has parameters (None: never). ``worth_doing``, at least as many, pay: the
    others would lower the loss more if what they cost were spent on training the model longer.
    """

    law: str
    params: float
    tokens: float
    budget: float
    flops: float
    noise: float
    observations: int
    weights: dict[str, float]
    interval_before: Spans
    interval_after: Spans
    regret: float
    enough: int | None
    worth_doing: int
    runs: tuple[ProxyRun, ...]

    def __str__(self) -> str:
        rows = [
            f"  {run.name} ({run.kind}): {run.params:.3g} parameters, {run.tokens:.3g} tokens, "
            f"{run.flops:.3g} FLOPs, expected regret {run.regret:.2g}"
            for run in self.runs
        ]
        head = f"{len(rows)} runs for {self.flops:.3g} FLOPs, expected regret {self.regret:.2g}"
        return "\n".join([head, *rows])

    def to_json(self) -> str:
        """experiments.json, version 1 (docs/files.md)."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Experiments:
        """The Experiments that ``to_json`` wrote. Raises InputError on anything else."""
        return stored.from_json(cls, text, VERSION, "experiments.json")
