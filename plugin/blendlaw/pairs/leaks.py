"""What must not be trained: texts of reserved tasks, and pairs of reserved directions, by content.

A renamed id, other whitespace or swapped labels of languages hide nothing: texts are compared by
their hashes, wherever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from blendlaw.pairs.directions import Direction
from blendlaw.pairs.scan import Scanned

Numbers = NDArray[np.uint64]
Bools = NDArray[np.bool_]


def hashes_by_language(found: Scanned, languages: int) -> tuple[Numbers, Bools]:
    """The hash of each task's text in each language, (n, languages), and whether it has one."""
    hashes = np.zeros((len(found.tasks), languages), np.uint64)
    there = np.zeros(hashes.shape, np.bool_)
    hashes[found.texts["task"], found.texts["language"]] = found.texts["hash"]
    there[found.texts["task"], found.texts["language"]] = True
    return hashes, there


def pair_hashes(
    found: Scanned, languages: int, directions: Iterable[Direction]
) -> Iterator[tuple[Direction, Numbers, Bools]]:
    """For each direction the hash of each task's pair (n,), and whether it has one.

    Two equal texts are no translation of each other, and no pair here.
    """
    hashes, there = hashes_by_language(found, languages)
    for source, target in directions:
        a, b = hashes[:, source], hashes[:, target]
        mixed = (a * np.uint64(0x9E3779B97F4A7C15)) ^ (b + (a >> np.uint64(31)))
        yield (source, target), mixed, there[:, source] & there[:, target] & (a != b)


def within(values: Numbers, known: Numbers) -> Bools:
    """Which of ``values`` are in the sorted ``known``."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[place] == values)
