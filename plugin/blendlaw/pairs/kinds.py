"""What the tokens of a run with translation pairs are counted as.

Each token counts for one kind: a language, the target of a direction, or neither. So one sum
over kinds gives the loss of every language, in pairs or not, and of every direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.nearest import nearest
from blendlaw.pairs.directions import direction_name
from blendlaw.pairs.segments import PairSet, Role, read_pair_set
from blendlaw.values import name

NEITHER = "neither"
Losses = Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Kinds:
    """The kinds of a run: its languages and, with ``pairs``, its directions and, last, neither."""

    languages: tuple[str, ...]
    directions: tuple[tuple[str, str], ...] = ()
    pairs: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each kind by its number."""
        if not self.pairs:
            return self.languages
        return (*self.languages, *(direction_name(*pair) for pair in self.directions), NEITHER)

    def table(self, about: PairSet) -> NDArray[np.int16]:
        """[languages + 1, directions + 1]: the kind by the numbers in ``about``; -1 is the last.

        Raises InputError if it has a language or a direction that the run does not know.
        """
        neither = len(self.names) - 1
        kinds = np.full((len(about.languages) + 1, len(about.directions) + 1), neither, np.int16)
        for number, language in enumerate(about.languages):
            if language not in self.languages:
                hint = nearest(language, self.languages)
                raise InputError(f"the pairs have {language!r}, which the plan does not{hint}")
            kinds[number] = self.languages.index(language)
        for number, direction in enumerate(about.directions):
            kinds[:, number] = len(self.languages) + self.directions.index(direction)
        return kinds

    def of_tokens(
        self, about: PairSet, table: NDArray[np.int16], segments: NDArray[np.void]
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """The kind of each token of a sequence, and whether it counts (padding does not)."""
        kinds = np.full(about.sequence_length, len(self.names) - 1, np.int16)
        counts = np.ones(about.sequence_length, np.bool_)
        for _, start, end, language, direction, role in segments.tolist():
            learnt = direction if role == Role.TARGET else -1
            kinds[start:end] = table[language, learnt]
            counts[start:end] = role != Role.PADDING
        return kinds, counts

    def folded(self, losses: Losses) -> tuple[Losses, Losses]:
        """The losses of the languages, targets among them, and those of the directions.

        ``losses`` are (mean, tokens) by kind.
        """
        languages: dict[str, tuple[float, int]] = {}
        by_direction = {direction_name(*pair): pair[1] for pair in self.directions}
        for kind, (loss, tokens) in losses.items():
            language = by_direction.get(kind, kind)
            if language in self.languages:
                if language in languages:
                    before, count = languages[language]
                    loss = (before * count + loss * tokens) / (count + tokens)
                    tokens += count
                languages[language] = (loss, tokens)
        directions = {way: losses[way] for way in by_direction if way in losses}
        return {one: languages[one] for one in self.languages if one in languages}, directions


def kinds_of(languages: Iterable[str], prefixes: Iterable[str]) -> Kinds:
    """The kinds of a run on these languages and, where there are any, on pairs of these prefixes.

    Raises InputError if one of them is no set of pairs, has a language that is not among these, or
    a direction whose name is too long to be written with its losses.
    """
    sets = [read_pair_set(prefix) for prefix in prefixes]
    directions = sorted({direction for about in sets for direction in about.directions})
    for direction in directions:
        name(direction_name(*direction), "direction")
    kinds = Kinds(tuple(languages), tuple(directions), bool(sets))
    for about in sets:
        kinds.table(about)
    return kinds
