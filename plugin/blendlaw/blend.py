"""Blend: sources and weights as Megatron takes them, with the tokens and epochs they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.hookspecs import hookimpl
from blendlaw.megatron import (
    Entries,
    Splits,
    read_data_args,
    read_per_split,
    write_data_args,
    write_per_split,
)
from blendlaw.nearest import nearest
from blendlaw.values import weights as check_weights

if TYPE_CHECKING:
    from blendlaw.plan import Plan
    from blendlaw.plan_sources import Sources

MAX_BYTES = 16 << 20
READ_BACK = 1e-12
"""How far a weight may be from what was meant, once written and read."""


@dataclass(frozen=True)
class BlendSource:
    """One prefix in a blend: its weight among all samples, and what that comes to.

    ``tokens`` and ``samples`` are drawn from it, ``unique_tokens`` are in it (None: unknown).
    """

    prefix: str
    language: str
    weight: float
    tokens: float
    samples: float
    unique_tokens: float | None

    @property
    def epochs(self) -> float | None:
        """How often its tokens are seen, or None if it is not known how many there are."""
        return None if self.unique_tokens is None else self.tokens / self.unique_tokens


@dataclass(frozen=True)
class Blend:
    """The sources of ``tokens`` training tokens, with weights that are positive and sum to 1.

    ``dropped`` are the prefixes of weight 0, which Megatron refuses. ``valid`` and ``test`` are
    (prefix, weight): every language weighs the same there, whatever its share of training, so
    that the loss means the same from stage to stage.
    """

    sources: tuple[BlendSource, ...]
    tokens: float
    dropped: tuple[str, ...] = ()
    valid: tuple[tuple[str, float], ...] = ()
    test: tuple[tuple[str, float], ...] = ()

    def splits(self) -> Splits:
        """The entries that a file of this blend holds."""
        train = tuple((source.prefix, source.weight) for source in self.sources)
        return {"train": train, "valid": self.valid or None, "test": self.test or None}

    def by_language(self) -> dict[str, float]:
        """The weight of each language that has one."""
        weights: dict[str, float] = {}
        for source in self.sources:
            weights[source.language] = weights.get(source.language, 0.0) + source.weight
        return weights


@dataclass(frozen=True)
class BlendFormat:
    """A kind of blend file: how a blend is written as text, and how that text is read back.

    ``read`` raises InputError; ``suffixes`` (such as ``".json"``) say which files it is tried on.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[[Blend], str]
    read: Callable[[str], Splits]


def blend(plan: Plan, weights: Mapping[str, float], tokens: float) -> Blend:
    """The blend of ``tokens`` training tokens in which each language has its weight.

    So have translation pairs, as ``pairs`` (see ``Plan.mixed``). A weight is split over sources by
    their shares, or else by their tokens. Raises InputError if ``weights`` are not weights of what
    the plan has, if something of positive weight has no sources, or if the split is not known.
    """
    mixture = plan.mixture
    for given in weights:
        if given not in mixture:
            hint = nearest(given, mixture)
            raise InputError(f"the plan has no language {given!r}{hint}")
    parts = check_weights(weights, "weights")
    sources, dropped = [], []
    for name, language in mixture.items():
        weight = parts.get(name, 0.0)
        if weight > 0 and not language.sources:
            raise InputError(f"{name} has weight {weight:.4g} but no sources in the plan")
        shares = shares_of(language.sources)
        if shares is None:
            raise InputError(
                f"how is the weight of {name} split over its {len(language.sources)} sources? "
                "Give each a share or tokens (or have their .idx files here)"
            )
        only = len(language.sources) == 1
        for source, share in zip(language.sources, shares, strict=True):
            if weight * share == 0:
                dropped.append(source.prefix)
                continue
            drawn = weight * share * tokens
            unique = language.unique_tokens if only else source.tokens
            samples = drawn / plan.run.sequence_length
            sources.append(BlendSource(source.prefix, name, weight * share, drawn, samples, unique))
    return Blend(
        tuple(sources),
        tokens,
        tuple(dropped),
        _held_out([language.valid_sources for language in mixture.values()]),
        _held_out([language.test_sources for language in mixture.values()]),
    )


def render(made: Blend, blend_format: BlendFormat) -> str:
    """The text of ``made``, which is known to be read back as it was meant.

    Raises InputError if the format cannot hold the blend.
    """
    text = blend_format.write(made)
    read = blend_format.read(text)
    # A format may leave validation out or unweighted; training weights must be exact.
    for split, meant in made.splits().items():
        entries = read[split]
        if split == "train" or entries is not None:
            _compare(entries or (), meant or (), split, blend_format.name)
    return text


def write_blend(made: Blend, path: str | Path, blend_format: BlendFormat) -> None:
    """Write the file, whole or not at all, after reading it back. Raises as ``render`` does."""
    write_atomically(path, render(made, blend_format))


def read_blend(path: str | Path, blend_format: BlendFormat | None = None) -> Splits:
    """The entries of a blend file, its format told by the suffix unless given.

    Raises InputError naming the file; OSError if it cannot be read.
    """
    if blend_format is None:
        from blendlaw.plugins import blend_formats

        fitting = [f for f in blend_formats().values() if Path(path).suffix in f.suffixes]
        if not fitting:
            known = ", ".join(sorted({s for f in blend_formats().values() for s in f.suffixes}))
            raise InputError(f"not a blend file by its suffix (known: {known})", file=path)
        blend_format = fitting[0]
    text = read_text(path, MAX_BYTES)
    try:
        return blend_format.read(text)
    except InputError as error:
        raise replace(error, file=path) from None


@hookimpl
def register_blend_formats(register: Callable[[BlendFormat], None]) -> None:
    register(BlendFormat("per-split-json", (".json",), _per_split, read_per_split))
    sets = partial(_per_split, weighted_validation=False)
    register(BlendFormat("per-split-sets", (".json",), sets, read_per_split))
    data_args = BlendFormat("data-args", (".txt", ".args", ".list"), _data_args, read_data_args)
    register(data_args)


def _per_split(made: Blend, weighted_validation: bool = True) -> str:
    """For ``--per-split-data-args-path``.

    Megatron refuses weights on validation under ``--full-validation``, which
    ``--multiple-validation-sets`` needs: without them each set is evaluated on its own.
    """
    splits = dict(made.splits())
    if not weighted_validation:
        for split in ("valid", "test"):
            splits[split] = tuple((prefix, None) for prefix, _ in splits[split] or ()) or None
    return write_per_split(splits)


def _data_args(made: Blend) -> str:
    return write_data_args(made.splits())


def shares_of(sources: Sources) -> list[float] | None:
    """How a weight is split over its sources, summing to 1; None if it is not known."""
    if len(sources) <= 1:
        return [1.0] * len(sources)
    parts = [source.share for source in sources]
    if None in parts:
        parts = [source.tokens for source in sources]
    known = [part for part in parts if part is not None]
    return [part / sum(known) for part in known] if len(known) == len(sources) else None


def _held_out(by_language: list[Sources]) -> tuple[tuple[str, float], ...]:
    with_any = [sources for sources in by_language if sources]
    entries = []
    for sources in with_any:
        shares = shares_of(sources) or [1 / len(sources)] * len(sources)
        entries += [
            (source.prefix, share / len(with_any))
            for source, share in zip(sources, shares, strict=True)
            if share > 0
        ]
    return tuple(entries)


def _compare(read: Entries, meant: Entries, split: str, name: str) -> None:
    same = [prefix for prefix, _ in read] == [prefix for prefix, _ in meant] and all(
        (found is None and split != "train")
        or (found is not None and abs(found - (weight or 0)) <= READ_BACK)
        for (_, found), (_, weight) in zip(read, meant, strict=True)
    )
    if not same:
        raise InputError(f"the blend format {name} does not read back what it wrote as {split}")
