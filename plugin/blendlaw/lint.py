"""What is wrong, or may go wrong, with a plan before anything is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.limits import plan_limits
from blendlaw.megatron import Splits
from blendlaw.plan import Plan, Stage
from blendlaw.plan_sources import tokens_in
from blendlaw.policies import NoFit, Proposal, propose

if TYPE_CHECKING:
    from blendlaw.fitted import Fit

MANY_EPOCHS = 4
"""Repeating text more often than this is worth clearly less than fresh text (Muennighoff et al.
2023, arXiv:2305.16264)."""
FEW_SAMPLES = 100
OFF = 0.1  # how far unique_tokens may be from what the sources hold


@dataclass(frozen=True)
class StageLanguage:
    """A language in a stage; ``total`` counts are up to the stage's end, all that was consumed.

    Epochs are None where the unique tokens are unknown.
    """

    stage: str
    language: str
    requested: float
    weight: float
    tokens: float
    epochs: float | None
    total_tokens: float
    total_epochs: float | None


@dataclass(frozen=True)
class Lint:
    """The stages as far as they can be told, and what was found; ``errors`` stop a run."""

    rows: tuple[StageLanguage, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def lint(plan: Plan, fit: Fit | None = None, fixed: dict[str, Proposal] | None = None) -> Lint:
    """Go through the stages of ``plan`` in order, each after what the earlier ones consume.

    ``fixed`` gives the weights of some stages by name (a blend that exists already); they are
    held against the limits, not moved. A stage by law is noted and passed over without ``fit``.
    """
    errors: list[str] = []
    warnings = _of_sources(plan)
    notes: list[str] = []
    rows: list[StageLanguage] = []
    for stage in plan.stages:
        try:
            if fixed and stage.name in fixed:
                proposal = fixed[stage.name]
                errors += _beyond_limits(plan, stage, proposal)
            else:
                proposal = propose(plan, stage, fit)
        except NoFit:
            notes.append(f"stage {stage.name}: weights by law, not known before there is a fit")
            continue
        except InputError as error:
            errors.append(str(error))
            continue
        warnings += _few_samples(plan, stage, proposal, errors)
        plan = plan.after(stage, plan.mixed(stage, proposal))
        rows += _rows(plan, stage, proposal)
    last = {row.language: row for row in rows}
    warnings += [
        f"{name}: {row.total_epochs:.3g} epochs by the end of stage {row.stage}; "
        f"beyond {MANY_EPOCHS} repeated text is worth clearly less than fresh text"
        for name, row in last.items()
        if row.total_epochs is not None and row.total_epochs > MANY_EPOCHS
    ]
    return Lint(tuple(rows), tuple(errors), tuple(warnings), tuple(notes))


def from_blend(plan: Plan, splits: Splits) -> Proposal:
    """The weights of the plan's languages in a Megatron blend file.

    Raises InputError if it has a prefix that the plan has not, or no weights.
    """
    owner = {
        os.path.normpath(source.prefix): name
        for name, language in plan.mixture.items()
        for source in language.sources
    }
    weights = dict.fromkeys(plan.mixture, 0.0)
    for prefix, weight in splits["train"] or ():
        language = owner.get(os.path.normpath(prefix))
        if language is None:
            raise InputError("a prefix that the plan does not have", value=prefix)
        if weight is None:
            raise InputError("no weights: Megatron would blend by the size of the sources")
        weights[language] += weight
    total = sum(weights.values())
    if total == 0:
        raise InputError("a blend without training sources")
    shares = plan.unmixed({name: weight / total for name, weight in weights.items()})
    return Proposal(shares, shares)


def _rows(after: Plan, stage: Stage, proposal: Proposal) -> list[StageLanguage]:
    rows = []
    for name, language in after.languages.items():
        unique = language.unique_tokens
        tokens = proposal[name] * after.language_tokens(stage)
        rows.append(
            StageLanguage(
                stage=stage.name,
                language=name,
                requested=proposal.requested[name],
                weight=proposal[name],
                tokens=tokens,
                epochs=None if unique is None else tokens / unique,
                total_tokens=language.consumed,
                total_epochs=None if unique is None else language.consumed / unique,
            )
        )
    return rows


def _of_sources(plan: Plan) -> list[str]:
    """Warnings that need no weights: what is missing, or does not fit together."""
    found = []
    languages = plan.languages
    for missing, names in {
        "no sources": [n for n, k in languages.items() if not k.sources],
        "no valid_sources": [n for n, k in languages.items() if not k.valid_sources],
        "unknown unique_tokens": [n for n, k in languages.items() if k.unique_tokens is None],
    }.items():
        if names:
            found.append(f"{missing}: {', '.join(names)}")
    for name, language in plan.mixture.items():
        held_out = language.valid_sources + language.test_sources
        absent = [
            f"{source.prefix}{suffix}"
            for source in language.sources + held_out
            for suffix in (".bin", ".idx")
            if not Path(source.prefix + suffix).is_file()
        ]
        if absent:
            more = f" and {len(absent) - 2} more" if len(absent) > 2 else ""
            found.append(f"{name}: not here: {', '.join(absent[:2])}{more}")
        trained = {os.path.normpath(source.prefix) for source in language.sources}
        found += [
            f"{name}: {source.prefix} is held out and trained on"
            for source in held_out
            if os.path.normpath(source.prefix) in trained
        ]
        held = tokens_in(language.sources)
        if held and language.unique_tokens and abs(language.unique_tokens / held - 1) > OFF:
            found.append(
                f"{name}: unique_tokens {language.unique_tokens:.4g}, its sources hold {held:.4g}"
            )
    return found


def _beyond_limits(plan: Plan, stage: Stage, proposal: Proposal) -> list[str]:
    bounds = plan_limits(plan, stage)
    found = []
    for name, low, high, why in zip(
        bounds.languages, bounds.lower, bounds.upper, bounds.reason, strict=True
    ):
        weight = proposal[name]
        if weight < low - 1e-6:
            found.append(f"stage {stage.name}: {weight:.4g} of {name} is below its floor {low:.4g}")
        if weight > high + 1e-6:
            above = f"above its {why} limit {high:.4g}"
            found.append(f"stage {stage.name}: {weight:.4g} of {name} is {above}")
    return found


def _few_samples(plan: Plan, stage: Stage, proposal: Proposal, errors: list[str]) -> list[str]:
    """Warnings of sources that are hardly drawn; a split that is not known goes to ``errors``."""
    if any(proposal[name] > 0 and not k.sources for name, k in plan.languages.items()):
        return []  # said already: no sources
    try:
        made = blend(plan, plan.mixed(stage, proposal), stage.tokens)
    except InputError as error:
        errors.append(f"stage {stage.name}: {error}")
        return []
    return [
        f"stage {stage.name}: only {source.samples:.3g} samples of {source.prefix} "
        "(Megatron may stop with 'blend oversamples')"
        for source in made.sources
        if source.samples < FEW_SAMPLES
    ]
