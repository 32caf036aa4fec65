"""Effective tokens: what a language's loss answers to, after repetition and transfer.

For a target with own tokens D_t and others D_j, each worth S(D; U) after repetition,

    D_eff = (S_t^γ + Σ_{τ_j>0} [((1 + τ_j)·S_j)^γ − S_j^γ])^(1/γ) + Σ_{τ_j<0} τ_j·D_j.

γ = 1 is the sum S_t + Σ τ_j·S_j of ATLAS (arXiv 2510.22037 eq. 3). A smaller γ says that
languages complement rather than replace each other, while τ keeps its meaning in a run of equal
parts: D_eff = (1 + τ_j)·S. Where help is known to saturate, what the first bracket is above S_t,
the help H of all other languages together, counts as M·ln(1 + H/M): in full while it is small,
half as much for the next token at H = M. D_eff is concave in the tokens for 0 < γ ≤ 1 and any
M > 0 (docs/laws.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

# How fast repeated tokens lose their worth where nothing was fitted: 1 / R_D*, arXiv 2305.16264.
REPETITION = 1 / 15.388

# How far languages replace each other where only pairs of equal parts were run: the median over 13
# targets of 512 mixture runs (docs/laws.md). With 1, two that help each other would do so entirely.
SUBSTITUTION = 0.57


def saturate(tokens: Array, unique: Array, repetition: Array | float) -> tuple[Array, Array, Array]:
    """Worth of ``tokens`` of which ``unique`` are different, with two derivatives in ``tokens``.

    S(D; U) = D up to U, then U·[1 + (1 − exp(−λ(D/U − 1)))/λ] (arXiv 2305.16264 eq. 5 with
    λ = 1/R_D*): concave, of slope one at D = U, bounded by U·(1 + 1/λ).
    """
    repeated = tokens > unique
    if not repeated.any():
        return tokens, np.ones_like(tokens), np.zeros_like(tokens)
    safe = np.where(repeated, unique, 1.0)
    exponent = -repetition * np.where(repeated, tokens / safe - 1, 0.0)
    worth = np.where(repeated, safe * (1 - np.expm1(exponent) / repetition), tokens)
    slope = np.exp(exponent)
    return worth, slope, np.where(repeated, -repetition / safe * slope, 0.0)


@dataclass(frozen=True)
class Effective:
    """Effective ``tokens`` (..., t) of t targets, with what their derivatives are made of.

    ``slope`` (..., t, k) is ∂D_eff/∂D_j, ``by_worth`` ∂D_eff/∂S_j, ``worth_slope`` the part of
    slope through S that an unlimited help would have; ``bend`` (..., t, k) the diagonal of the
    second derivative, ``share`` (..., t) the factor of worth_slope·worth_slopeᵀ in it and, where
    help saturates, −``curb`` (..., t) that of help_slope·help_slopeᵀ, ``help_slope`` (..., t, k)
    being ∂H/∂D_j. Leading dimensions along which nothing changes may be absent.
    """

    tokens: Array
    slope: Array
    by_worth: Array
    worth_slope: Array
    bend: Array
    share: Array
    help_slope: Array | None = None
    curb: Array | None = None


def effective(
    tokens: Array,
    unique: Array,
    transfer: Array,
    own: Array,
    repetition: Array | float,
    substitution: Array | float = 1.0,
    saturation: Array | None = None,
) -> Effective:
    """Effective tokens of each target, from ``tokens`` (..., 1, k) of the languages.

    ``own`` (t, k) is 1 where the language is the target; ``transfer`` (..., t, k) its τ (of the
    target itself ignored); ``repetition`` λ, ``substitution`` γ and ``saturation`` M, in the unit
    of the tokens or None for no limit, broadcast against (..., t, k). Slopes of languages without
    tokens, infinite for γ < 1, are given as 0.
    """
    worth, worth_slope, worth_bend = saturate(tokens, unique, repetition)
    transfer = transfer * (own == 0)
    help_, harm = np.maximum(transfer, 0.0), np.minimum(transfer, 0.0)
    if isinstance(substitution, float) and substitution == 1 and saturation is None:
        # A sum, and with nothing repeated one of constant slopes: most allocations are this.
        part = own + help_
        repeated = bool((worth_slope != 1).any())
        through = part * worth_slope if repeated else part
        total = np.einsum("...k,...k->...", part, worth)
        return Effective(
            tokens=np.maximum(total + np.einsum("...k,...k->...", harm, tokens), 0.0),
            slope=through + harm,
            by_worth=part,
            worth_slope=through,
            bend=part * worth_bend if repeated else np.zeros_like(part),
            share=np.zeros_like(total),
        )
    power = np.asarray(substitution)
    part = np.where(own > 0, 1.0, (1 + help_) ** power - 1)
    some = worth > 0
    safe = np.where(some, worth, 1.0)
    powered = np.where(some, part * safe**power, 0.0)
    total = powered.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        base = total ** (1 / power[..., :1] if power.ndim else 1 / power)
        ratio = np.where(powered > 0, powered / total * base / safe, 0.0)
        through = ratio * worth_slope
        narrow = np.where(powered > 0, (power - 1) * ratio / safe * worth_slope**2, 0.0)
        share = np.where(base > 0, (1 - power) / base, 0.0)
    found = Effective(
        tokens=base[..., 0],
        slope=through,
        by_worth=ratio,
        worth_slope=through,
        bend=narrow + ratio * worth_bend,
        share=share[..., 0],
    )
    if saturation is not None:
        alone = np.where(some, own, 0.0)
        found = _saturated(found, alone, (worth, worth_slope, worth_bend), saturation[..., 0])
    return replace(
        found,
        tokens=np.maximum(found.tokens + (harm * tokens).sum(-1), 0.0),
        slope=found.slope + harm,
    )


def _saturated(
    plain: Effective, own: Array, saturated: tuple[Array, Array, Array], limit: Array
) -> Effective:
    """What becomes of ``plain``, without harm, if help counts as M·ln(1 + H/M), M = ``limit``."""
    worth, worth_slope, worth_bend = saturated
    alone = (own * worth).sum(-1)
    limited, rate, _ = limited_help(plain.tokens - alone, limit)
    each, rest = rate[..., None], (1 - rate)[..., None] * own
    by_worth = each * plain.by_worth + rest
    return replace(
        plain,
        tokens=alone + limited,
        slope=by_worth * worth_slope,
        by_worth=by_worth,
        bend=each * plain.bend + rest * worth_bend,
        share=rate * plain.share,
        help_slope=(plain.by_worth - own) * worth_slope,
        curb=rate**2 / limit,
    )


def limited_help(helped: Array, limit: Array) -> tuple[Array, Array, Array]:
    """M·ln(1 + H/M) of the help H, M = ``limit``, its derivative in H and that in ln M."""
    helped = np.maximum(helped, 0.0)
    rate = 1 / (1 + helped / limit)
    limited = limit * np.log1p(helped / limit)
    return limited, rate, limited - rate * helped
