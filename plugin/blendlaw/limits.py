"""What a language's weight may be: floors, caps and how often its text may be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.nearest import nearest
from blendlaw.values import SUM_TOLERANCE as SUM_TOLERANCE

if TYPE_CHECKING:
    from blendlaw.plan import Plan, Stage

Array: TypeAlias = NDArray[np.float64]
PerLanguage: TypeAlias = Mapping[str, float] | float | None
"""A number of each language, one number for all of them, or None for no limit."""

"""How far from 1 the weights or shares that a person gives may sum."""

SLACK = 1e-9
"""Sums off by less than this are rounding (ten floors of 0.1), not a mistake."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Bounds of the weights, in the order of ``languages``; there are weights that meet them.

    ``lower`` and ``upper`` are [languages], lower ≤ upper, Σ lower ≤ 1 ≤ Σ upper. ``reason``
    says what makes each upper bound: ``"cap"``, ``"max_epochs"`` or ``""`` where it is 1.
    """

    languages: tuple[str, ...]
    lower: Array
    upper: Array
    reason: tuple[str, ...]


def limits(
    languages: Sequence[str],
    tokens: float,
    *,
    floor: PerLanguage = None,
    cap: PerLanguage = None,
    max_epochs: PerLanguage = None,
    unique_tokens: PerLanguage = None,
    consumed: PerLanguage = None,
) -> Limits:
    """Bounds of the weights of ``languages`` in a blend of ``tokens`` training tokens.

    The upper bound is min(cap, max(0, max_epochs · unique_tokens − consumed) / tokens, 1), where
    ``consumed`` counts tokens of the language seen earlier. Raises InputError, with the numbers,
    if no weights meet the limits, if a language is unknown, or if ``max_epochs`` is given for a
    language without unique tokens.
    """
    names = tuple(languages)
    lower = _column("floor", floor, names, 0.0)
    capped = _column("cap", cap, names, np.inf)
    epochs = _column("max_epochs", max_epochs, names, np.inf)
    unique = _column("unique_tokens", unique_tokens, names, np.nan)
    seen = _column("consumed", consumed, names, 0.0)
    if not (np.isfinite(tokens) and tokens > 0):
        raise InputError("the tokens to allocate must be a positive number", value=tokens)

    limited = np.isfinite(epochs)
    if unknown := _listed(names, limited & np.isnan(unique)):
        raise InputError(f"max_epochs needs the unique tokens of {unknown}")
    available = np.full(len(names), np.inf)
    available[limited] = np.maximum(0.0, epochs[limited] * unique[limited] - seen[limited])
    upper = np.minimum(np.minimum(capped, available / tokens), 1.0)
    reason = tuple(
        "" if high == 1 else "cap" if top <= left / tokens else "max_epochs"
        for high, top, left in zip(upper, capped, available, strict=True)
    )
    _refuse_floors_above(names, lower, upper, reason)
    if lower.sum() > 1 + SLACK:
        named = ", ".join(f"{n} {x:g}" for n, x in zip(names, lower, strict=True) if x > 0)
        raise InputError(
            f"floors sum to {lower.sum():.4g}: {lower.sum() - 1:.4g} too much ({named})"
        )
    if upper.sum() < 1 - SLACK:
        raise InputError(_too_tight(names, tokens, np.minimum(capped, 1.0), available, upper))
    # Within the slack the sums are made exact, so that clamp always has a solution.
    lower /= max(1.0, lower.sum())
    upper /= min(1.0, upper.sum())
    return Limits(names, lower, np.maximum(lower, upper), reason)


def plan_limits(plan: Plan, stage: Stage) -> Limits:
    """The limits that ``plan`` sets for ``stage``, after what it has consumed.

    In the order of its languages. What the floors of later stages need is kept for them, so that
    no stage uses up a language that ``max_epochs`` limits. Raises InputError as ``limits`` does.
    """
    ahead = sum(plan.language_tokens(each) for each in plan.later(stage))
    known = plan.with_floors(ahead).languages
    return limits(
        tuple(known),
        plan.language_tokens(stage),
        floor={n: k.floor for n, k in known.items()},
        cap={n: k.cap for n, k in known.items()},
        max_epochs={n: k.max_epochs for n, k in known.items() if k.max_epochs is not None},
        unique_tokens={n: k.unique_tokens for n, k in known.items() if k.unique_tokens is not None},
        consumed={n: k.consumed for n, k in known.items()},
    )


def clamp(weights: Sequence[float] | Array, limits: Limits) -> Array:
    """The weights within ``limits`` that keep the proportions of ``weights``.

    Water-filling: w_i = clip(c · p_i, lower_i, upper_i) with the one c for which Σ w = 1, so the
    languages that no limit touches keep their ratios. A language of weight 0 gets its floor, and
    more (in equal parts) only when all others are at their upper bounds. ``weights`` is
    [languages], of any positive scale; the result sums to 1 within 1e-12. Raises InputError if a
    weight is negative or not finite.
    """
    proposed = np.asarray(weights, dtype=np.float64)
    assert proposed.shape == limits.lower.shape
    if not (np.isfinite(proposed).all() and (proposed >= 0).all()):
        raise InputError("weights must be finite and not negative", value=proposed.tolist())
    kept = ((limits.lower <= proposed) & (proposed <= limits.upper)).all()
    if kept and abs(proposed.sum() - 1) <= 1e-12:
        return proposed.copy()  # to the last bit: an order of samples hangs on it
    # Shares too small to divide by are nothing.
    shares = proposed / (proposed.max() or 1.0)
    wanted = shares > 1e-100
    shares = np.where(wanted, shares, 0.0)
    shares /= shares.sum() or 1.0
    if wanted.any() and ((limits.lower <= shares) & (shares <= limits.upper)).all():
        return shares
    filled = limits.lower.copy()
    if limits.upper[wanted].sum() + limits.lower[~wanted].sum() >= 1:
        rest = 1.0 - limits.lower[~wanted].sum()
        filled[wanted] = _fill(shares[wanted], limits.lower[wanted], limits.upper[wanted], rest)
    else:
        filled[wanted] = limits.upper[wanted]
        rest = 1.0 - filled[wanted].sum()
        lower, upper = limits.lower[~wanted], limits.upper[~wanted]
        filled[~wanted] = _fill(np.ones_like(lower), lower, upper, rest)
    return filled


def _fill(shares: Array, lower: Array, upper: Array, total: float) -> Array:
    """clip(c · shares, lower, upper) with the c that makes it sum to ``total``.

    The sum is piecewise linear in c with a kink wherever a share meets a bound: find the piece
    that holds ``total``, where it is known who is free, and solve there.
    """
    kinks = np.sort(np.concatenate([lower / shares, upper / shares]))
    sums = np.clip(kinks[:, None] * shares, lower, upper).sum(axis=1)
    piece = int(np.searchsorted(sums, total))
    if piece == 0:  # only rounding leaves less than the floors
        return lower.copy()
    if piece == len(kinks):
        return upper.copy()
    start, end = kinks[piece - 1], kinks[piece]
    free = (lower / shares <= start) & (upper / shares >= end)
    fixed = np.clip(end * shares, lower, upper)
    level = (total - fixed[~free].sum()) / shares[free].sum()
    filled: Array = np.where(free, np.clip(level * shares, lower, upper), fixed)
    return filled


def _column(name: str, given: PerLanguage, languages: tuple[str, ...], default: float) -> Array:
    if given is None:
        given = {}
    elif not isinstance(given, Mapping):
        given = dict.fromkeys(languages, given)
    for language, value in given.items():
        if language not in languages:
            hint = nearest(language, languages)
            raise InputError(f"{name} of {language}, which is not among the languages{hint}")
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"{name} of {language} must be a number ≥ 0", value=value)
    return np.array([given.get(language, default) for language in languages], dtype=np.float64)


def _listed(languages: tuple[str, ...], chosen: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, yes in zip(languages, chosen, strict=True) if yes)


def _refuse_floors_above(
    languages: tuple[str, ...], lower: Array, upper: Array, reason: tuple[str, ...]
) -> None:
    for language, low, high, why in zip(languages, lower, upper, reason, strict=True):
        if low > high + SLACK:
            bound = f"its {why} limit {high:.4g}" if why else "1"
            raise InputError(f"floor {low:g} of {language} is above {bound}")


def _too_tight(
    languages: tuple[str, ...], tokens: float, cap: Array, available: Array, upper: Array
) -> str:
    """What is wrong, and what would put it right, when the upper bounds sum to less than 1."""
    total = upper.sum()
    by_epochs = upper < cap
    cures = []
    if by_epochs.any():
        cures.append(f"raise max_epochs of {_listed(languages, by_epochs)}")
    if (~by_epochs & (cap < 1)).any():
        cures.append(f"raise the cap of {_listed(languages, ~by_epochs & (cap < 1))}")
    # T tokens are feasible when Σ min(cap, available / T) ≥ 1, which falls with T.
    most, excess = 0.0, tokens
    for _ in range(60):
        middle = (most + excess) / 2
        if np.minimum(cap, available / middle).sum() >= 1:
            most = middle
        else:
            excess = middle
    if most > 0:  # shown a little lower, so that the rounded number works
        cures.append(f"lower tokens from {tokens:.4g} to {most * (1 - 5e-4):.4g}")
    return (
        f"caps allow only {total:.4g} of the tokens, {1 - total:.4g} too little: "
        + ", or ".join(cures)
    )
