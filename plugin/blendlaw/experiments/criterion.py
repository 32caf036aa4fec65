"""The criterion: how much loss an allocation gives away because parameters are uncertain.

With F(w; θ) the mean loss over languages, weighted by value, and w*(θ) the weights that minimise
it, the regret of weights chosen under θ̂ is F(w*(θ̂); θ) − F(w*(θ); θ). To second order it is
½·δθᵀ·G·P·Gᵀ·δθ, with G = ∂²F/∂θ∂w at the optimum and P = Z·(Zᵀ·H·Z)⁻¹·Zᵀ, where H = ∂²F/∂w² and Z
spans the changes of the free weights that keep their sum (docs/laws.md has the derivation). Its
mean under a covariance C of θ̂ is tr(M·C) with M = ½·G·P·Gᵀ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blendlaw.allocation_problem import AllocationProblem
from blendlaw.laws.base import Array
from blendlaw.threads import single_threaded

STEP = 1e-5  # of the differences in the parameters, which are logarithms and exponents


@single_threaded
def regret_matrices(problem: AllocationProblem, theta: Array) -> Array:
    """M of each language at each of s points of the parameters, (s, t, p, p).

    ``theta`` is (s, t, p), the solver's coordinates; at each the objective must be finite at
    uniform weights. Not finite where a best weight is next to none, as far beyond what is measured.
    Nats per token of the mean loss. Off-diagonal blocks are not needed: languages
    are fitted apart, so errors of their parameters are independent.
    """
    weights = problem.solve(theta).weights
    _, _, hessian = _in_weights(problem, theta, weights)
    lower, upper = problem.limits.lower, problem.limits.upper
    across = tangent_inverse(hessian, (weights > lower) & (weights < upper))
    mixed = mixed_derivatives(problem, theta, weights)
    with np.errstate(invalid="ignore"):
        return 0.5 * mixed @ across[:, None] @ np.swapaxes(mixed, -1, -2)


def mixed_derivatives(problem: AllocationProblem, theta: Array, weights: Array) -> Array:
    """G = ∂²F/∂θ∂w, (s, t, p, k): central differences of the analytic gradient in the weights."""
    points, targets, count = theta.shape
    steps = STEP * np.eye(targets * count).reshape(-1, targets, count)
    both = theta[:, None, None] + np.stack([steps, -steps])  # (s, 2, t·p, t, p)
    tiled = np.broadcast_to(weights[:, None, None], (*both.shape[:3], weights.shape[-1]))
    _, gradient, _ = _in_weights(
        problem, both.reshape(-1, targets, count), tiled.reshape(-1, weights.shape[-1])
    )
    gradient = gradient.reshape(points, 2, targets, count, -1)
    return np.asarray((gradient[:, 0] - gradient[:, 1]) / (2 * STEP))


def tangent_inverse(hessian: Array, free: NDArray[np.bool_]) -> Array:
    """Z·(Zᵀ·H·Z)⁻¹·Zᵀ of ``hessian`` (s, k, k) where ``free`` (s, k) weights keep their sum.

    0 where fewer than two are free. Flat directions are held up by a 1e-9 of the largest curvature.
    """
    size = np.abs(np.where(free, np.diagonal(hessian, axis1=1, axis2=2), 0.0)).max(1)
    both = free[:, :, None] & free[:, None, :]
    identity = np.eye(hessian.shape[-1])
    lift = 1e-9 * np.maximum(size, 1e-300)[:, None, None] * identity
    inverse = np.linalg.inv(np.where(both, hessian + lift, identity))
    inverse = np.where(both, inverse, 0.0)
    ones = np.asarray(free, float)[..., None]
    along = inverse @ ones
    total = (ones * along).sum(1, keepdims=True)
    return np.asarray(inverse - along @ np.swapaxes(along, 1, 2) / np.where(total > 0, total, 1.0))


def regrets(problem: AllocationProblem, weights: Array, theta: Array) -> tuple[Array, Array]:
    """The exact regret of ``weights`` (k,) where the parameters are each of ``theta`` (b, t, p).

    Returns the regrets (b,), nats per token of the mean loss, and the best weights (b, k).
    """
    best = problem.solve(theta).weights
    losses, _, _ = _losses(problem, theta, np.tile(weights, (len(theta), 1)))
    least, _, _ = _losses(problem, theta, best)
    return problem.mean(losses) - problem.mean(least), best


def finite(problem: AllocationProblem, theta: Array) -> NDArray[np.bool_]:
    """Where (b,) the loss of ``theta`` (b, t, p) at uniform weights is a number."""
    uniform = problem.references()["uniform"]
    assert uniform is not None
    return np.isfinite(problem.mean(problem.losses(theta, uniform)))


def _losses(problem: AllocationProblem, theta: Array, weights: Array) -> tuple[Array, Array, Array]:
    return problem.law.in_weights(theta, problem.setting, weights, np.zeros(len(problem.value)))


def _in_weights(
    problem: AllocationProblem, theta: Array, weights: Array
) -> tuple[Array, Array, Array]:
    value = problem.value / problem.value.sum()
    return problem.law.in_weights(theta, problem.setting, weights, value)
