"""How it came out: the losses that the fit of a stage predicted, beside those measured since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blendlaw.allocation_problem import TAILS
from blendlaw.errors import InputError
from blendlaw.fitted import Fit
from blendlaw.observations import Observation
from blendlaw.report.training import TrainingRun, last_of
from blendlaw.where import parse


@dataclass(frozen=True)
class Result:
    """The last loss ``measured`` of a language and what was ``predicted`` for it, after ``tokens``.

    ``interval`` is the 90% interval of the prediction, None without a bootstrap of several runs;
    ``why`` says why there is no prediction.
    """

    language: str
    tokens: float
    predicted: float | None = None
    measured: float | None = None
    interval: tuple[float, float] | None = None
    why: str = ""

    @property
    def error(self) -> float | None:
        """predicted ÷ measured − 1: above 0, the run is better than predicted."""
        if self.predicted is None or self.measured is None:
            return None
        return self.predicted / self.measured - 1

    @property
    def error_interval(self) -> tuple[float, float] | None:
        if self.interval is None or self.measured is None:
            return None
        low, high = self.interval
        return low / self.measured - 1, high / self.measured - 1


@dataclass(frozen=True)
class Outcome:
    """Results for the losses of one split; ``of_fit`` if the fit is known to be of that split."""

    split: str | None
    results: tuple[Result, ...]
    of_fit: bool

    @property
    def compared(self) -> list[tuple[str, float]]:
        """(language, error) of those that have one, the largest first."""
        errors = [(one.language, one.error) for one in self.results if one.error is not None]
        return sorted(errors, key=lambda pair: -abs(pair[1]))

    @property
    def mean(self) -> float:
        """The mean absolute error of those compared."""
        return float(np.mean([abs(error) for _, error in self.compared]))


def outcomes(run: TrainingRun) -> list[Outcome] | str:
    """What the fit that last decided a stage predicted for the run as it went, or why nothing.

    Only what was measured in that stage and after it counts: what came before was fitted. The
    split is the one that was fitted; where the fit does not tell, each is compared, validation
    first.
    """
    if isinstance(run.fit, str) or run.guided is None:
        return str(run.fit)
    since = run.since(run.guided.stage)
    if not since:
        return f"nothing has been measured yet in stage {run.guided.stage}, which the fit decided"
    try:
        own = fitted_split(run.fit, run.observations)
    except InputError as error:
        return f"the fit was made by an expression that is not one: {error}"
    there = {seen.split for seen in since}
    if own is not None and own in there:
        return [_outcome(run, run.fit, since, own, True)]
    ordered = sorted(there, key=lambda split: (split != "valid", split or ""))
    return [_outcome(run, run.fit, since, split, False) for split in ordered]


def fitted_split(fit: Fit, observations: Sequence[Observation]) -> str | None:
    """The split that the fit is of, if its provenance tells: None if not."""
    split, where = (fit.provenance.get(key) for key in ("split", "where"))
    if isinstance(split, str):
        return split
    if not where:
        return None
    kept = parse(str(where))
    splits = {seen.split for seen in observations if kept(seen)}
    return splits.pop() if len(splits) == 1 else None


def _outcome(
    run: TrainingRun, fit: Fit, since: Sequence[Observation], split: str | None, of_fit: bool
) -> Outcome:
    here = [seen for seen in since if seen.split == split]
    results = []
    for language in run.languages:
        own = last_of(here, language)
        results.append(_result(fit, language, own or here[-1], own))
    return Outcome(split, tuple(results), of_fit)


def _result(fit: Fit, language: str, at: Observation, own: Observation | None) -> Result:
    """The prediction for the run as it stood ``at``, its last measurement of the language."""
    measured = None if own is None else own.loss
    if language not in fit.languages:
        return Result(language, at.tokens, measured=measured, why="not in the fit")
    if at.weights is None and at.tokens_by_language is None:
        why = "what the run saw of each language is not recorded"
        return Result(language, at.tokens, measured=measured, why=why)
    shares = {name: share for name, share in at.shares().items() if share > 0}
    unique = {n: t for n, t in (at.unique_tokens or {}).items() if n in fit.sources}
    try:
        weights = fit.shares(shares)
        setting = fit.setting(at.params, at.tokens, unique)
    except InputError as error:
        return Result(language, at.tokens, measured=measured, why=error.problem)
    number = list(fit.languages).index(language)
    draws = fit.theta_draws()
    theta = np.concatenate([fit.theta()[None], draws])
    loss, _, _ = fit.functions().in_weights(
        theta, setting, np.tile(weights, (len(theta), 1)), np.zeros(len(fit.languages))
    )
    predicted, spread = float(loss[0, number]), loss[1:, number]
    if not len(draws) or not np.isfinite(spread).all():
        return Result(language, at.tokens, predicted, measured)
    low, high = np.quantile(spread, TAILS).tolist()
    if high - low < 1e-9 * high:  # refits draw whole runs: of one run they are all the same
        return Result(language, at.tokens, predicted, measured)
    return Result(language, at.tokens, predicted, measured, (low, high))
