"""The segments of packed sequences: which tokens are of which language, direction and role.

Beside ``PREFIX.bin`` and ``.idx``, whose documents are sequences of exactly S tokens, lie

PREFIX.segments.npy  one SEGMENT a row, sorted by sequence and start (17 bytes each)
PREFIX.pairs.json    what the numbers in it mean, and what was counted (PairSet)

Tokens that no segment covers (templates, ends of documents) have no language.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.stored import from_json

VERSION = 1
SEGMENT = np.dtype(
    [
        ("sequence", "<u4"),
        ("start", "<u4"),  # tokens [start, end) of the sequence
        ("end", "<u4"),
        ("language", "<i2"),  # index into PairSet.languages; -1: none (padding)
        ("direction", "<i2"),  # index into PairSet.directions; -1: of no pair
        ("role", "u1"),
    ]
)


class Role(IntEnum):
    """What a segment is in its document."""

    DOCUMENT = 0  # a text of one language, of no pair
    SOURCE = 1
    TARGET = 2  # what is learnt: the loss of a direction is the mean over these tokens
    PADDING = 3  # no loss


@dataclass(frozen=True)
class PairSet:
    """What PREFIX.pairs.json says; ``directions`` are (source, target) by name.

    ``eod`` and ``padding`` are token ids. ``tokens`` by language are those of documents, sources
    and targets, ``direction_tokens`` (by "source->target") those of targets.
    """

    sequence_length: int
    sequences: int
    segments: int
    languages: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    strategy: str
    eod: int
    padding: int
    tokens: dict[str, int] = field(default_factory=dict)
    direction_tokens: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """The content of PREFIX.pairs.json."""
        return json.dumps({"version": VERSION} | asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> PairSet:
        """Reads what ``to_json`` wrote; InputError naming the key otherwise."""
        return from_json(cls, text, VERSION, "PREFIX.pairs.json")


def read_pair_set(prefix: str | Path) -> PairSet:
    """What PREFIX.pairs.json says. Raises InputError, naming the file, if it says nothing good."""
    path = Path(f"{prefix}.pairs.json")
    if not path.is_file():
        problem = "no such file: translation pairs are made by blendlaw pairs build"
        raise InputError(problem, file=path)
    try:
        return PairSet.from_json(read_text(path))
    except InputError as error:
        raise replace(error, file=path) from None


class Segments:
    """The segments of ``prefix``, mapped from the disk.

    Raises InputError if they are not those of a pair set or are cut short; OSError.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.about = read_pair_set(prefix)
        table = Path(f"{prefix}.segments.npy")
        try:
            self.table: NDArray[Any] = np.load(table, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"not a segment file: {error}", file=table) from None
        if self.table.dtype != SEGMENT or self.table.shape != (self.about.segments,):
            problem = f"should hold {self.about.segments} segments of {SEGMENT.itemsize} bytes"
            raise InputError(problem, file=table, value=f"{self.table.dtype} {self.table.shape}")

    def of(self, sequence: int) -> NDArray[Any]:
        """The segments of one sequence, [n] of SEGMENT."""
        column = self.table["sequence"]
        first = bisect_left(range(len(column)), sequence, key=column.__getitem__)
        last = bisect_left(range(len(column)), sequence + 1, lo=first, key=column.__getitem__)
        return self.table[first:last]
