"""Documents packed whole into sequences of a fixed length: best-fit-decreasing, on a histogram.

Longest first, each document goes into the fullest sequence ("bin") that still has room for it.
Which of two documents of one length, or of two bins with the same space, makes no difference to
how many bins there are. So whole counts of a length go into whole runs of bins at once, and the
work depends on how many lengths there are and hardly on how many documents.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError

Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Packing:
    """Which documents are together in a bin.

    Bin b holds the documents ``order[offsets[b]:offsets[b + 1]]``, longest first. ``order`` is
    [documents], their places in the lengths given; ``offsets`` is [bins + 1]. ``tokens`` is the
    sum of the lengths; no packing at all takes fewer bins than ``bound``.
    """

    order: Ints
    offsets: Ints
    capacity: int
    tokens: int
    bound: int

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.offsets) - 1

    @property
    def filled(self) -> float:
        """The share of all slots that hold a token; 1 where there are no bins."""
        return self._share(self.bins)

    @property
    def fillable(self) -> float:
        """What no packing of these documents fills more than, by ``bound``."""
        return self._share(self.bound)

    def _share(self, bins: int) -> float:
        return self.tokens / (bins * self.capacity) if bins else 1.0


def pack(lengths: Sequence[int] | NDArray[np.integer[Any]], capacity: int) -> Packing:
    """Documents of so many tokens each into bins of ``capacity`` tokens, as best-fit-decreasing.

    ``lengths`` is [documents]. No document is cut; equal input gives equal output. Raises
    InputError for a length that is not a whole number of 1 to ``capacity`` tokens.
    """
    given = np.asarray(lengths)
    assert given.ndim == 1
    if capacity < 1:
        raise InputError("a sequence must have room for a token", value=capacity)
    if given.size and given.dtype.kind not in "iu":
        raise InputError("lengths must be whole numbers", value=str(given.dtype))
    if (wrong := (given < 1) | (given > capacity)).any():
        at = int(wrong.argmax())
        problem = f"document {at} must have 1 to {capacity} tokens to be packed whole"
        raise InputError(problem, value=given[at].item())

    sizes = given.astype(np.int64, copy=False)
    # A stable sort of 16-bit numbers takes linear time, and most capacities fit into them.
    missing = (capacity - sizes).astype(np.min_scalar_type(capacity))
    falling = np.argsort(missing, kind="stable")
    counts = np.bincount(sizes, minlength=capacity + 1)
    bin_of = _bins(_placed(counts, capacity))
    order = falling[np.argsort(bin_of, kind="stable")]
    offsets = np.concatenate(([0], np.cumsum(np.bincount(bin_of))))
    tokens = int(counts @ np.arange(capacity + 1))
    return Packing(order, offsets, capacity, tokens, _bound(counts))


def _placed(counts: Ints, capacity: int) -> Ints:
    """Where the documents go, [steps, 3]; ``counts[l]`` of them are of length l.

    A step is (first, bins, copies): the next bins · copies documents, by falling length, go to
    the bins from ``first`` on, so many to each.
    """
    steps = array("q")  # flat: objects would keep the garbage collector busy
    opened = 0
    spaces: list[int] = []  # what some bin has left, ascending
    runs: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # space: (first, bins)
    lengths = np.flatnonzero(counts)[::-1]
    for length, count in zip(lengths.tolist(), counts[lengths].tolist(), strict=True):
        while count:
            at = bisect_left(spaces, length)
            if at < len(spaces):
                space = spaces[at]
                first, bins = runs[space].pop()
                if not runs[space]:
                    del spaces[at]
            else:
                space, first = capacity, opened
                bins = -(-count // (capacity // length))
                opened += bins
            # What a document leaves of the tightest space is tighter still: while another one fits
            # there, that is where it goes.
            fit = space // length
            full = min(bins, count // fit)
            rest = count - full * fit if full < bins else 0
            started = min(rest, 1)
            count -= full * fit + rest
            for many, copies in ((full, fit), (started, rest), (bins - full - started, 0)):
                if not many:
                    continue
                if copies:
                    steps.extend((first, many, copies))
                left = space - copies * length
                if not runs[left]:
                    insort(spaces, left)
                runs[left].append((first, many))
                first += many
    return np.array(steps).reshape(-1, 3)


def _bins(steps: Ints) -> NDArray[np.int32]:
    """The bin of each document, by falling length, [documents]."""
    first, bins, copies = steps.T
    before = np.cumsum(bins) - bins
    each = np.arange(bins.sum()) + np.repeat(first - before, bins)
    return np.repeat(each.astype(np.int32), np.repeat(copies, bins))


def _bound(counts: Ints) -> int:
    """The bound L2 of Martello and Toth: no packing takes fewer bins.

    Leave out documents shorter than k. Those longer than half a bin need one each, and nothing
    fits beside those longer than capacity − k. What does not fit beside the others takes more
    bins. The bound is the largest over k; k = 0 compares with the sum of all.
    """
    capacity = len(counts) - 1
    number = np.concatenate(([0], np.cumsum(counts)))  # shorter than l, at index l
    tokens = np.concatenate(([0], np.cumsum(counts * np.arange(capacity + 1))))
    half = capacity // 2 + 1
    k = np.arange(half)
    long = number[-1] - number[half]
    beside = number[capacity - k + 1] - number[half]
    space = beside * capacity - (tokens[capacity - k + 1] - tokens[half])
    over = tokens[half] - tokens[k] - space
    return int((long + np.maximum(0, -(-over // capacity))).max())
