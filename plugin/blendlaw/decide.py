"""What the next stage of a run trains on: a refit where its policy needs one, and a record.

A decision follows from the plan, the earlier stages and what was measured until then alone, so a
run that is killed and resumed decides the same again. Whatever goes wrong on the way to weights
(a fit that fails, a policy that raises), the weights of the stage before stand, and the record says
why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from blendlaw.errors import InputError
from blendlaw.fitting import Fit, fit
from blendlaw.languages import canonical
from blendlaw.layout import Layout
from blendlaw.observations import Observation, read_observations
from blendlaw.pairs.plan import PAIRS
from blendlaw.plan import Plan, Stage
from blendlaw.policies import Proposal, needs_fit, propose, within_limits
from blendlaw.schedule import Schedule, StageRecord
from blendlaw.where import parse, select

MOVED = 1e-6
"""Limits that change a weight by less have only rounded it."""


@dataclass(frozen=True)
class Decision:
    """The record of a stage, and the fit that it follows from, if one does."""

    record: StageRecord
    fit: Fit | None = None

    @property
    def kept(self) -> bool:
        """Whether a fit was wanted and the weights before stand, since it failed."""
        return self.record.reason.startswith("kept ")


def decide(
    plan: Plan,
    layout: Layout,
    schedule: Schedule,
    history: Sequence[Observation],
    at_sample: int,
) -> Decision:
    """The stage after those of ``schedule``, decided when ``at_sample`` samples are consumed.

    ``history`` is what a fit may use (see ``usable``). Weights are within the plan's limits,
    which count what the earlier stages consume. Raises InputError if there is no stage before
    whose weights could stand, or if those do not meet the limits.
    """
    number = len(schedule.records)
    stage = plan.stages[number]
    ahead = plan
    for record in schedule.records:
        ahead = ahead.after(plan.stage(record.stage), record.weights)
    fitted: Fit | None = None
    try:
        if needs_fit(stage):
            fitted = _fit(plan, history)
        proposal = propose(ahead, stage, fitted, history)
        reason = _reason(stage, fitted, proposal)
    except Exception as error:  # a policy is anybody's code
        if not schedule.records:
            raise _told(stage, error) from error
        before = schedule.records[-1]
        proposal = within_limits(ahead, stage, plan.unmixed(before.weights))
        told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        reason = f"kept the weights of {before.stage}: {' '.join(told.split())}"
        fitted = None
    return Decision(
        StageRecord(
            stage=stage.name,
            start_sample=layout.boundaries[number],
            weights=plan.mixed(stage, proposal),
            decided_at_sample=at_sample,
            reason=reason,
            fit=None if fitted is None else fit_file(number, stage),
        ),
        fitted,
    )


def _fit(plan: Plan, history: Sequence[Observation]) -> Fit:
    """The refit; InputError where a language that has a worth has no loss in it."""
    fitted = fit(history, plan.refit.law)
    known = {canonical(name) for name in fitted.languages}
    for name, language in plan.languages.items():
        if language.sources and language.value > 0 and canonical(name) not in known:
            raise InputError(f"no {plan.refit.split} loss of {name} to fit")
    told = {"split": plan.refit.split, "where": plan.refit.where}
    return replace(fitted, provenance=fitted.provenance | told)


def usable(
    plan: Plan, own: Iterable[Observation], earlier: Iterable[Observation], tokens: float
) -> list[Observation]:
    """What a decision after ``tokens`` tokens may be fitted to.

    ``own`` rows of this run up to there and ``earlier`` ones of others: those of ``refit.split``
    (or of none, as runs made elsewhere may be) and of ``refit.where``.
    """
    mine = (each for each in own if each.tokens <= tokens)
    kept = [each for each in (*earlier, *mine) if each.split in (plan.refit.split, None)]
    return select(kept, parse(plan.refit.where)) if plan.refit.where else kept


def earlier_runs(plan: Plan) -> list[Observation]:
    """The observations of the plan's ``refit.observations``. Raises InputError and OSError."""
    if plan.refit.where:
        parse(plan.refit.where)
    files = plan.refit.observations
    return read_observations(*files) if files else []


def fit_file(number: int, stage: Stage) -> str:
    """The fit of a stage, relative to the run's folder."""
    return f"fits/{number + 1}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', stage.name)}.json"


def seen(plan: Plan, layout: Layout, schedule: Schedule, samples: int) -> dict[str, float]:
    """The tokens of each language after ``samples`` samples of the run, with those ``consumed``.

    By the weights of the stages: what was drawn is within two samples of it a source and stage.
    Where the plan has translation pairs, ``pairs`` are the tokens of their sequences.
    """
    found = {name: language.consumed for name, language in plan.mixture.items()}
    ends = layout.boundaries[1:]
    for record, end in zip(schedule.records, ends, strict=False):
        drawn = max(0, min(end, samples) - record.start_sample)
        for name, weight in record.weights.items():
            found[name] += weight * drawn * plan.run.sequence_length
    return found


def with_pairs(plan: Plan, tokens: Mapping[str, float]) -> dict[str, float]:
    """``tokens`` of ``seen``, those in translation pairs counted for the languages they are of."""
    if plan.pairs is None or PAIRS not in tokens:
        return dict(tokens)
    held = plan.pairs.composition or {}
    return {
        name: count + held.get(name, 0.0) * tokens[PAIRS]
        for name, count in tokens.items()
        if name != PAIRS
    }


def _reason(stage: Stage, fitted: Fit | None, proposal: Proposal) -> str:
    """Why these weights, in a line."""
    policy = stage.weights if isinstance(stage.weights, str) else "the plan's table"
    reason = policy
    if fitted is not None:
        count = sum(language.n_observations for language in fitted.languages.values())
        reason = f"{policy}: {fitted.law} fitted to {count} observations"
        if not fitted.success:
            reason += ", not converged"
    moved = [
        f"{language} {proposal.requested[language]:.4g} to {weight:.4g}"
        for language, weight in proposal.items()
        if abs(weight - proposal.requested[language]) > MOVED
    ]
    return reason + (f"; within limits: {', '.join(moved)}" if moved else "")


def _told(stage: Stage, error: Exception) -> Exception:
    if isinstance(error, InputError):
        told = f"stage {stage.name!r} is the first, so no weights can stand for it: {error.problem}"
        return replace(error, problem=told)
    return error
