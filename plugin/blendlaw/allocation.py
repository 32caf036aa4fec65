"""Allocation: how many of a run's tokens each language should get, and what that is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from blendlaw import stored
from blendlaw.allocation_problem import TAILS, AllocationProblem, Spans
from blendlaw.errors import InputError
from blendlaw.fitted import Fit
from blendlaw.laws.base import Array
from blendlaw.limits import PerLanguage
from blendlaw.plan import Plan
from blendlaw.values import weights as check_weights

VERSION = 1
SMALL = 0.5  # percent of the loss; gains below are called small


@dataclass(frozen=True)
class Gain:
    """How much lower the mean loss of the allocation is than that of another blend.

    ``mean`` in nats per token, positive is better, with its 90% ``interval`` over the bootstrap
    (None without one), ``percent`` of the other's loss, and a ``verdict`` in words.
    """

    mean: float
    interval: tuple[float, float] | None
    percent: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Allocation:
    """The weights that minimise Σ value·loss for a run of ``params`` and ``tokens`` (counts).

    ``marginal`` is the change of that objective per further billion tokens of a language, negative
    where it falls; languages that no limit holds share one value at the optimum, so
    ``marginal_uniform`` has it at uniform weights. ``kkt_residual`` is relative to the largest
    slope. ``compared`` holds the other blends: uniform and proportional within the same limits,
    and those asked for; proportional is None where unique tokens are unknown. ``predicted`` holds
    the loss of each language under each, None where it is infinite. ``binding`` names the limits
    that hold a weight. Intervals are 90%, None without a bootstrap.
    """

    params: float
    tokens: float
    weights: dict[str, float]
    tokens_by_language: dict[str, float]
    epochs: dict[str, float | None]
    marginal: dict[str, float | None]
    kkt_residual: float
    interval: Spans | None
    predicted: dict[str, dict[str, float | None] | None]
    gain: dict[str, Gain | None]
    binding: tuple[dict[str, str], ...]
    marginal_uniform: dict[str, float | None] = field(default_factory=dict)
    compared: dict[str, dict[str, float] | None] = field(default_factory=dict)
    predicted_interval: dict[str, Spans | None] | None = None
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
        found = stored.from_json(cls, text, VERSION, "allocation.json")
        for name in ("tokens_by_language", "epochs", "marginal"):
            if getattr(found, name).keys() != found.weights.keys():
                raise InputError(
                    "not an allocation.json: not the languages of weights", column=name
                )
        if any(held.keys() != {"language", "limit"} for held in found.binding):
            raise InputError("not an allocation.json: must be language and limit", column="binding")
        check_weights(found.weights, "weights")
        return found


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
    problem = AllocationProblem.build(
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
    others = problem.references()
    others |= {name: problem.named(name, given) for name, given in (compare or {}).items()}
    draws = fit.theta_draws()
    blends = {"allocated": weights, **others}
    losses = {
        name: None if w is None else problem.losses(fit.theta()[None], w)[0]
        for name, w in blends.items()
    }
    spread = {
        name: None if w is None or not len(draws) else problem.losses(draws, w)
        for name, w in blends.items()
    }
    uniform = others["uniform"]
    assert uniform is not None
    return Allocation(
        params=float(params),
        tokens=float(tokens),
        weights=problem.weights(weights),
        tokens_by_language=problem.weights(tokens * weights),
        epochs=problem.epochs(weights),
        marginal=problem.by_name(problem.marginal(weights)),
        marginal_uniform=problem.by_name(problem.marginal(uniform)),
        kkt_residual=float(best.residual[0]),
        interval=problem.spans(problem.solve(draws).weights) if len(draws) else None,
        compared={name: None if w is None else problem.weights(w) for name, w in others.items()},
        predicted={
            name: None if loss is None else problem.by_target(loss) for name, loss in losses.items()
        },
        predicted_interval={
            name: None if loss is None else problem.spans_by_target(loss)
            for name, loss in spread.items()
        }
        if len(draws)
        else None,
        gain={name: _gain(problem, losses, spread, name) for name in others},
        binding=problem.binding(weights),
        warnings=problem.warnings(weights),
    )


def _gain(
    problem: AllocationProblem,
    losses: Mapping[str, Array | None],
    spread: Mapping[str, Array | None],
    name: str,
) -> Gain | None:
    """The gain over the blend ``name``; None where that is unknown, or its loss infinite."""
    ours, other = losses["allocated"], losses[name]
    if ours is None or other is None:
        return None
    reference = float(problem.mean(other))
    if not np.isfinite(reference):
        return None
    mean = reference - float(problem.mean(ours))
    interval = None
    ours_drawn, others_drawn = spread["allocated"], spread[name]
    if ours_drawn is not None and others_drawn is not None:
        gains = problem.mean(others_drawn) - problem.mean(ours_drawn)
        low, high = np.quantile(gains, TAILS).tolist()
        interval = (low, high)
    percent = 100 * mean / reference
    return Gain(mean, interval, percent, _verdict(percent, interval, problem.borrowed))


def _verdict(percent: float, interval: tuple[float, float] | None, borrowed: bool) -> str:
    span = f"{abs(percent):.2f}% {'lower' if percent >= 0 else 'higher'} loss"
    if interval is None:
        return f"{span}; how sure is unknown without a bootstrap"
    if interval[0] <= 0 <= interval[1]:
        return f"within the noise: {span}, and the 90% interval includes 0"
    if percent < 0:
        return f"a loss: {span}, outside of the limits of this allocation"
    size = "small but sure" if percent < SMALL else "worth it"
    return f"{size}: {span}{', if the transfer is right' if borrowed else ''}"
