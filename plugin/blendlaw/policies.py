"""The built-in policies: how a stage's weights are decided, and the limits put on any proposal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from blendlaw.errors import InputError
from blendlaw.hookspecs import hookimpl
from blendlaw.limits import Array, clamp, limits, plan_limits
from blendlaw.nearest import nearest
from blendlaw.values import weights as check_weights

if TYPE_CHECKING:
    from blendlaw.fitted import Fit
    from blendlaw.observations import Observation
    from blendlaw.plan import Plan, Stage

Policy: TypeAlias = "Callable[[Stage, Fit | None, Plan], Mapping[str, float]]"


class NoFit(InputError):
    """A stage wants its weights by law and there is no fit (yet)."""


class Proposal(dict[str, float]):
    """Weights of all languages of a plan within its limits; ``requested`` is before the limits."""

    def __init__(self, weights: Mapping[str, float], requested: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.requested = dict(requested)


def propose(
    plan: Plan, stage: Stage, fit: Fit | None = None, history: Sequence[Observation] = ()
) -> Proposal:
    """The weights for ``stage`` of the first plugin that answers, within the plan's limits.

    Limits count what ``plan`` says is consumed: pass ``plan.after(...)`` for a later stage.
    Raises InputError if no policy can answer or no weights meet the limits.
    """
    from blendlaw.plugins import plugin_manager

    proposal = plugin_manager().hook.propose_weights(
        stage=stage, history=history, fit=fit, plan=plan
    )
    # A wrapper registered later stands outside of ours: what it returns is limited too.
    return proposal if isinstance(proposal, Proposal) else within_limits(plan, stage, proposal)


def within_limits(plan: Plan, stage: Stage, requested: Mapping[str, float]) -> Proposal:
    """``requested`` for ``stage``, moved within the plan's limits; languages left out have 0.

    Raises InputError if a language is unknown, if the weights are no weights, or if the limits
    cannot be met.
    """
    place = f"weights of stage {stage.name}"
    for language in requested:
        if language not in plan.languages:
            hint = nearest(language, plan.languages)
            raise InputError(f"{place}: the plan has no language {language!r}{hint}")
    shares = check_weights(requested, place)
    weights = np.array([shares.get(language, 0.0) for language in plan.languages])
    try:
        bounds = plan_limits(plan, stage)
    except InputError as error:
        raise InputError(f"limits of stage {stage.name}: {error.problem}") from None
    return Proposal(_by_language(plan, clamp(weights, bounds)), _by_language(plan, weights))


def law(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """The weights that the fitted law says cost the least loss at the end of the run.

    To a law the order of tokens is nothing, so all that is still decided by one is decided as if
    it were a single stage, and what later stages get otherwise counts as consumed. Looking only to
    the end of this stage would spend scarce languages early: over fewer tokens they are less so.
    """
    if fit is None:
        raise NoFit(
            f"stage {stage.name} wants weights by law, but there is no fit: give --fit or --weights"
        )
    from blendlaw.allocation import allocate

    later = plan.later(stage)
    tokens = sum(plan.language_tokens(each) for each in (stage, *filter(needs_fit, later)))
    ahead = plan
    for each in later:
        if not needs_fit(each):
            asked = answer_by_policy(each, None, ahead)
            kept = within_limits(ahead.with_floors(tokens), each, asked)
            ahead = ahead.after(each, plan.mixed(each, kept))
    weights = allocate(fit, params=plan.run.params, tokens=tokens, plan=ahead).weights
    # The fit may know languages that the plan does not train on.
    return {language: weights[language] for language in plan.languages}


def static(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """The table of weights in the plan."""
    if isinstance(stage.weights, str):
        raise InputError(f"stage {stage.name}: static weights are given as a table in the plan")
    return stage.weights


def uniform(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """The same weight for every language."""
    return dict.fromkeys(plan.languages, 1 / len(plan.languages))


def proportional(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """Weights in proportion to unique tokens."""
    return _powered(stage, plan, 1.0)


def temperature(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """Weights in proportion to unique tokens to the power ``stage.temperature``."""
    if stage.temperature is None:
        raise InputError(f'stage {stage.name}: weights = "temperature" needs a temperature')
    return _powered(stage, plan, stage.temperature)


def unimax(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """As uniform as ``max_epochs`` allows (Chung et al. 2023, arXiv:2304.09151)."""
    epochs = {n: k.max_epochs for n, k in plan.languages.items() if k.max_epochs is not None}
    if not epochs:
        raise InputError(f"stage {stage.name}: unimax needs the max_epochs of some language")
    bounds = limits(
        list(plan.languages),
        plan.language_tokens(stage),
        max_epochs=epochs,
        unique_tokens=_unique_tokens(stage, plan),
        consumed={name: language.consumed for name, language in plan.languages.items()},
    )
    return _by_language(plan, clamp(np.ones(len(plan.languages)), bounds))


POLICIES: dict[str, Policy] = {
    "law": law,
    "static": static,
    "uniform": uniform,
    "proportional": proportional,
    "temperature": temperature,
    "unimax": unimax,
}


def needs_fit(stage: Stage) -> bool:
    """Whether the stage's policy is given a fit: the law's, and those of plugins."""
    policy = stage.weights
    return isinstance(policy, str) and (policy == "law" or policy not in POLICIES)


@hookimpl(specname="propose_weights", trylast=True)
def answer_by_policy(stage: Stage, fit: Fit | None, plan: Plan) -> Mapping[str, float]:
    """Answer by the stage's own ``weights``, when no other plugin has."""
    name = stage.weights if isinstance(stage.weights, str) else "static"
    if name not in POLICIES:
        hint = nearest(name, POLICIES) or f": built in are {', '.join(POLICIES)}"
        raise InputError(f"stage {stage.name}: no plugin knows the policy {name!r}{hint}")
    return POLICIES[name](stage, fit, plan)


@hookimpl(specname="propose_weights", wrapper=True, tryfirst=True)
def keep_limits(stage: Stage, plan: Plan) -> Generator[None, Mapping[str, float], Proposal]:
    """Put the plan's floors and caps on whatever is proposed, by whomever."""
    requested = yield
    return within_limits(plan, stage, requested)


def _powered(stage: Stage, plan: Plan, exponent: float) -> Mapping[str, float]:
    unique = np.array(list(_unique_tokens(stage, plan).values()))
    # Relative to the largest, so that no power overflows.
    weights = (unique / unique.max()) ** exponent
    return _by_language(plan, weights / weights.sum())


def _unique_tokens(stage: Stage, plan: Plan) -> dict[str, float]:
    known = {n: k.unique_tokens for n, k in plan.languages.items() if k.unique_tokens is not None}
    if unknown := [name for name in plan.languages if name not in known]:
        raise InputError(
            f"stage {stage.name}: {stage.weights} needs the unique_tokens of {', '.join(unknown)}"
        )
    return known


def _by_language(plan: Plan, weights: Array) -> dict[str, float]:
    return dict(zip(plan.languages, weights.tolist(), strict=True))
