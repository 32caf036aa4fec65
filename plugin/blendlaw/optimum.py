"""A primal-dual interior-point method on the simplex within bounds, for many draws at once.

minimise F(w)  subject to  Σ w = 1,  lower ≤ w ≤ upper,  with F's gradient and Hessian at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw.laws.base import Array
from blendlaw.threads import single_threaded

EXACT = 2e-15  # a residual that is rounding

Function = Callable[[Array, NDArray[np.intp]], tuple[Array, Array, Array]]
"""weights (b, k) and which problems they are of (b,) -> value (b,), gradient, Hessian."""


@dataclass(frozen=True)
class Optimum:
    """``weights`` (b, k), ``value`` (b,), ``gradient`` (b, k), ``residual`` (b,).

    The residual is the largest violation of the Karush–Kuhn–Tucker conditions, relative to the
    largest slope: among free languages the slopes are equal, at a lower bound none is smaller, at
    an upper bound none is larger.
    """

    weights: Array
    value: Array
    gradient: Array
    residual: Array


@single_threaded
def minimise(
    function: Function,
    start: Array,
    lower: Array,
    upper: Array,
    *,
    convex: bool = True,
    iterations: int = 100,
) -> Optimum:
    """Minimise b problems from ``start`` (b, k) within ``lower``, ``upper`` (k,).

    For a convex F the result is the optimum; otherwise a local one (Hessians are then shifted to
    be positive). Languages whose bounds coincide are left out. Requires Σ lower ≤ 1 ≤ Σ upper.
    """
    free = upper > lower
    weights = np.where(free, start, lower)
    if free.sum() > 1 and lower.sum() < 1 < upper.sum():
        weights[:, free] = _interior(weights[:, free], lower, upper, free)
        weights = _descend(function, weights, lower, upper, free, convex, iterations)
    else:
        weights = np.tile(lower if lower.sum() >= 1 - 1e-12 else upper, (len(start), 1))
        if free.sum() == 1:
            weights[:, free] = 1 - weights[:, ~free].sum(1, keepdims=True)
    return _polish(function, weights, lower, upper, free)


def kkt_residual(
    gradient: Array, weights: Array, lower: Array, upper: Array, free: NDArray[np.bool_]
) -> Array:
    """See ``Optimum``; 0 where the bounds leave no choice."""
    # The multiplier must be at least every slope of a language that could give tokens away, and
    # at most every slope of one that could take some.
    giving = np.where(free & (weights > lower), gradient, -np.inf).max(1)
    taking = np.where(free & (weights < upper), gradient, np.inf).min(1)
    with np.errstate(invalid="ignore"):
        gap = np.where(np.isfinite(giving) & np.isfinite(taking), giving - taking, 0.0)
    size = np.abs(np.where(free, gradient, 0.0)).max(1)
    return np.asarray(np.maximum(gap, 0.0) / 2 / np.maximum(size, 1e-300))


def _interior(start: Array, lower: Array, upper: Array, free: NDArray[np.bool_]) -> Array:
    """Points between the bounds, of the same sum as what is free, near ``start``."""
    low, high = lower[free], upper[free]
    rest = 1 - lower[~free].sum()
    centre = low + (high - low) * (rest - low.sum()) / (high - low).sum()
    return np.asarray(centre + 0.9 * _projected(start, centre, low, high))


def _projected(start: Array, centre: Array, low: Array, high: Array) -> Array:
    """The part of the way from ``centre`` to ``start`` that keeps the sum and the bounds."""
    way = start - centre
    way = way - way.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(
            way > 0, (high - centre) / way, np.where(way < 0, (low - centre) / way, np.inf)
        )
    return np.asarray(np.minimum(room.min(-1, keepdims=True), 1.0) * way)


def _descend(
    function: Function,
    weights: Array,
    lower: Array,
    upper: Array,
    free: NDArray[np.bool_],
    convex: bool,
    iterations: int,
) -> Array:
    weights = weights.copy()
    low, high = lower[free], upper[free]
    which = np.arange(len(weights))
    value, gradient, hessian = _restricted(function, weights, which, free)
    scale = np.maximum(np.abs(gradient).max(1), 1e-300)
    barrier = np.full(len(weights), 0.1)
    x = weights[:, free]
    down, up = barrier[:, None] / (x - low), barrier[:, None] / (high - x)
    identity = np.eye(x.shape[1])
    alive = which
    for _ in range(iterations):
        at, mu = x[alive], barrier[alive, None]
        g, h = gradient[alive] / scale[alive, None], hessian[alive] / scale[alive, None, None]
        below, above = at - low, high - at
        if not convex:
            least = np.linalg.eigvalsh(h)[:, 0]
            h = h + np.maximum(0.0, 1e-6 - least)[:, None, None] * identity
        h = h + (down[alive] / below + up[alive] / above)[..., None] * identity
        force = -(g - mu / below + mu / above)
        sides = np.stack([force, np.ones_like(force)], -1)
        solved = np.linalg.solve(h, sides)
        shadow = solved[..., 0].sum(1) / solved[..., 1].sum(1)
        step = solved[..., 0] - shadow[:, None] * solved[..., 1]
        step_down = mu / below - down[alive] - down[alive] / below * step
        step_up = mu / above - up[alive] + up[alive] / above * step
        length = np.minimum(_reach(below, step), _reach(above, -step))
        merit = value[alive] / scale[alive] - _logs(below, above, mu)
        slope = -(force * step).sum(1)
        for _ in range(40):
            trial = weights[alive]
            trial[:, free] = at + length[:, None] * step
            t_value, t_gradient, t_hessian = _restricted(function, trial, alive, free)
            inside = trial[:, free]
            t_merit = t_value / scale[alive] - _logs(inside - low, high - inside, mu)
            worse = ~(t_merit <= merit + 1e-4 * length * slope + 1e-12 * np.abs(merit))
            if not worse.any():
                break
            length = np.where(worse, 0.5 * length, length)
        x[alive], weights[alive] = inside, trial
        value[alive], gradient[alive], hessian[alive] = t_value, t_gradient, t_hessian
        down[alive] += _reach(down[alive], step_down)[:, None] * step_down
        up[alive] += _reach(up[alive], step_up)[:, None] * step_up
        near = np.abs(length[:, None] * step).max(1) < 1e-3
        complementarity = (down[alive] * (inside - low) + up[alive] * (high - inside)).mean(1) / 2
        barrier[alive] = np.where(
            near | (complementarity < 10 * barrier[alive]),
            np.minimum(np.minimum(0.1 * mu[:, 0], mu[:, 0] ** 1.5), complementarity),
            barrier[alive],
        )
        alive = alive[(mu[:, 0] > 1e-14) | (np.abs(step).max(1) > 1e-11)]
        if not len(alive):
            break
    return weights


def _restricted(
    function: Function, weights: Array, which: NDArray[np.intp], free: NDArray[np.bool_]
) -> tuple[Array, Array, Array]:
    value, gradient, hessian = function(weights, which)
    if free.all():
        return value, gradient, hessian
    return value, gradient[:, free], hessian[:, free][:, :, free]


def _reach(room: Array, step: Array) -> Array:
    """How far (at most 1) one can go before using up 99.5% of ``room``, (b,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(step < 0, -0.995 * room / step, np.inf)
    return np.asarray(np.minimum(most.min(1), 1.0))


def _logs(below: Array, above: Array, barrier: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((barrier * (np.log(below) + np.log(above))).sum(1))


def _polish(
    function: Function, weights: Array, lower: Array, upper: Array, free: NDArray[np.bool_]
) -> Optimum:
    """Put on their bounds the weights that end there, and solve exactly for the rest."""
    which = np.arange(len(weights))
    width = upper - lower
    at_lower = free & (weights - lower < 1e-7 * width)
    at_upper = free & (upper - weights < 1e-7 * width)
    inner = free & ~at_lower & ~at_upper
    count = inner.sum(1, keepdims=True)
    both = inner[:, :, None] & inner[:, None, :]
    identity = np.eye(weights.shape[1])

    def summing_to_one(weights: Array) -> Array:
        weights = np.where(at_lower, lower, np.where(at_upper, upper, weights))
        gap = 1 - weights.sum(1, keepdims=True)
        return weights + np.where(inner, gap / np.maximum(count, 1), 0.0)

    weights = summing_to_one(weights)
    value, gradient, hessian = function(weights, which)
    residual = kkt_residual(gradient, weights, lower, upper, free)
    for _ in range(8):
        size = np.maximum(np.abs(np.where(inner, gradient, 0.0)).max(1, keepdims=True), 1e-300)
        system = np.where(both, hessian / size[..., None], identity) + 1e-14 * identity
        sides = np.stack([np.where(inner, -gradient / size, 0.0), inner.astype(float)], -1)
        solved = np.linalg.solve(system, sides)
        total = np.maximum(solved[..., 1].sum(1), 1e-300)
        step = solved[..., 0] - (solved[..., 0].sum(1) / total)[:, None] * solved[..., 1]
        step = np.where(inner & (count > 1) & np.isfinite(step), step, 0.0)
        length = np.minimum(_reach(weights - lower, step), _reach(upper - weights, -step))
        trial = summing_to_one(weights + length[:, None] * step)
        t_value, t_gradient, t_hessian = function(trial, which)
        t_residual = kkt_residual(t_gradient, trial, lower, upper, free)
        better = t_residual < residual
        if not better.any():
            break
        weights = np.where(better[:, None], trial, weights)
        value, residual = np.where(better, t_value, value), np.where(better, t_residual, residual)
        gradient = np.where(better[:, None], t_gradient, gradient)
        hessian = np.where(better[:, None, None], t_hessian, hessian)
        if not (residual > EXACT).any():
            break
    return Optimum(weights, value, gradient, residual)
