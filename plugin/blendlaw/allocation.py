"""Allocation: how many of a run's tokens each language should get, and what that is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendlaw import optimum
from blendlaw.errors import InputError
from blendlaw.fitted import Fit
from blendlaw.languages import canonical
from blendlaw.laws.base import Array, Law, Setting
from blendlaw.limits import Limits, PerLanguage, clamp, limits
from blendlaw.plan import Plan
from blendlaw.problems import BILLION

VERSION = 1
TAILS = (0.05, 0.95)
STARTS = 20  # where the law is not convex in the weights
SMALL = 0.5  # percent of the loss; gains below are called small


@dataclass(frozen=True)
class Gain:
    """How much lower the mean loss of the allocation is than that of another blend.

    ``mean`` in nats per token, positive is better, with its 90% ``interval`` over the bootstrap
    (None without one), ``percent`` of the other's loss, and a ``verdict`` in words.
    """

    mean: float
    interval: tuple[float, float] | None
    percent: float
    verdict: str


@dataclass(frozen=True)
class Allocation:
    """The weights that minimise Σ value·loss for a run of ``params`` and ``tokens`` (counts).

    ``marginal`` is the change of that objective per further billion tokens of a language, negative
    where it falls. ``kkt_residual`` is relative to the largest slope. ``predicted`` holds the loss
    of each language under the allocation, under uniform and proportional weights within the
    same limits, and under any others asked for; proportional is None where unique tokens are unknown, a loss is None where it is
    infinite. ``binding`` names the limits that hold a weight back. Intervals are 90%, None without
    a bootstrap.
    """

    params: float
    tokens: float
    weights: dict[str, float]
    tokens_by_language: dict[str, float]
    epochs: dict[str, float | None]
    marginal: dict[str, float | None]
    kkt_residual: float
    interval: dict[str, tuple[float, float]] | None
    predicted: dict[str, dict[str, float | None] | None]
    predicted_interval: dict[str, dict[str, tuple[float, float]] | None] | None
    gain: dict[str, Gain | None]
    binding: tuple[dict[str, str], ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [
            f"  {language}: {weight:.4f}  {self.tokens_by_language[language]:.4g} tokens"
            for language, weight in self.weights.items()
        ]
        verdicts = [f"  {name}: {gain.verdict}" for name, gain in self.gain.items() if gain]
        head = f"allocation of {self.tokens:.4g} tokens to {self.params:.4g} parameters"
        return "\n".join([head, *rows, *verdicts, *(f"  ! {w}" for w in self.warnings)])

    def to_json(self) -> str:
        """allocation.json, version 1 (docs/files.md)."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Allocation:
        """The Allocation that ``to_json`` wrote. Raises InputError on anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("version") != VERSION:
                raise InputError(f"this blendlaw reads allocation.json of version {VERSION}")
            for name, gain in data["gain"].items():
                if gain is not None:
                    gain["interval"] = gain["interval"] and tuple(gain["interval"])
                    data["gain"][name] = Gain(**gain)
            if data["interval"] is not None:
                data["interval"] = _pairs(data["interval"])
            if data["predicted_interval"] is not None:
                data["predicted_interval"] = {
                    name: None if spans is None else _pairs(spans)
                    for name, spans in data["predicted_interval"].items()
                }
            data["binding"], data["warnings"] = tuple(data["binding"]), tuple(data["warnings"])
            return cls(**data)
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"not an allocation.json: {type(error).__name__} {error}") from error


def allocate(
    fit: Fit,
    *,
    params: float,
    tokens: float,
    plan: Plan | None = None,
    floor: PerLanguage = None,
    cap: PerLanguage = None,
    max_epochs: PerLanguage = None,
    unique_tokens: PerLanguage = None,
    value: PerLanguage = None,
    consumed: PerLanguage = None,
    compare: Mapping[str, Mapping[str, float]] | None = None,
) -> Allocation:
    """The weights of the next ``tokens`` tokens of a model of ``params`` parameters (counts).

    Minimises Σ value_i·L_i over weights that sum to 1 within the limits. ``plan`` gives languages
    and limits, which the other arguments override: each a number for all languages or one by name;
    ``floor`` and ``cap`` bound the weight, ``max_epochs`` (with ``unique_tokens``) how often a
    language may be repeated, ``consumed`` says what was trained on before, ``value`` what a nat of
    a language is worth (1). With a plan, languages that it does not have get nothing. The result is
    compared with uniform and proportional weights, and with those of ``compare``, by name.

    The problem is convex for every built-in law but ``proportion`` (docs/laws.md), so the result
    is the optimum; else the best of several starts, and a warning. Raises InputError for unknown
    languages, for limits that no weights meet (which, by how much), and for values all zero.
    """
    problem = _Problem.build(
        fit,
        params,
        tokens,
        plan,
        {
            "floor": floor,
            "cap": cap,
            "max_epochs": max_epochs,
            "unique_tokens": unique_tokens,
            "value": value,
            "consumed": consumed,
        },
    )
    best = problem.solve(fit.theta()[None])
    weights = best.weights[0]
    draws = fit.theta_draws()
    compared = {"allocated": weights, **problem.references()}
    for name, others in (compare or {}).items():
        compared[name] = problem.named(name, others)
    losses = {
        name: None if w is None else problem.losses(fit.theta()[None], w)[0]
        for name, w in compared.items()
    }
    spread = {name: None if w is None else problem.losses(draws, w) for name, w in compared.items()}
    spans = None
    if len(draws):
        spans = _spans(problem.names, np.quantile(problem.solve(draws).weights, TAILS, axis=0))
    gains = {
        name: problem.gain(losses["allocated"], losses[name], spread["allocated"], spread[name])
        for name in compared
        if name != "allocated"
    }
    return Allocation(
        params=float(params),
        tokens=float(tokens),
        weights=dict(zip(problem.names, weights.tolist(), strict=True)),
        tokens_by_language=dict(zip(problem.names, (tokens * weights).tolist(), strict=True)),
        epochs=problem.epochs(weights),
        marginal=problem.by_name(best.gradient[0] / problem.setting.tokens),
        kkt_residual=float(best.residual[0]),
        interval=spans,
        predicted={
            name: None if loss is None else problem.by_target(loss) for name, loss in losses.items()
        },
        predicted_interval=None
        if not len(draws)
        else {
            name: None if loss is None else problem.spans_by_target(loss)
            for name, loss in spread.items()
        },
        gain=gains,
        binding=problem.binding(weights),
        warnings=problem.warnings(weights),
    )


@dataclass(frozen=True)
class _Problem:
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
    ) -> _Problem:
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
        if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
            raise InputError("values must not be negative, and some language must have one above 0")
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
        return bool(self.fit.transfer) and self.fit.law != "transfer"

    def solve(self, theta: Array) -> optimum.Optimum:
        """The optimum for each draw of the parameters, ``theta`` (b, t, p)."""
        lower, upper = self.limits.lower, self.limits.upper

        def function(weights: Array, which: NDArray[np.intp]) -> tuple[Array, Array, Array]:
            loss, gradient, hessian = self.law.in_weights(
                theta[which], self.setting, weights, self.value
            )
            return (np.where(self.value > 0, loss, 0.0) * self.value).sum(1), gradient, hessian

        uniform = clamp(self.taking_part.astype(float), self.limits)
        if self.law.convex:
            return optimum.minimise(function, np.tile(uniform, (len(theta), 1)), lower, upper)
        return self._best_of_many(function, theta, uniform)

    def _best_of_many(
        self, function: optimum.Function, theta: Array, uniform: Array
    ) -> optimum.Optimum:
        generator = np.random.default_rng(0)
        starts = [uniform] + [
            clamp(np.where(self.taking_part, s, 0.0), self.limits)
            for s in generator.dirichlet(np.full(len(uniform), 0.5), size=STARTS - 1)
        ]
        found = [
            optimum.minimise(
                function,
                np.tile(start, (len(theta), 1)),
                self.limits.lower,
                self.limits.upper,
                convex=False,
            )
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

    def gain(
        self, ours: Array | None, other: Array | None, our_draws: Array | None, draws: Array | None
    ) -> Gain | None:
        if ours is None or other is None or our_draws is None or draws is None:
            return None
        reference = self._mean(other)
        mean = reference - self._mean(ours)
        if not np.isfinite(mean):
            return None
        interval = None
        if len(draws):
            low, high = np.quantile(self._mean(draws) - self._mean(our_draws), TAILS)
            interval = (float(low), float(high))
        percent = 100 * float(mean / reference)
        return Gain(float(mean), interval, percent, _verdict(percent, interval, self.borrowed))

    def _mean(self, losses: Array) -> Array:
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

    def by_name(self, numbers: Array) -> dict[str, float | None]:
        return dict(zip(self.names, map(_finite, numbers.tolist()), strict=True))

    def by_target(self, losses: Array) -> dict[str, float | None]:
        names = self.names[: len(self.value)]
        return {
            name: _finite(loss)
            for name, loss, part in zip(names, losses.tolist(), self.taking_part, strict=False)
            if part
        }

    def spans_by_target(self, draws: Array) -> dict[str, tuple[float, float]]:
        names = self.names[: len(self.value)]
        finite = np.isfinite(draws).all(0) & self.taking_part[: len(names)]
        low, high = np.quantile(np.where(finite, draws, 0.0), TAILS, axis=0)
        return {
            n: (float(a), float(b))
            for n, a, b, ok in zip(names, low, high, finite, strict=True)
            if ok
        }

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
                "the transfer was measured on pairs of languages and is held fixed: read the losses "
                "as a comparison of blends, not as forecasts, and the intervals as too narrow"
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
                f"the plan's language {language!r} is not in the fit, which has {', '.join(sources)}"
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


def _verdict(percent: float, interval: tuple[float, float] | None, borrowed: bool) -> str:
    span = f"{percent:.2f}% lower loss"
    if interval is None:
        return f"{span}; how sure is unknown without a bootstrap"
    if interval[0] <= 0:
        return f"within the noise: {span}, and the 90% interval includes 0"
    size = "small" if percent < SMALL else "worth it"
    return f"{size}: {span}, sure{' if the transfer is right' if borrowed else ''}"


def _spans(names: Sequence[str], quantiles: Array) -> dict[str, tuple[float, float]]:
    low, high = quantiles.tolist()
    return dict(zip(names, zip(low, high, strict=True), strict=True))


def _pairs(spans: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {name: (low, high) for name, (low, high) in spans.items()}


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
