"""Observations as the arrays a law is fitted to: one problem per language, or one for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.laws.base import REPETITION, Array, Runs
from blendlaw.observations import Observation

BILLION = 1e9


@dataclass(frozen=True)
class Worth:
    """What is known beforehand of effective tokens (``laws/effective.py``)."""

    transfer: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    repetition: float = REPETITION
    substitution: float = 1.0


@dataclass(frozen=True)
class Problem:
    """What one fit is given: ``runs``, the losses ``measured`` (n,) on them, nats per token, and
    ``group`` (n,), a number per training run, since losses of one run are resampled together."""

    name: str
    runs: Runs
    measured: Array
    group: NDArray[np.intp]
    worth: Worth

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Problem:
        """The observations of ``keep``, a mask or indices."""
        return replace(
            self, runs=self.runs.rows(keep), measured=self.measured[keep], group=self.group[keep]
        )

    def like(self, observations: Sequence[Observation]) -> Problem:
        """Those of other observations that are of this problem's targets and known languages."""
        known = set(self.runs.languages)
        targets = {self.runs.languages[number] for number in self.runs.target.tolist()}
        fitting = [o for o in observations if o.language in targets and known >= set(o.shares())]
        return problem(fitting, self.runs.languages, self.worth, self.name)


def languages_of(observations: Iterable[Observation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measured languages, in order of appearance, and all that were trained on, these first."""
    targets: dict[str, None] = {}
    trained: dict[str, None] = {}
    for seen in observations:
        targets.setdefault(seen.language)
        trained.update(dict.fromkeys(seen.shares()))
    return tuple(targets), tuple(targets | trained)


def matrix(entries: Mapping[str, Mapping[str, float]], languages: Sequence[str]) -> Array:
    """``{row: {column: value}}`` as an array over ``languages``; absent entries are 0.

    Raises InputError for a language that is not among them.
    """
    index = {language: number for number, language in enumerate(languages)}
    found = np.zeros((len(languages), len(languages)))
    for row, columns in entries.items():
        for column, entry in columns.items():
            for name in (row, column):
                if name not in index:
                    raise InputError(f"transfer names {name!r}, which no observation has")
            found[index[row], index[column]] = entry
    return found


def _runs(observations: Sequence[Observation], languages: tuple[str, ...], worth: Worth) -> Runs:
    index = {language: number for number, language in enumerate(languages)}
    size = (len(observations), len(languages))
    shares, unique = np.zeros(size), np.full(size, np.inf)
    for row, seen in enumerate(observations):
        for language, share in seen.shares().items():
            shares[row, index[language]] = share
        for language, tokens in (seen.unique_tokens or {}).items():
            if language in index:
                unique[row, index[language]] = tokens / BILLION
    # Rounded weights (0.333, 0.333, 0.333) are shares of a whole.
    shares /= shares.sum(1, keepdims=True)
    return Runs(
        languages=languages,
        target=np.array([index[seen.language] for seen in observations], np.intp),
        params=np.array([seen.params for seen in observations]) / BILLION,
        tokens=np.array([seen.tokens for seen in observations]) / BILLION,
        shares=shares,
        unique=unique,
        transfer=matrix(worth.transfer, languages),
        repetition=worth.repetition,
        substitution=worth.substitution,
    )


def problem(
    observations: Sequence[Observation], languages: tuple[str, ...], worth: Worth, name: str
) -> Problem:
    """All of ``observations`` as one problem over ``languages``."""
    losses = np.array([seen.loss for seen in observations], float)
    return Problem(
        name, _runs(observations, languages, worth), losses, _groups(observations), worth
    )


def problems(observations: Sequence[Observation], worth: Worth, *, joint: bool) -> list[Problem]:
    """One problem per measured language, or with ``joint`` a single one of all observations."""
    targets, languages = languages_of(observations)
    whole = problem(observations, languages, worth, "all languages")
    if joint:
        return [whole]
    return [
        replace(whole.rows(whole.runs.target == number), name=target)
        for number, target in enumerate(targets)
    ]


def _groups(observations: Sequence[Observation]) -> NDArray[np.intp]:
    """A number per training run; an observation without a run name is a run of its own."""
    numbers: dict[object, int] = {}
    keys = [
        ("run", seen.run) if seen.run is not None else ("row", row)
        for row, seen in enumerate(observations)
    ]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)
