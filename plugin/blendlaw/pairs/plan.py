"""The ``[pairs]`` table of plan.toml: packed translation pairs as a source of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic.dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.indexed import count_tokens
from blendlaw.pairs.options import Build
from blendlaw.pairs.segments import PairSet, read_pair_set
from blendlaw.plan_sources import Sources
from blendlaw.plan_values import STRICT, Name, Share

PAIRS = "pairs"
"""What the pairs are called where languages have a weight: in blends, schedules and layouts."""


@dataclass(frozen=True, config=STRICT)
class Pairs:
    """Prefixes that ``blendlaw pairs build`` made, and their ``weight``: share of all samples.

    ``composition`` is the share of each language's tokens in the sequences of ``sources``; what
    is left of 1 are templates, ends of documents and padding. ``build`` says how they are made.
    """

    sources: Sources = ()
    valid_sources: Sources = ()
    weight: Share = 0.1
    composition: Mapping[Name, Share] | None = None
    build: Build | None = None

    @property
    def in_run(self) -> bool:
        """Whether they are read in the run, to be trained on or only to validate."""
        return bool(self.sources or self.valid_sources)

    def __post_init__(self) -> None:
        if self.weight == 1:
            raise InputError("must be below 1", column="pairs.weight", value=self.weight)


def measured(pairs: Pairs) -> Pairs:
    """``pairs`` with the sizes and the composition that its files tell, where they are there.

    The composition is that of all sources together, by their shares.
    """
    sources = tuple(
        replace(s, tokens=count_tokens(s.prefix)) if s.tokens is None else s for s in pairs.sources
    )
    found = [read_pair_set(source.prefix) for source in sources]
    composition = pairs.composition
    if composition is None and found and all(found):
        parts = [s.share if s.share is not None else s.tokens or 1.0 for s in sources]
        composition = _together([each for each in found if each], parts)
    return replace(pairs, sources=sources, composition=composition)


def _together(sets: list[PairSet], parts: list[float]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for made, part in zip(sets, parts, strict=True):
        slots = made.sequences * made.sequence_length
        for language, tokens in made.tokens.items():
            held = tokens / slots * part / sum(parts)
            shares[language] = shares.get(language, 0.0) + held
    return shares
