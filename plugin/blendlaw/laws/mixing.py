"""L(N, D, p) = E + Σ_s 1/(c_s + Σ_j C_sj·φ_j(p_j)) + A·N^(−α) + B·D^(−β).

The additive law of arXiv 2507.09404, E + 1/Σ C_j·p_j^γ_j + A/N^α + B/D^β, with two parts instead
of one, each learnt from its own blend of languages, and a floor c_s under each, so that a loss is
finite without any of its sources. φ_j(p) = (p + ε)^g_j − ε^g_j is p^g_j with a finite slope at 0:
a weight of zero is an ordinary observation. docs/laws.md has the ladder of forms that led here.

Convex in the weights: φ_j is concave for g_j ≤ 1, so each part is a decreasing convex function of
a concave one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blendlaw.laws.base import (
    Array,
    Law,
    Parameter,
    Prior,
    Runs,
    Setting,
    no_mixture,
    trained_shares,
)

PARTS = 2
OFFSET = 1e-4
GOLDEN = (np.sqrt(5) - 1) / 2


class _Constants(NamedTuple):
    """Natural parameters: ``floor`` (...,), ``base`` (..., s), ``gain`` (..., s, k), ``shape``
    (..., k), and ``scale`` (..., 4), which is log A, alpha, log B, beta."""

    floor: Array
    base: Array
    gain: Array
    shape: Array
    scale: Array


class Mixing(Law):
    """Parameters E, c.s, C.s.language, g.language, A, alpha, B, beta."""

    name = "mixing"
    by_own_tokens = False
    tolerance = 1e-5

    def unsuitable(self, runs: Runs) -> str | None:
        trained = int((runs.shares > 0).any(0).sum())
        if len(runs) < trained + 2:
            return f"{len(runs)} observations are too few for {trained} languages"
        return no_mixture(runs)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        parts = [str(number + 1) for number in range(PARTS)]
        return (
            Parameter("E", 1e-4, 20.0, log=True),
            *(Parameter(f"c.{part}", 1e-6, 1e6, log=True) for part in parts),
            *(
                Parameter(f"C.{part}.{language}", 1e-9, 1e6, log=True)
                for part in parts
                for language in languages
            ),
            *(Parameter(f"g.{language}", 0.02, 1.0) for language in languages),
            Parameter("A", 1e-6, 1e3, log=True),
            Parameter("alpha", 0.0, 3.0),
            Parameter("B", 1e-6, 1e5, log=True),
            Parameter("beta", 0.0, 3.0),
        )

    def moot(self, runs: Runs) -> tuple[str, ...]:
        size = () if np.ptp(runs.params) > 0 else ("A", "alpha")
        return (*size, *(() if np.ptp(runs.tokens) > 0 else ("B", "beta")))

    def prior(self, runs: Runs, loss: Array) -> Prior:
        """A light pull of the gains to a twentieth of the base, of the shapes to 0.62.

        Without it the many gains near zero wander; its strength was chosen by cross-validation
        on 512 runs (docs/laws.md), in units of the objective summed over them.
        """
        count = runs.shares.shape[1]
        _, gains, shapes, _ = _slices(count)
        centre = self.starts(runs, loss)[0]
        centre[gains] = centre[1] + np.log(0.05)
        centre[shapes] = 0.62
        weight = np.full(len(centre), 2e-7)
        weight[gains], weight[shapes] = 4e-6, 4e-4
        return Prior(centre, weight)

    def loss(self, theta: Array, runs: Runs) -> Array:
        constants = _constants(theta, runs.shares.shape[1])
        phi, _, _ = _features(constants.shape[..., None, :], runs.shares)
        inner = constants.base[..., None, :] + phi @ np.swapaxes(constants.gain, -1, -2)
        size, data = _scales(constants, runs)
        return np.asarray(constants.floor[..., None] + (1 / inner).sum(-1) + size + data)

    def gradient(self, theta: Array, runs: Runs) -> Array:
        count = runs.shares.shape[1]
        bases, gains, shapes, scales = _slices(count)
        constants = _constants(theta, count)
        shape = constants.shape[..., None, :]
        phi, lifted, log = _features(shape, runs.shares)
        inner = constants.base[..., None, :] + phi @ np.swapaxes(constants.gain, -1, -2)
        down = -1 / inner**2
        slope = np.empty((*inner.shape[:-1], theta.shape[-1]))
        slope[..., 0] = constants.floor[..., None]
        slope[..., bases] = down * constants.base[..., None, :]
        pull = down[..., None] * constants.gain[..., None, :, :]
        slope[..., gains] = (pull * phi[..., None, :]).reshape(*inner.shape[:-1], -1)
        slope[..., shapes] = pull.sum(-2) * (lifted * log - OFFSET**shape * np.log(OFFSET))
        size, data = _scales(constants, runs)
        by_scale = (size, -size * runs.log_params, data, -data * np.log(runs.tokens))
        slope[..., scales] = np.stack(by_scale, -1)
        return slope

    def starts(self, runs: Runs, loss: Array) -> Array:
        """Four spreads of the gains over the languages; the parts must begin apart."""
        count = runs.shares.shape[1]
        bases, gains, shapes, scales = _slices(count)
        theta = np.zeros((4, scales.stop))
        floor = 0.7 * loss.min()
        height = -np.log((loss.max() - floor) / PARTS)
        theta[:, 0], theta[:, bases] = np.log(floor), height
        spread = np.modf((np.arange(4 * PARTS * count) + 1) * GOLDEN)[0].reshape(4, -1)
        theta[:, gains] = height + np.log(0.3) + 1.2 * (2 * spread - 1)
        theta[:, shapes] = 0.62
        # Where all runs have one size, the terms of N and D are E's own: begin without them.
        varies = [np.ptp(sizes) > 0 for sizes in (runs.params, runs.tokens)]
        height_of = [np.log(0.2 * loss.min()) if some else np.log(1e-6) for some in varies]
        theta[:, scales] = [height_of[0], 0.3, height_of[1], 0.3]
        return theta

    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        shares, rate = trained_shares(setting, weights)
        constants = _constants(theta, weights.shape[1])
        phi, lifted, _ = _features(constants.shape, shares[:, None, :])
        away = shares[:, None, :] + OFFSET
        rise = constants.shape * lifted / away
        bend = (constants.shape - 1) * rise / away
        inner = constants.base + (constants.gain @ phi[..., None])[..., 0]
        down = -1 / inner**2
        up = 2 / inner**3
        pull = value[:, None] * (down[..., None] * constants.gain).sum(2)
        gradient = (pull * rise).sum(1)
        steep = (constants.gain * rise[:, :, None, :]).reshape(
            len(theta), theta.shape[1] * PARTS, weights.shape[1]
        )
        heavy = (value[:, None] * up).reshape(len(theta), theta.shape[1] * PARTS, 1)
        hessian = np.swapaxes(steep, 1, 2) @ (heavy * steep)
        index = np.arange(weights.shape[1])
        hessian[:, index, index] += (pull * bend).sum(1)
        log_a, alpha, log_b, beta = np.moveaxis(constants.scale, -1, 0)
        tokens = setting.tokens + setting.consumed.sum()
        loss = constants.floor + (1 / inner).sum(-1)
        loss = loss + np.exp(log_a - alpha * np.log(setting.params))
        loss = loss + np.exp(log_b - beta * np.log(tokens))
        return loss, rate * gradient, rate**2 * hessian


def _slices(languages: int) -> tuple[slice, slice, slice, slice]:
    """Where bases, gains, shapes and scales lie in the parameters."""
    bases = 1 + PARTS
    gains = bases + PARTS * languages
    return (
        slice(1, bases),
        slice(bases, gains),
        slice(gains, gains + languages),
        slice(gains + languages, gains + languages + 4),
    )


def _constants(theta: Array, languages: int) -> _Constants:
    bases, gains, shapes, scales = _slices(languages)
    return _Constants(
        np.exp(theta[..., 0]),
        np.exp(theta[..., bases]),
        np.exp(theta[..., gains]).reshape(*theta.shape[:-1], PARTS, languages),
        theta[..., shapes],
        theta[..., scales],
    )


def _features(shape: Array, shares: Array) -> tuple[Array, Array, Array]:
    """φ, (p + ε)^g and log(p + ε)."""
    log = np.log(shares + OFFSET)
    lifted = np.exp(shape * log)
    return lifted - OFFSET**shape, lifted, log


def _scales(constants: _Constants, runs: Runs) -> tuple[Array, Array]:
    """The terms of N and D, (..., n)."""
    log_a, alpha, log_b, beta = np.moveaxis(constants.scale[..., None], -2, 0)
    return (
        np.exp(log_a - alpha * runs.log_params),
        np.exp(log_b - beta * np.log(runs.tokens)),
    )
