"""``auto``: the law that best predicts runs larger than those it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.estimate import Options, solve
from blendlaw.fitted import Candidate
from blendlaw.laws.base import Law
from blendlaw.observations import Observation
from blendlaw.plugins import laws
from blendlaw.problems import Problem, Worth, problems

FOLDS = 2  # how many of the largest scales are held out, in turn
SHARE = 0.1  # of the runs, which a held-out scale has at least
PAIRS = 4  # errors to compare laws by; with fewer means, every run counts
PARTS = 5  # where there is but one scale: how many parts the runs are cut into
SCALE = 1.05  # scales closer than this are one
Fold = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which observations are fitted, and which are predicted."""


def choose(
    observations: Sequence[Observation], options: Options, worth: Worth
) -> tuple[str, tuple[Candidate, ...]]:
    """The name of the law to use, and what was found of every law.

    The largest token budget is held out and predicted from all smaller ones, then the second
    largest from those below it; with one budget the same is done by parameters, and with one size
    too, runs are predicted from other runs. The errors are paired by language and fold; a law
    with more parameters wins only if it is better by more than one standard error. The choice is
    one for all languages and has no randomness.
    """
    asked = problems(observations, worth, joint=False)
    scale, kind = _scale(asked)
    errors: dict[str, NDArray[np.float64]] = {}
    reasons: dict[str, str] = {}
    for name, law in laws().items():
        if not law.automatic or law.joint:
            reasons[name] = "not considered: it predicts one loss for all languages"
            continue
        found = _errors(law, asked, scale, options)
        if isinstance(found, str):
            reasons[name] = found
        else:
            errors[name] = found
    if not errors:
        return _unjudged(asked, reasons)
    best, *others = sorted(errors, key=lambda name: _size(laws()[name], asked[0]))
    for name in others:
        better = errors[best] - errors[name]
        noise = better.std(ddof=1) / np.sqrt(len(better)) if len(better) > 1 else 0.0
        if better.mean() > noise:
            best = name
    table = [
        Candidate(
            name,
            float(errors[name].mean()),
            f"{'chosen' if name == best else 'rejected'}: error {100 * errors[name].mean():.2f}% "
            f"on {kind}",
        )
        for name in errors
    ]
    table += [Candidate(name, None, reason) for name, reason in reasons.items()]
    return best, tuple(table)


def _errors(
    law: Law, asked: Sequence[Problem], scale: str, options: Options
) -> NDArray[np.float64] | str:
    """Mean relative error of every language and fold, or why the law cannot be judged."""
    found = []
    for problem in asked:
        for fitted, predicted in _folds(problem, scale):
            part = problem.rows(fitted)
            try:
                theta, _, _ = solve(law, part, options)
            except InputError as refused:
                return f"not considered: {refused.problem}"
            other = problem.rows(predicted)
            found.append(np.abs(law.loss(theta, other.runs) / other.measured - 1))
    if not found:
        return "not judged: there are too few scales to hold one out"
    # Errors of one fold go together, so its mean counts once; unless that leaves too few to pair.
    return np.array([f.mean() for f in found]) if len(found) >= PAIRS else np.concatenate(found)


def _scale(asked: Sequence[Problem]) -> tuple[str, str]:
    """What grows from run to run: tokens, else parameters, else nothing."""
    for name, title in (("tokens", "token budgets"), ("params", "model sizes")):
        if all(_folds(problem, name) for problem in asked):
            return name, f"held-out largest {title}"
    return "", "held-out runs"


def _folds(problem: Problem, scale: str) -> list[Fold]:
    if not scale:
        groups = np.unique(problem.group)
        part = np.searchsorted(groups, problem.group) % PARTS
        folds = [(part != number, part == number) for number in range(min(PARTS, len(groups)))]
        return folds if len(folds) > 1 else []  # else nothing would be left to fit
    size = getattr(problem.runs, scale)
    levels, folds = _levels(size), []
    top = np.inf
    for level in levels[::-1]:
        held = (size >= level) & (size < top)
        if held.sum() < SHARE * len(size):
            continue  # too few alone: take the next level with it
        fitted = size < level
        # Enough smaller scales must remain to tell a curve from a line.
        if len(_levels(size[fitted])) > FOLDS:
            folds.append((fitted, held))
        if len(folds) == FOLDS:
            break
        top = level
    return folds


def _levels(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct scales among the runs, rising; each is the least of those within 5% of it."""
    levels: list[float] = []
    for value in np.unique(size).tolist():
        if not levels or value > SCALE * levels[-1]:
            levels.append(value)
    return np.array(levels)


def _size(law: Law, problem: Problem) -> int:
    return len(law.parameters(problem.runs.languages, int(problem.runs.target[0])))


def _unjudged(
    asked: Sequence[Problem], reasons: dict[str, str]
) -> tuple[str, tuple[Candidate, ...]]:
    """The simplest law that can be fitted at all, when none can be judged."""
    obstacles = {
        name: next((f"{p.name}: {why}" for p in asked if (why := law.unsuitable(p.runs))), None)
        for name, law in laws().items()
        if law.automatic and not law.joint
    }
    fitting = [name for name, why in obstacles.items() if why is None]
    if not fitting:
        told = "; ".join(f"{name} to {why}" for name, why in obstacles.items())
        raise InputError(f"no law can be fitted to these observations ({told})")
    best = min(fitting, key=lambda name: _size(laws()[name], asked[0]))
    chosen = Candidate(best, None, "chosen unjudged: too few scales to hold one out")
    return best, (chosen, *(Candidate(n, None, r) for n, r in reasons.items() if n != best))
