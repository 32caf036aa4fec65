"""Documents to sequences of exactly S tokens, and the segments that say what is where.

Each document is followed by the token that ends it. What is left of a sequence is padding, but
for its last token, which is that of an end again: the one label that Megatron takes from the next
sequence then follows an end, where its ``--eod-mask-loss`` masks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendlaw.packing import pack
from blendlaw.pairs.coder import Padded, Tokens
from blendlaw.pairs.segments import SEGMENT, Role

NONE = -1


@dataclass(frozen=True)
class Part:
    """Some tokens of a document; ``language`` and ``role`` are None in a template."""

    tokens: Tokens
    language: int | None = None
    role: Role | None = None


@dataclass(frozen=True)
class Document:
    """What is kept together; ``direction`` is -1 if it is of no pair. Its end is not in it."""

    parts: tuple[Part, ...]
    direction: int = NONE

    @property
    def length(self) -> int:
        """Tokens, with the one that ends it."""
        return 1 + sum(len(part.tokens) for part in self.parts)


@dataclass(frozen=True)
class Sequences:
    """``tokens`` (n, S) and their ``segments`` of SEGMENT; ``gaps`` (n,): padding at the ends."""

    tokens: NDArray[np.integer[Any]]
    segments: NDArray[np.void]
    gaps: NDArray[np.int64]


class Layout:
    """Lays documents out, packed into sequences of ``length`` tokens."""

    def __init__(self, padded: Padded, length: int) -> None:
        self._padded, self._length = padded, length
        self._rows: list[tuple[Document, ...]] = []

    def add(self, documents: Sequence[Document]) -> None:
        """Pack these documents, by themselves."""
        packing = pack([document.length for document in documents], self._length)
        order, ends = packing.order.tolist(), packing.offsets.tolist()
        for begin, end in pairwise(ends):
            self._rows.append(tuple(documents[place] for place in order[begin:end]))

    def gaps(self) -> list[int]:
        """Tokens that are left in each sequence."""
        return [self._length - sum(one.length for one in row) for row in self._rows]

    def fill(self, number: int, document: Document) -> None:
        """Put a document into what is left of a sequence."""
        self._rows[number] += (document,)

    def done(self) -> Sequences:
        """The sequences in the order of ``add``."""
        coding = self._padded.coding
        tokens = np.full((len(self._rows), self._length), self._padded.pad, coding.dtype)
        segments: list[tuple[int, int, int, int, int, int]] = []
        gaps = np.zeros(len(self._rows), np.int64)
        for number, row in enumerate(self._rows):
            place, line = 0, tokens[number]
            for document in row:
                for part in document.parts:
                    end = place + len(part.tokens)
                    line[place:end] = part.tokens
                    if part.role is not None and part.language is not None and end > place:
                        told = (part.language, document.direction, int(part.role))
                        segments.append((number, place, end, *told))
                    place = end
                line[place] = coding.eod_id
                place += 1
            assert place <= self._length
            if place < self._length:
                gaps[number] = self._length - place
                line[-1] = coding.eod_id
                segments.append((number, place, self._length, NONE, NONE, int(Role.PADDING)))
        return Sequences(tokens, np.array(segments, SEGMENT), gaps)


def fitted(parts: tuple[Part, ...], length: int) -> tuple[Part, ...] | None:
    """The parts of a document of at most ``length`` tokens, its end included; None if none fit.

    What is too long is cut from the ends of its programs, each in proportion to its length.
    """
    over = 1 + sum(len(part.tokens) for part in parts) - length
    if over <= 0:
        return parts
    programs = [len(part.tokens) for part in parts if part.role is not None]
    room = sum(programs) - over
    if room < len(programs):  # a plugin's template leaves no room for a token of each
        return None
    kept = [max(1, size * room // sum(programs)) for size in programs]
    kept[kept.index(max(kept))] += room - sum(kept)  # what rounding left, or took
    sizes = iter(kept)
    return tuple(
        part if part.role is None else Part(part.tokens[: next(sizes)], part.language, part.role)
        for part in parts
    )
