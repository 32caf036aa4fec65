"""Real translations from package registries: the same program in several languages, a task a row.

TypeScript with the JavaScript that its package was published with, and the Snowball stemmers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from blendlaw.files import write_atomically
from blendlaw.samplecode.archives import read_archive
from blendlaw.samplecode.fetching import Progress, archive_of, limit_in_bytes, quiet, recipe_of
from blendlaw.samplecode.filters import EXTENSIONS, clean, wanted_path
from blendlaw.samplecode.manifest import (
    Archive,
    ParallelCode,
    is_there,
    read_parallel,
    write_manifest,
)
from blendlaw.samplecode.parallel import FILE
from blendlaw.samplecode.registries import Missing, Registries, Unavailable
from blendlaw.samplecode.snowball import stemmers
from blendlaw.samplecode.sources import COMPILED, SNOWBALL, Package

Docs = Mapping[str, str]
Reader = Callable[[Path], Iterable[tuple[str, Docs]]]
_SOURCE_MAP = re.compile(r"^//[#@] sourceMappingURL=.*\n?", re.MULTILINE)


@dataclass
class _Found:
    """Tasks by what they say, so that each is there once."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    archives: list[Archive] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def fetch_pairs(
    out: Path, *, megabytes: float | None = None, progress: Progress = quiet
) -> ParallelCode:
    """Write ``tasks.jsonl`` (``id``, ``docs``, ``licence``, ``origin``) and ``manifest.json``.

    About ``megabytes`` of text of each of the two kinds, all there is for None. What is there by
    the same request is kept, unless packages were missing. Raises Unavailable if there is no task
    to be had; InputError, OSError.
    """
    limit = limit_in_bytes(megabytes)
    out.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of("pairs", limit, SNOWBALL, COMPILED)
    before = read_parallel(out)
    if before is not None and not before.skipped and is_there(out, before, recipe):
        progress(f"{before.tasks:,} tasks: there already")
        return before
    found = _Found()
    with TemporaryDirectory(prefix="blendlaw-") as downloads:
        registries = Registries(Path(downloads))
        compiled = [(package, _shipped(package.keep, folder)) for package, folder in COMPILED]
        for readers in ([(SNOWBALL, stemmers)], compiled):
            _collect(readers, limit, registries, found, progress)
    if not found.tasks:
        raise Unavailable(f"no pairs: {next(iter(found.skipped.values()), 'no package has any')}")
    return _write(out, found, recipe, progress)


def _collect(
    readers: Iterable[tuple[Package, Reader]],
    limit: float,
    registries: Registries,
    found: _Found,
    progress: Progress,
) -> None:
    """Add tasks of the packages, in their order, until their text has ``limit`` bytes."""
    size = 0
    for package, read in readers:
        if size >= limit:
            return
        try:
            got = registries.download(package)
            tasks = [_task(package, *each) for path in got for each in read(path)]
        except Unavailable as error:
            found.skipped[package.label] = str(error)
            progress(f"left out: {error}")
            if isinstance(error, Missing):
                continue
            return
        found.archives += [archive_of(package, path) for path in got]
        count = 0
        for task in _shuffled(tasks):
            if size < limit and found.tasks.setdefault(_digest(task["docs"]), task) is task:
                size += _bytes(task)
                count += 1
        progress(f"{package.label}: {count:,} tasks")


def _task(package: Package, name: str, docs: Docs) -> dict[str, Any]:
    about = {"licence": package.licence, "origin": package.label}
    return {"id": f"{package.name}/{name}", "docs": dict(docs), **about}


def _bytes(task: Mapping[str, Any]) -> int:
    return sum(len(text.encode()) for text in task["docs"].values())


def _digest(docs: Docs) -> str:
    return sha256(json.dumps(docs, sort_keys=True).encode()).hexdigest()


def _shuffled(tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order that depends on nothing but their ids."""
    return sorted(tasks, key=lambda task: sha256(task["id"].encode()).digest())


def _shipped(source: str, compiled: str) -> Reader:
    """Reads the TypeScript below the folder ``source`` and its JavaScript below ``compiled``."""
    folders = {"TypeScript": source, "JavaScript": compiled}

    def language_of(path: str) -> str | None:
        if path.endswith(".cjs"):  # the same as the .js beside it
            return None
        for language, folder in folders.items():
            if path.startswith(folder) and wanted_path(path, language):
                return language
        return None

    def read(archive: Path) -> Iterator[tuple[str, Docs]]:
        by_stem: dict[str, dict[str, str]] = {}
        for path, content in read_archive(archive, lambda path: language_of(path) is not None):
            language = language_of(path)
            assert language is not None
            text = clean(content, language)
            if text is not None:
                stem = str(PurePosixPath(path.removeprefix(folders[language])).with_suffix(""))
                by_stem.setdefault(stem, {})[language] = _SOURCE_MAP.sub("", text)
        for stem, docs in by_stem.items():
            if len(set(docs.values())) == 2:  # equal texts are no translation
                yield stem, docs

    return read


def _write(out: Path, found: _Found, recipe: str, progress: Progress) -> ParallelCode:
    tasks = _shuffled(found.tasks.values())
    content = "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks).encode()
    each = combinations(EXTENSIONS, 2)
    counts = {pair: sum(task["docs"].keys() >= set(pair) for task in tasks) for pair in each}
    pairs = {", ".join(pair): count for pair, count in counts.items() if count}
    write_atomically(out / FILE, content)
    size = sum(map(_bytes, tasks))
    code = ParallelCode(
        FILE, sha256(content).hexdigest(), size, len(tasks), pairs,
        recipe, tuple(found.archives), found.skipped,
    )  # fmt: skip
    write_manifest(out, code)
    for pair, count in pairs.items():
        progress(f"{pair}: {count:,} tasks")
    progress(f"{len(tasks):,} tasks, {size / 1e6:.1f} MB in {out / FILE}")
    return code
