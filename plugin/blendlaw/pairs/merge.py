"""Blocks to the files of a prefix: the same whoever built them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from blendlaw.corpus.job import clear, locked
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.indexed import IndexedWriter, token_dtype
from blendlaw.pairs.result import Built, Counts, SplitCounts, total
from blendlaw.pairs.segments import SEGMENT, PairSet

SCANS, BLOCKS = "scans", "blocks"
STEPS = (SCANS, BLOCKS)
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Request:
    """What a job builds, in its job.json; ``inputs`` and ``tokenizer`` are hashes."""

    options: dict[str, object]
    languages: list[str]
    sequence_length: int
    inputs: str
    tokenizer: str
    plugins: list[str]
    blocks: int
    strategy: str
    seed: int
    directions: list[list[str]]
    eod: int
    padding: int
    vocabulary: int


def work_folder(prefix: str | Path) -> Path:
    """Where the blocks of ``prefix`` lie until they are put together."""
    return Path(f"{prefix}.work")


def merge(
    prefix: str | Path, *, bar: Bar = lambda _: nullcontext(lambda _done, _total: None)
) -> Built:
    """Put the blocks of ``prefix``, from one run or from shards, together.

    Once done it returns what is there. Raises InputError if blocks are missing or damaged; OSError.
    """
    work = work_folder(prefix)
    told = Path(f"{prefix}.build.json")
    if not (work / "job.json").exists():
        raise InputError("nothing was built there: there is no job.json", file=work)
    try:
        request = Request(**json.loads(read_text(work / "job.json")))
    except (TypeError, ValueError) as error:
        raise InputError(f"not of pairs: {error}", file=work / "job.json") from None
    with locked(work, STEPS, "lock-merge"):
        if not told.exists():
            built = _put_together(Path(prefix), work, request, bar)
            write_atomically(told, built.to_json())
        clear(work, STEPS)
    return Built.from_json(read_text(told))


def _put_together(prefix: Path, work: Path, request: Request, bar: Bar) -> Built:
    folders = [work / BLOCKS / f"{number:06d}" for number in range(request.blocks)]
    counts = _checked(folders, request)
    sums = total(counts)
    if not sums.splits["train"].sequences:
        raise InputError("nothing is left to train", value=sums.fates)
    with bar("writing") as progress:
        for done, split in enumerate(sums.splits):
            if sums.splits[split].sequences:
                mine = [one.splits[split] for one in counts]
                _write_split(
                    Path(f"{prefix}_{split}"), split, folders, mine, sums.splits[split], request
                )
            progress(done + 1, len(sums.splits) + 1)
        _concatenate(Path(f"{prefix}.manifest.jsonl"), [one / "manifest.jsonl" for one in folders])
    return Built(request.strategy, request.sequence_length, request.seed, request.tokenizer, sums)


def _checked(folders: Sequence[Path], request: Request) -> list[Counts]:
    """The counts of all blocks, whose files must be whole."""
    missing = [number for number, folder in enumerate(folders) if not folder.is_dir()]
    if missing:
        some = ", ".join(map(str, missing[:5])) + ", …" * (len(missing) > 5)
        problem = f"{len(missing)} of {len(folders)} blocks are not there yet: {some}"
        raise InputError(f"{problem}; a shard i/n has every n-th from i", file=folders[0].parent)
    item = token_dtype(request.vocabulary).itemsize
    found = []
    for folder in folders:
        try:
            counts = Counts.from_block(read_text(folder / "counts.json"))
            for split, one in counts.splits.items():
                _whole(folder / f"{split}.tokens", one.slots * item)
                _whole(folder / f"{split}.segments", one.segments * SEGMENT.itemsize)
            _lines(folder / "manifest.jsonl", counts.tasks)
        except (OSError, KeyError, TypeError, ValueError) as error:
            problem = "a block that is not whole; delete it and run its shard again"
            raise InputError(f"{problem}: {error}", file=folder) from None
        found.append(counts)
    return found


def _whole(path: Path, size: int) -> None:
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} should hold {size} bytes, and has {path.stat().st_size}")


def _lines(path: Path, count: int) -> None:
    with path.open("rb") as file:
        found = sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    if found != count:
        raise ValueError(f"{path.name} should have {count} lines, and has {found}")


def _write_split(
    prefix: Path,
    split: str,
    folders: Sequence[Path],
    counts: Sequence[SplitCounts],
    sums: SplitCounts,
    request: Request,
) -> None:
    length = request.sequence_length
    with IndexedWriter(prefix, token_dtype(request.vocabulary)) as writer:
        for folder, one in zip(folders, counts, strict=True):
            writer.extend(folder / f"{split}.tokens", np.full(one.sequences, length, np.int32))
    _write_segments(Path(f"{prefix}.segments.npy"), split, folders, counts, sums.segments)
    shuffled = request.strategy == "shuffled"
    about = PairSet(
        sequence_length=length,
        sequences=sums.sequences,
        segments=sums.segments,
        languages=tuple(request.languages),
        directions=tuple((a, b) for a, b in request.directions),
        strategy="direct" if shuffled and split == "valid" else request.strategy,
        eod=request.eod,
        padding=request.padding,
        tokens=sums.tokens,
        direction_tokens=sums.direction_tokens,
    )
    write_atomically(Path(f"{prefix}.pairs.json"), about.to_json() + "\n")


def _write_segments(
    path: Path, split: str, folders: Sequence[Path], counts: Sequence[SplitCounts], rows: int
) -> None:
    """The segments of all blocks; their sequences count on from block to block."""
    before = 0
    with beside(path) as file:
        header = {"descr": npy.dtype_to_descr(SEGMENT), "fortran_order": False, "shape": (rows,)}
        npy.write_array_header_1_0(file, header)
        for folder, one in zip(folders, counts, strict=True):
            table: NDArray[np.void] = np.fromfile(folder / f"{split}.segments", SEGMENT)
            table["sequence"] += np.uint32(before)
            file.write(table.tobytes())
            before += one.sequences


def _concatenate(path: Path, parts: Sequence[Path]) -> None:
    with beside(path) as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)


@contextmanager
def beside(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` once all of it is on the disk."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
