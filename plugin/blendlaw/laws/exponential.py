"""L(p) = c + exp(Σ_j t_j·p_j): the data-mixing law, at one model size and token budget.

Ye et al., arXiv 2403.16952, eq. 6; their factor k is absorbed, since Σ p_j = 1 makes it a common
shift of the t_j. Convex in the weights: the exponential of something linear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blendlaw.laws.base import Array, Law, Parameter, Runs, Setting, no_mixture, trained_shares


class Exponential(Law):
    """Parameters c and a slope t for every language trained on."""

    name = "exponential"
    by_own_tokens = False

    def unsuitable(self, runs: Runs) -> str | None:
        for name, sizes in (("parameters", runs.params), ("tokens", runs.tokens)):
            if np.ptp(sizes) > 1e-6 * sizes.max():
                return f"its runs must all have the same {name}"
        return no_mixture(runs) or super().unsuitable(runs)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        slopes = [Parameter(f"t.{name}", -50.0, 50.0) for name in languages]
        return (Parameter("c", 1e-4, 20.0, log=True), *slopes)

    def loss(self, theta: Array, runs: Runs) -> Array:
        return np.exp(theta[..., :1]) + np.exp(theta[..., 1:] @ runs.shares.T)

    def gradient(self, theta: Array, runs: Runs) -> Array:
        rise = np.exp(theta[..., 1:] @ runs.shares.T)[..., None] * runs.shares
        floor = np.broadcast_to(np.exp(theta[..., :1])[..., None], (*rise.shape[:-1], 1))
        return np.concatenate([floor, rise], -1)

    def curvature(self, theta: Array, runs: Runs, weight: Array) -> Array:
        total = np.zeros((*theta.shape, theta.shape[-1]))
        total[..., 0, 0] = np.exp(theta[..., 0]) * weight.sum(-1)
        rise = (weight * np.exp(theta[..., 1:] @ runs.shares.T))[..., None] * runs.shares
        total[..., 1:, 1:] = np.swapaxes(rise, -1, -2) @ runs.shares
        return total

    def starts(self, runs: Runs, loss: Array) -> Array:
        """A few floors; given the floor, log(L − c) is linear in the weights."""
        starts = []
        moments = runs.shares.T @ runs.shares + 1e-3 * np.eye(runs.shares.shape[1])
        for part in (0.2, 0.5, 0.8, 0.95):
            floor = part * loss.min()
            slopes = np.linalg.solve(moments, runs.shares.T @ np.log(loss - floor))
            starts.append(np.concatenate([[np.log(floor)], slopes]))
        return np.array(starts)

    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        shares, scale = trained_shares(setting, weights)
        slopes = theta[..., 1:]
        rise = np.exp((slopes @ shares[..., None])[..., 0])
        pull = value * rise
        gradient = (pull[:, None, :] @ slopes)[:, 0, :]
        hessian = np.swapaxes(slopes, 1, 2) @ (pull[..., None] * slopes)
        return np.exp(theta[..., 0]) + rise, scale * gradient, scale**2 * hessian
