"""Fitting: observations and a law become a ``Fit``.

Every language's fit starts from many points, all of which descend together (``solver``); the
bootstrap refits go the same way from the optimum. What the data do not tell is said in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from blendlaw import __version__
from blendlaw.errors import InputError
from blendlaw.estimate import Options, Progress, box, natural, refit, solve, solved_parameters
from blendlaw.fitted import Candidate, HoldOut, LanguageFit, law_named
from blendlaw.fitted import Fit as Fit
from blendlaw.laws.base import REPETITION, Array, Law
from blendlaw.observations import Observation
from blendlaw.problems import Problem, Worth, languages_of, problems
from blendlaw.selection import choose

INTERVAL = 0.90
MANY = 5  # warnings of one kind, above which they are only counted
IDENTIFIED = 1e-8  # least eigenvalue of the normal equations, their diagonal scaled to one

UNCONVERGED = "the optimiser stopped before it converged"


def fit(
    observations: Sequence[Observation],
    law: str = "auto",
    *,
    loss: str = "huber",
    space: str = "log",
    delta: float = 1e-3,
    holdout: Callable[[Observation], bool] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    transfer: Mapping[str, Mapping[str, float]] | None = None,
    repetition: float = REPETITION,
    substitution: float = 1.0,
    progress: Progress | None = None,
) -> Fit:
    """Fit ``law`` to every language of ``observations``.

    The objective is Huber's function (``loss="huber"``, Hoffmann et al.) or half the square, of
    the residual of the log-loss (``space="log"``) or of the loss, summed. With ``law="auto"`` the
    law is chosen by how well it predicts larger runs than it was fitted on (``selection``).
    Observations for which ``holdout`` is true are never fitted nor looked at in choosing the law;
    the fit's error on them is reported. ``bootstrap`` refits, resampling training runs, give 90%
    intervals. ``transfer[target][source]``, ``repetition`` and ``substitution``
    (``laws/effective.py``) are taken as known; the law ``transfer`` estimates them instead.

    Raises InputError where nothing can be fitted: no observations, fewer than the law has
    parameters, losses that are all equal, an unknown law.
    """
    options = Options(loss, space, delta)
    if bootstrap < 0:
        raise InputError("the number of bootstrap refits must not be negative", value=bootstrap)
    if seed < 0:
        raise InputError("the seed must not be negative", value=seed)
    held: list[Observation] = []
    kept: list[Observation] = []
    for seen in observations:
        (held if holdout is not None and holdout(seen) else kept).append(seen)
    if holdout is not None and not held:
        raise InputError("no observation is held out: the condition is true of none")
    if not kept:
        raise InputError("there are no observations to fit")
    worth = Worth(transfer or {}, repetition, substitution)
    candidates: tuple[Candidate, ...] = ()
    if law == "auto":
        law, candidates = choose(kept, options, worth)
    rules = law_named(law)
    asked = problems(kept, worth, joint=rules.joint)
    fits: dict[str, LanguageFit] = {}
    for number, problem in enumerate(asked):
        tick = _part(progress, number * bootstrap, len(asked) * bootstrap)
        fits |= _fit_problem(rules, problem, problem.like(held), options, bootstrap, seed, tick)
    targets, sources = languages_of(kept)
    languages = {target: fits[target] for target in targets}
    return Fit(
        law=law,
        languages=languages,
        sources=sources,
        transfer=rules.transfer({t: f.params for t, f in languages.items()}, sources)
        or {t: dict(row) for t, row in worth.transfer.items()},
        repetition=repetition,
        substitution=substitution,
        success=not any(UNCONVERGED in f.warnings for f in languages.values()),
        message=_message(languages),
        selection=candidates,
        provenance={
            "blendlaw": __version__,
            "observations": len(kept),
            "range": {
                "parameters": [min(o.params for o in kept), max(o.params for o in kept)],
                "tokens": [min(o.tokens for o in kept), max(o.tokens for o in kept)],
            },
            **asdict(options),
            "bootstrap": bootstrap,
            "seed": seed,
        },
    )


def _fit_problem(
    law: Law,
    problem: Problem,
    held: Problem,
    options: Options,
    bootstrap: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, LanguageFit]:
    """The fit of each language of ``problem``: one, or all for a joint law."""
    theta, total, converged = solve(law, problem, options)
    draws = refit(law, problem, options, theta, bootstrap, seed, progress)
    warnings = _warnings(law, problem, theta)
    if not converged:
        warnings = (UNCONVERGED, *warnings)
    error = law.loss(theta, problem.runs) / problem.measured
    held_error = np.empty(0)
    if len(held.measured):
        held_error = np.abs(law.loss(theta, held.runs) / held.measured - 1)
    languages = problem.runs.languages
    fits = {}
    for target in dict.fromkeys(problem.runs.target.tolist()):
        parameters = law.parameters(languages, target)
        names = [parameter.name for parameter in parameters]
        mine, also_held = problem.runs.target == target, held.runs.target == target
        values = natural(parameters, law.of_language(theta, languages, target))
        refits = natural(parameters, law.of_language(draws, languages, target))
        fits[languages[target]] = LanguageFit(
            params=dict(zip(names, values.tolist(), strict=True)),
            n_observations=int(mine.sum()),
            objective=total,
            rms_log_error=float(np.sqrt(np.mean(np.log(error[mine]) ** 2))),
            interval=_interval(names, refits),
            holdout=HoldOut(float(held_error[also_held].mean()), int(also_held.sum()))
            if also_held.any()
            else None,
            warnings=warnings,
            draws=tuple(map(tuple, refits.tolist())),
        )
    return fits


def _interval(names: Sequence[str], draws: Array) -> dict[str, tuple[float, float]]:
    if not len(draws):
        return {}
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _warnings(law: Law, problem: Problem, theta: Array) -> tuple[str, ...]:
    """Parameters at a bound, and those that the observations do not determine."""
    parameters = solved_parameters(law, problem)
    lower, upper = box(law, problem, theta)
    held = [
        f"{p.name} is at its {'lower' if at <= low else 'upper'} bound "
        f"{p.lower if at <= low else p.upper:g}"
        for p, at, low, high in zip(parameters, theta, lower, upper, strict=True)
        if low < high and (at <= low or at >= high)
    ]
    warnings = held if len(held) <= MANY else [f"{len(held)} parameters are at their bounds"]
    slope = law.gradient(theta, problem.runs) / law.loss(theta, problem.runs)[:, None]
    inside = (theta > lower) & (theta < upper)
    size = np.sqrt((slope**2).sum(0))
    names = np.array([p.name for p in parameters])
    loose = set(names[inside & (size < 1e-12)].tolist())
    inside &= size >= 1e-12
    unit = slope[:, inside] / size[inside]
    ratio, direction = np.linalg.eigh(unit.T @ unit)
    for column in direction.T[ratio < IDENTIFIED]:
        loose |= set(names[inside][np.abs(column) > 0.3].tolist())
    for what, found in (
        ("not determined by these observations", sorted(loose)),
        ("not fitted, since these runs cannot tell", law.moot(problem.runs)),
    ):
        if found:
            shown = found if len(found) <= MANY else (f"{len(found)} parameters",)
            warnings.append(f"{what}: {', '.join(shown)}")
    return tuple(warnings)


def _message(languages: Mapping[str, LanguageFit]) -> str:
    failed = [name for name, fitted in languages.items() if UNCONVERGED in fitted.warnings]
    beware = [name for name, fitted in languages.items() if fitted.warnings]
    observations = sum(fitted.n_observations for fitted in languages.values())
    message = f"{len(languages)} languages, {observations} observations"
    if failed:
        message += f"; not converged: {', '.join(failed)}"
    return message + (f"; beware of {', '.join(beware)}" if beware else "")


def _part(progress: Progress | None, begin: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(begin + done, total)
