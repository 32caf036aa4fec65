"""Megatron's own TensorBoard and Weights & Biases writers, for what blendlaw measures.

Megatron has them on its last rank, so that rank writes for blendlaw too. Names of the scalars:
``blendlaw/<train|valid|test> loss/<language>`` and, where bytes per token are known, ``… bpb/…``;
``blendlaw/weight/<language>``; ``blendlaw/epochs/<language>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Where scalars go; ``step`` is the training step they belong to."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None: ...


class Writers:
    """A SummaryWriter and a wandb run; either may be None."""

    def __init__(self, tensorboard: Any = None, wandb: Any = None) -> None:
        self._tensorboard = tensorboard
        self._wandb = wandb

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            for name, value in scalars.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(scalars), step)
