"""Schedule: the append-only record of stages, schedule.jsonl, one line a stage.

The blend of a run is a pure function of this file, of the run's layout and of the sample index,
so a line is durable before anything trains on it. A crash can damage the last line only: readers
leave it out and the next ``append`` takes its place.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.files import sync
from blendlaw.limits import SUM_TOLERANCE
from blendlaw.stored import typed
from blendlaw.values import printable

if TYPE_CHECKING:
    from blendlaw.plan import Plan

MAX_BYTES = 16 << 20
LOCK_SECONDS = 10.0
SAMPLES_TOLERANCE = 0.01
"""How far, of the whole, a run's samples may be from its plan's tokens: iterations are rounded."""


@dataclass(frozen=True)
class StageRecord:
    """One stage as it was decided: from ``start_sample`` on, languages have these ``weights``.

    ``weights`` are shares of training samples and sum to 1; ``decided_at_sample`` ≤
    ``start_sample`` counts the samples consumed when it was decided; ``fit`` names the file of the
    fit that decided, if one did. Raises InputError naming the field.
    """

    stage: str
    start_sample: int
    weights: dict[str, float]
    decided_at_sample: int
    reason: str
    fit: str | None = None

    def __post_init__(self) -> None:
        printable(self.stage, "stage")
        if not 0 <= self.decided_at_sample <= self.start_sample:
            raise InputError(
                f"must be from 0 to start_sample, {self.start_sample}",
                column="decided_at_sample",
                value=self.decided_at_sample,
            )
        for language, weight in self.weights.items():
            printable(language, "weights")
            if not (math.isfinite(weight) and weight >= 0):
                problem = "must be a number ≥ 0"
                raise InputError(problem, column=f"weights.{language}", value=weight)
        total = sum(self.weights.values())
        if abs(total - 1) > SUM_TOLERANCE:
            raise InputError(f"the weights sum to {total:.7g}, not 1", column="weights")

    def line(self) -> bytes:
        """The record as a line of schedule.jsonl."""
        return json.dumps(asdict(self), allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Schedule:
    """The records of a run in the order of their stages.

    ``damage`` says what is wrong with the last line of the file, if it was left out.
    """

    records: tuple[StageRecord, ...] = ()
    damage: str | None = None

    def then(self, record: StageRecord) -> Schedule:
        """The schedule with ``record`` behind; InputError if it cannot follow."""
        for earlier in self.records:
            if earlier.stage == record.stage:
                problem = f"stage {record.stage!r} is decided already, otherwise"
                raise InputError(problem, column="stage")
        if self.records and record.start_sample <= self.records[-1].start_sample:
            last = self.records[-1]
            raise InputError(
                f"must be above {last.start_sample}, where stage {last.stage!r} starts",
                column="start_sample",
                value=record.start_sample,
            )
        return Schedule((*self.records, record))


def read_schedule(path: str | Path) -> Schedule:
    """The schedule in the file; an empty one if there is no file yet.

    A last line that is not JSON, or has no line end, is what a crash leaves: it is left out and
    ``damage`` says so. Any other fault raises InputError with file, line and key. OSError if the
    file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return _parse(file.read(MAX_BYTES + 1), path)[0]
    except FileNotFoundError:
        return Schedule()


def append(path: str | Path, record: StageRecord) -> Schedule:
    """Add ``record`` durably: when this returns, a crash of the machine does not lose it.

    The very record of the last line, or of an earlier one, may be appended again: no change. A
    damaged last line is cut off first. Raises InputError, the file unchanged, if the stage is
    decided otherwise, if it starts no later than the one before, or if another process keeps the
    file locked; OSError (disk full) with the file as it was.
    """
    path = Path(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(handle, path)
        with open(handle, "rb", closefd=False) as file:
            schedule, good = _parse(file.read(MAX_BYTES + 1), path)
        if schedule.damage is not None:
            os.ftruncate(handle, good)
            schedule = Schedule(schedule.records)
        if record not in schedule.records:
            try:
                schedule = schedule.then(record)
            except InputError as error:
                error.file, error.line = path, len(schedule.records) + 1
                raise
            _write(handle, record.line(), good)
        os.fsync(handle)  # also where the line was there: its writer may have died before this
        sync(path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)
    return schedule


@contextmanager
def claim(path: str | Path) -> Iterator[None]:
    """Hold a schedule for the life of a run; InputError if another run does.

    One process of the run claims it. The lock is on ``path`` + ".lock", ends with the process
    however that ends, and is not inherited by forked workers.
    """
    lock = Path(f"{path}.lock")
    with open(lock, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(200).strip() or "unknown"
            raise InputError(f"another run is using it ({owner})", file=path) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def boundaries(plan: Plan, samples: int) -> tuple[int, ...]:
    """The first sample of each stage of a run of ``samples`` samples and, last, ``samples``.

    A stage starts after the whole samples nearest to the tokens of those before it. Raises
    InputError if a stage would have no sample, or if ``samples`` is more than 1% from the tokens
    of the plan.
    """
    length = plan.run.sequence_length
    planned = sum(stage.tokens for stage in plan.stages) / length
    if abs(samples - planned) > max(1.0, SAMPLES_TOLERANCE * planned):
        raise InputError(
            f"the run trains on {samples} samples, the plan's {plan.run.tokens:.7g} tokens are "
            f"{planned:.7g} samples of {length}",
            column="run.tokens",
        )
    starts = [round(plan.start(stage) / length) for stage in plan.stages]
    ends = [*starts[1:], samples]
    for stage, start, end in zip(plan.stages, starts, ends, strict=True):
        if end <= start:
            problem = f"stage {stage.name!r} has not one sample of {length} tokens"
            raise InputError(problem, column="stages", value=stage.tokens)
    return (*starts, samples)


def _parse(data: bytes, path: str | Path) -> tuple[Schedule, int]:
    """The schedule and how many bytes of ``data`` it takes; the rest is damage."""
    if len(data) > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES:,} bytes: refused", file=path)
    schedule, good = Schedule(), 0
    lines = BytesIO(data).readlines()
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        try:
            value = json.loads(line)
            if not line.endswith(b"\n"):
                raise ValueError("it has no line end")
        except (ValueError, RecursionError) as error:
            if last:
                told = f"{path}:{number}: the last line is damaged and left out ({error})"
                return Schedule(schedule.records, told), good
            raise InputError(f"damaged, and not by a crash: {error}", path, number) from None
        try:
            schedule = schedule.then(typed(value, StageRecord, ""))
        except InputError as error:
            error.file, error.line = path, number
            raise
        good += len(line)
    return schedule, good


def _lock(handle: int, path: Path) -> None:
    """Lock the file against other appenders: each holds it for one line only."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                problem = f"another process has kept it locked for {LOCK_SECONDS:g} s"
                raise InputError(problem, file=path) from None
            time.sleep(0.02)


def _write(handle: int, line: bytes, at: int) -> None:
    written = 0
    try:
        while written < len(line):  # a short write is followed by the error that explains it
            written += os.pwrite(handle, line[written:], at + written)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, at)
        raise
