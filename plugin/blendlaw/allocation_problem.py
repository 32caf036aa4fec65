"""The problem that ``allocate`` solves: a fit at one setting, over those that may get tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw import optimum
from blendlaw.errors import InputError
from blendlaw.fitted import Fit, law_named
from blendlaw.languages import canonical
from blendlaw.laws.base import Array, Law, Setting
from blendlaw.limits import Limits, PerLanguage, clamp, limits
from blendlaw.plan import Plan
from blendlaw.problems import BILLION

TAILS = (0.05, 0.95)
STARTS = 20  # where the law is not convex in the weights

Spans = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class AllocationProblem:
    """What is minimised: the law at one setting over languages that may get tokens.

    ``names`` are what the caller calls the fit's sources; ``value`` (targets,), ``limits`` over
    all sources.
    """

    fit: Fit
    law: Law
    names: tuple[str, ...]
    setting: Setting
    value: Array
    limits: Limits
    taking_part: NDArray[np.bool_]

    @classmethod
    def build(
        cls,
        fit: Fit,
        params: float,
        tokens: float,
        plan: Plan | None,
        given: Mapping[str, PerLanguage],
    ) -> AllocationProblem:
        names = _names(fit.sources, plan)
        columns = {key: _merged(key, plan, names, given[key]) for key in given}
        taking_part = np.array([plan is None or name in plan.languages for name in names])
        cap = {
            n: columns["cap"].get(n, 1.0) if t else 0.0
            for n, t in zip(names, taking_part, strict=True)
        }
        bounds = limits(
            names,
            tokens,
            floor=columns["floor"],
            cap=cap,
            max_epochs=columns["max_epochs"],
            unique_tokens=columns["unique_tokens"],
            consumed=columns["consumed"],
        )
        values = np.array(
            [
                columns["value"].get(n, 1.0) if t else 0.0
                for n, t in zip(names, taking_part, strict=True)
            ]
        )[: len(fit.languages)]
        for name, worth in zip(names, values.tolist(), strict=False):
            if not (np.isfinite(worth) and worth >= 0):
                raise InputError(f"the value of {name} must be a number ≥ 0", value=worth)
        if not values.any():
            raise InputError("some language must have a value above 0")
        back = dict(zip(names, fit.sources, strict=True))
        setting = fit.setting(
            params,
            tokens,
            {back[n]: x for n, x in columns["unique_tokens"].items()},
            {back[n]: x for n, x in columns["consumed"].items()},
        )
        return cls(fit, fit.functions(), names, setting, values, bounds, taking_part)

    @property
    def borrowed(self) -> bool:
        """Whether the transfer was given to the fit rather than estimated by it."""
        return bool(self.fit.transfer) and not law_named(self.fit.law).estimates_transfer

    def solve(self, theta: Array) -> optimum.Optimum:
        """The optimum for each draw of the parameters, ``theta`` (b, t, p).

        Draws under which languages harm each other so much that no blend tried has a finite loss
        are left out; InputError if that is all of them.
        """
        starts = self._starts()
        start = np.tile(starts[0], (len(theta), 1))
        for other in starts[1:]:
            lost = ~np.isfinite(self._objective(theta, start)[0])
            if not lost.any():
                break
            start[lost] = other
        finite = np.isfinite(self._objective(theta, start)[0])
        if not finite.any():
            raise InputError(
                "no blend found whose loss is finite: by this fit languages harm each other more "
                "than their own tokens help"
            )
        theta = theta[finite]

        def function(weights: Array, which: NDArray[np.intp]) -> tuple[Array, Array, Array]:
            return self._objective(theta[which], weights)

        lower, upper = self.limits.lower, self.limits.upper
        if self.law.convex:
            return optimum.minimise(function, start[finite], lower, upper)
        found = [
            optimum.minimise(function, np.tile(start, (len(theta), 1)), lower, upper, convex=False)
            for start in starts
        ]
        best = np.argmin([one.value for one in found], axis=0)
        rows = np.arange(len(theta))
        return optimum.Optimum(
            *(
                np.stack([getattr(one, part) for one in found])[best, rows]
                for part in ("weights", "value", "gradient", "residual")
            )
        )

    def _objective(self, theta: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Σ value·loss (b,), its gradient and its Hessian in ``weights`` (b, k)."""
        loss, gradient, hessian = self.law.in_weights(theta, self.setting, weights, self.value)
        return (np.where(self.value > 0, loss, 0.0) * self.value).sum(1), gradient, hessian

    def _starts(self) -> list[Array]:
        """Uniform weights and others from all over the simplex, within the limits."""
        others = np.random.default_rng(0).dirichlet(np.full(len(self.names), 0.5), size=STARTS - 1)
        taking_part = self.taking_part.astype(float)
        return [clamp(w, self.limits) for w in (taking_part, *(others * taking_part))]

    def marginal(self, weights: Array) -> Array:
        """The change of the objective per further billion tokens of each language, (k,)."""
        _, gradient, _ = self.law.in_weights(
            self.fit.theta()[None], self.setting, weights[None], self.value
        )
        return np.asarray(gradient[0] / self.setting.tokens)

    def losses(self, theta: Array, weights: Array) -> Array:
        """The targets' losses under each draw, (b, t)."""
        tiled = np.tile(weights, (len(theta), 1))
        loss, _, _ = self.law.in_weights(theta, self.setting, tiled, np.zeros(len(self.value)))
        return loss

    def references(self) -> dict[str, Array | None]:
        """Uniform and proportional weights, within the limits."""
        unique = np.where(self.taking_part, self.setting.unique, 0.0)
        return {
            "uniform": clamp(self.taking_part.astype(float), self.limits),
            "proportional": clamp(unique, self.limits) if np.isfinite(unique).all() else None,
        }

    def named(self, name: str, weights: Mapping[str, float]) -> Array:
        """Weights by the caller's names of the languages, as an array."""
        for language in weights:
            if language not in self.names:
                raise InputError(
                    f"the weights {name!r} have a language {language!r} unknown to the fit"
                )
        back = dict(zip(self.names, self.fit.sources, strict=True))
        return self.fit.shares({back[language]: weight for language, weight in weights.items()})

    def mean(self, losses: Array) -> Array:
        """The mean over languages, weighted by value, (...,)."""
        return np.asarray(
            (np.where(self.value > 0, losses, 0.0) * self.value).sum(-1) / self.value.sum()
        )

    def epochs(self, weights: Array) -> dict[str, float | None]:
        seen = self.setting.consumed + self.setting.tokens * weights
        return {
            name: float(tokens / unique) if np.isfinite(unique) else None
            for name, tokens, unique in zip(self.names, seen, self.setting.unique, strict=True)
        }

    def weights(self, numbers: Array) -> dict[str, float]:
        """One number per source, by the caller's names."""
        return dict(zip(self.names, numbers.tolist(), strict=True))

    def by_name(self, numbers: Array) -> dict[str, float | None]:
        return dict(zip(self.names, map(_finite, numbers.tolist()), strict=True))

    def by_target(self, losses: Array) -> dict[str, float | None]:
        names = self.names[: len(self.value)]
        return {
            name: _finite(loss)
            for name, loss, part in zip(names, losses.tolist(), self.taking_part, strict=False)
            if part
        }

    def spans(self, draws: Array) -> Spans:
        """90% intervals of one number per source, from ``draws`` (b, k)."""
        low, high = np.quantile(draws, TAILS, axis=0).tolist()
        return dict(zip(self.names, zip(low, high, strict=True), strict=True))

    def spans_by_target(self, draws: Array) -> Spans:
        """90% intervals of the losses that are finite, from ``draws`` (b, t)."""
        count = draws.shape[1]
        finite = np.isfinite(draws).all(0) & self.taking_part[:count]
        low, high = np.quantile(np.where(finite, draws, 0.0), TAILS, axis=0).tolist()
        every = zip(self.names[:count], low, high, finite, strict=True)
        return {name: (a, b) for name, a, b, shown in every if shown}

    def binding(self, weights: Array) -> tuple[dict[str, str], ...]:
        held = []
        for name, weight, low, high, why in zip(
            self.names,
            weights,
            self.limits.lower,
            self.limits.upper,
            self.limits.reason,
            strict=True,
        ):
            if low > 0 and weight <= low:
                held.append({"language": name, "limit": "floor"})
            elif high < 1 and weight >= high > 0:
                held.append({"language": name, "limit": why})
        return tuple(held)

    def warnings(self, weights: Array) -> tuple[str, ...]:
        found = []
        if not self.law.convex:
            found.append(
                f"the law {self.law.name} is not convex in the weights: this is the best of "
                f"{STARTS} starts, which need not be the optimum"
            )
        if self.borrowed:
            found.append(
                "the transfer was measured on pairs of languages and is held fixed: read the "
                "losses as a comparison of blends, not as forecasts, and the intervals as too "
                "narrow"
            )
        seen = self.fit.provenance.get("range", {})
        most = self.setting.tokens * (weights.max() if self.law.by_own_tokens else 1.0)
        for what, here in (("parameters", self.setting.params), ("tokens", most)):
            low, high = seen.get(what, (0.0, np.inf))
            if not 0.99 * low <= here * BILLION <= 1.01 * high:
                found.append(
                    f"{here * BILLION:.4g} {what} is outside of what was measured, "
                    f"{low:.4g} to {high:.4g}: this extrapolates"
                )
        return tuple(found)


def _names(sources: Sequence[str], plan: Plan | None) -> tuple[str, ...]:
    """The plan's names of the fit's sources; the fit's own where the plan has none."""
    if plan is None:
        return tuple(sources)
    by_canonical = {canonical(name): name for name in plan.languages}
    names = tuple(s if s in plan.languages else by_canonical.get(canonical(s), s) for s in sources)
    for language in plan.languages:
        if language not in names:
            raise InputError(
                f"the plan's language {language!r} is not in the fit: {', '.join(sources)}"
            )
    return names


def _merged(
    key: str, plan: Plan | None, names: Sequence[str], given: PerLanguage
) -> dict[str, float]:
    """One number per language: the plan's, overridden by what was given."""
    found = {}
    if plan is not None:
        found = {
            name: float(getattr(language, key))
            for name, language in plan.languages.items()
            if getattr(language, key) is not None
        }
    if isinstance(given, Mapping):
        for language in given:
            if language not in names:
                raise InputError(
                    f"{key} names {language!r}, which is not in the fit: {', '.join(names)}"
                )
        return found | dict(given)
    return found if given is None else dict.fromkeys(names, float(given))


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
