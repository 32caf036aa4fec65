"""What was built: PREFIX.build.json, and the sums over blocks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from blendlaw.stored import from_json

VERSION = 1


@dataclass(frozen=True)
class SplitCounts:
    """Of a split: sequences, their segments, slots (tokens) and how many of them are padding.

    ``pairs``, ``direction_tokens`` (of targets), ``too_long`` (dropped) and ``truncated`` go by
    direction, of shuffled documents by language; ``tokens`` by language. ``fill_skipped``: texts
    of a task, or reserved.
    """

    sequences: int
    segments: int
    slots: int
    padding: int
    documents: int
    pairs: dict[str, int]
    direction_tokens: dict[str, int]
    tokens: dict[str, int]
    too_long: dict[str, int]
    truncated: dict[str, int]
    fill_documents: int
    fill_skipped: int

    @property
    def filled(self) -> float:
        """The share of slots that are not padding."""
        return 1 - self.padding / self.slots if self.slots else 1.0


@dataclass(frozen=True)
class Counts:
    """Of a block or of all: ``tasks``, and what became of them (``fates``); ``splits`` by name."""

    tasks: int
    fates: dict[str, int]
    splits: dict[str, SplitCounts]

    @classmethod
    def from_block(cls, text: str) -> Counts:
        """Back from the counts.json of a block. Raises KeyError, TypeError, ValueError."""
        raw = json.loads(text)
        splits = {name: SplitCounts(**one) for name, one in raw["splits"].items()}
        return cls(raw["tasks"], raw["fates"], splits)


@dataclass(frozen=True)
class Built:
    """PREFIX.build.json: what was counted, how, and with what tokenizer."""

    strategy: str
    sequence_length: int
    seed: int
    tokenizer: str
    counts: Counts

    def to_json(self) -> str:
        return json.dumps({"version": VERSION} | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Built:
        """Reads what ``to_json`` wrote; InputError naming the key otherwise."""
        return from_json(cls, text, VERSION, "PREFIX.build.json")


def total(counts: Iterable[Counts]) -> Counts:
    """The sums of everything."""
    tasks = 0
    fates: Counter[str] = Counter()
    splits: dict[str, SplitCounts] = {}
    for one in counts:
        tasks += one.tasks
        fates.update(one.fates)
        for name, split in one.splits.items():
            splits[name] = _added(splits[name], split) if name in splits else split
    return Counts(tasks, dict(fates), splits)


def _added(a: SplitCounts, b: SplitCounts) -> SplitCounts:
    sums: dict[str, int | dict[str, int]] = {}
    for field in fields(SplitCounts):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, int):
            sums[field.name] = left + right
        else:
            sums[field.name] = {k: left.get(k, 0) + right.get(k, 0) for k in left | right}
    return SplitCounts(**sums)  # type: ignore[arg-type]
