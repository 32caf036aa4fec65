"""The published way to fit a Chinchilla law, for comparison.

Hoffmann et al. (arXiv 2203.15556, approach 3) as replicated by Besiroglu et al. (arXiv 2404.10102):
Huber's function (δ = 1e-3) of the residual of the log-loss, summed; scipy's L-BFGS-B from a grid of
4,500 starts; parameters a = log A, b = log B, e = log E, alpha, beta, with N and D in ones.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from measure import Array
from scipy.optimize import OptimizeResult, minimize

DELTA = 1e-3
GRID = np.array(
    list(
        product(
            np.arange(0.0, 26, 5),  # a
            np.arange(0.0, 26, 5),  # b
            np.arange(-1.0, 1.1, 0.5),  # e
            np.arange(0.0, 2.1, 0.5),  # alpha
            np.arange(0.0, 2.1, 0.5),  # beta
        )
    )
)


class Objective:
    """The sum over points, with ``log_params`` and ``log_tokens`` taken once."""

    def __init__(self, params: Array, tokens: Array, loss: Array, weight: Array | None = None):
        self.log_params, self.log_tokens = np.log(params), np.log(tokens)
        self.log_loss = np.log(loss)
        self.weight = np.ones(len(loss)) if weight is None else weight

    def value(self, theta: Array) -> float:
        """What the published code minimises (weights are one there)."""
        a, b, e, alpha, beta = theta
        predicted = np.log(
            np.exp(a - alpha * self.log_params) + np.exp(b - beta * self.log_tokens) + np.exp(e)
        )
        size = np.abs(self.log_loss - predicted)
        huber = np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))
        return float((self.weight * huber).sum())

    def with_gradient(self, theta: Array) -> tuple[float, Array]:
        a, b, e, alpha, beta = theta
        by_size = np.exp(a - alpha * self.log_params)
        by_data = np.exp(b - beta * self.log_tokens)
        floor = np.exp(e)
        predicted = by_size + by_data + floor
        residual = np.log(predicted) - self.log_loss
        clipped = np.clip(residual, -DELTA, DELTA)
        value = (self.weight * clipped * (residual - 0.5 * clipped)).sum()
        slope = self.weight * clipped / predicted
        along_size, along_data = slope * by_size, slope * by_data
        gradient = np.array(
            [
                along_size.sum(),
                along_data.sum(),
                floor * slope.sum(),
                -(along_size @ self.log_params),
                -(along_data @ self.log_tokens),
            ]
        )
        return float(value), gradient


def fit(objective: Objective, starts: Array, *, analytic: bool) -> tuple[Array, float]:
    """The best of L-BFGS-B from every start, with finite differences unless ``analytic``."""
    best: OptimizeResult | None = None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for start in starts:
            if analytic:
                found = minimize(objective.with_gradient, start, jac=True, method="L-BFGS-B")
            else:
                found = minimize(objective.value, start, method="L-BFGS-B")
            if best is None or found.fun < best.fun:
                best = found
    assert best is not None
    return best.x, float(best.fun)


def polish(objective: Objective, theta: Array) -> float:
    """The minimum that L-BFGS-B reaches from ``theta`` when told not to stop early."""
    options = {"ftol": 0.0, "gtol": 1e-14, "maxiter": 5000, "maxfun": 50000}
    # In rounds, since a line search that fails ends a run before the minimum.
    for _ in range(3):
        theta = minimize(
            objective.with_gradient, theta, jac=True, method="L-BFGS-B", options=options
        ).x
    return objective.value(theta)


def lowest(objective: Objective, starts: Array, polished: int = 15) -> float:
    """The lowest minimum known: of every start by analytic gradients, the best ones polished."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = [
            minimize(objective.with_gradient, start, jac=True, method="L-BFGS-B")
            for start in starts
        ]
        found.sort(key=lambda one: float(one.fun))
        # The first few may all be one minimum: look further down, too.
        chosen = [*found[: polished // 3], *found[polished // 3 : len(found) // 4 : 20]]
        return min(polish(objective, one.x) for one in chosen[:polished])
