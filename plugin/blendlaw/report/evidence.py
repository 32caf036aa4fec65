"""Which observations are drawn, and how the fit used them: bounded, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blendlaw.fitted import Fit
from blendlaw.observations import Observation
from blendlaw.report.figures import FITTED, HELD_OUT, NOT_USED
from blendlaw.where import parse

MAX_PANELS = 16  # languages drawn
MAX_POINTS = 300  # of one kind in a panel


@dataclass(frozen=True)
class Evidence:
    """One language's observations, thinned to ``MAX_POINTS`` of each kind, of ``total``."""

    language: str
    observations: tuple[Observation, ...]
    kinds: tuple[str, ...]
    total: int

    @property
    def note(self) -> str:
        shown = len(self.observations)
        return "" if shown == self.total else f"{shown:,} of {self.total:,} observations drawn"


def chosen(fit: Fit | None, observations: Sequence[Observation], first: Sequence[str]) -> list[str]:
    """The languages drawn, at most ``MAX_PANELS``: ``first`` those, then as they come."""
    languages = dict.fromkeys(() if fit is None else fit.languages)
    languages |= dict.fromkeys(seen.language for seen in observations)
    ordered = dict.fromkeys([name for name in first if name in languages]) | languages
    shown = set(list(ordered)[:MAX_PANELS])
    return [language for language in languages if language in shown]


def evidence(
    fit: Fit | None, observations: Sequence[Observation], languages: Sequence[str]
) -> list[Evidence]:
    """The observations of each of ``languages`` that has any, and how the fit used them."""
    provenance = {} if fit is None else fit.provenance
    where, holdout = (
        parse(str(provenance[key])) if provenance.get(key) else None for key in ("where", "holdout")
    )

    split = provenance.get("split")
    _, latest = provenance.get("range", {}).get("tokens", (0.0, np.inf))

    def kind(seen: Observation) -> str:
        if where is not None and not where(seen):
            return NOT_USED
        if split is not None and (seen.split not in (split, None) or seen.tokens > latest):
            return NOT_USED  # a refit: of other losses, or of the run since
        return HELD_OUT if holdout is not None and holdout(seen) else FITTED

    found = []
    for language in languages:
        mine = [seen for seen in observations if seen.language == language]
        mine.sort(key=lambda seen: (seen.params, seen.tokens, seen.loss))
        kinds = [kind(seen) for seen in mine]
        kept = []
        for name in (FITTED, HELD_OUT, NOT_USED):
            rows = [row for row, k in enumerate(kinds) if k == name]
            if len(rows) > MAX_POINTS:
                rows = [rows[i] for i in np.linspace(0, len(rows) - 1, MAX_POINTS, dtype=int)]
            kept += rows
        if kept:
            found.append(
                Evidence(
                    language,
                    tuple(mine[row] for row in kept),
                    tuple(kinds[row] for row in kept),
                    len(mine),
                )
            )
    return found


def plain(seen: Observation) -> bool:
    """Whether the run saw its own language alone and nothing twice: tokens say it all."""
    alone = seen.shares().get(seen.language, 0.0) > 0.999
    return alone and (seen.unique_tokens or {}).get(seen.language, np.inf) >= seen.tokens


def known_evidence(fit: Fit, found: Sequence[Evidence]) -> list[Evidence]:
    """Without the observations of which the fit says nothing."""
    kept = []
    for own in found:
        rows = [row for row, seen in enumerate(own.observations) if fit.knows(seen)]
        if rows:
            observations = tuple(own.observations[row] for row in rows)
            kept.append(
                replace(own, observations=observations, kinds=tuple(own.kinds[r] for r in rows))
            )
    return kept
