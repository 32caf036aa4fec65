"""Chinchilla in effective tokens, with repetition and transfer estimated.

L = E + A·N^(−α) + B·D_eff^(−β), D_eff of ``laws/effective.py``: ATLAS, arXiv 2510.22037 eq. 2–3,
with λ = lam·N^nu (larger models tire sooner of the same text: docs/laws.md) and, where other
languages were seen, one τ for each and the substitution exponent gamma. The law ``saturating``
has M, too, beside which their help saturates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from blendlaw.laws.base import Array, Law, Parameter, Runs, Setting, no_mixture
from blendlaw.laws.chinchilla import Chinchilla
from blendlaw.laws.effective import (
    REPETITION,
    SUBSTITUTION,
    Effective,
    effective,
    limited_help,
    saturate,
)
from blendlaw.laws.power import blend_losses

CURVE = len(Chinchilla.law_parameters)
LAM, NU, GAMMA = CURVE, CURVE + 1, CURVE + 2
SAME = 0.1  # ratios of tokens that are no further apart


class Transfer(Law):
    """Parameters E, A, alpha, B, beta, lam, nu, gamma and a tau for every other language."""

    name = "transfer"
    estimates_transfer = True
    tau = GAMMA + 1
    """The first of the taus among the parameters."""
    tolerance = 1e-8
    curve = Chinchilla()

    def unsuitable(self, runs: Runs) -> str | None:
        if no_mixture(runs) and not (runs.by_language > runs.unique).any():
            return (
                "no run saw another language or repeated its tokens, so there is no transfer in it"
            )
        if np.ptp(runs.params) == 0 and np.ptp(runs.tokens) == 0:
            return "its runs have one size and one token budget: it needs either to vary"
        known = CURVE + int((runs.shares.sum(0) > 0).sum()) - 1
        if len(runs) < known:
            return f"{len(runs)} observations are too few for its {known} parameters"
        return None

    def moot(self, runs: Runs) -> tuple[str, ...]:
        found = list(self.curve.moot(runs))
        if not (runs.by_language > runs.unique).any():
            found += ["lam", "nu"]
        if len(runs.languages) == 1:
            return tuple(found)
        mixed = runs.rows(runs.with_others)
        others = mixed.by_language * (1 - mixed.own)
        # With one other language, always in the same ratio, every gamma has a tau that fits.
        ratios = others.sum(1) / mixed.tokens
        if not ((others > 0).sum(1) > 1).any() and (len(mixed) == 0 or np.ptp(ratios) < SAME):
            found.append("gamma")
        unseen = [
            f"tau.{name}"
            for number, name in enumerate(runs.languages)
            if number != runs.target[0] and not (runs.shares[:, number] > 0).any()
        ]
        return (*found, *unseen)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        others = [name for number, name in enumerate(languages) if number != target]
        return (
            *Chinchilla.law_parameters,
            Parameter("lam", 1e-4, 20.0, log=True),
            Parameter("nu", 0.0, 2.0),
            Parameter("gamma", 0.1 if others else 1.0, 1.0),
            *(Parameter(f"tau.{name}", -1.0, 20.0) for name in others),
        )

    def loss(self, theta: Array, runs: Runs) -> Array:
        return self._curve(theta, runs)[0]

    def gradient(self, theta: Array, runs: Runs) -> Array:
        slope = np.zeros((*theta.shape[:-1], len(runs), theta.shape[-1]))
        _, down, log_tokens = self._curve(theta, runs)
        for term in self.curve.terms:
            height = term.value(theta, runs.log_params, log_tokens)
            for column in term.columns:
                along: Array | float = 1.0
                if column in term.size:
                    along = -runs.log_params
                elif column in term.data:
                    along = -log_tokens
                slope[..., column] += height * along
        slope[..., CURVE:] = down[..., None] * self._worth_slopes(theta, runs)
        return slope

    def starts(self, runs: Runs, loss: Array) -> Array:
        """Chinchilla's own starts, as if all tokens were the target's, with a little transfer."""
        base = self.curve.starts(replace(runs, shares=runs.own), loss)
        seen = np.delete((runs.shares > 0).any(0), runs.target[0])
        rest = [
            np.concatenate([[np.log(lam), 0.0, gamma], tau * seen])
            for lam in (REPETITION, 1.0)
            for gamma, tau in ((SUBSTITUTION, 0.2), (1.0, 0.02))
        ]
        return np.concatenate([np.hstack([base, np.tile(r, (len(base), 1))]) for r in rest])

    def saturation(self, theta: Array) -> Array | None:
        """M (...), billions of tokens, or None where help has no limit."""
        return None

    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        targets, languages = theta.shape[1], weights.shape[1]
        lam = np.exp(theta[..., LAM]) * setting.params ** theta[..., NU]
        others = ~np.eye(targets, languages, dtype=bool)
        tau = np.zeros((*theta.shape[:2], languages))
        tau[:, others] = theta[..., self.tau :].reshape(len(theta), targets * (languages - 1))
        limit = self.saturation(theta)
        return blend_losses(
            self.curve,
            theta,
            setting,
            weights,
            value,
            tau,
            lam[..., None],
            theta[..., GAMMA, None],
            None if limit is None else limit[..., None],
        )

    def transfer(
        self, fits: Mapping[str, Mapping[str, float]], sources: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        return {
            target: {
                source: params[f"tau.{source}"] for source in sources if f"tau.{source}" in params
            }
            for target, params in fits.items()
        }

    def _effective(self, theta: Array, runs: Runs) -> tuple[Effective, Array]:
        """Effective tokens of each run, and λ, (..., n, 1)."""
        lam = np.exp(theta[..., LAM, None] + theta[..., NU, None] * runs.log_params)[..., None]
        limit = self.saturation(theta)
        worth = effective(
            runs.by_language,
            runs.unique,
            self._tau(theta, runs)[..., None, :],
            runs.own,
            lam,
            theta[..., GAMMA, None, None],
            None if limit is None else limit[..., None, None],
        )
        return worth, lam

    def _tau(self, theta: Array, runs: Runs) -> Array:
        """τ of every language, that of the target itself 0, (..., k)."""
        return np.insert(theta[..., self.tau :], int(runs.target[0]), 0.0, axis=-1)

    def _curve(self, theta: Array, runs: Runs) -> tuple[Array, Array, Array]:
        """Loss, its derivative in effective tokens, and their logarithm, (..., n)."""
        tokens = np.maximum(self._effective(theta, runs)[0].tokens, 1e-9)
        log_tokens = np.log(tokens)
        loss, down = np.zeros_like(tokens), np.zeros_like(tokens)
        for term in self.curve.terms:
            height = term.value(theta, runs.log_params, log_tokens)
            loss += height
            down -= term.data_power(theta)[..., None] * height / tokens
        return loss, down, log_tokens

    def _worth_slopes(self, theta: Array, runs: Runs) -> Array:
        """Derivative of effective tokens in lam, nu, gamma, M if any, and tau, (..., n, p − 5)."""
        worth, lam = self._effective(theta, runs)
        gamma = theta[..., GAMMA, None, None]
        tau = np.where(runs.own > 0, 0.0, self._tau(theta, runs)[..., None, :])
        counts = 1 + np.maximum(tau, 0.0)
        value, _, _ = saturate(runs.by_language, runs.unique, lam)
        some = value > 0
        safe = np.where(some, value, 1.0)
        plain = np.where(some, safe**gamma, 0.0)
        counted = plain * counts**gamma
        total = np.where(runs.own > 0, plain, counted - plain).sum(-1, keepdims=True)
        total = np.maximum(total, 1e-30)
        base = total ** (1 / gamma)
        log_own, log_counted = np.log(safe), np.log(safe * counts)
        grown = np.where(runs.own > 0, plain * log_own, counted * log_counted - plain * log_own)
        by_gamma = base[..., 0] * (
            grown.sum(-1) / (gamma * total)[..., 0] - (np.log(total) / gamma**2)[..., 0]
        )
        by_tau = base / total * counted / counts
        by_limit = []
        if (limit := self.saturation(theta)) is not None:
            helped = base[..., 0] - (runs.own * value).sum(-1)
            _, rate, log_limit = limited_help(helped, limit[..., None])
            by_gamma, by_tau = rate * by_gamma, rate[..., None] * by_tau
            by_limit = [log_limit]
        by_tau = np.where(tau < 0, runs.by_language, by_tau)
        # dS/dλ of the repeated part, through dD_eff/dS.
        over = np.maximum(runs.by_language / runs.unique - 1, 0.0)
        decay = np.exp(-lam * over)
        repeated = np.where(over > 0, runs.unique, 0.0)
        by_lam = np.where(over > 0, repeated * (over * decay / lam - (1 - decay) / lam**2), 0.0)
        log_lam = lam[..., 0] * (worth.by_worth * by_lam).sum(-1)
        others = [n for n in range(len(runs.languages)) if n != int(runs.target[0])]
        return np.concatenate(
            [
                np.stack([log_lam, log_lam * runs.log_params, by_gamma, *by_limit], -1),
                by_tau[..., others],
            ],
            -1,
        )
