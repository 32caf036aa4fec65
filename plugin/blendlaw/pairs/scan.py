"""The first pass: what is in a block, by hashes of its texts and sketches of its tasks.

Texts are compared without their whitespace. A task is known by 128 bits of BLAKE2b of its texts
and their languages, and so is its id; a text alone by 64 bits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.files import write_atomically
from blendlaw.pairs.inputs import Block, Reading, Task, read_tasks

HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
TEXT = np.dtype([("task", "<u4"), ("language", "<u4"), ("hash", "<u8")])
PERMUTATIONS = 128
SHINGLE = 5  # words that are compared together
SEED = 1
_WORD = re.compile(rb"[\w\x80-\xff]+")

Hashes = NDArray[np.void]


@dataclass(frozen=True)
class Scanned:
    """What a block holds.

    ``tasks`` and ``ids`` (n,) of HASH; ``good`` (n,) whether a task can be used; ``texts`` of
    TEXT, by task; ``lines`` [1], how many lines its file has in the block.
    """

    tasks: Hashes
    ids: Hashes
    good: NDArray[np.bool_]
    texts: NDArray[np.void]
    lines: NDArray[np.int64]


def require_rensa() -> None:
    """InputError, with how to install it, where the library ``rensa`` is not there."""
    try:
        import rensa  # noqa: F401
    except ImportError:
        problem = "near duplicates need the library rensa: pip install 'blendlaw[pairs]'"
        raise InputError(f"{problem}, or set near_duplicates = 0") from None


def digest(content: bytes) -> bytes:
    """What a text is known by: nothing of its whitespace."""
    return blake2b(b"".join(content.split()), digest_size=16).digest()


def text_hash(text: str) -> int:
    """The 64 bits by which a text is known."""
    return int.from_bytes(digest(text.encode())[:8], "little")


def task_digest(task: Task) -> tuple[bytes, list[int]]:
    """The 16 bytes that a task is known by, and the 64 bits of each text."""
    whole = blake2b(digest_size=16)
    each = []
    for language, text in task.texts.items():
        found = digest(text.encode())
        whole.update(language.to_bytes(4, "little") + found)
        each.append(int.from_bytes(found[:8], "little"))
    return whole.digest(), each


def scan(number: int, block: Block, folder: Path, reading: Reading, sketched: bool) -> None:
    """Scan a block into ``folder``, unless that was done before. Raises InputError, OSError."""
    path = folder / f"{number:06d}.npz"
    if path.exists():
        return
    tasks, ids, good, lines = bytearray(), bytearray(), [], 0
    texts: list[tuple[int, int, int]] = []
    words: list[NDArray[np.uint64]] = []
    for index, task in enumerate(read_tasks(block, reading)):
        whole, each = task_digest(task)
        tasks += whole
        ids += blake2b(task.id.encode(), digest_size=16).digest()
        good.append(task.problem is None)
        texts += [(index, *pair) for pair in zip(task.texts, each, strict=True)]
        lines = max(lines, task.line or 0)
        if sketched:
            words.append(shingles(task.texts.values()))
    found = Scanned(
        np.frombuffer(tasks, HASH),
        np.frombuffer(ids, HASH),
        np.array(good, np.bool_),
        np.array(texts, TEXT),
        np.array([lines], np.int64),
    )
    if sketched:
        save(folder / f"{number:06d}.npy", sketches(words))
    buffer = io.BytesIO()
    np.savez(buffer, **{field.name: getattr(found, field.name) for field in fields(Scanned)})
    write_atomically(path, buffer.getvalue())


def save(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def load(number: int, folder: Path) -> Scanned:
    """What ``scan`` found of a block."""
    with np.load(folder / f"{number:06d}.npz") as found:
        return Scanned(**found)


def load_sketches(number: int, folder: Path) -> NDArray[np.uint32]:
    """The sketches of a block's tasks, (n, 128), mapped from the disk."""
    found: NDArray[np.uint32] = np.load(folder / f"{number:06d}.npy", mmap_mode="r")
    return found


def shingles(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A hash of each run of five words of each text."""
    found: list[NDArray[np.uint64]] = []
    for text in texts:
        words = np.fromiter(map(crc32, _WORD.findall(text.encode())), np.uint64)
        size = max(1, len(words) - SHINGLE + 1)
        mixed = np.zeros(size, np.uint64)
        for place in range(min(SHINGLE, len(words))):
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + words[place : place + size]
        found.append(mixed ^ (mixed >> np.uint64(29)))
    return np.concatenate([np.empty(0, np.uint64), *found])


def sketches(words: list[NDArray[np.uint64]]) -> NDArray[np.uint32]:
    """The MinHash of each set, (n, 128)."""
    if not words:
        return np.empty((0, PERMUTATIONS), np.uint32)
    from rensa import RMinHash

    ends = np.cumsum([0, *map(len, words)]).tolist()
    made = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(words), ends, num_perm=PERMUTATIONS, seed=SEED
    )
    return np.array(made.to_rows(), np.uint32)
