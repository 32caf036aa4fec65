"""Fitting: observations and a law become a ``Fit``.

Every language's fit starts from many points, all of which descend together (``solver``); the
bootstrap refits go the same way from the optimum. What the data do not tell is said in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from blendlaw import __version__
from blendlaw.errors import InputError
from blendlaw.fitted import Candidate, HoldOut, LanguageFit, law_named
from blendlaw.fitted import Fit as Fit
from blendlaw.laws.base import REPETITION, Array, Law, Parameter
from blendlaw.observations import Observation
from blendlaw.problems import Problem, Worth, languages_of, problems
from blendlaw.solver import Objective, minimise, value

INTERVAL = 0.90
MANY = 5  # warnings of one kind, above which they are only counted
STARTS = 8  # of a law's starting points, how many descend
AGREE = 3  # so many starts at the same lowest minimum are enough: the rest are given up
IDENTIFIED = 1e-8  # least eigenvalue of the normal equations, their diagonal scaled to one
CHUNK = 50_000  # residuals that descend together: as many as a core's cache holds

UNCONVERGED = "the optimiser stopped before it converged"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """How to fit: ``loss`` huber or squares, in ``space`` log or linear, with Huber's ``delta``."""

    loss: str = "huber"
    space: str = "log"
    delta: float = 1e-3

    def objective(self) -> Objective:
        for given, known in ((self.loss, ("huber", "squares")), (self.space, ("log", "linear"))):
            if given not in known:
                raise InputError(f"must be one of {', '.join(known)}", value=given)
        if not self.delta > 0:
            raise InputError("Huber's delta must be above 0", value=self.delta)
        return Objective(np.inf if self.loss == "squares" else self.delta, self.space == "log")


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
    held = [seen for seen in observations if holdout is not None and holdout(seen)]
    kept = [seen for seen in observations if holdout is None or not holdout(seen)]
    if not kept:
        raise InputError("there are no observations to fit")
    candidates: tuple[Candidate, ...] = ()
    if law == "auto":
        from blendlaw.selection import choose

        law, candidates = choose(kept, options, Worth(transfer or {}, repetition, substitution))
    rules = law_named(law)
    known = transfer or {}
    worth = Worth(known, repetition, substitution)
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
        or {t: dict(row) for t, row in known.items()},
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


def solve(law: Law, problem: Problem, options: Options) -> tuple[Array, float, bool]:
    """The best parameters (p,), in the solver's coordinates, their objective, and convergence.

    Raises InputError if the law cannot be fitted to the problem.
    """
    reason = law.unsuitable(problem.runs)
    if reason is None and np.ptp(problem.measured) == 0 and len(problem.measured) > 1:
        reason = f"all its losses are {problem.measured[0]:g}: there is nothing to fit"
    if reason is not None:
        raise InputError(f"law {law.name} cannot be fitted to {problem.name}: {reason}")
    runs, measured, objective = problem.runs, problem.measured, options.objective()
    lower, upper = bounds(_solved(law, problem))
    starts = np.clip(law.starts(runs, measured), lower, upper)
    weight = law.emphasis(runs)
    worth = value(law, runs, measured, objective, starts, weight)
    starts = starts[np.argsort(worth, kind="stable")[:STARTS]]
    prior = law.prior(runs, measured)
    found = minimise(
        law, runs, measured, objective, starts, lower, upper, weight, prior, agree=AGREE
    )
    best = int(np.argmin(found.value))
    return found.theta[best], float(found.value[best]), bool(found.converged[best])


def bounds(parameters: Sequence[Parameter]) -> tuple[Array, Array]:
    """The parameters' bounds in the solver's coordinates, (p,) and (p,)."""
    pairs = [
        (np.log(p.lower), np.log(p.upper)) if p.log else (p.lower, p.upper) for p in parameters
    ]
    return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])


def natural(parameters: Sequence[Parameter], theta: Array) -> Array:
    """``theta`` (..., p) with logarithms taken back."""
    logs = np.array([parameter.log for parameter in parameters])
    return np.where(logs, np.exp(np.where(logs, theta, 0.0)), theta)


def resampled(problem: Problem, draws: int, seed: int) -> Array:
    """How often each observation appears in each bootstrap draw, (draws, n).

    Training runs are drawn with replacement, with all the losses that each measured.
    """
    groups, first = np.unique(problem.group, return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=draws)
    return np.asarray(counts[:, first], float)


def refit(
    law: Law,
    problem: Problem,
    options: Options,
    theta: Array,
    draws: int,
    seed: int,
    progress: Progress | None = None,
) -> Array:
    """The parameters (draws, p) of bootstrap refits around ``theta`` (p,), the fit itself.

    Huber's corner is moved out to the median residual, and what that alone does to the fit is
    taken off again. With a corner far below the noise the refits hang on single observations, as a
    resampled median does: 90% intervals then cover 95%, with the wider corner 90% (docs/laws.md).
    The draws are spread by √(n/(n − p)), at most √2, for n runs: residuals are smaller than errors.
    """
    runs, measured = problem.runs, problem.measured
    lower, upper = bounds(_solved(law, problem))
    prior, emphasis = law.prior(runs, measured), law.emphasis(runs)
    objective = options.objective()
    residual = np.abs(objective.residual(law.loss(theta, runs), measured))
    smooth = replace(objective, delta=max(objective.delta, float(np.median(residual))))

    def refitted(start: Array, weight: Array) -> Array:
        starts = np.tile(start, (len(weight), 1))
        return minimise(law, runs, measured, smooth, starts, lower, upper, weight, prior).theta

    centre = refitted(theta, emphasis[None])[0]
    weight = resampled(problem, draws, seed) * emphasis
    count = len(np.unique(problem.group))
    spread = np.sqrt(count / max(count - len(theta), count / 2))
    size = max(1, CHUNK // len(measured))
    done = [np.empty((0, len(theta)))]
    for begin in range(0, draws, size):
        found = refitted(centre, weight[begin : begin + size])
        done.append(np.clip(theta + spread * (found - centre), lower, upper))
        if progress is not None:
            progress(min(begin + size, draws), draws)
    return np.concatenate(done)


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
    parameters = _solved(law, problem)
    lower, upper = bounds(parameters)
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
    if loose:
        names_ = sorted(loose) if len(loose) <= MANY else [f"{len(loose)} parameters"]
        warnings.append(f"not determined by these observations: {', '.join(names_)}")
    return tuple(warnings)


def _solved(law: Law, problem: Problem) -> Sequence[Parameter]:
    """The parameters that are solved for: a language's, or those of all."""
    return law.solved_parameters(problem.runs.languages, int(problem.runs.target[0]))


def _message(languages: Mapping[str, LanguageFit]) -> str:
    beware = [language for language, fitted in languages.items() if fitted.warnings]
    observations = sum(fitted.n_observations for fitted in languages.values())
    message = f"{len(languages)} languages, {observations} observations"
    return message + (f"; beware of {', '.join(beware)}" if beware else "")


def _part(progress: Progress | None, begin: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(begin + done, total)
