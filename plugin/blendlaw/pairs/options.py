"""The ``[pairs.build]`` table of plan.toml: what ``blendlaw pairs build`` makes, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.plan_values import STRICT, Count, Name, Share

BLOCK_BYTES = 1 << 25
MOST_COPIES = 100


def _directions(given: object) -> str | Mapping[str, float] | None:
    """ "all", or the weight of each direction by its name."""
    if given is None or given == "all":
        return "all" if given else None
    if isinstance(given, list | tuple) and given and all(isinstance(one, str) for one in given):
        return dict.fromkeys(given, 1.0)
    if not isinstance(given, Mapping) or not given:
        raise ValueError('"all", a list of "A->B", or a table of "A->B" = weight')
    for name, weight in given.items():
        good = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (good and 0 < weight <= MOST_COPIES):
            problem = f"the weight of {name} must be above 0, at most {MOST_COPIES}"
            raise ValueError(f"{problem}, not {weight!r}")
    return {str(name): float(weight) for name, weight in given.items()}


Input = str | Mapping[Name, str]


@dataclass(frozen=True, config=STRICT)
class Build:
    """What to build pairs of, and how.

    ``inputs`` and ``reserved_tasks`` are each a JSONL, a folder of files with equal stems, or a
    table of a file (aligned lines) or a folder (equal stems) for each language. ``directions``
    holds the weight of each, the expected number of times its pair of every task is there.
    ``near_duplicates`` is the least similarity (Jaccard) of tasks that count as one, 0 to keep
    all but equal ones. A block is what is packed together, by one process.
    """

    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    tokenizer: Name
    eod: Name = "<|endoftext|>"
    pad: Name = "<|pad|>"
    strategy: Literal["shuffled", "direct", "prompt"] = "prompt"
    pivot: Name | None = None
    directions: Annotated[str | Mapping[str, float] | None, PlainValidator(_directions)] = None
    both: bool = True
    reserved: tuple[Name, ...] = ()
    reserved_tasks: tuple[Input, ...] = ()
    on_leak: Literal["refuse", "drop"] = "refuse"
    valid_share: Share = 0.01
    too_long: Literal["drop", "truncate"] = "drop"
    near_duplicates: Share = 0.85
    fill: Mapping[Name, tuple[Name, ...]] = Field(default_factory=dict)
    unknown_languages: Literal["refuse", "skip"] = "refuse"
    bad_tasks: Literal["refuse", "skip"] = "refuse"
    seed: Annotated[int, Field(strict=True, ge=0)] = 1234
    block_bytes: Count = BLOCK_BYTES

    def __post_init__(self) -> None:
        if (self.pivot is None) == (self.directions is None):
            raise InputError("give either pivot or directions", column="pairs.build.directions")
        if self.valid_share >= 1:
            problem = "must be below 1: nothing would be left to train"
            raise InputError(problem, column="pairs.build.valid_share", value=self.valid_share)
        if self.pad == self.eod:
            problem = "must not be the token that ends a document: Megatron masks padding's loss"
            raise InputError(problem, column="pairs.build.pad", value=self.pad)
