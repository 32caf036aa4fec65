"""The proportion-dependent multilingual law of arXiv 2512.13472, its equation 4, as printed:

    L(N, D; p) = A·N^(−αN(p)) + B·D_x^(−αD(p)) + L∞(p),
    αN(p) = Σ p_k αN_k,  αD(p) = Σ p_k αD_k,  L∞(p) = Σ p_k L∞_k,
    D_x = D·(1 + γ Σ_{i≠j} p_i p_j τ_ij),

with A, B and γ common to all languages, and τ taken as known (from ``synergy``). It gives one loss
for a mixture, whatever the language: minimised over p it puts all weight where L∞ is lowest, so it
is here to be compared with, not to allocate by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blendlaw.laws.base import (
    Array,
    Law,
    Parameter,
    Runs,
    Setting,
    trained_shares,
)

COMMON = 3  # log A, log B, gamma; then log E, alpha, beta of every language


class Proportion(Law):
    """Per language E (L∞), alpha and beta; common A, B and gamma."""

    name = "proportion"
    by_own_tokens = False
    joint = True
    convex = False
    automatic = False
    tolerance = 1e-8

    def unsuitable(self, runs: Runs) -> str | None:
        unmeasured = set(range(len(runs.languages))) - set(runs.target.tolist())
        if unmeasured:
            return f"the loss of {runs.languages[min(unmeasured)]} was never measured"
        return super().unsuitable(runs)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        a, b, gamma, floor, alpha, beta = _PARAMETERS
        return (floor, a, alpha, b, beta, gamma)

    def solved_parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        common, own = _PARAMETERS[:COMMON], _PARAMETERS[COMMON:]
        return (
            *common,
            *(
                Parameter(f"{p.name}.{language}", p.lower, p.upper, p.log)
                for language in languages
                for p in own
            ),
        )

    def of_language(self, theta: Array, languages: Sequence[str], target: int) -> Array:
        own = COMMON + 3 * target
        return theta[..., [own, 0, own + 1, 1, own + 2, 2]]

    def loss(self, theta: Array, runs: Runs) -> Array:
        size, data, floor, _ = self._parts(theta, runs)
        return size + data + floor

    def gradient(self, theta: Array, runs: Runs) -> Array:
        size, data, _, boost = self._parts(theta, runs)
        own = theta[..., COMMON:].reshape(*theta.shape[:-1], -1, 3)
        beta = own[..., 2] @ runs.shares.T
        slope = np.zeros((*size.shape, theta.shape[-1]))
        slope[..., 0], slope[..., 1] = size, data
        together = _together(runs.shares, runs.transfer)
        slope[..., 2] = -data * beta * together / boost
        slope[..., COMMON::3] = np.exp(own[..., 0])[..., None, :] * runs.shares
        slope[..., COMMON + 1 :: 3] = -(size * runs.log_params)[..., None] * runs.shares
        log_tokens = np.log(runs.tokens) + np.log(boost)
        slope[..., COMMON + 2 :: 3] = -(data * log_tokens)[..., None] * runs.shares
        return slope

    def starts(self, runs: Runs, loss: Array) -> Array:
        count = len(runs.languages)
        least = [loss[runs.target == number].min() for number in range(count)]
        return np.array(
            [
                np.concatenate(
                    [
                        [np.log(0.2 * np.median(loss)), np.log(2 * np.median(loss)), 0.0],
                        np.column_stack(
                            [np.log(part * np.array(least)), np.full(count, a), np.full(count, b)]
                        ).ravel(),
                    ]
                )
                for part in (0.3, 0.7)
                for a in (0.2, 0.5)
                for b in (0.5, 1.0)
            ]
        )

    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        total = value.sum()
        loss, gradient = self._of_mixture(theta, setting, weights)
        columns = []
        for step in 1e-5 * np.eye(weights.shape[1]):
            ahead = self._of_mixture(theta, setting, weights + step)[1]
            behind = self._of_mixture(theta, setting, weights - step)[1]
            columns.append((ahead - behind) / 2e-5)
        hessian = np.stack(columns, -1)
        hessian = 0.5 * (hessian + np.swapaxes(hessian, 1, 2))
        everyone = np.repeat(loss[:, None], theta.shape[1], axis=1)
        return everyone, total * gradient, total * hessian

    def _of_mixture(self, theta: Array, setting: Setting, weights: Array) -> tuple[Array, Array]:
        """The mixture's loss (b,) and its gradient in the weights (b, k)."""
        shares, scale = trained_shares(setting, weights)
        tokens = setting.tokens + setting.consumed.sum()
        floor, alpha, beta = np.exp(theta[..., 0]), theta[..., 2], theta[..., 4]
        a, b, gamma = np.exp(theta[:, 0, 1]), np.exp(theta[:, 0, 3]), theta[:, 0, 5]
        boost = np.maximum(1 + gamma * _together(shares, setting.transfer), 1e-6)
        log_params, log_tokens = np.log(setting.params), np.log(tokens * boost)
        by_beta = (beta * shares).sum(1)
        size = a * np.exp(-(alpha * shares).sum(1) * log_params)
        data = b * np.exp(-by_beta * log_tokens)
        both = shares @ _symmetric(setting.transfer)
        gradient = floor - size[:, None] * log_params * alpha
        gradient -= data[:, None] * (
            log_tokens[:, None] * beta + (by_beta * gamma / boost)[:, None] * both
        )
        return size + data + (floor * shares).sum(1), scale * gradient

    def _parts(self, theta: Array, runs: Runs) -> tuple[Array, Array, Array, Array]:
        """The three terms and D_x/D, (..., n)."""
        own = theta[..., COMMON:].reshape(*theta.shape[:-1], -1, 3)
        boost = 1 + theta[..., 2, None] * _together(runs.shares, runs.transfer)
        boost = np.maximum(boost, 1e-6)
        log_tokens = np.log(runs.tokens) + np.log(boost)
        size = np.exp(theta[..., 0, None] - own[..., 1] @ runs.shares.T * runs.log_params)
        data = np.exp(theta[..., 1, None] - own[..., 2] @ runs.shares.T * log_tokens)
        return size, data, np.exp(own[..., 0]) @ runs.shares.T, boost


_PARAMETERS = (
    Parameter("A", 1e-5, 1e3, log=True),
    Parameter("B", 1e-4, 1e5, log=True),
    Parameter("gamma", -10.0, 10.0),
    Parameter("E", 1e-4, 20.0, log=True),
    Parameter("alpha", 0.0, 3.0),
    Parameter("beta", 0.0, 3.0),
)


def _together(shares: Array, transfer: Array) -> Array:
    """Σ_{i≠j} p_i p_j τ_ij, (n,)."""
    off = transfer - np.diag(np.diag(transfer))
    return np.asarray(((shares @ off) * shares).sum(-1))


def _symmetric(transfer: Array) -> Array:
    off = transfer - np.diag(np.diag(transfer))
    return off + off.T
