"""Sums of power laws of parameters and effective tokens: the family of Chinchilla and its kin.

L = Σ_k c_k·N^(−a_k)·D^(−b_k) with c_k > 0 and a_k, b_k ≥ 0: the logarithm of every term is linear
in the parameters, which gives exact curvatures, and L falls and is convex in D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from blendlaw.laws.base import Array, Law, Parameter, Runs, Setting
from blendlaw.laws.effective import effective


@dataclass(frozen=True)
class Term:
    """exp(θ[amplitude])·N^(−Σ θ[size])·D^(−power − Σ θ[data]): indices into the parameters."""

    amplitude: int
    size: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    power: float = 0.0

    @property
    def columns(self) -> tuple[int, ...]:
        return (self.amplitude, *self.size, *self.data)

    def value(self, theta: Array, log_params: Array, log_tokens: Array) -> Array:
        """The term's value, (..., n)."""
        log_value = theta[..., self.amplitude, None]
        if self.size:
            log_value = log_value - theta[..., list(self.size)].sum(-1)[..., None] * log_params
        if self.data or self.power:
            log_value = log_value - self.data_power(theta)[..., None] * log_tokens
        return np.asarray(np.exp(log_value))

    def data_power(self, theta: Array) -> Array:
        """The exponent of 1/D, (...)."""
        return np.asarray(self.power + theta[..., list(self.data)].sum(-1))

    def features(self, runs: Runs) -> Array:
        """Derivative of the term's logarithm in its columns, (n, columns)."""
        one = np.ones(len(runs))
        columns = [
            one,
            *[-runs.log_params] * len(self.size),
            *[-runs.log_effective] * len(self.data),
        ]
        return np.stack(columns, -1)


class PowerSum(Law):
    """A law that is a sum of ``Term``s of its ``law_parameters``."""

    terms: tuple[Term, ...]
    law_parameters: tuple[Parameter, ...]
    exponents: tuple[tuple[float, ...], ...]
    """Values worth starting from, for each parameter that is not an amplitude, in order."""

    def unsuitable(self, runs: Runs) -> str | None:
        if not (runs.effective > 0).all():
            return "some runs saw no token of the language itself"
        return super().unsuitable(runs)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        return self.law_parameters

    def moot(self, runs: Runs) -> tuple[str, ...]:
        """With models of one size, a term of size alone is a part of the constant one."""
        if np.ptp(runs.log_params) > 0:
            return ()
        of_size = [term for term in self.terms if term.size and not (term.data or term.power)]
        columns = [column for term in of_size for column in term.columns]
        return tuple(self.law_parameters[column].name for column in columns)

    def loss(self, theta: Array, runs: Runs) -> Array:
        total = np.zeros((*theta.shape[:-1], len(runs)))
        for term in self.terms:
            total += term.value(theta, runs.log_params, runs.log_effective)
        return total

    def gradient(self, theta: Array, runs: Runs) -> Array:
        slope = np.zeros((*theta.shape[:-1], len(runs), theta.shape[-1]))
        for term in self.terms:
            height = term.value(theta, runs.log_params, runs.log_effective)
            for column, feature in zip(term.columns, term.features(runs).T, strict=True):
                slope[..., column] += height * feature
        return slope

    def curvature(self, theta: Array, runs: Runs, weight: Array) -> Array:
        total = np.zeros((*theta.shape, theta.shape[-1]))
        for term in self.terms:
            features = term.features(runs)
            squares = (features[:, :, None] * features[:, None, :]).reshape(len(runs), -1)
            height = term.value(theta, runs.log_params, runs.log_effective)
            moments = (weight * height) @ squares
            for index, (row, column) in enumerate(product(term.columns, repeat=2)):
                total[..., row, column] += moments[..., index]
        return total

    def starts(self, runs: Runs, loss: Array) -> Array:
        """Every combination of ``exponents``, with the amplitudes that fit it best.

        Given the exponents the law is linear in its amplitudes: relative least squares finds them.
        A moot amplitude is the least there is.
        """
        every = [term.amplitude for term in self.terms]
        theta = np.zeros((int(np.prod([len(e) for e in self.exponents])), len(self.law_parameters)))
        others = [i for i in range(theta.shape[1]) if i not in every]
        theta[:, others] = list(product(*self.exponents))
        moot = self.moot(runs)
        terms = [t for t in self.terms if self.law_parameters[t.amplitude].name not in moot]
        amplitudes = [term.amplitude for term in terms]
        theta[:, every] = np.log([self.law_parameters[column].lower for column in every])
        at_one = theta.copy()
        at_one[:, every] = 0.0
        heights = [term.value(at_one, runs.log_params, runs.log_effective) for term in terms]
        basis = np.stack(np.broadcast_arrays(*heights), -1) / loss[:, None]
        size = np.sqrt((basis**2).mean(1))
        basis /= size[:, None, :]
        moments = np.swapaxes(basis, 1, 2) @ basis + 1e-6 * len(loss) * np.eye(len(amplitudes))
        fitted = np.linalg.solve(moments, basis.sum(1)[..., None])[..., 0]
        theta[:, amplitudes] = np.log(np.maximum(fitted, 1e-2) / size)
        return theta

    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        count = theta.shape[1]
        return blend_losses(
            self,
            theta,
            setting,
            weights,
            value,
            setting.transfer[:count],
            setting.repetition,
            setting.substitution,
        )

    def in_tokens(self, theta: Array, params: float, tokens: Array) -> tuple[Array, Array, Array]:
        """Loss at effective ``tokens`` (..., k), billions, with its first two derivatives in them.

        ``theta`` is (..., k, p). Infinite, with infinite derivatives, where no token is effective.
        """
        tokens = np.maximum(tokens, 0.0)
        loss, down, up = np.zeros_like(tokens), np.zeros_like(tokens), np.zeros_like(tokens)
        log_params = np.log([params])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # Not −inf: with an exponent of 0, no tokens are as good as any, 0^0 = 1.
            log_tokens = np.maximum(np.log(tokens), -1e300)[..., None]
            for term in self.terms:
                height = term.value(theta, log_params, log_tokens)[..., 0]
                loss += height
                if term.data or term.power:
                    power = term.data_power(theta)
                    slope = np.where(power > 0, power * height / tokens, 0.0)
                    down -= slope
                    up += np.where(power > 0, (power + 1) * slope / tokens, 0.0)
        return loss, down, up


def blend_losses(
    law: PowerSum,
    theta: Array,
    setting: Setting,
    weights: Array,
    value: Array,
    transfer: Array,
    repetition: Array | float,
    substitution: Array | float,
    saturation: Array | None = None,
) -> tuple[Array, Array, Array]:
    """``Law.in_weights`` for a law of effective tokens: the chain rule through them.

    ``transfer`` is (..., t, k); ``repetition`` and ``substitution`` are numbers or (b, t, 1), and
    so is ``saturation``, or None.
    """
    targets, languages = theta.shape[1], weights.shape[1]
    tokens = (setting.consumed + setting.tokens * weights)[:, None, :]
    worth = effective(
        tokens,
        setting.unique,
        transfer,
        np.eye(targets, languages),
        repetition,
        substitution,
        saturation,
    )
    loss, down, up = law.in_tokens(theta, setting.params, worth.tokens)
    if not value.any():
        return loss, np.zeros_like(weights), np.zeros((*weights.shape, languages))
    # A language that nobody values may have no tokens, and so an infinite slope.
    down, up = value * np.where(value > 0, down, 0.0), value * np.where(value > 0, up, 0.0)
    # Where harm outweighs all help the loss is infinite; its derivatives are then not numbers.
    with np.errstate(invalid="ignore"):
        gradient = (down[:, None, :] @ worth.slope)[:, 0, :]
        # A matrix times its own transpose takes half the work; ``up`` is never negative.
        root = np.sqrt(up)[..., None] * worth.slope
        hessian = np.swapaxes(root, 1, 2) @ root
        if np.any(np.asarray(substitution) < 1):
            through = worth.worth_slope
            hessian += np.swapaxes(through, 1, 2) @ ((down * worth.share)[..., None] * through)
        if (helped := worth.help_slope) is not None:
            assert worth.curb is not None
            hessian -= np.swapaxes(helped, 1, 2) @ ((down * worth.curb)[..., None] * helped)
        index = np.arange(languages)
        hessian[:, index, index] += (down[:, None, :] @ worth.bend)[:, 0, :]
    return loss, setting.tokens * gradient, setting.tokens**2 * hessian
