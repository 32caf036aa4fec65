"""Layout: what stays fixed in a run of stages, kept in layout.json.

Sources in their order, how many samples each may give, and where the stages begin. With the
schedule it says which sample of which source every sample of the run is, so a run that is
resumed must have the same.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.limits import plan_limits
from blendlaw.nearest import nearest
from blendlaw.policies import answer_by_policy, needs_fit, within_limits
from blendlaw.schedule import Schedule, StageRecord, boundaries
from blendlaw.stored import from_json
from blendlaw.values import weights as check_weights

if TYPE_CHECKING:
    from blendlaw.plan import Plan, Stage

VERSION = 1
SURPLUS = 0.005
"""Megatron's own default of ``mid_level_dataset_surplus``."""

ROUNDING = 1e-12
"""Weights as close as this are the same."""


@dataclass(frozen=True)
class LaidSource:
    """A source: ``share`` of its language's samples; at most ``samples`` drawn in the whole run."""

    prefix: str
    language: str
    share: float
    samples: int


@dataclass(frozen=True)
class Layout:
    """The ``sources`` in the order of their ids, and the stages of a run.

    ``boundaries`` are the first sample of each of ``stages`` and, last, the samples of the run.
    """

    sources: tuple[LaidSource, ...]
    stages: tuple[str, ...]
    boundaries: tuple[int, ...]

    def size(self, stage: int) -> int:
        """Samples in the stage of that number."""
        return self.boundaries[stage + 1] - self.boundaries[stage]

    def stage_of(self, sample: int) -> int:
        """The number of the stage of that sample; the last one for all behind it."""
        return bisect_right(self.boundaries[:-1], sample) - 1

    def weights(self, by_language: Mapping[str, float]) -> list[float]:
        """The weight of each source: to the last bit what Megatron's blend builder works with."""
        parts = check_weights(by_language, "weights")
        split = [parts[source.language] * source.share for source in self.sources]
        drawn = [weight for weight in split if weight > 0]  # Megatron sees these only
        return (np.array(split) / np.sum(np.array(drawn))).tolist()  # type: ignore[no-any-return]

    def check(self, schedule: Schedule, file: str | Path) -> None:
        """InputError, naming ``file`` and line, where ``schedule`` is not one of this layout."""
        for number, record in enumerate(schedule.records):
            try:
                self._check(number, record)
            except InputError as error:
                error.file, error.line = file, number + 1
                raise

    def check_capacity(self, schedule: Schedule, record: StageRecord) -> None:
        """InputError if ``record``, after ``schedule``, may draw more of a source than it has.

        To be asked before the record is appended: later, samples would run out in a worker.
        """
        self._check(len(schedule.records), record)
        drawn = np.zeros(len(self.sources), np.int64)
        for number, each in enumerate((*schedule.records, record)):
            drawn += [most_drawn(self.size(number), w) for w in self.weights(each.weights)]
        for source, count in zip(self.sources, drawn.tolist(), strict=True):
            if count > source.samples:
                raise InputError(
                    f"stage {record.stage!r} would bring {source.prefix} ({source.language}) to "
                    f"{count} samples, but the run was started with {source.samples} of it: "
                    f"its weight, {record.weights[source.language]:.4g}, is above what the plan "
                    "allowed then"
                )

    def keep(self, path: str | Path) -> None:
        """Write layout.json, or, where there is one, raise InputError if it says otherwise."""
        if not Path(path).exists():
            write_atomically(path, self.to_json() + "\n")
            return
        try:
            kept = Layout.from_json(read_text(path))
        except InputError as error:
            raise replace(error, file=path) from None
        if kept != self:
            problem = f"the run was started otherwise, so it cannot go on: {_change(kept, self)}"
            raise InputError(problem, file=path)

    def to_json(self) -> str:
        """The content of layout.json."""
        return json.dumps({"version": VERSION} | asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Reads what ``to_json`` wrote; InputError naming the key otherwise."""
        return from_json(cls, text, VERSION, "layout.json")

    def _check(self, number: int, record: StageRecord) -> None:
        if number >= len(self.stages):
            problem = f"a stage more than the {len(self.stages)} of the plan"
            raise InputError(problem, column="stage", value=record.stage)
        name, start = self.stages[number], self.boundaries[number]
        if (record.stage, record.start_sample) != (name, start):
            raise InputError(
                f"stage {record.stage!r} from sample {record.start_sample} on, where the run has "
                f"{name!r} from sample {start} on: was the plan changed?"
            )
        languages = {source.language for source in self.sources}
        for language in sorted(languages - set(record.weights)):
            hint = nearest(language, record.weights)
            raise InputError(f"no weight of {language!r}, which has sources{hint}")
        for language, weight in record.weights.items():
            if weight > ROUNDING and language not in languages:
                hint = nearest(language, languages)
                raise InputError(
                    f"weight {weight:.4g}, but no source that the run may draw from{hint}",
                    column=f"weights.{language}",
                )


def lay_out(plan: Plan, samples: int, surplus: float = SURPLUS) -> Layout:
    """The layout of a run of ``samples`` samples by ``plan``.

    Sources that can never be drawn are left out. Raises InputError as ``boundaries``,
    ``requests`` and ``blend`` do.
    """
    starts = boundaries(plan, samples)
    wanted = requests(plan, starts, surplus)
    shares = _shares(plan)
    sources = tuple(
        LaidSource(source.prefix, language, shares[source.prefix], wanted[source.prefix])
        for language, given in plan.mixture.items()
        for source in given.sources
        if wanted[source.prefix] > 0
    )
    return Layout(sources, tuple(stage.name for stage in plan.stages), starts)


def requests(plan: Plan, starts: tuple[int, ...], surplus: float = SURPLUS) -> dict[str, int]:
    """The most samples that each source (by prefix) gives in a run with these ``boundaries``.

    Mid-level datasets are built with these numbers once and for all, since Megatron reshuffles a
    dataset when its number of samples changes. So they come from the plan alone, never from what
    was decided meanwhile. Where weights are known from the plan (tables, and policies other than
    the law) the request is exact, ⌈Σ ⌈samples · weight⌉ · (1 + surplus)⌉, Megatron's own for one
    stage. A stage that is decided later counts with the largest weight that caps and the others'
    floors leave a language, and all such stages together with what max_epochs leaves of it,
    within a sample a stage.

    Megatron's GPTDataset keeps 12 to 24 bytes a requested sample and 4 a document and epoch
    (mapped from disk with a cache path), and shuffles the epochs of a request together: the larger
    the request, the earlier documents repeat. Caps and max_epochs keep both small.
    """
    shares = _shares(plan)
    known = dict.fromkeys(shares, 0)
    open_ = dict.fromkeys(shares, 0)
    limited = any(language.max_epochs is not None for language in plan.languages.values())
    ahead, undecided, mixture = plan, 0, plan.mixture
    for stage, (start, end) in zip(plan.stages, pairwise(starts), strict=True):
        # What max_epochs leaves is not known after a stage that is not.
        weights = None if undecided and limited else _known(ahead, stage)
        if weights is not None:
            made = blend(plan, weights, stage.tokens)
            normal = np.array([s.weight for s in made.sources])
            normal /= np.sum(normal)
            for drawn, weight in zip(made.sources, normal.tolist(), strict=True):
                known[drawn.prefix] += math.ceil((end - start) * weight)
            ahead = ahead.after(stage, weights)
            continue
        undecided += 1
        bounds = plan_limits(ahead, stage)
        rest = 1 - (bounds.lower.sum() - bounds.lower)
        largest = zip(bounds.languages, np.minimum(bounds.upper, rest).tolist(), strict=True)
        for name, most in plan.mixed(stage, dict(largest)).items():
            for source in mixture[name].sources:
                weight = most * shares[source.prefix]
                open_[source.prefix] += math.ceil((end - start) * weight)
    per_token = max(
        (end - start) / stage.tokens
        for stage, (start, end) in zip(plan.stages, pairwise(starts), strict=True)
    )
    found = {}
    for language in ahead.mixture.values():
        for source in language.sources:
            more, share = open_[source.prefix], shares[source.prefix]
            if language.max_epochs is not None and language.unique_tokens is not None:
                left = language.max_epochs * language.unique_tokens - language.consumed
                left_samples = math.ceil(max(0.0, left) * per_token * share)
                more = min(more, left_samples + undecided) if share > 0 else 0
            found[source.prefix] = math.ceil(known[source.prefix] * (1 + surplus)) + more
    return found


def most_drawn(size: int, weight: float) -> int:
    """The most samples that a dataset of ``weight`` gives to ``size`` of a blend.

    Megatron's builder takes from the dataset whose weight · i − count is largest, never negative,
    so that count ≤ weight · i before sample i is drawn.
    """
    return math.floor(weight * (size - 1)) + 1 if weight > 0 else 0


def _known(plan: Plan, stage: Stage) -> Mapping[str, float] | None:
    """The weights of ``stage`` where the plan alone says them."""
    if needs_fit(stage):
        return None
    found = within_limits(plan, stage, answer_by_policy(stage, None, plan))
    # Limits that change nothing still round, and Megatron has the weights as they are written.
    changed = any(abs(found[name] - found.requested[name]) > ROUNDING for name in found)
    return plan.mixed(stage, found if changed else found.requested)


def _shares(plan: Plan) -> dict[str, float]:
    """The share of each source of its language's samples, as ``blend`` splits them."""
    shares: dict[str, float] = {}
    for name, language in plan.mixture.items():
        if language.sources:
            alone = blend(plan, {name: 1.0}, 1.0)
            shares |= dict.fromkeys((source.prefix for source in language.sources), 0.0)
            shares |= {source.prefix: source.weight for source in alone.sources}
    return shares


def _change(kept: Layout, now: Layout) -> str:
    """What is different, in words."""
    for source in kept.sources:
        if source.prefix not in {each.prefix for each in now.sources}:
            return f"source {source.prefix} ({source.language}) is gone"
    for source in now.sources:
        if source.prefix not in {each.prefix for each in kept.sources}:
            return f"source {source.prefix} ({source.language}) is new"
    for was, source in zip(kept.sources, now.sources, strict=True):
        for field in fields(LaidSource):
            before, after = getattr(was, field.name), getattr(source, field.name)
            if before != after:
                return f"{field.name} of source {was.prefix} was {before!r}, is {after!r}"
    if kept.stages != now.stages:
        return f"stages were {', '.join(kept.stages)}, are {', '.join(now.stages)}"
    return f"stages began at samples {kept.boundaries}, begin at {now.boundaries}"
