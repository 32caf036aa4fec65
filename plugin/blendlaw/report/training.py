"""A training run as its folder tells it: its stages, what decided them and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePath

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.fitted import Fit
from blendlaw.layout import Layout
from blendlaw.observations import Observation, read_observations
from blendlaw.pairs.plan import PAIRS, of_pairs
from blendlaw.schedule import StageRecord, read_schedule

LOSSES, SCHEDULE, LAYOUT = "losses.jsonl", "schedule.jsonl", "layout.json"


@dataclass(frozen=True)
class TrainingRun:
    """A run, over or not: ``records`` are the stages decided so far, ``observations`` what was
    measured of languages, by tokens, and ``directions`` what of directions of translation.

    ``fit`` is that of ``guided``, the last record that names one, or the reason why it is not
    there. ``notes`` say what of the folder was left out.
    """

    layout: Layout
    records: tuple[StageRecord, ...]
    observations: tuple[Observation, ...]
    fit: Fit | str
    notes: tuple[str, ...] = ()
    directions: tuple[Observation, ...] = ()

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """In the order of the plan, then those that it does not name. Pairs are no language."""
        named = dict.fromkeys(name for record in self.records for name in record.weights)
        named |= dict.fromkeys(source.language for source in self.layout.sources)
        named.pop(PAIRS, None)
        return tuple(named | dict.fromkeys(seen.language for seen in self.observations))

    @cached_property
    def splits(self) -> tuple[str | None, ...]:
        """The splits that were measured, training first."""
        found = {seen.split for seen in self.observations}
        return tuple(sorted(found, key=lambda split: (split != "train", split or "")))

    @property
    def guided(self) -> StageRecord | None:
        """The last stage that a fit decided."""
        return next((record for record in reversed(self.records) if record.fit), None)

    @property
    def last(self) -> Observation | None:
        """The last measurement."""
        return self.observations[-1] if self.observations else None

    @cached_property
    def consumed(self) -> dict[str, float]:
        """The tokens of each language that the run has seen, as far as it says."""
        last = self.last
        if last is None or (last.tokens_by_language is None and last.weights is None):
            return {}
        if last.tokens_by_language is not None:
            return dict(last.tokens_by_language)
        return {name: share * last.tokens for name, share in last.shares().items()}

    @cached_property
    def epochs(self) -> dict[str, float]:
        """How often the unique tokens of each language were seen, where these are known."""
        unique = (None if self.last is None else self.last.unique_tokens) or {}
        seen = self.consumed
        return {
            name: seen[name] / unique[name]
            for name in self.languages
            if name in {*seen} & {*unique}
        }

    def since(self, stage: str) -> list[Observation]:
        """What was measured in ``stage`` and those behind it."""
        later = set(self.layout.stages[self.layout.stages.index(stage) :])
        return [seen for seen in self.observations if seen.stage in later]

    @cached_property
    def starts(self) -> dict[str, float]:
        """The tokens at which stages began, of those after the first that were measured.

        What a run measures last in a stage is where the next begins, to within a step.
        """
        found = {}
        for before, stage in pairwise(self.layout.stages):
            ended = [seen.tokens for seen in self.observations if seen.stage == before]
            if ended and self.since(stage):
                found[stage] = max(ended)
        return found


def last_of(observations: Sequence[Observation], language: str) -> Observation | None:
    """The last one of the language; ``observations`` are by tokens."""
    return next((seen for seen in reversed(observations) if seen.language == language), None)


def of_direction(seen: Observation) -> bool:
    """Whether the loss is of a direction of translation, ``Source->Target``, not of a language."""
    return of_pairs(seen.split)


def is_run(folder: str | Path) -> bool:
    """Whether a training run has written the folder."""
    return any((Path(folder) / name).is_file() for name in (LAYOUT, SCHEDULE))


def read_run(folder: str | Path) -> TrainingRun:
    """The run in ``folder``; it may be under way, and its last lines half written.

    Raises InputError naming file and line where a file is bad otherwise; OSError without a
    layout.json. A fit that cannot be read is a reason in the result, since the rest can be shown.
    """
    folder = Path(folder)
    layout = _layout(folder / LAYOUT)
    schedule = read_schedule(folder / SCHEDULE)
    layout.check(schedule, folder / SCHEDULE)
    measured, damage = _losses(folder / LOSSES)
    measured.sort(key=lambda seen: seen.tokens)
    run = TrainingRun(
        layout,
        schedule.records,
        tuple(seen for seen in measured if not of_direction(seen)),
        "no stage was decided by a fit",
        tuple(note for note in (schedule.damage, damage) if note is not None),
        tuple(filter(of_direction, measured)),
    )
    if run.guided is None or run.guided.fit is None:
        return run
    return replace(run, fit=_fit(folder, run.guided.fit))


def _layout(path: Path) -> Layout:
    try:
        layout = Layout.from_json(read_text(path))
        if len(layout.boundaries) != len(layout.stages) + 1:
            problem = f"{len(layout.stages)} stages have {len(layout.stages) + 1} boundaries"
            raise InputError(problem, column="boundaries", value=layout.boundaries)
    except InputError as error:
        raise replace(error, file=path) from None
    return layout


def _losses(path: Path) -> tuple[list[Observation], str | None]:
    """What was measured, and what is wrong with a last line that had to be left out."""
    if not path.is_file() or not (content := path.read_bytes().rstrip()):
        return [], None
    bad: list[InputError] = []
    try:
        found = read_observations(path, skip_bad=True, on_bad=bad.append)
    except InputError:
        if not bad:
            raise
        found = []
    if not bad:
        return found, None
    if bad[0].line != content.count(b"\n") + 1:
        raise bad[0]
    return found, f"{path}:{bad[0].line}: the last line is damaged and left out ({bad[0].problem})"


def _fit(folder: Path, name: str) -> Fit | str:
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        return f"{name} is not in the folder of the run"
    try:
        return Fit.from_json(read_text(folder / name))
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    except InputError as error:
        return f"{name}: {error.problem}"
