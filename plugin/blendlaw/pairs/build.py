"""Parallel programs to packed sequences: scan, choose, build each block, put together.

The result depends on the inputs and the plan alone, not on how many processes or machines work or
where they were killed. What is done lies in ``PREFIX.work`` until the whole is there.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from blendlaw.corpus.job import locked, same_request
from blendlaw.corpus.tokens import require_tokenizers
from blendlaw.corpus.workers import Workers
from blendlaw.errors import InputError
from blendlaw.files import require_writable
from blendlaw.pairs.block import Job, build_block
from blendlaw.pairs.choose import Chooser, Fates
from blendlaw.pairs.coder import Coder, Padded, read_padded, smallest
from blendlaw.pairs.directions import Directions, read_directions
from blendlaw.pairs.fill import opened
from blendlaw.pairs.inputs import Block, Reading, find_blocks
from blendlaw.pairs.merge import BLOCKS, SCANS, STEPS, Request, merge, work_folder
from blendlaw.pairs.options import Build
from blendlaw.pairs.result import Built
from blendlaw.pairs.scan import load, require_rensa, scan

if TYPE_CHECKING:
    from blendlaw.plan import Plan

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
Shard = tuple[int, int]


def read_build(path: str | Path) -> tuple[Plan, Build]:
    """The plan in ``path`` and its [pairs.build]. Raises InputError if it has none; OSError."""
    from blendlaw.plan import read_plan

    plan = read_plan(path)
    if plan.pairs is None or plan.pairs.build is None:
        raise InputError("this table is required", path, column="pairs.build")
    return plan, plan.pairs.build


def build(
    plan: Plan,
    options: Build,
    prefix: str | Path,
    *,
    workers: int = 1,
    shard: Shard | None = None,
    bar: Bar = lambda _: nullcontext(lambda _done, _total: None),
) -> Built | None:
    """Build the pairs of ``options`` among the plan's languages into files of ``prefix``.

    ``shard`` (i, n): only every n-th block, from the i-th; then None is returned, and ``merge``
    puts together what all shards built. Killed and called again with the same arguments it goes
    on, and once done it returns what is there. With more than one worker, the caller's main module
    must be importable, as ``multiprocessing`` wants it. Raises InputError, OSError.
    """
    require_tokenizers()
    if options.near_duplicates:
        require_rensa()
    prefix = Path(prefix)
    require_writable(Path(f"{prefix}.build.json"))
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise InputError("shard i/n needs 0 ≤ i < n", column="--shard", value=shard)
    directions = read_directions(options, plan.languages)
    padded = read_padded(options.tokenizer, options.eod, options.pad)
    _check_length(plan.run.sequence_length, directions, padded, options)
    reading = Reading(
        tuple(plan.languages),
        options.unknown_languages == "skip",
        options.bad_tasks == "skip",
    )
    for name, prefixes in options.fill.items():
        reading.known.require(name, column="pairs.build.fill")
        for one in prefixes:
            opened(one, padded)
    seen = hashlib.sha256()
    held = find_blocks(options.reserved_tasks, options.block_bytes, seen)
    blocks = find_blocks(options.inputs, options.block_bytes, seen)
    plugins = _plugins(workers)
    request = Request(
        options=_as_told(options),
        languages=list(plan.languages),
        sequence_length=plan.run.sequence_length,
        inputs=seen.hexdigest(),
        tokenizer=hashlib.sha256(padded.coding.file.read_bytes()).hexdigest(),
        plugins=list(plugins),
        blocks=len(blocks),
        strategy=options.strategy,
        seed=options.seed,
        directions=[list(one) for one in directions.names],
        eod=padded.coding.eod_id,
        padding=padded.pad,
        vocabulary=padded.coding.vocabulary,
    )
    work = work_folder(prefix)
    told = Path(f"{prefix}.build.json")
    if told.exists() and not (work / "job.json").exists():
        raise InputError("pairs are there already; choose another prefix", file=prefix)
    lock = "lock" if shard is None else f"lock-{shard[0]}-of-{shard[1]}"
    with locked(work, STEPS, lock), Workers(workers) as crew:
        same_request(work / "job.json", asdict(request))
        if not told.exists():
            job = Job(
                options, directions, reading, padded, plan.run.sequence_length,
                len(blocks), work / SCANS, plugins,
            )  # fmt: skip
            reserved = [replace(block, reserved=True) for block in held]
            _Builder([*reserved, *blocks], len(held), work, job, crew, bar).run(shard or (0, 1))
    return merge(prefix, bar=bar) if shard is None else None


class _Builder:
    """``blocks`` begin with those of reserved tasks, ``held`` in number: scanned, not built."""

    def __init__(
        self, blocks: Sequence[Block], held: int, work: Path, job: Job, crew: Workers, bar: Bar
    ) -> None:
        self._blocks, self._held, self._work = blocks, held, work
        self._job, self._crew, self._bar = job, crew, bar

    def run(self, shard: Shard) -> None:
        numbers = range(len(self._blocks))
        # Shards that run at once begin in different places, and leave out what others have done.
        begin = len(numbers) * shard[0] // shard[1]
        turned = [*numbers[begin:], *numbers[:begin]]
        sketched = self._job.build.near_duplicates > 0
        reading, scans = self._job.reading, self._work / SCANS
        work = ((n, self._blocks[n], scans, reading, sketched) for n in turned)
        self._go_through("scanning", turned, self._crew.in_order(scan, work))
        fates = Chooser(
            self._blocks, scans, reading, self._job.build, self._job.directions
        ).choose()
        mine = [n for n in numbers[self._held :] if (n - self._held) % shard[1] == shard[0]]
        self._go_through(
            "building", mine, self._crew.in_order(build_block, self._wanted(mine, fates))
        )

    def _wanted(
        self, numbers: Sequence[int], fates: Sequence[Fates]
    ) -> Iterator[tuple[object, ...]]:
        lines = self._lines()
        for number in numbers:
            own = number - self._held
            folder = self._work / BLOCKS / f"{own:06d}"
            yield folder, own, number, self._blocks[number], fates[number], lines[number], self._job

    def _lines(self) -> list[int]:
        """How many lines of its file are before each block."""
        lines: list[int] = []
        before, paths = 0, None
        for number, block in enumerate(self._blocks):
            if block.paths != paths or not any(block.starts):
                before, paths = 0, block.paths
            lines.append(before)
            before += int(load(number, self._work / SCANS).lines[0])
        return lines

    def _go_through(self, title: str, numbers: Sequence[int], results: Iterator[object]) -> None:
        """Do the work of blocks, shown by their bytes."""
        done, everything = 0, sum(self._blocks[n].size for n in numbers)
        with self._bar(title) as progress:
            for number, _ in zip(numbers, results, strict=True):
                done += self._blocks[number].size
                progress(done, everything)


def _check_length(length: int, directions: Directions, padded: Padded, options: Build) -> None:
    every = [] if options.strategy == "shuffled" and not options.valid_share else directions.names
    strategy = "direct" if options.strategy == "shuffled" else options.strategy
    least = smallest(Coder(padded.coding), every, strategy)
    if length < least:
        problem = f"sequences of at least {least} tokens are needed for any pair to be in one"
        raise InputError(problem, column="run.sequence_length", value=length)


def _plugins(workers: int) -> tuple[str, ...]:
    """Modules with ``render_pair`` that other processes must register too. Raises InputError."""
    from blendlaw.plugins import BUILT_IN, plugin_manager

    manager = plugin_manager()
    found = []
    installed = {id(plugin) for plugin, _ in manager.list_plugin_distinfo()}
    for hook in manager.hook.render_pair.get_hookimpls():
        if id(hook.plugin) in installed or hook.plugin_name in BUILT_IN:
            continue
        if not inspect.ismodule(hook.plugin):
            if workers > 1:
                problem = "other processes cannot have it unless it is a module; or give 1 worker"
                raise InputError(f"plugin {hook.plugin_name}: {problem}")
            continue
        found.append(hook.plugin.__name__)
    return tuple(found)


def _as_told(options: Build) -> dict[str, object]:
    """The options that make a difference to what is built, as JSON has them."""
    told = asdict(options)
    for key in ("tokenizer", "inputs", "reserved_tasks"):  # known by what is in them
        del told[key]
    return told | {
        "reserved": list(options.reserved),
        "fill": {k: list(v) for k, v in options.fill.items()},
    }
