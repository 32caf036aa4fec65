"""The second pass: texts to tokens, by a tokenizer of the ``tokenizers`` library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blendlaw.corpus.inputs import Piece
from blendlaw.corpus.reading import Text, read_texts
from blendlaw.corpus.scan import Bools, Records, digest
from blendlaw.errors import InputError
from blendlaw.files import sync
from blendlaw.indexed import token_dtype
from blendlaw.nearest import nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLITS = ("train", "valid")
BATCH_BYTES = 1 << 20


def require_tokenizers() -> None:
    """InputError, with how to install it, where the library ``tokenizers`` is not there."""
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        problem = "tokens need the library tokenizers: pip install 'blendlaw[corpus]'"
        raise InputError(problem) from None


@dataclass(frozen=True)
class Coding:
    """A tokenizer's file, its token for the end of a document, the size of its vocabulary."""

    file: Path
    eod: str
    eod_id: int
    vocabulary: int

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        return token_dtype(self.vocabulary)


def read_coding(path: Path, eod: str) -> Coding:
    """The tokenizer in ``path``. Raises InputError if it is none, or has no token ``eod``."""
    try:
        tokenizer = _tokenizer(path)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"not a tokenizer: {error}", file=path) from None
    eod_id = token_id(path, eod, "for the end of a document", "--eod")
    return Coding(path, eod, eod_id, max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1)


def token_id(path: Path, token: str, what: str, column: str) -> int:
    """The number of ``token``. Raises InputError with those that the tokenizer has added."""
    tokenizer = _tokenizer(path)
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        added = [one.content for one in tokenizer.get_added_tokens_decoder().values()]
        hint = nearest(token, added) or f"; it has {', '.join(added[:5])}" * bool(added)
        raise InputError(f"no token {what}{hint}", path, column=column, value=token)
    return found


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # "<|endoftext|>" within a text is text: only the end of a document may be its token.
    tokenizer.encode_special_tokens = True
    return tokenizer


def ids_of(coding: Coding, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text; there is no special one among them."""
    encoded = _tokenizer(coding.file).encode_batch_fast(texts, add_special_tokens=False)
    return [one.ids for one in encoded]


def text_of(coding: Coding, ids: Sequence[int]) -> str:
    """The text that tokens spell, special ones included."""
    return str(_tokenizer(coding.file).decode(ids, skip_special_tokens=False))


def train(texts: Iterator[str], vocabulary: int, special: Sequence[str]) -> str:
    """A byte-level BPE tokenizer as JSON; the same for the same texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str(pretty=True))


def chosen_texts(
    piece: Piece, records: Records, chosen: Bools, max_bytes: int
) -> Iterator[tuple[int, Text]]:
    """(index, text) of those of the scanned texts that are chosen, which must be as scanned."""
    index = 0
    last = int(np.flatnonzero(chosen)[-1]) if chosen.any() else -1
    for text in read_texts(piece, max_bytes) if last >= 0 else ():
        if text.skip:
            continue
        if index >= len(records) or (
            chosen[index]
            and digest(text.content) != (records["high"][index], records["low"][index])
        ):
            break
        if chosen[index]:
            yield index, text
        if index == last:
            return
        index += 1
    if last >= 0:
        raise InputError("changed while it was read", file=piece.path)


def read_chosen(piece: Piece, records: Records, chosen: Bools, max_bytes: int) -> list[str]:
    """The chosen texts of a piece."""
    return [t.content.decode() for _, t in chosen_texts(piece, records, chosen, max_bytes)]


def encode(
    folder: Path,
    piece: Piece,
    records: Records,
    keep: Bools,
    target: NDArray[np.int64],
    max_bytes: int,
    coding: Coding,
) -> None:
    """Encode the kept texts of a piece into ``folder``; there is none before it is whole.

    ``target`` (n,) numbers the files of the folder that each text goes to: ``3.tokens``, and
    ``3.lengths`` in int32. Raises InputError if the piece changed since; OSError.
    """
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    batch: list[tuple[int, str]] = []
    size = 0
    for index, text in chosen_texts(piece, records, keep, max_bytes):
        batch.append((int(target[index]), text.content.decode()))
        size += len(text.content)
        if size >= BATCH_BYTES:
            _write(part, batch, coding)
            batch, size = [], 0
    _write(part, batch, coding)
    for path in part.iterdir():
        sync(path)
    sync(part)
    part.replace(folder)


def _write(folder: Path, batch: Sequence[tuple[int, str]], coding: Coding) -> None:
    """Append a batch to the folder's files."""
    documents: dict[int, list[NDArray[np.integer[Any]]]] = {}
    for (target, _), ids in zip(batch, ids_of(coding, [text for _, text in batch]), strict=True):
        documents.setdefault(target, []).append(np.array([*ids, coding.eod_id], coding.dtype))
    for target, found in documents.items():
        with (folder / f"{target}.tokens").open("ab") as file:
            file.write(np.concatenate(found).tobytes())
        with (folder / f"{target}.lengths").open("ab") as file:
            file.write(np.array([len(ids) for ids in found], "<i4").tobytes())
