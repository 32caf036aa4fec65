"""A damped Newton method for many small robust regressions at once.

Fits of a law, its multi-starts and its bootstrap refits are the same problem with other starts or
other weights: minimise Σ_i w_i ρ(r_i(θ)) within bounds, with r the residual of the loss or of its
logarithm and ρ Huber's function or the square. All of them advance together, so the cost of a
numpy call is shared by thousands of problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw.laws.base import Array, Law, Prior, Runs
from blendlaw.threads import single_threaded

LEAST = 1e-13  # damping, which keeps a Hessian regular in directions that no run tells of
LONGEST = 2.0  # of a step in any coordinate, all of which are logarithms or exponents
SAME = 1e-9  # minima this close, relatively, are one


@dataclass(frozen=True)
class Objective:
    """What a fit minimises, summed over observations.

    ``delta`` is where Huber's function turns linear (infinite: half the square), ``log`` says
    whether the residual is of the logarithm of the loss or of the loss itself.
    """

    delta: float = 1e-3
    log: bool = True

    def residual(self, predicted: Array, measured: Array) -> Array:
        if self.log:
            return np.log(predicted) - np.log(measured)
        return predicted - measured

    def rho(self, residual: Array) -> Array:
        size = np.abs(residual)
        if np.isinf(self.delta):
            return 0.5 * size**2
        clipped = np.minimum(size, self.delta)
        return clipped * (size - 0.5 * clipped)


@dataclass(frozen=True)
class Solution:
    """The minima of B problems: ``theta`` (B, p), ``value`` (B,), ``converged`` (B,)."""

    theta: Array
    value: Array
    converged: NDArray[np.bool_]


def value(
    law: Law, runs: Runs, measured: Array, objective: Objective, theta: Array, weight: Array
) -> Array:
    """The objective of each problem, (B,)."""
    residual = objective.residual(law.loss(theta, runs), measured)
    return np.asarray((weight * objective.rho(residual)).sum(-1))


def derivatives(
    law: Law,
    runs: Runs,
    measured: Array,
    objective: Objective,
    theta: Array,
    weight: Array,
    prior: Prior | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Objective (B,), gradient (B, p), Hessian (B, p, p), and a positive scale (B, p).

    The scale is the diagonal of the quadratic that lies above the objective (reweighted least
    squares); it measures a step in the problem's own units.
    """
    predicted = law.loss(theta, runs)
    slope = law.gradient(theta, runs)
    residual = objective.residual(predicted, measured)
    inner = 1.0 / predicted if objective.log else np.ones_like(predicted)
    if objective.log:
        slope = slope * inner[..., None]
    clipped = np.clip(residual, -objective.delta, objective.delta)
    first = weight * clipped
    second = weight * (np.abs(residual) <= objective.delta)
    bowl = weight * np.divide(
        clipped, residual, out=np.ones_like(residual), where=np.abs(residual) > 0
    )
    gradient = (first[..., None, :] @ slope)[..., 0, :]
    # The logarithm's own curvature, −∇f∇fᵀ, joins the Gauss–Newton weights.
    outer = second - first if objective.log else second
    curvature = law.curvature(theta, runs, first * inner)
    if curvature is None:
        hessian = np.swapaxes(slope * bowl[..., None], -1, -2) @ slope
    else:
        hessian = np.swapaxes(slope * outer[..., None], -1, -2) @ slope + curvature
    scale = (bowl[..., None, :] @ slope**2)[..., 0, :]
    total = (weight * objective.rho(residual)).sum(-1)
    if prior is not None:
        away = theta - prior.centre
        total = total + 0.5 * (prior.weight * away**2).sum(-1)
        gradient = gradient + prior.weight * away
        hessian += np.diag(prior.weight)
        scale = scale + prior.weight
    return total, gradient, hessian, scale


@single_threaded
def minimise(
    law: Law,
    runs: Runs,
    measured: Array,
    objective: Objective,
    start: Array,
    lower: Array,
    upper: Array,
    weight: Array | None = None,
    prior: Prior | None = None,
    iterations: int = 200,
    agree: int | None = None,
) -> Solution:
    """Minimise B problems from ``start`` (B, p) within ``lower``, ``upper`` (p,).

    ``weight`` (B, n) or (n,) multiplies the observations (bootstrap counts). A problem is
    converged when a full Newton step would lower it by less than ``law.tolerance`` times its value.
    Where the problems are starts of one, ``agree`` ends the descent of all when so many of them
    have converged to the lowest value that any has reached.
    """
    theta = np.clip(np.array(start, float), lower, upper)
    count = len(theta)
    weights = np.broadcast_to(np.ones(len(runs)) if weight is None else weight, (count, len(runs)))
    damping = np.full(count, 1e-2)
    growth = np.full(count, 2.0)
    best, gradient, hessian, scale = derivatives(
        law, runs, measured, objective, theta, weights, prior
    )
    converged = np.zeros(count, bool)
    alive = np.arange(count)
    for _ in range(iterations):
        at, g, h = theta[alive], gradient[alive], hessian[alive]
        fixed = ((at <= lower) & (g > 0)) | ((at >= upper) & (g < 0))
        step = _step(h, np.where(fixed, 0.0, g), scale[alive], damping[alive], ~fixed)
        step = np.clip(at + np.clip(step, -LONGEST, LONGEST), lower, upper) - at
        predicted = -(g * step).sum(-1) - 0.5 * ((h @ step[..., None])[..., 0] * step).sum(-1)
        trial = at + step
        t_value, t_gradient, t_hessian, t_scale = derivatives(
            law, runs, measured, objective, trial, weights[alive], prior
        )
        actual = best[alive] - t_value
        small = (np.abs(predicted) <= law.tolerance * best[alive]) & ~(
            actual > law.tolerance * best[alive]
        )
        uphill = ~(predicted > 0)
        good = (actual > 0) & np.isfinite(t_value)
        ratio = np.where(uphill, 0.5, actual / np.where(uphill, 1.0, predicted))
        keep = alive[good]
        theta[keep], best[keep] = trial[good], t_value[good]
        gradient[keep], hessian[keep], scale[keep] = (
            t_gradient[good],
            t_hessian[good],
            t_scale[good],
        )
        slower = np.maximum(1 / 10, 1 - (2 * np.minimum(ratio[good], 1.0) - 1) ** 3)
        damping[keep] = np.maximum(damping[keep] * slower, LEAST)
        growth[keep] = 2.0
        bad = alive[~good]
        damping[bad] *= growth[bad]
        growth[bad] *= 2.0
        done = (small & (damping[alive] < 1e-1)) | (damping[alive] > 1e14)
        converged[alive[done]] = True
        alive = alive[~done]
        if not len(alive):
            break
        if agree is not None and done.any():
            lowest = converged & (best <= best.min() * (1 + SAME))
            if lowest.sum() >= agree:
                break
    return Solution(theta, best, converged & np.isfinite(best))


def _step(
    hessian: Array, gradient: Array, scale: Array, damping: Array, free: NDArray[np.bool_]
) -> Array:
    """The damped Newton step (b, p) of the parameters that are free, in units of their scale."""
    size = np.sqrt(np.maximum(scale, 1e-12 * scale.max(-1, keepdims=True) + 1e-300))
    identity = np.eye(size.shape[-1])
    unit = hessian / size[:, :, None] / size[:, None, :] + damping[:, None, None] * identity
    unit = np.where(free[:, :, None] & free[:, None, :], unit, identity)
    return np.asarray(np.linalg.solve(unit, -(gradient / size)[..., None])[..., 0] / size)
