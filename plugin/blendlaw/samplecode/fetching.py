"""Real code of seven languages from package registries, one JSONL a language."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import blendlaw
from blendlaw.errors import InputError
from blendlaw.samplecode.archives import read_archive, standard_library
from blendlaw.samplecode.filters import clean, wanted_path
from blendlaw.samplecode.manifest import (
    Archive,
    LanguageCode,
    Manifest,
    is_there,
    read_manifest,
    write_code,
    write_manifest,
)
from blendlaw.samplecode.registries import Missing, Registries, Unavailable
from blendlaw.samplecode.sources import PACKAGES, Package

Row = Mapping[str, str]
Progress = Callable[[str], None]


def quiet(message: str) -> None:
    """Progress that nobody wants to see."""


def fetch(
    out: Path, *, megabytes: float | None = None, progress: Progress = quiet, strict: bool = False
) -> Manifest:
    """Write ``<language>.jsonl`` for each language and ``manifest.json`` into ``out``.

    Packages are downloaded until a language has ``megabytes`` of text; None takes them all. A
    language that is there by the same request is kept, unless packages were missing and it fell
    short. One that cannot be had is told in the manifest, with the reason; if ``strict``, it
    raises Unavailable. Raises InputError, OSError.
    """
    limit = limit_in_bytes(megabytes)
    out.mkdir(parents=True, exist_ok=True)
    manifest = replace(read_manifest(out, "registries"), unavailable={})
    with TemporaryDirectory(prefix="blendlaw-") as downloads:
        registries = Registries(Path(downloads))
        for language, packages in PACKAGES.items():
            recipe = recipe_of(language, limit, packages)
            before = manifest.languages.get(language)
            short = before is not None and before.skipped and before.bytes < limit
            if not short and is_there(out, before, recipe):
                progress(f"{language}: there already")
                continue
            known = {n: code for n, code in manifest.languages.items() if n != language}
            try:
                code = _fetch_language(out, language, packages, limit, recipe, registries, progress)
            except Unavailable as error:
                if strict:
                    raise
                missing = {**manifest.unavailable, language: str(error)}
                manifest = replace(manifest, languages=known, unavailable=missing)
                progress(f"{language}: not to be had: {error}")
            else:
                ordered = {n: c for n in PACKAGES if (c := {**known, language: code}.get(n))}
                manifest = replace(manifest, languages=ordered)
                progress(f"{language}: {code.bytes / 1e6:.1f} MB in {code.documents} files")
            write_manifest(out, manifest)
    write_manifest(out, manifest)
    return manifest


def limit_in_bytes(megabytes: float | None) -> float:
    """Infinite for None. Raises InputError if it is not above 0."""
    limit = math.inf if megabytes is None else megabytes * 1e6
    if not limit > 0:
        raise InputError("must be above 0", column="megabytes", value=megabytes)
    return limit


def recipe_of(*asked: object) -> str:
    """A hash of what was asked for, and of who made it."""
    makers = (blendlaw.__version__, platform.python_version())
    return sha256(repr((*asked, makers)).encode()).hexdigest()[:16]


def _fetch_language(
    out: Path,
    language: str,
    packages: Sequence[Package],
    limit: float,
    recipe: str,
    registries: Registries,
    progress: Progress,
) -> LanguageCode:
    texts: dict[str, Row] = {}  # by the text's hash, so that each is there once
    archives: list[Archive] = []
    skipped: dict[str, str] = {}
    size = 0
    for package in packages:
        if size >= limit:
            break
        try:
            got = [] if package.registry == "python" else registries.download(package)
            rows = list(_rows(package, got, language))
        except Missing as error:
            skipped[package.label] = str(error)
            progress(f"{language}: left out: {error}")
            continue
        told = [archive_of(package, path) for path in got] or [_interpreter(package)]
        archives += told
        for row in rows:
            if texts.setdefault(sha256(row["text"].encode()).hexdigest(), row) is row:
                size += len(row["text"].encode())
        loaded = sum(archive.bytes for archive in told) / 1e6
        progress(f"{language}: {package.label}, {loaded:.1f} MB downloaded")
    if not texts:
        reason = next(iter(skipped.values()), "its packages hold none")
        raise Unavailable(f"no {language} code: {reason}")
    chosen = first_bytes(_shuffled(texts.values()), limit)
    return write_code(out, language, chosen, recipe, tuple(archives), skipped)


def _interpreter(package: Package) -> Archive:
    file = f"{platform.python_implementation()} {platform.python_version()}"
    return Archive(package.label, package.licence, file, None, 0)


def archive_of(package: Package, path: Path) -> Archive:
    """What the manifest says of a file that was downloaded."""
    digest = sha256(path.read_bytes()).hexdigest()
    return Archive(package.label, package.licence, path.name, digest, path.stat().st_size)


def _rows(package: Package, archives: Iterable[Path], language: str) -> Iterator[Row]:
    def wanted(path: str) -> bool:
        return re.match(package.keep, path) is not None and wanted_path(path, language)

    if package.registry == "python":
        found = [standard_library(wanted)]
    else:
        found = [read_archive(path, wanted) for path in archives]
    for members in found:
        for path, content in members:
            text = clean(content, language)
            if text is not None:
                yield {"text": text, "path": path, "source": package.label}


def _shuffled(rows: Iterable[Row]) -> list[Row]:
    """In an order that depends on nothing but where each row is from."""
    return sorted(rows, key=lambda row: sha256(f"{row['source']}\n{row['path']}".encode()).digest())


def first_bytes(rows: Iterable[Row], limit: float) -> Iterator[Row]:
    """The rows until their text has ``limit`` bytes, the one that reaches it included."""
    size = 0
    for row in rows:
        yield row
        size += len(row["text"].encode())
        if size >= limit:
            return
