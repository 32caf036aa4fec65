"""A training run whose blend follows what it measures: what every stack adapter drives.

    run = StagedRun(plan, folder, samples=…, consumed=…, batch=…, prefetched=…, …)
    data = build_staged_blend(GPTDataset, run.index, config, is_built_on_rank)
    forward_step = run.measured.wrap_forward_step(forward_step)
    run.begin(step)
    …
    run.after_step(step, consumed, batch)     # after every training step
    run.after_validation(step)                # after an evaluation
    run.before_save(step)                     # before a checkpoint
    run.complete()                            # after the last step, where ranks part before end()
    run.end()

Every rank calls each of these in the same order. One rank, ``writer``, writes the folder and
decides; the others are told. A stage is decided a step before a data loader may ask for its first
sample, so that none waits.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from blendlaw.blend import blend
from blendlaw.decide import seen
from blendlaw.errors import InputError
from blendlaw.layout import lay_out
from blendlaw.observations import Observation
from blendlaw.pairs.kinds import Kinds, kinds_of
from blendlaw.pairs.plan import split_of_pairs
from blendlaw.plan import Plan
from blendlaw.plugins import plugin_manager
from blendlaw.run_folder import RunFolder, say
from blendlaw.schedule import Schedule, StageRecord
from blendlaw_hooks import ranks
from blendlaw_hooks.language_loss import LanguageLoss, Loss
from blendlaw_hooks.staged_index import StagedIndex
from blendlaw_hooks.trackers import Tracker

PREFETCH_FACTOR = 2
"""Batches that a loader's worker reads ahead: torch's default, which Megatron keeps."""

FILES_OF_SOURCE = 6
"""What Megatron keeps open of a source: its tokens and index, and three indices of a data set."""

OTHER_FILES = 512


class StagedRun:
    """The stages, losses and decisions of a run. See the module's text for the order of calls.

    ``samples`` is the whole run, ``consumed`` what a checkpoint has of it, ``batch`` the largest
    global batch, ``prefetched`` how many samples beyond a step data loaders may have read, all in
    samples. ``surplus`` is Megatron's ``mid_level_dataset_surplus``; ``cache`` its data cache.
    ``counting`` and ``context_parallel`` are those of LanguageLoss. Raises InputError on every
    rank where the plan, the folder or the sources are not fit to train with.
    """

    def __init__(
        self,
        plan: Plan,
        folder: str | Path,
        *,
        samples: int,
        consumed: int,
        batch: int,
        prefetched: int,
        log_interval: int,
        device: torch.device | str,
        writer: int,
        surplus: float | None = None,
        cache: str | None = None,
        counting: bool = True,
        context_parallel: tuple[int, int] = (1, 0),
        tracker: Tracker | None = None,
    ) -> None:
        self.plan = plan
        self.writer = writer
        self._batch = batch
        self._ahead = 2 * batch + prefetched  # twice, so that what fails can be tried again
        self._log_interval = log_interval
        self._tracker = tracker
        self._consumed = consumed
        self._step = 0
        self._stage: int | None = None  # the one under way
        self._folder: RunFolder | None = None
        ranks.on_one(writer, lambda: _require_files(plan))
        ranks.on_each(lambda: allow_open_files(len(list(_prefixes(plan)))))
        self.layout = lay_out(plan, samples, *([] if surplus is None else [surplus]))
        self.kinds: Kinds = ranks.on_one(writer, lambda: _kinds(plan))
        # With pairs every token says its kind, and these numbers of a sample's are not used.
        names = list(plan.mixture)
        self.measured = LanguageLoss(
            self.kinds.names,
            [names.index(source.language) for source in self.layout.sources],
            device,
            of_valid_dataset=range(len(names)),
            counting=counting,
            context_parallel=context_parallel,
        )
        self.schedule: Schedule = ranks.on_one(writer, lambda: self._open(folder))
        self.index = StagedIndex(self.layout, Path(folder) / "schedule.jsonl", cache)
        self._decide(consumed)
        ranks.on_each(lambda: self.index.expect(self.schedule))

    def begin(self, step: int) -> None:
        """Training begins, or goes on, after ``step`` steps; ``consumed`` samples are behind it."""
        pending = ranks.on_one(self.writer, lambda: self._files.pending(step))
        if pending is not None and ranks.rank() == self.writer:
            self.measured.restore(pending)
        self._step = step
        if self._consumed < self.layout.boundaries[-1]:
            self._enter(self.layout.stage_of(self._consumed))

    def after_step(self, step: int, consumed: int, batch: int) -> None:
        """``step`` is done, after which ``consumed`` samples are, of them ``batch`` in it."""
        self._step, self._consumed = step, consumed
        stage = self.layout.stage_of(consumed - batch)
        ends = consumed >= self.layout.boundaries[stage + 1]
        if ends or step % self._log_interval == 0:
            self._record("train", stage, self.measured.collect("train"))
        if consumed < self.layout.boundaries[-1]:
            self._decide(consumed)
        if ends:
            self._leave()
            if consumed < self.layout.boundaries[-1]:
                self._enter(self.layout.stage_of(consumed))

    def after_validation(self, step: int, split: str = "valid") -> None:
        """An evaluation of ``split`` has ended. Its languages are those of ``Labelled`` sets."""
        self._step = step
        stage = self.layout.stage_of(max(0, self._consumed - 1))
        self._record(split, stage, self.measured.collect("valid"))

    def before_save(self, step: int) -> None:
        """A checkpoint of ``step`` is about to be made: what the next would lose is put aside."""
        if step == self._step:  # else a step that this checkpoint is without was counted
            pending = self.measured.pending()
            ranks.on_one(self.writer, lambda: self._save_pending(step, pending))

    def complete(self) -> None:
        """No step follows, here or for good; evaluations may. ``end`` then needs no other rank."""
        if self._stage is not None and self._consumed + self._batch > self.layout.boundaries[-1]:
            # No whole batch is left of the last stage.
            self._record("train", self._stage, self.measured.collect("train"))
            self._leave()

    def end(self) -> None:
        """Nothing follows: another run may have the folder."""
        self.complete()
        if self._folder is not None:
            self._folder.close()

    @property
    def _files(self) -> RunFolder:
        assert self._folder is not None, "on the rank that writes"
        return self._folder

    def _open(self, folder: str | Path) -> Schedule:
        self._folder = RunFolder(folder, self.plan, self.layout)
        return self._folder.schedule

    def _save_pending(self, step: int, sums: list[list[float]]) -> None:
        try:
            self._files.save_pending(step, sums)
        except OSError as error:
            say(f"a resume at step {step} would lose a part of a log interval: {error}")

    # Decisions.

    def _decide(self, consumed: int) -> None:
        """Decide the stages whose samples may be asked for soon."""
        decided = False
        while len(self.schedule.records) < len(self.layout.stages):
            start = self.layout.boundaries[len(self.schedule.records)]
            if start >= consumed + self._ahead:
                break
            try:
                record = ranks.on_one(self.writer, lambda: self._decided(consumed))
            except OSError as error:
                if start < consumed + self._batch:
                    raise InputError(f"a stage cannot be recorded: {error}") from error
                if ranks.rank() == self.writer:  # a full disk may be freed meanwhile
                    say(f"a stage cannot be recorded, to be tried again: {error}")
                break
            self.schedule = self.schedule.then(record)
            decided = True
        if decided:
            ranks.on_each(lambda: self.index.expect(self.schedule))

    def _decided(self, consumed: int) -> StageRecord:
        record = self._files.decide(consumed, self.index.prepare)
        shown = ", ".join(f"{name} {weight:.4g}" for name, weight in record.weights.items())
        say(
            f"stage {record.stage} from sample {record.start_sample}: {shown} ({record.reason}; "
            f"decided at sample {record.decided_at_sample})"
        )
        return record

    # Stages.

    def _enter(self, number: int) -> None:
        self._stage = number
        stage = self.plan.stages[number]
        weights = self.schedule.records[number].weights
        made = blend(self.plan, weights, stage.tokens)
        plugin_manager().hook.before_stage(stage=stage, blend=made)

    def _leave(self) -> None:
        if self._stage is None:
            return
        stage, self._stage = self.plan.stages[self._stage], None
        measured = ranks.on_one(self.writer, lambda: self._files.of_stage(stage.name))
        plugin_manager().hook.after_stage(stage=stage, observations=measured)

    # Losses.

    def _record(self, split: str, stage: int, losses: Mapping[str, Loss]) -> None:
        if ranks.rank() != self.writer or not losses:
            return
        languages, directions = self.kinds.folded(losses)
        for name, part in ((split, languages), (split_of_pairs(split), directions)):
            if not part:
                continue
            found = self._files.record(
                part, step=self._step, samples=self._consumed, stage=stage, split=name
            )
            try:  # whatever goes wrong here, the other ranks train on
                self._tell(name, part, found)
            except Exception as error:
                say(f"step {self._step}: a tracker failed: {type(error).__name__}: {error}")

    def _tell(
        self, split: str, losses: Mapping[str, tuple[float, int]], found: list[Observation]
    ) -> None:
        shown = ", ".join(f"{name} {loss:.4f}" for name, (loss, _) in losses.items())
        say(f"step {self._step}, {split} loss: {shown}")
        tokens = self._consumed * self.plan.run.sequence_length
        if split.startswith("train"):
            means = {name: loss for name, (loss, _) in losses.items()}
            plugin_manager().hook.record_losses(step=self._step, tokens=tokens, losses=means)
        if self._tracker is None:
            return
        scalars = {f"{split} loss/{name}": loss for name, (loss, _) in losses.items()}
        scalars |= {f"{split} bpb/{o.language}": o.bpb for o in found if o.bpb is not None}
        if split == "train":
            number = self.layout.stage_of(self._consumed - 1)
            scalars |= {f"weight/{n}": w for n, w in self.schedule.records[number].weights.items()}
            trained = seen(self.plan, self.layout, self.schedule, self._consumed)
            for name, source in self.plan.mixture.items():
                if source.unique_tokens is not None:
                    scalars[f"epochs/{name}"] = trained[name] / source.unique_tokens
        self._tracker.log(self._step, {f"blendlaw/{name}": v for name, v in scalars.items()})


def _kinds(plan: Plan) -> Kinds:
    """What tokens are counted as: the languages, and what the plan's pairs say."""
    pairs = () if plan.pairs is None else (*plan.pairs.sources, *plan.pairs.valid_sources)
    return kinds_of(plan.languages, [source.prefix for source in pairs])


def _prefixes(plan: Plan) -> Iterator[tuple[str, str]]:
    """Every prefix that is read, and whose it is."""
    for name, language in plan.mixture.items():
        for source in (*language.sources, *language.valid_sources, *language.test_sources):
            yield source.prefix, name


def _require_files(plan: Plan) -> None:
    """InputError where a source is not there; those in object stores are Megatron's to find."""
    for prefix, name in _prefixes(plan):
        for path in (Path(prefix + ".idx"), Path(prefix + ".bin")):
            if "://" not in prefix and not path.exists():
                raise InputError(f"no such file, a source of {name}", file=path)


def allow_open_files(sources: int) -> None:
    """Let this process, and the loaders it forks, keep so many sources open.

    The usual limit, 1,024 files, is that of 150 sources. InputError if it may not be raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_OF_SOURCE * sources + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        problem = f"{sources} sources need {wanted} open files: raise the limit (ulimit -Hn)"
        raise InputError(problem, value=hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
