"""The ``[trainer]`` table of plan.toml: model and optimisation of ``blendlaw_hooks.trainer``.

The model is LLaMA's: RMSNorm, rotary positions, SwiGLU, no biases, embeddings of their own for
input and output. Without keys it is shaped after ``run.params``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.plan_values import STRICT, Count, Natural, Positive, Share

Whole = Annotated[int, Field(strict=True, ge=0)]

ASPECT = 48
"""Hidden size per layer that a shape is chosen after, where the plan leaves it open."""

NEAR = 0.1
"""Among shapes as near to ``run.params`` as this the one nearest to that aspect is taken."""


@dataclass(frozen=True, config=STRICT)
class Trainer:
    """What the plan says of the small trainer's model, its optimisation and its intervals.

    Batches are samples, intervals are steps. ``warmup`` and ``decay`` are shares of all steps,
    ``decay_to`` is the share of the learning rate that is left at the end, ``clip`` the largest
    gradient norm (0: any), ``validation_samples`` are those of each language.
    """

    layers: Count | None = None
    hidden: Count | None = None
    heads: Count | None = None
    ffn: Count | None = None
    vocabulary: Count | None = None
    vocabulary_divisor: Count = 128
    micro_batch: Count = 4
    global_batch: Count = 16
    learning_rate: Positive = 1e-3
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: Share = 0.02
    decay: Share = 0.2
    decay_to: Share = 0.1
    weight_decay: Natural = 0.1
    clip: Natural = 1.0
    seed: Whole = 1234
    precision: Literal["fp32", "bf16", "fp8"] = "fp32"
    fp8_recipe: Literal["delayed", "tensorwise", "blockwise"] = "delayed"
    tensor_parallel: Count = 1
    pipeline_parallel: Count = 1
    log_interval: Count = 10
    validation_interval: Whole = 100
    validation_samples: Count = 64
    checkpoint_interval: Whole = 100
    workers: Whole = 0

    def rising(self, steps: int) -> int:
        """The steps, of ``steps`` in all, in which the learning rate rises."""
        # It decays from the end of the warmup on, which must come before its own end.
        return min(round(self.warmup * steps), steps - 1)

    def falling(self, steps: int) -> int:
        """The steps, the last ones of ``steps``, in which "wsd" lets it fall."""
        return max(1, round(self.decay * steps))

    def __post_init__(self) -> None:
        if self.global_batch % self.micro_batch:
            raise InputError(
                f"must be a multiple of micro_batch, {self.micro_batch}",
                column="trainer.global_batch",
                value=self.global_batch,
            )
        for name in ("hidden", "vocabulary_divisor"):
            size = getattr(self, name)
            if size is not None and size % self.tensor_parallel:
                problem = f"must be a multiple of tensor_parallel, {self.tensor_parallel}"
                raise InputError(problem, column=f"trainer.{name}", value=size)


@plain_dataclass(frozen=True)
class Shape:
    """The sizes of a model; ``vocabulary`` is padded."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocabulary: int

    @property
    def params(self) -> int:
        """Parameters, embeddings of input and output included."""
        attention, mlp, norms = 4 * self.hidden**2, 3 * self.hidden * self.ffn, 2 * self.hidden
        embeddings = 2 * self.vocabulary * self.hidden
        return embeddings + self.layers * (attention + mlp + norms) + self.hidden

    def __str__(self) -> str:
        return (
            f"{self.layers} layers of {self.hidden}, {self.heads} heads, ffn {self.ffn}, "
            f"vocabulary {self.vocabulary}: {self.params:,} parameters"
        )


def shape(trainer: Trainer, params: float, vocabulary: int) -> Shape:
    """The model of ``trainer`` for tokens below ``vocabulary``; what is open is near ``params``.

    It hangs on no layout of ranks: a proxy run on one rank and on many is of one model. Raises
    InputError where the sizes do not go together or cannot be split over the ranks.
    """
    divisor = trainer.vocabulary_divisor
    padded = divisor * math.ceil(vocabulary / divisor)
    if trainer.layers is not None and trainer.hidden is not None:
        return _checked(_shape(trainer, trainer.layers, trainer.hidden, padded), trainer)
    widths = [*range(32, 512, 32), *range(512, 16384 + 1, 128)]
    candidates = []
    for hidden in [trainer.hidden] if trainer.hidden is not None else widths:
        least, most = hidden // (2 * ASPECT), max(4, 4 * hidden // ASPECT)
        depths = range(max(2, least - least % 2), most + 1, 2)
        for layers in [trainer.layers] if trainer.layers is not None else depths:
            candidates.append(_shape(trainer, layers, hidden, padded))

    def off(made: Shape) -> float:
        return abs(math.log(made.params / params))

    least_off = min(map(off, candidates))
    near = [made for made in candidates if off(made) <= max(NEAR, least_off)]
    best = min(near, key=lambda made: abs(math.log(made.hidden / made.layers / ASPECT)))
    return _checked(best, trainer)


def _shape(trainer: Trainer, layers: int, hidden: int, vocabulary: int) -> Shape:
    """Heads of 64 in wide models and of 16 in small ones; ffn 8/3 of hidden, as in LLaMA."""
    ffn = 32 * math.ceil(8 * hidden / 3 / 32)
    heads = max(1, hidden // (64 if hidden >= 512 else 16))
    return Shape(layers, hidden, trainer.heads or heads, trainer.ffn or ffn, vocabulary)


def _checked(made: Shape, trainer: Trainer) -> Shape:
    if made.hidden % (2 * made.heads):
        problem = f"hidden, {made.hidden}, must be an even multiple of it"
        raise InputError(problem, column="trainer.heads", value=made.heads)
    if made.heads % trainer.tensor_parallel:
        problem = f"the {made.heads} heads cannot be split over it: give trainer.hidden and heads"
        raise InputError(problem, column="trainer.tensor_parallel", value=trainer.tensor_parallel)
    if made.ffn % trainer.tensor_parallel:
        problem = f"ffn, {made.ffn}, cannot be split over it: give trainer.ffn"
        raise InputError(problem, column="trainer.tensor_parallel", value=trainer.tensor_parallel)
    if made.layers % trainer.pipeline_parallel:
        problem = f"the {made.layers} layers cannot be split over it: give trainer.layers"
        column = "trainer.pipeline_parallel"
        raise InputError(problem, column=column, value=trainer.pipeline_parallel)
    return made


def known_vocabulary(prefixes: Iterable[str]) -> int | None:
    """The largest vocabulary in a corpus.json (of ``blendlaw corpus``) beside these prefixes."""
    sizes = []
    for path in sorted({Path(prefix).parent / "corpus.json" for prefix in prefixes}):
        if path.is_file():
            try:
                sizes.append(int(json.loads(read_text(path))["tokenizer"]["vocabulary"]))
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(f"it says no vocabulary: {error}", file=path) from None
    return max(sizes, default=None)
