"""The tasks: programs written in several languages, read from inputs that are cut into blocks.

A block is a run of tasks that are packed together by one process. The blocks in their order hold
the tasks in the order of the inputs; where they are cut depends on the inputs and the size alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from blendlaw.corpus.inputs import note, walk
from blendlaw.corpus.reading import lines_before, lines_between
from blendlaw.errors import InputError
from blendlaw.languages import by_extension, canonical
from blendlaw.pairs.directions import Known
from blendlaw.pairs.options import Input
from blendlaw.rows import JSONL_SUFFIXES

MAX_ROW = 1 << 26  # bytes of a row, or of a file
MAX_NAME = 1000


@dataclass(frozen=True)
class Task:
    """A program by language, as an index into the plan's; ``problem``: why it is none."""

    id: str
    texts: Mapping[int, str]
    file: str
    line: int | None = None
    licence: str | None = None
    origin: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Block:
    """Rows of a JSONL, lines of aligned files, or files with equal stems.

    ``starts`` and ``stops`` are bytes, one for each of ``paths``; ``languages`` says whose they
    are. ``stems`` are those of the tasks, with the files of each by language, below ``paths[0]``.
    """

    kind: str  # "jsonl", "aligned" or "stems"
    paths: tuple[str, ...]
    size: int
    languages: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()
    stems: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    first_line: int = 0  # lines of aligned files that are before it
    reserved: bool = False  # only scanned, for what must not be trained


@dataclass(frozen=True)
class Reading:
    """How to read: the languages that are known, and what is skipped rather than refused."""

    languages: tuple[str, ...]
    skip_unknown: bool = False
    skip_bad: bool = False
    known: Known = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", Known(self.languages))


def find_blocks(inputs: Iterable[Input], most: int, seen: hashlib._Hash) -> list[Block]:
    """The blocks of ``inputs``, of ``most`` bytes each but for the last task of each.

    ``seen`` is told paths, sizes and times of change. Aligned files are read through once.
    Raises InputError, OSError.
    """
    blocks: list[Block] = []
    for given in inputs:
        if isinstance(given, str):
            found = (
                _rows(given, most, seen) if os.path.isfile(given) else _folder(given, most, seen)
            )
        elif all(os.path.isdir(path) for path in given.values()):
            found = _folders(given, most, seen)
        else:
            found = _aligned(given, most, seen)
        blocks += found
    return blocks


def _rows(path: str, most: int, seen: hashlib._Hash) -> Iterator[Block]:
    if not path.lower().endswith(JSONL_SUFFIXES):
        raise InputError("neither a JSONL nor a folder; aligned files go by language", file=path)
    status = os.stat(path)
    note(seen, path, status)
    for start in range(0, max(status.st_size, 1), most):
        stop = min(start + most, status.st_size)
        yield Block("jsonl", (path,), stop - start, starts=(start,), stops=(stop,))


def _aligned(given: Mapping[str, str], most: int, seen: hashlib._Hash) -> Iterator[Block]:
    if len(given) < 2:
        raise InputError("aligned files are those of two languages at least", value=dict(given))
    languages, paths = tuple(given), tuple(given.values())
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in paths]
        for path, file in zip(paths, files, strict=True):
            note(seen, path, os.fstat(file.fileno()))
        starts, number, first = [0] * len(files), 0, 0
        ended = False
        while not ended:
            ends = [bool(file.readline()) for file in files]
            ended = not any(ends)
            if not ended and not all(ends):
                short = ends.index(False)
                problem = f"has {number} lines, and {paths[ends.index(True)]} has more"
                raise InputError(f"{problem}: aligned files have equally many", file=paths[short])
            number += not ended
            stops = [file.tell() for file in files]
            size = sum(stops) - sum(starts)
            if size >= most or (ended and size):
                yield Block(
                    "aligned", paths, size, languages, tuple(starts), tuple(stops), (), first
                )
                starts, first = stops, number


def _folder(path: str, most: int, seen: hashlib._Hash) -> Iterator[Block]:
    def named() -> Iterator[tuple[str, str, str, os.stat_result]]:
        for file, status in walk(path, ""):
            if language := by_extension(file):
                yield os.path.splitext(file)[0], language.name, file, status

    yield from _by_stem(path, named(), most, seen)


def _folders(given: Mapping[str, str], most: int, seen: hashlib._Hash) -> Iterator[Block]:
    def named() -> Iterator[tuple[str, str, str, os.stat_result]]:
        for language, folder in given.items():
            for file, status in walk(folder, ""):
                yield (
                    os.path.splitext(file)[0],
                    language,
                    os.path.abspath(os.path.join(folder, file)),
                    status,
                )

    yield from _by_stem(next(iter(given.values())), named(), most, seen)


def _by_stem(
    root: str,
    files: Iterable[tuple[str, str, str, os.stat_result]],
    most: int,
    seen: hashlib._Hash,
) -> Iterator[Block]:
    """Blocks of the stems that at least two files share."""
    found: dict[str, dict[str, str]] = {}
    sizes: dict[str, int] = {}
    for stem, language, file, status in files:
        note(seen, os.path.join(root, file), status)
        others = found.setdefault(stem, {})
        if language in others:
            problem = f"two files of {language} with one stem, {others[language]} and"
            raise InputError(problem, file=root, value=file)
        others[language] = file
        sizes[stem] = sizes.get(stem, 0) + status.st_size
    stems: list[tuple[str, tuple[tuple[str, str], ...]]] = []
    size, any_pair = 0, False
    for stem in sorted(found):
        any_pair = any_pair or len(found[stem]) > 1
        stems.append((stem, tuple(found[stem].items())))
        size += sizes[stem]
        if size >= most:
            yield Block("stems", (root,), size, stems=tuple(stems))
            stems, size = [], 0
    if not any_pair:
        raise InputError("there are no two files of one stem in two languages", file=root)
    if stems:
        yield Block("stems", (root,), size, stems=tuple(stems))


# Tasks


def read_tasks(block: Block, reading: Reading) -> Iterator[Task]:
    """The tasks of a block in order; lines count from the block's first.

    Raises InputError (file, line of the file) where one is bad, unless bad ones are skipped; then
    they come with their ``problem``. OSError.
    """
    raw = {"jsonl": _jsonl, "aligned": _aligned_lines, "stems": _stems}[block.kind]
    for task in raw(block, reading):
        if task.problem and not reading.skip_bad:
            raise replace(place_of(block, task), problem=task.problem)
        yield task


def place_of(block: Block, task: Task) -> InputError:
    """An error at the task's place. Reads what is before it: only for messages."""
    line = task.line
    if line is not None:
        line += block.first_line or lines_before(task.file, block.starts[0])
    return InputError("", task.file, line, column=f"task {task.id!r}" if task.id else None)


def _checked(
    reading: Reading,
    texts: Mapping[Any, Any],
    file: str,
    line: int | None,
    id: str,
    **about: str | None,
) -> Task:
    """The task of these texts by name of language, or why it is none. Raises InputError."""

    def bad(problem: str) -> Task:
        return Task(id, {}, file, line, problem=problem, **about)

    found: dict[int, str] = {}
    unknown = 0
    for name, text in texts.items():
        index = reading.known.get(name)
        if index is None:
            if not reading.skip_unknown:
                try:
                    reading.known.require(name[:MAX_NAME])
                except InputError as error:
                    return bad(str(error))
            unknown += 1
        elif not isinstance(text, str):
            return bad(f"the text of {name} is not a string")
        elif not text.strip():
            return bad(f"the text of {name} is empty")
        elif not _is_text(text):
            return bad(f"the text of {name} is not UTF-8: half of a surrogate pair")
        elif index in found:
            return bad(f"two texts of {canonical(name)}")
        else:
            found[index] = text
    if len(found) < 2:
        known = " that the plan knows" if unknown else ""
        return bad(f"one side only: needs texts of two languages{known}")
    return Task(id, dict(sorted(found.items())), file, line, **about)


def _jsonl(block: Block, reading: Reading) -> Iterator[Task]:
    (path,), (start,), (stop,) = block.paths, block.starts, block.stops
    for number, line in lines_between(path, start, stop, MAX_ROW):
        if line is None or line.strip():
            yield _row(line, path, number, reading)


def _row(line: bytes | None, path: str, number: int, reading: Reading) -> Task:
    def bad(problem: str, id: str = "") -> Task:
        return Task(id, {}, path, number, problem=problem)

    if line is None:
        return bad(f"a row of {MAX_ROW:,} bytes or more")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return bad(f"not UTF-8 at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return bad(f"not JSON: {error}")
    if not isinstance(row, dict):
        return bad("not a JSON object")
    id, docs = row.get("id"), row.get("docs")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str) or not id or len(id) > MAX_NAME or not _is_text(id):
        return bad("id: required, a string")
    if not isinstance(docs, dict):
        return bad("docs: required, an object of a text for each language", id)
    about = {"licence": row.get("licence", row.get("license")), "origin": row.get("origin")}
    for key, value in about.items():
        if value is not None and not isinstance(value, str):
            return bad(f"{key}: must be a string", id)
    return _checked(reading, docs, path, number, id, **about)


def _aligned_lines(block: Block, reading: Reading) -> Iterator[Task]:
    """One text a line: as it stands, or as a JSON string in files of JSONL."""
    readers = [
        lines_between(path, start, stop, MAX_ROW)
        for path, start, stop in zip(block.paths, block.starts, block.stops, strict=True)
    ]
    path = block.paths[0]
    for lines in zip(*readers, strict=True):
        number = lines[0][0]
        texts: dict[str, object] = {}
        problem = None
        for language, file, (_, line) in zip(block.languages, block.paths, lines, strict=True):
            try:
                texts[language] = _line(line, file)
            except ValueError as error:
                problem = f"{file}: {error}"
        id = f"{path}:{block.first_line + number}"
        if problem:
            yield Task(id, {}, path, number, problem=problem)
        else:
            yield _checked(reading, texts, path, number, id)


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(line: bytes | None, file: str) -> object:
    if line is None:
        raise ValueError(f"a line of {MAX_ROW:,} bytes or more")
    text = line.decode().rstrip("\r\n")
    return json.loads(text) if file.lower().endswith(JSONL_SUFFIXES) else text


def _stems(block: Block, reading: Reading) -> Iterator[Task]:
    (root,) = block.paths
    for stem, files in block.stems:
        texts: dict[str, str] = {}
        problem = None
        place = os.path.join(root, files[0][1])
        for language, file in files:
            path = os.path.join(root, file)
            with open(path, "rb") as opened:
                content = opened.read(MAX_ROW + 1)
            if len(content) > MAX_ROW:
                problem, place = f"larger than {MAX_ROW:,} bytes", path
                continue
            try:
                texts[language] = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                problem, place = f"not UTF-8 at byte {error.start}", path
        id = os.path.join(root, stem)
        if problem:
            yield Task(id, {}, place, problem=problem)
        else:
            yield _checked(reading, texts, place, None, id)
