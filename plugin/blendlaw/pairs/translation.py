"""Translation: how well a model predicts a program from its translation, by direction."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw.allocation_problem import TAILS
from blendlaw.pairs.directions import direction_name
from blendlaw.pairs.documents import Documents
from blendlaw.stored import from_json

VERSION = 1
RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Mean −log P(y|x) in nats per token of the target, with its 90% interval.

    The mean is over all ``tokens`` of the targets of ``pairs`` pairs; the interval resamples
    tasks. It is (loss, loss) where there is one task only.
    """

    loss: float
    interval: tuple[float, float]
    pairs: int
    tokens: int


@dataclass(frozen=True)
class Direction:
    """The score of one direction, and whether it was trained."""

    source: str
    target: str
    trained: bool
    score: Score


@dataclass(frozen=True)
class Translation:
    """What a checkpoint of a run translates: each direction; all ``trained`` and all others.

    The two means are over other targets, so they say what is learnt beside another run's, not
    beside each other. ``params`` and ``tokens`` are the model's and what it was trained on.
    """

    run: str
    step: int
    params: float
    tokens: float
    strategy: str
    tasks: int
    too_long: int
    directions: tuple[Direction, ...]
    trained: Score | None
    untrained: Score | None

    def to_json(self) -> str:
        """The content of translation.json."""
        return json.dumps({"version": VERSION} | asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Translation:
        """Reads what ``to_json`` wrote; InputError naming the key otherwise."""
        return from_json(cls, text, VERSION, "translation.json")


def translation(
    documents: Documents,
    nats: Array,
    trained: Collection[tuple[str, str]],
    *,
    run: str,
    step: int,
    params: float,
    tokens: float,
    strategy: str,
    seed: int = 0,
) -> Translation:
    """``nats`` (n,) are the summed losses of each document's target; ``trained`` the directions."""
    shape = len(documents.tasks), len(documents.directions)
    place = documents.task, documents.direction
    losses, counts, pairs = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    np.add.at(losses, place, nats)
    np.add.at(counts, place, documents.ends - documents.starts)
    np.add.at(pairs, place, 1)
    random = np.random.default_rng(seed)
    # How often each task is in each resample: [resamples, tasks].
    times = random.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), RESAMPLES)

    def score(chosen: NDArray[np.bool_]) -> Score | None:
        if not pairs[:, chosen].any():
            return None
        loss, count = losses[:, chosen].sum(1), counts[:, chosen].sum(1)
        with np.errstate(invalid="ignore"):  # a resample may have no task of a direction
            low, high = np.nanquantile((times @ loss) / (times @ count), TAILS).tolist()
        found = float(loss.sum() / count.sum())
        return Score(found, (low, high), int(pairs[:, chosen].sum()), int(count.sum()))

    known = np.array([direction in trained for direction in documents.directions])
    found = []
    for number, (source, target) in enumerate(documents.directions):
        of_direction = score(np.arange(shape[1]) == number)
        if of_direction is not None:
            found.append(Direction(source, target, bool(known[number]), of_direction))
    return Translation(
        run=run,
        step=step,
        params=params,
        tokens=tokens,
        strategy=strategy,
        tasks=shape[0],
        too_long=documents.too_long,
        directions=tuple(found),
        trained=score(known),
        untrained=score(~known),
    )


def shown(score: Score) -> str:
    """The score in a few characters."""
    low, high = score.interval
    return f"{score.loss:.4f} [{low:.4f}, {high:.4f}]"


def name_of(direction: Direction) -> str:
    """``source->target``."""
    return direction_name(direction.source, direction.target)
