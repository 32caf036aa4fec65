"""What the report says of a training run in words."""

from __future__ import annotations

from collections.abc import Sequence

from blendlaw.fitted import law_named
from blendlaw.report.figures import count
from blendlaw.report.outcome import Outcome
from blendlaw.report.training import TrainingRun
from blendlaw.report.words import percent

_KINDS = {"train": "training", "valid": "validation", None: "measured"}


def kind_of(split: str | None) -> str:
    """What losses of the split are called."""
    return _KINDS.get(split, str(split))


def run_headline(run: TrainingRun, found: Sequence[Outcome] | str) -> list[str]:
    """How the predictions came out, or how far the run is."""
    first = _first(found)
    said = []
    if first is not None and run.guided is not None:
        language, worst = first.compared[0]
        said.append(
            f"The {kind_of(first.split)} losses that the fit of stage {run.guided.stage} predicted "
            f"are off by {percent(first.mean)} on average, most in {language}: "
            f"{percent(worst, '+.2f')}."
        )
    said.append(_progress(run))
    return said


def run_facts(run: TrainingRun, found: Sequence[Outcome] | str) -> list[tuple[str, str, str]]:
    """The few numbers to know, each (what, number, note)."""
    facts = []
    if run.last is not None:
        size = f"{count(run.last.tokens)} tokens"
        facts.append(("trained on", size, f"{count(run.last.params)} parameters"))
    note = f"now in {run.last.stage}" if run.last is not None and run.last.stage else ""
    decided = f"{len(run.records)} of {len(run.layout.stages)}"
    facts.append(("stages decided", decided, note))
    first = _first(found)
    if first is not None:
        note = f"mean over {_count(len(first.compared), 'language')}, {kind_of(first.split)} losses"
        facts.append(("prediction error", percent(first.mean), note))
    if run.epochs:
        most = max(run.epochs, key=lambda name: run.epochs[name])
        facts.append(("most epochs", f"{run.epochs[most]:.2f}", most))
    if run.observations:
        note = ", ".join(split or "of no split" for split in run.splits)
        facts.append(("measurements", f"{len(run.observations):,}", note))
    return facts


def run_notes(run: TrainingRun) -> list[str]:
    """What to beware of: what the folder's reader left out, and stages whose fit failed."""
    kept = [one for one in run.records if one.reason.startswith("kept ")]
    return [*run.notes, *(f"Stage {one.stage} {one.reason}" for one in kept)]


def losses_text(run: TrainingRun, in_bytes: bool) -> str:
    """What the curves of the losses are."""
    text = "Each language's own loss, as it was measured"
    text += ", on one scale: bits per byte compare across languages." if in_bytes else "."
    if "train" in run.splits and len(run.splits) > 1:
        others = " and ".join(map(kind_of, run.splits[1:]))
        text += f" Pale lines are training losses, strong ones {others}."
    if run.directions:
        text += " Tokens in translation pairs count for the language that they are of."
    if run.starts:
        text += " Dashed: where a stage begins."
    return text


def outcome_text(run: TrainingRun, found: Sequence[Outcome] | str) -> str:
    """What is compared with what, or why nothing is."""
    if isinstance(found, str) or isinstance(run.fit, str) or run.guided is None:
        return f"There is no prediction to compare: {found}."
    said = (
        f"The {run.fit.law} law that decided stage {run.guided.stage}, asked for this run as it "
        "went (its tokens, and what it saw of each language), beside the last measured losses."
    )
    span = run.fit.provenance.get("range", {}).get("tokens")
    if span is not None:
        said += f" It was fitted to runs of at most {count(span[1])} tokens."
    if not any(result.interval for one in found for result in one.results):
        said += " It has no intervals: those need a bootstrap of several runs."
    if not all(one.of_fit for one in found):
        said += " It does not tell which losses it was fitted to, so each split is compared."
    if run.fit.transfer and not law_named(run.fit.law).estimates_transfer:
        said += " Its transfer was given, not fitted: read the losses as no forecast."
    return said


def outcome_title(outcome: Outcome) -> str:
    """The heading of a comparison."""
    return f"{kind_of(outcome.split).capitalize()} losses"


def _progress(run: TrainingRun) -> str:
    stages = len(run.layout.stages)
    decided = f"{len(run.records)} of {_count(stages, 'stage')}"
    decided += f" {'is' if len(run.records) == 1 else 'are'} decided"
    if run.last is None:
        return f"Nothing has been measured yet; {decided}."
    guided = "" if run.guided is not None else ", none by a fit"
    return f"The run is at {count(run.last.tokens)} tokens; {decided}{guided}."


def _first(found: Sequence[Outcome] | str) -> Outcome | None:
    """The comparison that is told first: it has something to compare."""
    if isinstance(found, str):
        return None
    return next((one for one in found if one.compared), None)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
