"""losses.jsonl: the observations of a run, appended as they are measured, each once.

A run that resumes from a checkpoint measures again what it had measured after that checkpoint;
such records are already there and are not written twice. A crash can leave half a line at the end:
it is cut off, and its measurement comes again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.files import MAX_BYTES, write_atomically
from blendlaw.observations import Observation, format_observations
from blendlaw.plugins import plugin_manager

Key = tuple[object, ...]
KEY = ("run", "stage", "step", "split", "language")


def key(record: Observation | Mapping[str, object]) -> Key:
    """What a record measured: two records with the same key are the same measurement."""
    if isinstance(record, Observation):
        return tuple(getattr(record, column) for column in KEY)
    return tuple(record.get(column) for column in KEY)


class LossLog:
    """A losses.jsonl open for appending, by one process.

    Opening it repairs a damaged last line. Raises InputError, naming the line, if another line is
    damaged, OSError if it cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._there: set[Key] = set()
        if not self.path.exists():
            write_atomically(self.path, "")
        with open(self.path, "r+b") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise InputError(f"larger than {MAX_BYTES:,} bytes: refused", file=self.path)
            lines = file.read().split(b"\n")
            rest = lines.pop()  # empty if the last line was ended
            if rest and _parse(rest) is not None:
                file.write(b"\n")
                lines.append(rest)
            elif rest or (lines and _parse(lines[-1]) is None):
                lost = len(rest) or len(lines.pop()) + 1
                file.truncate(file.tell() - lost)
            file.flush()
            os.fsync(file.fileno())
        for number, line in enumerate(lines, 1):
            record = _parse(line)
            if record is None:
                raise InputError("not a record: mend or remove the line", self.path, number)
            self._there.add(key(record))

    def append(self, observations: Iterable[Observation]) -> list[Observation]:
        """Append those not yet there, durably (fsync); returns them.

        On a failure (a full disk) the file is cut back to what it was and OSError is raised.
        """
        new: dict[Key, Observation] = {}
        for observation in observations:
            if key(observation) not in self._there:
                new.setdefault(key(observation), observation)
        if new:
            _append(self.path, format_observations(list(new.values()), "jsonl").encode())
            self._there |= new.keys()
        return list(new.values())


def record(
    log: LossLog, losses: Mapping[str, tuple[float, float]], *, step: int, tokens: int, **known: Any
) -> list[Observation]:
    """Append what was measured at ``step`` (see observe, which takes ``known``) and tell trackers.

    Training losses go to the ``record_losses`` hook, those that are not finite too; that hook has
    no word for validation. Call it on one rank. Returns what is new in the file.
    """
    new = log.append(observe(losses, step=step, tokens=tokens, **known))
    if known.get("split") == "train":
        means = {language: loss for language, (loss, _) in losses.items()}
        plugin_manager().hook.record_losses(step=step, tokens=tokens, losses=means)
    return new


def append_observations(path: str | Path, observations: Iterable[Observation]) -> list[Observation]:
    """Open, repair and append once: see LossLog. A run that appends often keeps one LossLog."""
    return LossLog(path).append(observations)


def observe(
    losses: Mapping[str, tuple[float, float]],
    *,
    params: float,
    tokens: float,
    bytes_per_token: Mapping[str, float] | None = None,
    tokens_by_language: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    run: str | None = None,
    stage: str | None = None,
    step: int | None = None,
    split: str | None = None,
) -> list[Observation]:
    """Observations of ``{language: (loss in nats/token, tokens it is the mean of)}``.

    Losses are kept to 9 digits: summed in another order, as after a resume, they are the same.
    ``bpb`` is loss / ln 2 / bytes_per_token where those are known. A language whose loss is not
    finite and above 0 has none: nothing can be fitted to it. Raises InputError as Observation.
    """
    found = []
    for language, (loss, counted) in losses.items():
        loss = float(f"{loss:.9g}")
        if math.isfinite(loss) and loss > 0:
            size = (bytes_per_token or {}).get(language)
            found.append(
                Observation(
                    language=language,
                    params=params,
                    tokens=tokens,
                    loss=loss,
                    loss_tokens=counted,
                    bpb=None if size is None else loss / math.log(2) / size,
                    tokens_by_language=tokens_by_language,
                    unique_tokens=unique_tokens or None,
                    run=run,
                    stage=stage,
                    step=step,
                    split=split,
                )
            )
    return found


def _parse(line: bytes) -> Mapping[str, object] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "language" in record else None


def _append(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(file).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except OSError as error:
            os.ftruncate(file, before)
            error.filename = str(path)
            raise
    finally:
        os.close(file)
