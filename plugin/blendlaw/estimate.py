"""Estimation: one law on one problem. The optimum from many starts, and refits around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blendlaw.errors import InputError
from blendlaw.laws.base import Array, Law, Parameter
from blendlaw.problems import Problem
from blendlaw.solver import Objective, minimise, value

STARTS = 8  # of a law's starting points, how many descend
AGREE = 3  # so many starts at the same lowest minimum are enough: the rest are given up
PATIENCE = 1000  # steps of a descent: of ``transfer``, a few starts need most of them
CHUNK = 50_000  # residuals that descend together: as many as a core's cache holds

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
    starts = law.starts(runs, measured)
    lower, upper = box(law, problem, starts[0])
    starts = np.clip(starts, lower, upper)
    weight = law.emphasis(runs)
    worth = value(law, runs, measured, objective, starts, weight)
    starts = starts[np.argsort(worth, kind="stable")[:STARTS]]
    prior = law.prior(runs, measured)
    found = minimise(
        law, runs, measured, objective, starts, lower, upper, weight, prior, PATIENCE, AGREE
    )
    best = int(np.argmin(found.value))
    return found.theta[best], float(found.value[best]), bool(found.converged[best])


def bounds(parameters: Sequence[Parameter]) -> tuple[Array, Array]:
    """The parameters' bounds in the solver's coordinates, (p,) and (p,)."""
    pairs = [
        (np.log(p.lower), np.log(p.upper)) if p.log else (p.lower, p.upper) for p in parameters
    ]
    return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])


def box(law: Law, problem: Problem, at: Array) -> tuple[Array, Array]:
    """The bounds, drawn together around ``at`` (p,) for parameters that are moot."""
    parameters = solved_parameters(law, problem)
    moot = law.moot(problem.runs)
    pinned = np.array([parameter.name in moot for parameter in parameters])
    lower, upper = bounds(parameters)
    return np.where(pinned, at, lower), np.where(pinned, at, upper)


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
    if not draws:
        return np.empty((0, len(theta)))
    runs, measured = problem.runs, problem.measured
    lower, upper = box(law, problem, theta)
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
    done = []
    for begin in range(0, draws, size):
        found = refitted(centre, weight[begin : begin + size])
        done.append(np.clip(theta + spread * (found - centre), lower, upper))
        if progress is not None:
            progress(min(begin + size, draws), draws)
    return np.concatenate(done)


def solved_parameters(law: Law, problem: Problem) -> Sequence[Parameter]:
    """The parameters that are solved for: a language's, or those of all."""
    return law.solved_parameters(problem.runs.languages, int(problem.runs.target[0]))
