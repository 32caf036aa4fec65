"""Megatron's ``.bin`` and ``.idx`` files: tokens one document after another, and where each begins.

The ``.idx``, little-endian: the magic, u64 version 1, u8 code of the token type, u64 sequences, u64
documents + 1; then int32 lengths, int64 byte offsets of the sequences, and int64 indices of the
sequences that documents begin with (and the end).
"""

from __future__ import annotations

import os
import shutil
import struct
from array import array
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, documents + 1
_CHUNK = 1 << 22
Tokens = NDArray[np.integer[Any]]

# The types that tokens come in, by Megatron's codes.
DTYPES: dict[int, np.dtype[np.integer[Any]]] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}


def token_dtype(vocabulary: int) -> np.dtype[np.integer[Any]]:
    """The type of tokens below ``vocabulary``, as Megatron's ``DType.optimal_dtype`` has it."""
    return DTYPES[8] if vocabulary < 65500 else DTYPES[4]


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


def read_documents(prefix: str | Path) -> list[Tokens]:
    """The tokens of each document of ``prefix``, mapped, not read.

    Raises InputError if the index is not one, or is not of this ``.bin``; OSError.
    """
    count_tokens(str(prefix))  # checks the header
    index = Path(f"{prefix}.idx")
    with index.open("rb") as file:
        _, _, code, sequences, documents = HEADER.unpack(file.read(HEADER.size))
        lengths = np.fromfile(file, "<i4", sequences)
        pointers = np.fromfile(file, "<i8", sequences)
        first = np.fromfile(file, "<i8", documents)
    if code not in DTYPES:
        raise InputError("tokens of a type other than uint16 and int32", file=index, value=code)
    tokens: Tokens = np.memmap(f"{prefix}.bin", DTYPES[code], "r")
    begins = np.append(pointers // DTYPES[code].itemsize, tokens.size)
    if lengths.sum(dtype=np.int64) != tokens.size or first[-1] != sequences:
        raise InputError(f"not the index of its .bin of {tokens.size} tokens", file=index)
    return [tokens[begins[a] : begins[b]] for a, b in pairwise(first)]


class IndexedWriter:
    """Writes ``prefix.bin`` and ``prefix.idx``; used by ``with``, which puts both into place.

    Holds 4 bytes a document. What stood there before stays until both are written; after an
    exception nothing has changed.
    """

    def __init__(self, prefix: str | Path, dtype: np.dtype[np.integer[Any]]) -> None:
        self._prefix, self._dtype = str(prefix), dtype
        self._lengths = array("i")

    def __enter__(self) -> IndexedWriter:
        self._file = open(f"{self._prefix}.bin.part", "wb")
        return self

    def add(self, tokens: Tokens) -> None:
        """One document; its tokens must be of the writer's type."""
        assert tokens.dtype == self._dtype
        self._file.write(tokens.tobytes())
        self._lengths.append(len(tokens))

    def extend(self, tokens: Path, lengths: NDArray[np.int32]) -> None:
        """The documents of these lengths, whose tokens are all that the file ``tokens`` holds.

        Raises InputError if it does not hold so many.
        """
        wanted = int(lengths.sum(dtype=np.int64)) * self._dtype.itemsize
        if tokens.stat().st_size != wanted:
            raise InputError(f"should hold {wanted} bytes", tokens, value=tokens.stat().st_size)
        with tokens.open("rb") as file:
            shutil.copyfileobj(file, self._file, 1 << 20)
        self._lengths.frombytes(lengths.astype(np.intc).tobytes())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        paths = [Path(f"{self._prefix}{suffix}") for suffix in (".bin", ".idx")]
        parts = [path.with_name(path.name + ".part") for path in paths]
        try:
            _sync(self._file)
            if kind is None:
                with parts[1].open("wb") as file:
                    self._write_index(file)
                    _sync(file)
                paths[1].unlink(missing_ok=True)  # never an old index beside new tokens
                for part, path in zip(parts, paths, strict=True):
                    part.replace(path)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)

    def _write_index(self, file: BinaryIO) -> None:
        lengths = np.frombuffer(self._lengths, np.intc)
        count = len(lengths)
        code = next(code for code, dtype in DTYPES.items() if dtype == self._dtype)
        file.write(HEADER.pack(MAGIC, 1, code, count, count + 1))
        file.write(lengths.astype("<i4").tobytes())
        pointer = 0
        for begin in range(0, count, _CHUNK):
            sizes = lengths[begin : begin + _CHUNK].astype("<i8") * self._dtype.itemsize
            ends = sizes.cumsum() + pointer
            file.write((ends - sizes).astype("<i8").tobytes())
            pointer = int(ends[-1])
        for begin in range(0, count + 1, _CHUNK):
            file.write(np.arange(begin, min(begin + _CHUNK, count + 1), dtype="<i8").tobytes())


def _sync(file: BinaryIO) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())
