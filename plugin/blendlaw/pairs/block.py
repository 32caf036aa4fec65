"""The second pass: the tasks of a block to packed sequences, in a folder of its own.

The documents of a task go to different *lanes*, and each lane is packed by itself. So no sequence
holds two documents of one task: side by side, Python -> Go and Python -> Rust would show Go and
Rust of one program in one context, a direction that may be reserved.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from blendlaw.errors import InputError
from blendlaw.files import sync
from blendlaw.pairs import Pair
from blendlaw.pairs.choose import FATES, Fate, Fates
from blendlaw.pairs.coder import Coder, Padded, Tokens
from blendlaw.pairs.directions import Direction, Directions
from blendlaw.pairs.fill import Filler
from blendlaw.pairs.inputs import Block, Reading, Task, read_tasks
from blendlaw.pairs.options import Build
from blendlaw.pairs.result import Counts, SplitCounts
from blendlaw.pairs.scan import load, task_digest
from blendlaw.pairs.segments import Role
from blendlaw.pairs.sequences import NONE, Document, Layout, Part, Sequences, fitted

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Job:
    """What is the same for all blocks. ``scans`` is the folder of the first pass."""

    build: Build
    directions: Directions
    reading: Reading
    padded: Padded
    length: int
    blocks: int
    scans: Path
    plugins: tuple[str, ...] = ()

    @property
    def valid_strategy(self) -> str:
        """Validation is of pairs in any case: it is to measure translation."""
        return "direct" if self.build.strategy == "shuffled" else self.build.strategy


def build_block(
    folder: Path, number: int, scanned: int, block: Block, fates: Fates, first_line: int, job: Job
) -> None:
    """Build block ``number`` into ``folder``; there is none before it is whole.

    ``scanned`` is its number in the first pass, ``first_line`` how many lines of its file are
    before it. Raises InputError, OSError.
    """
    if folder.exists():
        return
    register(job.plugins)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    tasks = _tasks(scanned, block, job)
    _write_manifest(part / "manifest.jsonl", tasks, fates, first_line, job)
    counts = {}
    for split, fate in zip(SPLITS, (Fate.TRAIN, Fate.VALID), strict=True):
        chosen = [task for task, its in zip(tasks, fates, strict=True) if its == fate]
        counts[split] = _Split(job, number, split).write(part, chosen)
    dropped = Counter(FATES[Fate(one)] for one in fates.tolist())
    told = Counts(len(tasks), {name: dropped[name] for name in FATES.values()}, counts)
    (part / "counts.json").write_text(json.dumps(asdict(told)))
    for path in part.iterdir():
        sync(path)
    sync(part)
    part.replace(folder)


def register(plugins: Sequence[str]) -> None:
    """Register modules that the process which began the job has registered."""
    from importlib import import_module

    from blendlaw.plugins import plugin_manager

    for name in plugins:
        module = import_module(name)
        if not plugin_manager().is_registered(module):
            plugin_manager().register(module, name=name)


def _tasks(scanned: int, block: Block, job: Job) -> list[Task]:
    """The tasks of the block, which must be as they were scanned."""
    known = load(scanned, job.scans).tasks
    tasks = list(read_tasks(block, job.reading))
    same = len(tasks) == len(known) and all(
        task_digest(task)[0] == one.tobytes() for task, one in zip(tasks, known, strict=True)
    )
    if not same:
        raise InputError("changed while it was read", file=block.paths[0])
    return tasks


def _write_manifest(
    path: Path, tasks: Sequence[Task], fates: Fates, first_line: int, job: Job
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for task, fate in zip(tasks, fates.tolist(), strict=True):
            row = {
                "id": task.id,
                "file": task.file,
                "line": None if task.line is None else task.line + first_line,
                "licence": task.licence,
                "origin": task.origin,
                "languages": [job.reading.languages[one] for one in task.texts],
                "fate": FATES[Fate(fate)],
            }
            if task.problem:
                row["problem"] = task.problem
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Split:
    """The documents of one split of a block, and what is counted of them."""

    def __init__(self, job: Job, number: int, split: str) -> None:
        self._job, self._number, self._split = job, number, split
        self._coder = Coder(job.padded.coding)
        self._index = {one: place for place, one in enumerate(job.directions.every)}
        self.strategy = job.build.strategy if split == "train" else job.valid_strategy
        self.too_long: Counter[str] = Counter()
        self.truncated: Counter[str] = Counter()

    def write(self, folder: Path, tasks: Sequence[Task]) -> SplitCounts:
        """Write ``<split>.tokens`` and ``.segments`` into the folder."""
        layout = Layout(self._job.padded, self._job.length)
        for lane in self._lanes(tasks):
            layout.add(lane)
        filler = self._filler()
        filler.fill(layout)
        made = layout.done()
        (folder / f"{self._split}.tokens").write_bytes(made.tokens.tobytes())
        (folder / f"{self._split}.segments").write_bytes(made.segments.tobytes())
        return self._counts(made, filler)

    def _lanes(self, tasks: Sequence[Task]) -> list[list[Document]]:
        texts = self._coder.texts(text for task in tasks for text in task.texts.values())
        made = [list(self._documents(task, {k: next(texts) for k in task.texts})) for task in tasks]
        lanes: list[list[Document]] = [[] for _ in range(max(map(len, made), default=0))]
        for task, documents in zip(tasks, made, strict=True):
            turn = _drawn(self._job.build.seed, task.id)
            for place, document in enumerate(documents):
                lanes[(place + turn) % len(lanes)].append(document)
        return lanes

    def _documents(self, task: Task, tokens: Mapping[int, Tokens]) -> Iterator[Document]:
        if self.strategy == "shuffled":
            for language, its in tokens.items():
                parts: tuple[Part, ...] = (Part(its, language, Role.DOCUMENT),)
                yield from self._whole(parts, NONE, self._job.reading.languages[language])
            return
        for direction in self._directions(task):
            source, target = direction
            pair = Pair(
                task.id,
                self._job.reading.languages[source],
                self._job.reading.languages[target],
                task.texts[source],
                task.texts[target],
                self.strategy,
            )
            found = self._coder.pair(pair, tokens[source], tokens[target])
            parts = (
                Part(found.before),
                Part(found.source, source, Role.SOURCE),
                Part(found.between),
                Part(found.target, target, Role.TARGET),
                Part(found.after),
            )
            yield from self._whole(
                parts, self._index[direction], self._job.directions.name(direction)
            )

    def _directions(self, task: Task) -> Iterator[Direction]:
        """The directions of the task's documents, each as often as it is drawn."""
        if self._split == "valid":
            yield from (one for one in self._job.directions.every if {*one} <= task.texts.keys())
            return
        for (source, target), weight in self._job.directions.trained.items():
            if source in task.texts and target in task.texts:
                drawn = _drawn(self._job.build.seed, f"{source} {target} {task.id}") / 2**64
                for _ in range(int(weight) + (drawn < weight % 1)):
                    yield source, target

    def _whole(self, parts: tuple[Part, ...], direction: int, name: str) -> Iterator[Document]:
        document = Document(parts, direction)
        if document.length <= self._job.length:
            yield document
            return
        cut = self._job.build.too_long == "truncate" and fitted(parts, self._job.length)
        if cut:
            self.truncated[name] += 1
            yield Document(cut, direction)
        else:
            self.too_long[name] += 1

    def _filler(self) -> Filler:
        job = self._job
        fill = {}
        held = known = np.empty(0, np.uint64)
        if job.build.fill and self._split == "train":
            names = job.build.fill.items()
            fill = {job.reading.known.require(name): prefixes for name, prefixes in names}
            held = np.load(job.scans / "held.npy", mmap_mode="r")
            known = np.load(job.scans / "known.npy", mmap_mode="r")
        drop = job.build.on_leak == "drop"
        return Filler(fill, self._number, job.blocks, job.padded, held, known, drop)

    def _counts(self, made: Sequences, filler: Filler) -> SplitCounts:
        table = made.segments
        size = table["end"].astype(np.int64) - table["start"]
        target = table["role"] == Role.TARGET
        languages, names = self._job.reading.languages, self._job.directions.every
        by_language = np.bincount(table["language"] + 1, size, len(languages) + 1)[1:]
        places = table["direction"][target].astype(np.int64)
        pairs = np.bincount(places, minlength=len(names))
        tokens = np.bincount(places, size[target], len(names))
        used = [index for index in range(len(names)) if pairs[index]]
        told = self._job.directions.name
        return SplitCounts(
            sequences=len(made.tokens),
            segments=len(table),
            slots=made.tokens.size,
            padding=int(made.gaps.sum()),
            documents=int(np.isin(table["role"], (Role.DOCUMENT, Role.TARGET)).sum()),
            pairs={told(names[index]): int(pairs[index]) for index in used},
            direction_tokens={told(names[index]): int(tokens[index]) for index in used},
            tokens={name: int(by_language[index]) for index, name in enumerate(languages)},
            too_long=dict(self.too_long),
            truncated=dict(self.truncated),
            fill_documents=filler.used,
            fill_skipped=filler.of_tasks + filler.leaks,
        )


def _drawn(seed: int, what: str) -> int:
    """64 bits that depend on the seed and ``what`` alone."""
    found = blake2b(f"{seed} {what}".encode(), digest_size=8).digest()
    return int.from_bytes(found, "little")
