"""The folder of a training run, as the one process sees it that writes it.

layout.json     what stays fixed in the run: sources, samples of each, stages
schedule.jsonl  the stages as they were decided
losses.jsonl    what was measured
fits/           the fit that decided a stage
pending/        sums of an unfinished log interval, by the step of the checkpoint beside them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blendlaw.decide import decide, earlier_runs, seen, usable, with_pairs
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.layout import Layout
from blendlaw.observations import Observation, read_observations
from blendlaw.plan import Plan
from blendlaw.records import LossLog, observe
from blendlaw.schedule import Schedule, StageRecord, append, claim, read_schedule


class RunFolder:
    """Everything a run keeps on disk; held by one process until ``close`` or its end.

    Raises InputError if another run holds the folder, if it was started otherwise than ``plan``
    and ``layout`` say, or if a file in it or an observation of ``plan.refit`` is bad; OSError.
    """

    def __init__(self, folder: str | Path, plan: Plan, layout: Layout) -> None:
        self.path = Path(folder)
        self.plan = plan
        self.layout = layout
        self._unwritten: list[Observation] = []
        self._held = ExitStack()
        try:
            self._earlier = earlier_runs(plan)
            for part in ("", "fits", "pending"):
                (self.path / part).mkdir(parents=True, exist_ok=True)
            self._held.enter_context(claim(self.schedule_file))
            layout.keep(self.path / "layout.json")
            self.schedule = read_schedule(self.schedule_file)
            if self.schedule.damage is not None:
                say(self.schedule.damage)
                self.schedule = Schedule(self.schedule.records)
            layout.check(self.schedule, self.schedule_file)
            self._log = LossLog(self.path / "losses.jsonl")
        except BaseException:
            self._held.close()
            raise

    @property
    def schedule_file(self) -> Path:
        return self.path / "schedule.jsonl"

    def close(self) -> None:
        """Let another run have the folder."""
        self._held.close()

    def decide(self, at_sample: int, prepare: Callable[[StageRecord], None]) -> StageRecord:
        """Decide the next stage, and record it once ``prepare`` has not refused it.

        Raises InputError where no weights can stand (see ``decide.decide``), OSError with nothing
        decided: it may be tried again.
        """
        own = [] if not at_sample else self._read()
        history = usable(self.plan, own, self._earlier, self._tokens(at_sample))
        made = decide(self.plan, self.layout, self.schedule, history, at_sample)
        prepare(made.record)
        if made.fit is not None and made.record.fit is not None:
            write_atomically(self.path / made.record.fit, made.fit.to_json())
        self.schedule = append(self.schedule_file, made.record)
        return made.record

    def record(
        self,
        losses: Mapping[str, tuple[float, float]],
        *,
        step: int,
        samples: int,
        stage: int,
        split: str,
    ) -> list[Observation]:
        """Append what was measured at ``step`` of a stage, after ``samples`` samples of the run.

        What cannot be written (a full disk) is kept, said, and written with the next. Returns the
        observations: one for each language whose loss is finite.
        """
        languages = self.plan.languages
        found = observe(
            losses,
            params=self.plan.run.params,
            tokens=self._tokens(samples),
            bytes_per_token={
                n: k.bytes_per_token for n, k in languages.items() if k.bytes_per_token is not None
            },
            tokens_by_language=with_pairs(
                self.plan, seen(self.plan, self.layout, self.schedule, samples)
            ),
            unique_tokens={
                n: k.unique_tokens for n, k in languages.items() if k.unique_tokens is not None
            },
            run=self.path.resolve().name,
            stage=self.layout.stages[stage],
            step=step,
            split=split,
        )
        for language in losses.keys() - {each.language for each in found}:
            say(f"step {step}: the {split} loss of {language} is {losses[language][0]}: left out")
        self._unwritten += found
        try:
            self._log.append(self._unwritten)
            self._unwritten = []
        except OSError as error:
            say(f"{len(self._unwritten)} losses are not written yet: {error}")
        return found

    def of_stage(self, stage: str) -> list[Observation]:
        """All that was measured of a stage, by this process and those before it."""
        return [each for each in self._read() if each.stage == stage]

    def save_pending(self, step: int, sums: list[list[float]]) -> None:
        """Keep the sums of a log interval that the checkpoint of ``step`` cuts in two."""
        if any(tokens for _, tokens in sums):
            write_atomically(self._pending_file(step), json.dumps(sums) + "\n")

    def pending(self, step: int) -> list[list[float]] | None:
        """The sums kept with the checkpoint of ``step``, if there are any."""
        path = self._pending_file(step)
        if not path.exists():
            return None
        try:
            sums: list[list[float]] = json.loads(read_text(path))
        except ValueError as error:
            raise InputError(f"not JSON: {error}", file=path) from None
        return sums

    def _pending_file(self, step: int) -> Path:
        return self.path / "pending" / f"{step}.json"

    def _read(self) -> list[Observation]:
        path = self.path / "losses.jsonl"
        written = read_observations(path) if path.stat().st_size else []
        return written + self._unwritten

    def _tokens(self, samples: int) -> float:
        before = sum(language.consumed for language in self.plan.languages.values())
        return before + samples * self.plan.run.sequence_length


@contextmanager
def errors_said() -> Iterator[None]:
    """For a process that a user started: InputError and OSError are a line and exit status 1."""
    try:
        yield
    except (InputError, OSError) as error:
        say(f"error: {error}")
        raise SystemExit(1) from error


def say(message: str) -> None:
    """A line for whoever watches the run, in one write: ranks share the stream."""
    sys.stderr.write(f"blendlaw: {message}\n")
    sys.stderr.flush()
