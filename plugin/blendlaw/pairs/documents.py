"""The documents of a held-out parallel set, in all directions, as tokens to be scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.pairs import Pair
from blendlaw.pairs.coder import Coder, Padded
from blendlaw.pairs.inputs import Reading, find_blocks, read_tasks
from blendlaw.pairs.options import BLOCK_BYTES, Input

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Documents:
    """Pairs of ``tasks`` in ``directions``: each array has one number a document.

    ``tokens`` are those of all, one after another, document i's being
    [``begins[i]``, ``begins[i + 1]``); its target is [``starts[i]``, ``ends[i]``) of them.
    ``too_long`` pairs are left out.
    """

    tasks: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    task: Numbers
    direction: Numbers
    tokens: NDArray[np.integer[Any]]
    begins: Numbers
    starts: Numbers
    ends: Numbers
    too_long: int

    def save(self, path: Path) -> None:
        """The part that ``blendlaw_hooks.scoring`` reads, as .npz."""
        np.savez(path, tokens=self.tokens, begins=self.begins, starts=self.starts, ends=self.ends)


def read_documents(
    inputs: Iterable[Input],
    languages: Sequence[str],
    padded: Padded,
    strategy: str,
    sequence_length: int,
) -> Documents:
    """Every task of ``inputs`` in every ordered pair of its languages, as training renders them.

    Raises InputError where an input is bad or has no pair; OSError.
    """
    reading, coder = Reading(tuple(languages)), Coder(padded.coding)
    directions = tuple(permutations(languages, 2))
    number = {pair: place for place, pair in enumerate(directions)}
    ids: list[str] = []
    rows: list[tuple[int, int, int, int]] = []
    parts: list[NDArray[np.integer[Any]]] = []
    sizes, too_long = [0], 0
    blocks = find_blocks(inputs, BLOCK_BYTES, sha256())
    for task in (task for block in blocks for task in read_tasks(block, reading)):
        coded = dict(zip(task.texts, coder.texts(task.texts.values()), strict=True))
        ids.append(task.id)
        for a, b in permutations(task.texts, 2):
            source, target = languages[a], languages[b]
            pair = Pair(task.id, source, target, task.texts[a], task.texts[b], strategy)
            made = coder.pair(pair, coded[a], coded[b])
            whole = np.concatenate(made[:4])
            if len(whole) > sequence_length:
                too_long += 1
                continue
            end = len(whole)
            rows.append((len(ids) - 1, number[source, target], end - len(made.target), end))
            parts.append(whole)
            sizes.append(end)
    if not rows:
        raise InputError(f"no pair of at most {sequence_length} tokens to evaluate on")
    table = np.array(rows, np.int64).T
    return Documents(
        tuple(ids), directions, table[0], table[1],
        np.concatenate(parts), np.cumsum(sizes), table[2], table[3], too_long,
    )  # fmt: skip
