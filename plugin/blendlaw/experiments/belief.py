"""What is believed of a law's parameters before the next runs: a centre and a precision.

Without observations the centre is the paper's fits and the spread is wide; with observations both
follow from them, and parameters of which they tell nothing keep what was believed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blendlaw.data import code7
from blendlaw.estimate import STARTS, Options, bounds, solve
from blendlaw.experiments.candidates import Candidates
from blendlaw.fitting import fit
from blendlaw.languages import canonical
from blendlaw.laws.base import REPETITION, Array, Law, Prior, Runs
from blendlaw.laws.effective import SUBSTITUTION
from blendlaw.laws.saturating import SATURATION, UNLIMITED
from blendlaw.observations import Observation, read_observations
from blendlaw.pair_runs import read_pairs_table
from blendlaw.plugins import laws
from blendlaw.problems import Problem, Worth, problem
from blendlaw.solver import Objective, minimise, value
from blendlaw.synergy import measure_synergy

LOG_SPREAD, SPREAD = 1.0, 0.3
"""Standard deviations believed beforehand: of logarithms (a factor of e), and of exponents,
transfers and the like."""
SATURATION_SPREAD = 10.0
"""That of the logarithm of M: nobody knows of it."""
GROWTH = 0.5
"""How λ of repetition grows with size (nu of the law ``transfer``); docs/laws.md."""
NOISE = 0.01
"""Of a loss, relative, where no observations say."""
EARLY = 5.0
"""Nats per token above which no law is asked: an untrained model has ln of its vocabulary, about
11, and the first steps down from there follow no power of the tokens."""
STEEPEST = 100.0  # derivative of a log-loss in a parameter; finite laws stay well below
HUBER = 1.345  # in units of the noise: 95% efficient under normal noise
PSEUDO = 200  # losses made up to find where a law without published fits begins


@dataclass(frozen=True, eq=False)
class Belief:
    """``centre`` (t, p) and ``precision`` (t, p, p) in the solver's coordinates; ``noise``, the
    standard deviation of the log of a loss; ``observations`` (t,), how many losses it rests on."""

    centre: Array
    precision: Array
    noise: float
    observations: NDArray[np.intp]

    def draws(self, law: Law, languages: Sequence[str], count: int) -> Array:
        """``count`` points (count, t, p), the centre first; moved into the law's bounds.

        The same every time, whatever the precision: what two beliefs differ by is no luck.
        """
        standard = np.random.default_rng(0).standard_normal((count, *self.centre.shape))
        standard[0] = 0.0
        # Of the precision, not of its inverse, whose small eigenvalues may be lost to rounding.
        root = np.swapaxes(np.linalg.cholesky(self.precision), -1, -2)
        drawn = self.centre + np.linalg.solve(root, standard[..., None])[..., 0]
        lower, upper = bounds(law.parameters(languages, 0))
        return np.clip(drawn, lower, upper)


def believed(
    law: Law, candidates: Candidates, observations: Sequence[Observation], noise: float | None
) -> Belief:
    """The belief about ``law`` in the candidates' languages after ``observations``.

    ``noise`` left out is that of the residuals, or ``NOISE`` where they are too few to tell.
    """
    languages = candidates.languages
    precision = np.tile(np.diag(spread(law, languages) ** -2.0), (len(languages), 1, 1))
    none = np.zeros(len(languages), np.intp)
    prior = Belief(default_centre(law, candidates), precision, NOISE, none)
    return updated(prior, law, languages, observations, noise)


def updated(
    prior: Belief,
    law: Law,
    languages: tuple[str, ...],
    observations: Sequence[Observation],
    noise: float | None,
) -> Belief:
    """``prior``, of a diagonal precision, after ``observations`` of its ``languages``.

    The centre is the maximum of the posterior: Huber's function of the log residuals and the
    prior. The noise is estimated first, with the prior's assumed, if None is given.
    """
    seen = {
        target: problem(own, languages, Worth(), name)
        for target, name in enumerate(languages)
        if (own := [o for o in observations if o.language == name])
    }
    assumed = prior.noise if noise is None else noise
    centre = _modes(law, seen, prior, assumed)
    if noise is None:
        squares, freedom = 0.0, 0
        for target, one in seen.items():
            residual = np.log(law.loss(centre[target], one.runs) / one.measured)
            squares += float((law.emphasis(one.runs) * residual**2).sum())
            freedom += max(len(residual) - centre.shape[1], 0)
        if freedom > 0:
            assumed = float(np.sqrt(squares / freedom))
            centre = _modes(law, seen, prior, assumed)
    precision, counts = prior.precision.copy(), prior.observations.copy()
    for target, one in seen.items():
        counts[target] += len(one.measured)
        slope = slopes(law, centre[target], one.runs, assumed)
        precision[target] += slope.T @ slope
    return Belief(centre, precision, assumed, counts)


def slopes(law: Law, theta: Array, runs: Runs, noise: float) -> Array:
    """The whitened slopes (..., n, p): derivative of the log-loss over its noise.

    The noise is that of the default fit, whose Huber corner lies far below it, which costs it a
    part of its efficiency; runs that the law counts more are taken to be less noisy. A run tells
    nothing where the law puts its loss above ``EARLY``, or harm leaves it no effective tokens.
    """
    loss = law.loss(theta, runs)[..., None]
    slope = law.gradient(theta, runs) / loss
    sound = (loss < EARLY) & (np.abs(slope).max(-1, keepdims=True) < STEEPEST)
    weight = np.sqrt(law.emphasis(runs)) / (noise * inefficiency(noise))
    return np.asarray(np.where(sound, slope, 0.0) * weight[:, None])


def inefficiency(noise: float, delta: float = Options().delta) -> float:
    """The standard error of a Huber fit with corner ``delta`` beside that of least squares.

    For normal noise √E[ψ²]/E[ψ′] (Huber 1964): 1 for a wide corner, √(π/2) for a narrow one.
    """
    corner, normal = delta / noise, NormalDist()
    inside = 2 * normal.cdf(corner) - 1
    square = inside - 2 * corner * normal.pdf(corner) + corner**2 * (1 - inside)
    return float(np.sqrt(square) / inside)


def spread(law: Law, languages: Sequence[str]) -> Array:
    """Standard deviations of the parameters believed beforehand, (p,)."""
    known = {"M": SATURATION_SPREAD} if law.name == "saturating" else {}
    return np.array(
        [known.get(p.name, LOG_SPREAD if p.log else SPREAD) for p in law.parameters(languages, 0)]
    )


def default_centre(law: Law, candidates: Candidates) -> Array:
    """Where parameters (t, p) are believed to be when nothing is measured.

    By name: those of the curve from the law's fit to the shipped 420 runs, a language's own or
    else the median of the seven; transfer from the shipped pair runs; repetition and substitution
    as published, and help that does not saturate. A law with other parameters is fitted to losses
    that ``transfer`` predicts so.
    """
    languages = candidates.languages
    if law.name in ("chinchilla", "transient"):
        return _published(law.name, languages).copy()
    transfer = laws()["transfer"]
    others = _published_transfer(languages)
    curve = _published("chinchilla", languages)
    rest = np.tile([np.log(REPETITION), GROWTH, SUBSTITUTION], (len(languages), 1))
    theta = np.hstack([curve, rest, others])
    if law.name == transfer.name:
        return theta
    if law.name == "saturating":
        return np.insert(theta, SATURATION, np.log(UNLIMITED), axis=1)
    found = []
    for target in range(len(languages)):
        runs = candidates.runs(target)
        runs = runs.rows(np.arange(0, len(runs), max(1, len(runs) // PSEUDO)))
        losses = transfer.loss(theta[target], runs)
        made = Problem(languages[target], runs, losses, np.arange(len(runs)), Worth())
        found.append(solve(law, made, Options(loss="squares"))[0])
    return np.array(found)


@cache
def _published(law: str, languages: tuple[str, ...]) -> Array:
    """The shipped runs' fit (t, p) of each language, or else the median of theirs."""
    fitted = fit(read_observations(code7("losses")), law)
    known = dict(zip(fitted.languages, fitted.theta(), strict=True))
    median = np.median(fitted.theta(), axis=0)
    return np.array([known.get(canonical(language), median) for language in languages])


@cache
def _published_transfer(languages: tuple[str, ...]) -> Array:
    """What the shipped pairs say that the others count for each language, (t, t − 1)."""
    pairs = measure_synergy(read_pairs_table(code7("synergy"))).transfer
    mean = float(np.mean([t for row in pairs.values() for t in row.values()]))
    return np.array(
        [
            [
                pairs.get(canonical(target), {}).get(canonical(other), mean)
                for other in languages
                if other != target
            ]
            for target in languages
        ]
    ).reshape(len(languages), -1)


def _modes(law: Law, seen: Mapping[int, Problem], prior: Belief, noise: float) -> Array:
    """The parameters (t, p) of the highest posterior; the prior's own where nothing is seen."""
    centre = prior.centre.copy()
    objective = Objective(HUBER * noise)
    for target, one in seen.items():
        runs, measured, weight = one.runs, one.measured, law.emphasis(one.runs)
        lower, upper = bounds(law.parameters(runs.languages, target))
        starts = np.clip(law.starts(runs, measured), lower, upper)
        height = value(law, runs, measured, objective, starts, weight)
        starts = starts[np.argsort(height, kind="stable")[:STARTS]]
        starts = np.vstack([centre[target], starts])
        pull = Prior(centre[target], noise**2 * np.diag(prior.precision[target]))
        found = minimise(law, runs, measured, objective, starts, lower, upper, weight, pull)
        centre[target] = found.theta[np.nanargmin(found.value)]
    return centre
