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


class Index:
    """What ``prefix``.idx says, mapped: ``lengths`` in tokens and ``begins`` in bytes, [sequences].

    ``first`` [documents + 1] are the sequences that documents begin with, and the end; ``code`` is
    Megatron's of the token type. Raises InputError if the file is no Megatron index or is cut
    short; OSError.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.path = Path(f"{prefix}.idx")
        with self.path.open("rb") as file:
            header = file.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(MAGIC):
            raise InputError("not a Megatron index", file=self.path)
        _, version, self.code, sequences, documents = HEADER.unpack(header)
        if version != 1:
            raise InputError("an index of a version other than 1", file=self.path, value=version)
        # int32 lengths, then int64 pointers and int64 document indices.
        needed = HEADER.size + 12 * sequences + 8 * documents
        if self.path.stat().st_size < needed:
            problem = f"cut short: {sequences} sequences need {needed} bytes"
            raise InputError(problem, file=self.path, value=self.path.stat().st_size)
        self.lengths: NDArray[np.int32] = self._mapped("<i4", HEADER.size, sequences)
        begins = HEADER.size + 4 * sequences
        self.begins: NDArray[np.int64] = self._mapped("<i8", begins, sequences)
        self.first: NDArray[np.int64] = self._mapped("<i8", begins + 8 * sequences, documents)

    @property
    def dtype(self) -> np.dtype[np.integer[Any]] | None:
        """The type of its tokens; None if it is another than Megatron writes for text."""
        return DTYPES.get(self.code)

    def _mapped(self, kind: str, offset: int, count: int) -> NDArray[Any]:
        if not count:  # an empty file part cannot be mapped
            return np.empty(0, kind)
        return np.memmap(self.path, np.dtype(kind), "r", offset=offset, shape=(count,))


def count_tokens(prefix: str) -> int | None:
    """Tokens in the data set ``prefix``, or None if it has no ``.idx`` file here.

    Reads 4 bytes a sequence, some at a time. Raises InputError if the file is no Megatron index,
    is cut short or holds no tokens.
    """
    if not Path(f"{prefix}.idx").is_file():
        return None
    index = Index(prefix)
    total = sum(
        int(index.lengths[start : start + _CHUNK].sum(dtype=np.int64))
        for start in range(0, len(index.lengths), _CHUNK)
    )
    if total <= 0:
        raise InputError("an index without tokens", file=index.path)
    return total


def read_documents(prefix: str | Path) -> list[Tokens]:
    """The tokens of each document of ``prefix``, mapped, not read.

    Raises InputError if the index is not one, or is not of this ``.bin``; OSError.
    """
    count_tokens(str(prefix))  # that there are some
    index = Index(prefix)
    if index.dtype is None:
        problem = "tokens of a type other than uint16 and int32"
        raise InputError(problem, file=index.path, value=index.code)
    tokens: Tokens = np.memmap(f"{prefix}.bin", index.dtype, "r")
    begins = np.append(index.begins // index.dtype.itemsize, tokens.size)
    last = index.first[-1] if len(index.first) else -1
    if index.lengths.sum(dtype=np.int64) != tokens.size or last != len(index.lengths):
        raise InputError(f"not the index of its .bin of {tokens.size} tokens", file=index.path)
    return [tokens[begins[a] : begins[b]] for a, b in pairwise(index.first)]


def write_excerpt(prefix: str | Path, target: str | Path, tokens: int) -> None:
    """Write the first documents of ``prefix`` to ``target``, so many tokens; the last one is cut.

    All of them where there are no more. Raises InputError if ``prefix`` is none; OSError.
    """
    documents = read_documents(prefix)
    left = tokens
    with IndexedWriter(target, documents[0].dtype) as writer:
        for document in documents:
            if left <= 0:
                break
            taken = document[:left]
            writer.add(taken)
            left -= len(taken)


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
