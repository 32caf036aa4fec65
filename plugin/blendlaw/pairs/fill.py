"""Documents of one language, from Megatron's files, for the gaps that pairs leave."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from blendlaw.corpus.tokens import text_of
from blendlaw.errors import InputError
from blendlaw.indexed import Index, count_tokens
from blendlaw.pairs.coder import Padded, Tokens
from blendlaw.pairs.leaks import Numbers, within
from blendlaw.pairs.scan import text_hash
from blendlaw.pairs.segments import Role
from blendlaw.pairs.sequences import Document, Layout, Part


class Filler:
    """Those of the documents of ``fill`` that are for one block: every ``blocks``-th of each file.

    A document is for one block alone, so it is used once at most. Texts that ``held`` (sorted)
    has are reserved; those that ``known`` has are of a task, and are left out.
    """

    def __init__(
        self,
        fill: Mapping[int, tuple[str, ...]],
        number: int,
        blocks: int,
        padded: Padded,
        held: Numbers,
        known: Numbers,
        drop_leaks: bool,
    ) -> None:
        self._padded, self._held, self._known = padded, held, known
        self._drop_leaks = drop_leaks
        sizes: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        self._places: list[tuple[int, Index, int]] = []  # language, index, number of its document
        for language, prefixes in fill.items():
            for index in (opened(prefix, padded) for prefix in prefixes):
                # Tokens of each document, its end included whether or not it is there.
                mine = index.lengths[number::blocks]
                sizes.append(mine)
                self._places += [(language, index, number + blocks * i) for i in range(len(mine))]
        self._sizes = np.concatenate(sizes)
        self.used = self.of_tasks = self.leaks = 0

    def fill(self, layout: Layout) -> None:
        """Fill the gaps in turn, each with the longest documents that fit. Raises InputError."""
        order = np.argsort(self._sizes, kind="stable")
        sizes, places = self._sizes[order].tolist(), order.tolist()
        for row, gap in enumerate(layout.gaps()):
            while (at := bisect_right(sizes, gap)) > 0:
                at -= 1
                place = places.pop(at)
                del sizes[at]
                document = self._document(*self._places[place])
                if document is not None and document.length <= gap:
                    layout.fill(row, document)
                    self.used += 1
                    gap -= document.length

    def _document(self, language: int, index: Index, number: int) -> Document | None:
        tokens, data = _tokens(index, number, self._padded), index.path.with_suffix(".bin")
        if tokens.max(initial=0) >= self._padded.coding.vocabulary:
            problem = "a token that the tokenizer does not have"
            raise InputError(problem, data, value=int(tokens.max()))
        hashed = np.array([text_hash(text_of(self._padded.coding, tokens.tolist()))], np.uint64)
        if within(hashed, self._held)[0]:
            if not self._drop_leaks:
                problem = (
                    f"document {number} would leak what is reserved: a text of a reserved task"
                )
                raise InputError(problem, data, column="pairs.build.fill")
            self.leaks += 1
            return None
        if within(hashed, self._known)[0]:
            self.of_tasks += 1
            return None
        return Document((Part(tokens, language, Role.DOCUMENT),))


def opened(prefix: str, padded: Padded) -> Index:
    """The index of ``prefix``, once for all of its documents.

    Raises InputError if it is no data set of tokens of this tokenizer's type; OSError.
    """
    if count_tokens(prefix) is None:
        raise InputError("there is no such data set", f"{prefix}.idx", column="pairs.build.fill")
    index = Index(prefix)
    if index.dtype != padded.coding.dtype:
        problem = "tokens of another type than the tokenizer's"
        raise InputError(problem, index.path, column="pairs.build.fill", value=index.code)
    return index


def _tokens(index: Index, number: int, padded: Padded) -> Tokens:
    """A document's tokens without its end."""
    data = index.path.with_suffix(".bin")
    size, begin = int(index.lengths[number]), int(index.begins[number])
    tokens = np.fromfile(data, padded.coding.dtype, size, offset=begin)
    if len(tokens) != size:
        raise InputError("cut short: not the tokens of its index", data)
    return tokens[:-1] if size and tokens[-1] == padded.coding.eod_id else tokens
