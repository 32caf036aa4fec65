"""Which proxy runs to do: from a plan, a law and a budget to ``Experiments``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from blendlaw.allocation_problem import AllocationProblem, Spans
from blendlaw.errors import InputError
from blendlaw.estimate import natural
from blendlaw.experiments.belief import EARLY, Belief, believed, slopes
from blendlaw.experiments.candidates import Candidates, candidates
from blendlaw.experiments.criterion import finite, regret_matrices, regrets
from blendlaw.experiments.result import Experiments, ProxyRun
from blendlaw.experiments.search import Choice, choose
from blendlaw.fitted import Fit, LanguageFit, law_named
from blendlaw.languages import canonical
from blendlaw.laws.base import Array, Law
from blendlaw.limits import PerLanguage
from blendlaw.observations import Observation
from blendlaw.plan import Plan
from blendlaw.problems import BILLION

POINTS = 8  # of the parameters, at which the design is to be good on average
DRAWS = 100  # of the parameters, for intervals and expected regrets
MOST = 64  # runs, unless told otherwise


def experiments(
    plan: Plan,
    *,
    flops: float,
    law: str | None = None,
    observations: Sequence[Observation] = (),
    sizes: Sequence[float] = (),
    levels: Sequence[float] = (),
    noise: float | None = None,
    most: int = MOST,
    first: int = 1,
) -> Experiments:
    """Proxy runs for at most ``flops`` that make the allocation of ``plan``'s run surest.

    ``law`` is what will be fitted (the plan's ``refit.law`` if None), ``observations`` what is
    measured already, ``sizes`` and ``levels`` the parameters and tokens to choose among (counts),
    ``noise`` the relative standard deviation of a loss. At most ``most`` runs, none twice and none
    that is measured already; their names are numbered from ``first``.

    Raises InputError where nothing can be designed: a law that is unknown, joint or ``auto``, one
    language, a budget below the cheapest run, no data for any run, limits that leave no choice.
    """
    rules = _law(law or plan.refit.law)
    if len(plan.languages) < 2:
        raise InputError("there is nothing to allocate: the plan has one language")
    for name, given in (("the budget", flops), ("the noise", 1.0 if noise is None else noise)):
        if not 0 < given < np.inf:
            raise InputError(f"{name} must be a positive number", value=given)
    if most < 1:
        raise InputError("the number of runs must be at least 1", value=most)
    possible = candidates(plan, rules, sizes, levels)
    known = set(possible.languages)
    named = [_named(o, possible.languages) for o in observations]
    useful = [o for o in named if o.language in known and known >= set(o.shares())]
    if observations and not useful:
        raise InputError(
            f"no observation is of the plan's languages: {', '.join(possible.languages)}"
        )
    belief = believed(rules, possible, useful, noise)
    problem = allocation_problem(rules, plan, possible, belief)
    left = possible.rows(~possible.done(useful))
    if not len(left):
        raise InputError("all candidate runs are measured already: name other sizes or tokens")
    if (cheapest := left.flops.min()) > flops:
        raise InputError(
            f"the budget of {flops:.4g} FLOPs is below the cheapest run's {cheapest:.4g}"
        )
    return _designed(rules, plan, left, belief, problem, flops, most, first)


def _designed(
    law: Law,
    plan: Plan,
    possible: Candidates,
    belief: Belief,
    problem: AllocationProblem,
    budget: float,
    most: int,
    first: int,
) -> Experiments:
    runs = chosen(law, possible, belief, problem, budget, most).runs
    if not runs:
        raise InputError(
            f"no candidate run tells anything of {law.name}: by what is believed their losses are "
            f"above {EARLY:g} nats; name larger sizes or tokens, or give observations"
        )
    weights = problem.solve(belief.centre[None]).weights[0]
    regret, spans = _expected(law, possible, belief, problem, weights, runs)
    spent = np.append(0.0, np.cumsum(possible.flops[runs]))
    total = regret + _worth_of_training(plan, problem, weights, belief.centre) * spent
    losses = np.cumsum(np.vstack([belief.observations, possible.measured[runs]]), axis=0)
    fittable = np.flatnonzero((losses >= belief.centre.shape[1]).all(1)).tolist()
    least = fittable[0] if fittable else len(runs)
    return Experiments(
        law=law.name,
        params=plan.run.params,
        tokens=_tokens(plan),
        budget=budget,
        flops=float(spent[-1]),
        noise=belief.noise,
        observations=int(belief.observations.sum()),
        weights=problem.weights(weights),
        interval_before=spans[0],
        interval_after=spans[-1],
        regret=float(regret[0]),
        enough=least if fittable else None,
        worth_doing=least + int(np.argmin(total[least:])),
        runs=tuple(
            ProxyRun(
                name=possible.name(run, first + number - 1),
                kind=possible.kind(run),
                params=float(possible.params[run]),
                tokens=float(possible.tokens[run]),
                weights=possible.weights(run),
                flops=float(possible.flops[run]),
                regret=float(regret[number]),
            )
            for number, run in enumerate(runs, 1)
        ),
    )


def _expected(
    law: Law,
    possible: Candidates,
    belief: Belief,
    problem: AllocationProblem,
    weights: Array,
    runs: Sequence[int],
) -> tuple[Array, list[Spans]]:
    """The expected regret before and after each of ``runs``, and the intervals of best weights.

    By draws and not by the matrices: exact where parameters are so uncertain that the second order
    is not, and never more than there is to lose. As if ``weights`` remained the centre's.
    """
    (slopes_here,) = whitened(law, possible, belief.centre[None], belief.noise)
    regret, spans = [], []
    for done in range(len(runs) + 1):
        slope = slopes_here[runs[:done]]
        precision = belief.precision + np.einsum("rti,rtj->tij", slope, slope)
        drawn = replace(belief, precision=precision).draws(law, possible.languages, DRAWS)
        lost, best = regrets(problem, weights, drawn[finite(problem, drawn)])
        # A draw by which a language without tokens has no finite loss would hide all others.
        regret.append(lost[np.isfinite(lost)].mean())
        spans.append(problem.spans(best))
    return np.array(regret), spans


def chosen(
    law: Law,
    possible: Candidates,
    belief: Belief,
    problem: AllocationProblem,
    budget: float,
    most: int,
) -> Choice:
    """The candidates (indices) that lower the expected regret most, on average over ``belief``."""
    points = belief.draws(law, possible.languages, POINTS)
    points = points[finite(problem, points)]
    matrices = regret_matrices(problem, points)
    good = np.isfinite(matrices).all((1, 2, 3))
    if not good.any():
        return Choice([], [])
    points = points[good]
    return choose(
        np.broadcast_to(belief.precision, (len(points), *belief.precision.shape)),
        matrices[good],
        whitened(law, possible, points, belief.noise),
        possible.flops,
        budget,
        most,
    )


def whitened(law: Law, possible: Candidates, theta: Array, noise: float) -> Array:
    """The whitened slopes (s, n, t, p) of all candidates at ``theta`` (s, t, p)."""
    found = np.zeros((len(theta), len(possible), *theta.shape[1:]))
    for target in range(theta.shape[1]):
        runs = possible.runs(target)
        found[:, possible.measured[:, target], target] = slopes(law, theta[:, target], runs, noise)
    return found


def _law(name: str) -> Law:
    if name == "auto":
        raise InputError("name the law that is to be fitted: a design is for one law, not for auto")
    law = law_named(name)
    if law.joint or not law.convex:
        raise InputError(f"no design for the law {name}: its best weights are not the optimum")
    return law


def _named(seen: Observation, languages: Sequence[str]) -> Observation:
    """The observation with the plan's names of its languages."""
    plans = {canonical(name): name for name in languages}

    def table(given: Mapping[str, float] | None) -> dict[str, float] | None:
        return None if given is None else {plans.get(canonical(n), n): x for n, x in given.items()}

    return replace(
        seen,
        language=plans.get(canonical(seen.language), seen.language),
        weights=table(seen.weights),
        tokens_by_language=table(seen.tokens_by_language),
        unique_tokens=table(seen.unique_tokens),
    )


def _tokens(plan: Plan) -> float:
    """The tokens that the languages of the whole run share."""
    return sum(plan.language_tokens(stage) for stage in plan.stages)


def allocation_problem(
    law: Law, plan: Plan, possible: Candidates, belief: Belief
) -> AllocationProblem:
    """The allocation of the plan's run under the belief's centre."""
    names = possible.languages
    fitted = {}
    for target, name in enumerate(names):
        parameters = law.parameters(names, target)
        values = natural(parameters, belief.centre[target]).tolist()
        keys = [parameter.name for parameter in parameters]
        fitted[name] = LanguageFit(dict(zip(keys, values, strict=True)), 0, 0.0, 0.0)
    limits = ("floor", "cap", "max_epochs", "unique_tokens", "value", "consumed")
    given: dict[str, PerLanguage] = dict.fromkeys(limits)
    fit = Fit(law.name, fitted, names)
    problem = AllocationProblem.build(fit, plan.run.params, _tokens(plan), plan, given)
    if (problem.limits.lower < problem.limits.upper).sum() < 2 or problem.limits.lower.sum() >= 1:
        raise InputError("the plan's limits leave no choice of weights")
    return problem


def _worth_of_training(
    plan: Plan, problem: AllocationProblem, weights: Array, theta: Array
) -> float:
    """How much the mean loss falls for one more FLOP of training the model itself."""
    setting, step = problem.setting, 1e-3
    longer = replace(setting, tokens=setting.tokens * (1 + step))
    nothing = np.zeros(len(problem.value))
    now, then = (
        problem.mean(problem.law.in_weights(theta[None], at, weights[None], nothing)[0])[0]
        for at in (setting, longer)
    )
    flops = 6 * plan.run.params * BILLION * setting.tokens * step
    return float(max(now - then, 0.0) / flops)
