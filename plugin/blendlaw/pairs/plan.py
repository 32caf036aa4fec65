"""The ``[pairs]`` table of plan.toml: packed translation pairs as a source of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from blendlaw.blend import shares_of
from blendlaw.errors import InputError
from blendlaw.pairs.options import Build
from blendlaw.pairs.segments import PairSet, read_pair_set
from blendlaw.plan_sources import Sources, sized
from blendlaw.plan_values import STRICT, Name, Share

PAIRS = "pairs"
"""What the pairs are called where languages have a weight: in blends, schedules and layouts."""

_SPLIT = f"-{PAIRS}"


def split_of_pairs(split: str) -> str:
    """The split that losses of directions go by, beside those of languages in ``split``."""
    return split + _SPLIT


def of_languages(split: str) -> str:
    """The split of languages beside one of directions."""
    return split.removesuffix(_SPLIT)


def of_pairs(split: str | None) -> bool:
    """Whether losses of this split are of directions."""
    return split is not None and split.endswith(_SPLIT)


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
    sources = sized(pairs.sources)
    composition = pairs.composition
    if composition is None and sources and all(_told(source.prefix) for source in sources):
        shares = shares_of(sources) or [1 / len(sources)] * len(sources)
        sets = [read_pair_set(source.prefix) for source in sources]
        composition = _together(sets, shares)
    return replace(pairs, sources=sources, composition=composition)


def _told(prefix: str) -> bool:
    return Path(f"{prefix}.pairs.json").is_file()


def _together(sets: list[PairSet], shares: list[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for made, share in zip(sets, shares, strict=True):
        slots = made.sequences * made.sequence_length
        for language, tokens in made.tokens.items():
            found[language] = found.get(language, 0.0) + tokens / slots * share
    return found
