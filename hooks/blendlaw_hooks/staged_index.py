"""StagedIndex: which sample of which source every sample of a run is.

A pure function of the run's layout, its schedule.jsonl and the sample's number. It needs no
datasets, so the rank that decides a stage can prepare its index wherever the data are read.

Bound of Megatron (the same in core_v0.12 to 0.19 and main of August 2026):
``datasets.helpers.build_blending_indices`` and ``datasets.utils.normalize``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.layout import Layout
from blendlaw.schedule import Schedule, StageRecord, read_schedule

PATIENCE = 1800.0
"""Seconds that a sample's stage may stay undecided: a step, an evaluation, a checkpoint, a fit."""

AGREEMENT = 60.0
"""Seconds that a network file system may take to show what another host wrote."""


class _Index(NamedTuple):
    """Of each sample of a stage: its dataset and the sample there. ``drawn``: by the stage's end.

    ``dataset`` int16 and ``sample`` int64 are [samples of the stage], ``drawn`` int64 [datasets].
    """

    dataset: NDArray[np.int16]
    sample: NDArray[np.int64]
    drawn: NDArray[np.int64]


class StagedIndex:
    """Sample i of a run is (dataset, sample of it), by ``layout``, ``schedule`` and i alone.

    In a stage the order is Megatron's (``build_blending_indices`` on the stage's samples and
    weights) and each dataset goes on where the stage before left it. As Megatron's own blends, it
    is longer than the run, by one sample a dataset, so that the sampler accepts a finished run.

    When a sample of a stage is asked for that this process has not read of, the schedule is read
    again, and waited for up to ``patience`` seconds: workers need no restart.

    It takes 10 bytes a sample from the first stage to the last one met: mapped from files that all
    processes share where a ``cache`` folder is given, else in the memory of each.
    """

    def __init__(
        self,
        layout: Layout,
        schedule: str | Path,
        cache: str | Path | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.layout = layout
        self._schedule = Path(schedule)
        self._cache = cache
        self._patience = patience
        self._records: tuple[StageRecord, ...] = ()
        self._indices: dict[int, _Index] = {}
        self._reread()

    def __len__(self) -> int:
        return self.layout.boundaries[-1] + len(self.layout.sources)

    def __getstate__(self) -> dict[str, Any]:
        """Without the indices: a mapped array would be pickled whole."""
        return self.__dict__ | {"_indices": {}}

    def locate(self, idx: int) -> tuple[int, np.int16, np.int64]:
        """The number of the stage of sample ``idx``, its dataset, and the sample of that.

        Waits for a stage that is not decided; InputError if it is not within the patience.
        """
        if not 0 <= idx < len(self):
            raise IndexError(f"sample {idx} of {len(self)}")
        number = self.layout.stage_of(idx)
        if number >= len(self._records):
            self._wait(number, idx)
        index, inside = self._opened(number), idx - self.layout.boundaries[number]
        return number, index.dataset[inside], index.sample[inside]

    def prepare(self, record: StageRecord) -> None:
        """Check that the next stage may be ``record``, and build its index where a cache is given.

        To be called by the rank that decides, before it appends: what fails here (a source that
        would run out, a full disk) fails while the run can still go on with other weights, and
        the others find the index made.
        """
        self._reread()
        earlier = tuple(r for r in self._records if r.start_sample < record.start_sample)
        self.layout.check_capacity(Schedule(earlier), record)
        if self._cache:
            self._index((*earlier, record))

    def expect(self, schedule: Schedule, patience: float = AGREEMENT) -> None:
        """InputError unless this process reads just ``schedule`` within ``patience`` seconds."""
        until = time.monotonic() + patience
        while self._records != schedule.records:
            if time.monotonic() > until:
                raise InputError(
                    f"this host reads {len(self._records)} stages where the run has decided "
                    f"{len(schedule.records)}: is it a folder that all hosts share?",
                    file=self._schedule,
                )
            self._reread()

    def _reread(self) -> None:
        records = read_schedule(self._schedule)
        self.layout.check(records, self._schedule)
        if records.records[: len(self._records)] != self._records:
            problem = "lines that this run has trained by were changed or removed"
            raise InputError(problem, file=self._schedule)
        self._records = records.records

    def _wait(self, number: int, idx: int) -> None:
        """Until the schedule has a record of the stage."""
        until, pause = time.monotonic() + self._patience, 0.05
        trainer = os.getppid()
        while len(self._records) <= number:
            self._reread()
            if len(self._records) > number:
                return
            if time.monotonic() > until:
                raise InputError(
                    f"sample {idx} is in stage {self.layout.stages[number]!r}, which starts at "
                    f"{self.layout.boundaries[number]} and was not decided within "
                    f"{self._patience:g} s",
                    file=self._schedule,
                )
            if torch.utils.data.get_worker_info() is not None and os.getppid() != trainer:
                raise RuntimeError("the process that this worker loads for has ended")
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _opened(self, number: int) -> _Index:
        """The index of a stage that this process has read the record of."""
        if number not in self._indices:
            self._indices[number] = self._index(self._records[: number + 1])
        return self._indices[number]

    def _index(self, records: tuple[StageRecord, ...]) -> _Index:
        """The index of the last of ``records``, the first stages of the run."""
        weights = [self.layout.weights(record.weights) for record in records]
        paths = self._cached(weights)
        if not paths:
            return self._built(weights)
        if not all(path.exists() for path in paths):
            for path, array in zip(paths, self._built(weights), strict=True):
                _save(path, array)
        return _Index(*(np.load(path, mmap_mode="r") for path in paths))

    def _built(self, weights: list[list[float]]) -> _Index:
        """The index of the last of the stages of these ``weights``, [stages, datasets]."""
        from megatron.core.datasets import helpers
        from megatron.core.datasets.utils import normalize

        number, now = len(weights) - 1, weights[-1]
        drawn = np.zeros(len(self.layout.sources), np.int64)
        if number > 0:
            drawn = self._opened(number - 1).drawn
        size = self.layout.size(number)
        last = number == len(self.layout.stages) - 1
        length = size + len(self.layout.sources) if last else size
        kept = np.flatnonzero(now).astype(np.int16)  # Megatron takes no weight of 0
        # Its builder normalizes and BlendedDataset again: not the same to the last bit.
        normal = normalize([now[k] for k in kept])
        dataset, sample = np.zeros(length, np.int16), np.zeros(length, np.int64)
        helpers.build_blending_indices(dataset, sample, normal, len(kept), length, False)
        dataset = kept[dataset]
        sample += drawn[dataset]
        counts = np.bincount(dataset[:size], minlength=len(self.layout.sources))
        return _Index(dataset, sample, drawn + counts)

    def _cached(self, weights: list[list[float]]) -> list[Path]:
        """The files of an index: named by all that it follows from."""
        if not self._cache:
            return []
        sizes = [self.layout.size(number) for number in range(len(weights))]
        what = json.dumps([sizes, weights, len(self.layout.stages) == len(weights)])
        key = hashlib.sha256(what.encode()).hexdigest()[:32]
        return [Path(self._cache, f"{key}-{type(self).__name__}-{n}.npy") for n in _Index._fields]


def _save(path: Path, array: Any) -> None:
    """Write beside and rename: whoever sees the file sees all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with open(beside, "xb") as out:
            # np.save leaves the data to C, where a full disk is not noticed.
            np.lib.format.write_array_header_1_0(
                out, np.lib.format.header_data_from_array_1_0(array)
            )
            out.write(array.data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
