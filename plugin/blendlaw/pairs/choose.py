"""What becomes of each task: trained, for validation, or dropped, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.pairs.directions import Directions
from blendlaw.pairs.duplicates import earlier, near
from blendlaw.pairs.inputs import Block, Reading, Task, place_of, read_tasks
from blendlaw.pairs.leaks import Numbers, pair_hashes, within
from blendlaw.pairs.options import Build
from blendlaw.pairs.scan import TEXT, Scanned, load, load_sketches, save


class Fate(IntEnum):
    """What becomes of a task."""

    TRAIN = 0
    VALID = 1
    UNUSABLE = 2
    EQUAL = 3  # to an earlier one
    NEAR = 4  # to an earlier one
    SHARED = 5  # it has a text of a validation task
    LEAK = 6


FATES = {
    Fate.TRAIN: "train",
    Fate.VALID: "valid",
    Fate.UNUSABLE: "unusable",
    Fate.EQUAL: "duplicate",
    Fate.NEAR: "near duplicate",
    Fate.SHARED: "shares a text with a validation task",
    Fate.LEAK: "leak",
}
Fates = NDArray[np.uint8]


@dataclass(frozen=True)
class Chooser:
    """Decides on the tasks of ``blocks``, scanned into ``folder``, those reserved first."""

    blocks: Sequence[Block]
    folder: Path
    reading: Reading
    build: Build
    directions: Directions

    def choose(self) -> list[Fates]:
        """The fate of each task of each block. Raises InputError where one would leak."""
        scans = [self._load(number) for number in range(len(self.blocks))]
        begins = np.cumsum([0, *(len(found.tasks) for found in scans)])
        tasks = np.concatenate([found.tasks for found in scans])
        good = np.concatenate([found.good for found in scans])
        ids = np.concatenate([found.ids for found in scans])
        reserved = begins[sum(block.reserved for block in self.blocks)]
        self._check_ids(ids, tasks, good, int(reserved), begins)

        fates = np.full(len(tasks), Fate.TRAIN, np.uint8)
        fates[tasks["low"] < np.float64(self.build.valid_share) * 2.0**64] = Fate.VALID
        leaks = self._leaks(fates, begins)
        first = earlier(tasks)
        near_to = np.arange(len(tasks))
        if self.build.near_duplicates:
            sketches = [load_sketches(number, self.folder) for number in range(len(self.blocks))]
            for pairs in near(sketches, good, self.build.near_duplicates):
                near_to[pairs[:, 0]] = np.minimum(near_to[pairs[:, 0]], pairs[:, 1])
        for place in reserved + np.flatnonzero(near_to[reserved:] < reserved):
            if fates[place] == Fate.TRAIN:
                leaks.setdefault(int(place), "it is nearly a reserved task")
        fates[near_to < np.arange(len(tasks))] = Fate.NEAR
        fates[first < np.arange(len(tasks))] = Fate.EQUAL
        fates[[*leaks]] = Fate.LEAK
        fates[~good] = Fate.UNUSABLE
        if self.build.on_leak == "refuse":
            for place in sorted(leaks)[:1]:
                raise self._told(place, begins, f"would leak what is reserved: {leaks[place]}")
        self._drop_shared(fates, begins)
        return np.split(fates, begins[1:-1])

    def _load(self, number: int) -> Scanned:
        """All but the texts, which are many: they are read again where they are needed."""
        return replace(load(number, self.folder), texts=np.empty(0, TEXT))

    def _check_ids(
        self,
        ids: NDArray[np.void],
        tasks: NDArray[np.void],
        good: NDArray[np.bool_],
        reserved: int,
        begins: NDArray[np.int64],
    ) -> None:
        """Refuse two different tasks of one id."""
        places = reserved + np.flatnonzero(good[reserved:])
        first = places[earlier(ids[places])]
        for place, other in zip(
            places[tasks[first] != tasks[places]], first[tasks[first] != tasks[places]], strict=True
        ):
            other_place = self._told(int(other), begins, "")
            where = (
                f"{other_place.file}:{other_place.line}" if other_place.line else other_place.file
            )
            raise self._told(int(place), begins, f"another task has this id, {where}")

    def _leaks(self, fates: Fates, begins: NDArray[np.int64]) -> dict[int, str]:
        """Of the tasks that would be trained those by which something leaks, and what."""
        count = len(self.reading.languages)
        numbers = range(len(self.blocks))
        texts: list[Numbers] = [
            load(number, self.folder).texts["hash"]
            for number in numbers
            if self.blocks[number].reserved
        ]
        held = np.unique(np.concatenate([np.empty(0, np.uint64), *texts]))
        save(self.folder / "held.npy", held)
        pairs = self.build.strategy != "shuffled"
        kept: list[Numbers] = [np.empty(0, np.uint64)]
        for number in numbers if pairs and self.directions.reserved else ():
            found = load(number, self.folder)
            for _, hashes, there in pair_hashes(found, count, self.directions.reserved):
                kept.append(hashes[there])
        forbidden = np.unique(np.concatenate(kept))

        leaks: dict[int, str] = {}
        for number in numbers:
            if self.blocks[number].reserved:
                continue
            found = load(number, self.folder)
            here = slice(begins[number], begins[number + 1])
            trained = fates[here] == Fate.TRAIN
            wanted = self.directions.trained if pairs else ()
            for direction, hashes, there in pair_hashes(found, count, wanted):
                bad = trained & there & within(hashes, forbidden)
                problem = f"its {self.directions.name(direction)} is a pair of a reserved direction"
                leaks |= dict.fromkeys((begins[number] + np.flatnonzero(bad)).tolist(), problem)
            bad = np.zeros(len(trained), np.bool_)
            bad[found.texts["task"][within(found.texts["hash"], held)]] = True
            problem = "it has a text of a reserved task"
            leaks |= dict.fromkeys(
                (begins[number] + np.flatnonzero(bad & trained)).tolist(), problem
            )
        return leaks

    def _drop_shared(self, fates: Fates, begins: NDArray[np.int64]) -> None:
        """Drop what has a text of a validation task; keep the hashes of all texts for ``fill``."""
        every: list[Numbers] = []
        valid: list[Numbers] = [np.empty(0, np.uint64)]
        for number in range(len(self.blocks)):
            texts = load(number, self.folder).texts
            mine = fates[begins[number] + texts["task"]]
            valid.append(texts["hash"][mine == Fate.VALID])
            if self.build.fill:
                every.append(texts["hash"])
        held = np.unique(np.concatenate(valid))
        for number in range(len(self.blocks)):
            texts = load(number, self.folder).texts
            places = begins[number] + np.unique(texts["task"][within(texts["hash"], held)])
            fates[places[fates[places] == Fate.TRAIN]] = Fate.SHARED
        if self.build.fill:
            save(self.folder / "known.npy", np.unique(np.concatenate(every)))

    def _told(self, place: int, begins: NDArray[np.int64], problem: str) -> InputError:
        number = int(np.searchsorted(begins, place, "right")) - 1
        block = self.blocks[number]
        task = task_at(block, self.reading, place - int(begins[number]))
        return replace(place_of(block, task), problem=problem)


def task_at(block: Block, reading: Reading, index: int) -> Task:
    """A task of a block that was read before."""
    return next(task for number, task in enumerate(read_tasks(block, reading)) if number == index)
