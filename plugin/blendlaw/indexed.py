"""The ``.idx`` file beside a Megatron ``.bin``: how many tokens a prefix holds."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, documents + 1
_CHUNK = 1 << 22


def count_tokens(prefix: str) -> int | None:
    """Tokens in the data set ``prefix``, or None if it has no ``.idx`` file here.

    Reads 4 bytes a sequence, some at a time. Raises InputError if the file is no Megatron index,
    is cut short or holds no tokens.
    """
    path = Path(f"{prefix}.idx")
    if not path.is_file():
        return None
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise InputError("not a Megatron index", file=path)
    _, version, _, sequences, documents = HEADER.unpack(header)
    if version != 1:
        raise InputError("an index of a version other than 1", file=path, value=version)
    # int32 lengths, then int64 pointers and int64 document indices.
    needed = HEADER.size + 12 * sequences + 8 * documents
    if path.stat().st_size < needed:
        problem = f"cut short: {sequences} sequences need {needed} bytes"
        raise InputError(problem, file=path, value=path.stat().st_size)
    lengths: NDArray[np.int32] = np.empty(0, np.int32)
    if sequences:  # an empty file part cannot be mapped
        lengths = np.memmap(path, np.dtype("<i4"), "r", offset=HEADER.size, shape=(sequences,))
    total = sum(
        int(lengths[start : start + _CHUNK].sum(dtype=np.int64))
        for start in range(0, sequences, _CHUNK)
    )
    if total <= 0:
        raise InputError("an index without tokens", file=path)
    return total
