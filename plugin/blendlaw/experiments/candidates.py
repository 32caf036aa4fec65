"""The runs that an experiment may be chosen from: sizes × tokens × what is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.laws.base import Array, Law, Runs
from blendlaw.observations import Observation
from blendlaw.plan import Plan
from blendlaw.problems import BILLION, Worth, matrix

SIZES, LEVELS = 4, 7
"""How many model sizes and token budgets there are by default, evenly spaced in the logarithm."""
SIZE_RANGE = (1 / 100, 1 / 10)
TOKEN_RANGE = (1 / 1000, 1 / 10)
"""Where they lie, as parts of the run's own."""
SAME = 0.02
"""Counts and shares that differ by less are of one run: it trains in whole steps."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """n runs over the k ``languages``: ``params`` and ``tokens`` (n,), counts; ``shares`` (n, k) of
    the tokens; ``measured`` (n, k), the languages whose loss the run tells; ``unique`` (k,), counts
    of different tokens, infinite where unknown."""

    languages: tuple[str, ...]
    params: Array
    tokens: Array
    shares: Array
    measured: NDArray[np.bool_]
    unique: Array

    def __len__(self) -> int:
        return len(self.params)

    @property
    def flops(self) -> Array:
        """6·N·D of each run, (n,)."""
        return 6 * self.params * self.tokens

    def kind(self, run: int) -> str:
        """``alone``, ``pair`` or ``mixture``, by how many languages the run trains on."""
        return {1: "alone", 2: "pair"}.get(int((self.shares[run] > 0).sum()), "mixture")

    def name(self, run: int, number: int) -> str:
        """A name for it as the ``number``-th: what it trains is in it, so that no two runs of two
        designs have one name."""
        content = f"{self.params[run]} {self.tokens[run]} {self.weights(run)}"
        return f"run-{number:03d}-{crc32(content.encode()) & 0xFFFF:04x}"

    def done(self, observations: Sequence[Observation]) -> NDArray[np.bool_]:
        """Which runs, (n,), some of ``observations`` are of: nothing new would come of them."""
        found = np.zeros(len(self), dtype=bool)
        for each in observations:
            shares = each.shares()
            away = self.shares - [shares.get(name, 0.0) for name in self.languages]
            tokens = np.abs(self.tokens / each.tokens - 1)
            size = np.abs(self.params / each.params - 1)
            found |= np.maximum(np.maximum(size, tokens), np.abs(away).max(1)) < SAME
        return found

    def weights(self, run: int) -> dict[str, float]:
        """The shares of the languages whose loss the run tells, 0 where it only measures them."""
        measured = self.measured[run].tolist()
        every = zip(self.languages, self.shares[run].tolist(), measured, strict=True)
        return {name: share for name, share, seen in every if seen}

    def runs(self, target: int) -> Runs:
        """Those that tell the loss of the language ``target``, as a law takes them."""
        seen = self.measured[:, target]
        count = int(seen.sum())
        return Runs(
            languages=self.languages,
            target=np.full(count, target),
            params=self.params[seen] / BILLION,
            tokens=self.tokens[seen] / BILLION,
            shares=self.shares[seen],
            unique=np.tile(self.unique / BILLION, (count, 1)),
            transfer=matrix({}, self.languages),
            repetition=Worth().repetition,
            substitution=Worth().substitution,
        )

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        """The runs of ``keep``, a mask or indices."""
        return replace(
            self,
            params=self.params[keep],
            tokens=self.tokens[keep],
            shares=self.shares[keep],
            measured=self.measured[keep],
        )


def candidates(
    plan: Plan, law: Law, sizes: Sequence[float] = (), levels: Sequence[float] = ()
) -> Candidates:
    """Every size × token budget × blend that ``plan`` has the data for and ``law`` can tell from.

    ``sizes`` and ``levels`` are counts of parameters and tokens; left out, they are ``SIZES`` from
    a hundredth to a tenth of the run's parameters and ``LEVELS`` from a thousandth to a tenth of
    its tokens. Blends are each language alone, pairs in equal parts, uniform weights, each language
    leading with half, and random ones, always the same. Raises InputError where no run is left, or
    none that the law can be fitted to.
    """
    for name, given in (("proxy parameters", sizes), ("proxy tokens", levels)):
        for count in given:
            if not 1 <= count < 1e30:
                raise InputError(f"{name} must be a count", value=count)
    run = plan.run
    sizes = sorted(set(sizes)) or _spaced(run.params, SIZE_RANGE, SIZES)
    levels = sorted(set(levels)) or _spaced(run.tokens, TOKEN_RANGE, LEVELS)
    names = tuple(plan.languages)
    unique = [known.unique_tokens or np.inf for known in plan.languages.values()]
    found = _grid(names, sizes, levels, _blends(len(names)), np.array(unique), law)
    most = [
        (known.max_epochs or np.inf) * (known.unique_tokens or np.inf)
        for known in plan.languages.values()
    ]
    there = np.all(found.tokens[:, None] * found.shares <= np.array(most) * (1 + 1e-9), axis=1)
    if not there.any():
        raise InputError(
            "no candidate run is left: unique_tokens × max_epochs are fewer than the fewest proxy "
            f"tokens, {min(levels):.4g}; give fewer"
        )
    found = found.rows(there)
    reason = law.unsuitable(found.runs(0))
    if reason is not None:
        raise InputError(f"no runs to fit the law {law.name} with: {reason}")
    return found


def _spaced(whole: float, ends: tuple[float, float], count: int) -> list[float]:
    """Counts between two parts of ``whole``, evenly spaced in the logarithm, of three digits."""
    return [float(f"{whole * part:.3g}") for part in np.geomspace(*ends, count)]


def _grid(
    names: tuple[str, ...],
    sizes: Sequence[float],
    levels: Sequence[float],
    blends: Array,
    unique: Array,
    law: Law,
) -> Candidates:
    size, level, blend = (
        axis.ravel() for axis in np.meshgrid(sizes, levels, np.arange(len(blends)), indexing="ij")
    )
    shares = blends[blend]
    # A law of shares gives a loss without own tokens; one of own tokens hardly does.
    measured = shares > 0 if law.by_own_tokens else np.ones_like(shares, dtype=bool)
    return Candidates(names, size, level, shares, measured, unique)


def _blends(count: int) -> Array:
    """Alone, in pairs, uniform, each leading with half, and 2·count at random, (blends, count)."""
    eye = np.eye(count)
    pairs = [(eye[a] + eye[b]) / 2 for a, b in combinations(range(count), 2)]
    uniform = np.full((1, count), 1 / count)
    leading = 0.5 * eye + 0.5 * (1 - eye) / max(count - 1, 1)
    random = np.random.default_rng(0).dirichlet(np.ones(count), size=2 * count)
    blends = np.concatenate([eye, np.reshape(pairs, (-1, count)), uniform, leading, random])
    _, first = np.unique(blends.round(6), axis=0, return_index=True)
    return np.asarray(blends[np.sort(first)])
