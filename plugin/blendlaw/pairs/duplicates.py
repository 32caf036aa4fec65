"""Which tasks are copies of an earlier one, or nearly so.

Equal tasks are found by their hashes. Near ones by MinHash sketches in bands (locality-sensitive
hashing): those that agree in all of a band are compared with the first of them and with the one
before. Memory: 24 bytes a task and one band at a time; the sketches stay on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from blendlaw.pairs.scan import PERMUTATIONS, Hashes

Bools = NDArray[np.bool_]
Sketches = NDArray[np.uint32]
Places = NDArray[np.int64]
MISSED = 0.01  # share of tasks just as similar as the threshold that no band may show
AT_ONCE = 1 << 14  # sketches compared at a time


def earlier(hashes: Hashes) -> Places:
    """For each of (n,) the index of its first equal, its own where it is the first."""
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return np.asarray(first[group], np.int64)


def rows_in_a_band(threshold: float) -> int:
    """The most by which tasks of this similarity are still nearly always found."""
    fitting = [
        rows
        for rows in (1, 2, 4, 8, 16, 32)
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED
    ]
    return max(fitting, default=1)


def near(sketches: Sequence[Sketches], good: Bools, threshold: float) -> Iterator[Places]:
    """Pairs (k, 2) of a task and an earlier one, of those ``good`` (n,), that are that similar.

    ``sketches`` are those of each block, (its n, 128) each.
    """
    rows = rows_in_a_band(threshold)
    begins = np.cumsum([0, *map(len, sketches)])
    for begin in range(0, PERMUTATIONS, rows):
        band = np.concatenate([_hash(one[:, begin : begin + rows]) for one in sketches])
        order = np.flatnonzero(good)
        order = order[np.argsort(band[order], kind="stable")]
        same = band[order][1:] == band[order][:-1]
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        first = np.repeat(order[starts], np.diff([*starts, len(order)]))
        for other in (first[1:][same], order[:-1][same]):
            candidates = np.stack([order[1:][same], other], axis=1)
            for place in range(0, len(candidates), AT_ONCE):
                some = candidates[place : place + AT_ONCE]
                left, right = (_gather(sketches, begins, some[:, side]) for side in (0, 1))
                yield some[(left == right).mean(axis=1) >= threshold]


def _hash(band: Sketches) -> NDArray[np.uint64]:
    mixed = np.zeros(len(band), np.uint64)
    for column in band.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _gather(sketches: Sequence[Sketches], begins: Places, places: Places) -> Sketches:
    block = np.searchsorted(begins, places, "right") - 1
    found = np.empty((len(places), PERMUTATIONS), np.uint32)
    for one in np.unique(block):
        here = block == one
        found[here] = sketches[one][places[here] - begins[one]]
    return found
