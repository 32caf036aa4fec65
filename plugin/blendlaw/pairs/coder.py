"""Pairs to tokens, part by part: a text's tokens are made once and stand in all its documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blendlaw.corpus.tokens import BATCH_BYTES, Coding, ids_of, read_coding, token_id
from blendlaw.errors import InputError
from blendlaw.pairs import Pair
from blendlaw.pairs.render import rendered

Tokens = NDArray[np.integer[Any]]
REMEMBERED = 1 << 12  # parts of templates, such as "Go program:", that need no new encoding


@dataclass(frozen=True)
class Padded:
    """A tokenizer, and the number of the token that fills up sequences."""

    coding: Coding
    pad: int


def read_padded(tokenizer: str | Path, eod: str, pad: str) -> Padded:
    """The tokenizer. Raises InputError if it has no ``eod`` or ``pad``, or if they are one."""
    coding = read_coding(Path(tokenizer), eod)
    found = token_id(coding.file, pad, "to pad with", "pairs.build.pad")
    if found == coding.eod_id:
        problem = "is the token that ends a document: Megatron masks padding's loss"
        raise InputError(problem, coding.file, column="pairs.build.pad", value=pad)
    return Padded(coding, found)


class Parts(NamedTuple):
    """The tokens of a pair's document; ``before``, source and ``between`` are the prompt."""

    before: Tokens
    source: Tokens
    between: Tokens
    target: Tokens
    after: Tokens


class Coder:
    """Encodes texts and pairs."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._short: dict[str, Tokens] = {"": np.empty(0, coding.dtype)}

    def texts(self, texts: Iterable[str]) -> Iterator[Tokens]:
        """The tokens of each text, in batches of bounded size."""
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= BATCH_BYTES:
                yield from self._encoded(batch)
                batch, size = [], 0
        yield from self._encoded(batch)

    def pair(self, pair: Pair, source: Tokens | None = None, target: Tokens | None = None) -> Parts:
        """The tokens of ``pair``'s document, as it is rendered; those known need not be made.

        Raises InputError where a plugin renders it to something else.
        """
        around = rendered(pair)
        if source is None or target is None:
            source, target = self._encoded([pair.source_text, pair.target_text])
        before, between, after = map(self._template, around)
        return Parts(before, source, between, target, after)

    def _template(self, text: str) -> Tokens:
        found = self._short.get(text)
        if found is None:
            (found,) = self._encoded([text])
            if len(self._short) < REMEMBERED:
                self._short[text] = found
        return found

    def _encoded(self, texts: list[str]) -> list[Tokens]:
        return [np.array(ids, self._coding.dtype) for ids in ids_of(self._coding, texts)]


def smallest(coder: Coder, directions: Iterable[tuple[str, str]], strategy: str) -> int:
    """Tokens that any pair's document needs, its end included, when each text has one."""
    sizes = [2]
    for source, target in directions:
        parts = coder.pair(Pair("", source, target, "\ue000", "\ue001", strategy))
        sizes.append(3 + len(parts.before) + len(parts.between) + len(parts.after))
    return max(sizes)
