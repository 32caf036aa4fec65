"""What the inputs are, cut into pieces that are each a few seconds of work.

The pieces in their order hold the texts in the order of the output, wherever the cuts are.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blendlaw.errors import InputError
from blendlaw.languages import LANGUAGES, by_extension, canonical
from blendlaw.rows import JSONL_SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PIECE_BYTES = 1 << 24
PIECE_FILES = 4096
MAX_LANGUAGES = 1000
MAX_NAME = 200

_KNOWN = {language.name for language in LANGUAGES}


@dataclass(frozen=True)
class Piece:
    """Source files (``files``, below the folder ``path``), lines of a JSONL, or a tarball.

    The lines are those that begin within [``start``, ``stop``). ``language`` is that of every
    text, where it was given; of a JSONL, that of rows that do not say. ``size`` in bytes.
    """

    path: str
    kind: str  # "files", "jsonl" or "tar"
    language: str | None
    size: int
    files: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0


def checked_name(name: object, **place: object) -> str:
    """The usual spelling of a language's name. Raises InputError if it cannot be one."""
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable() and name.strip():
        return canonical(name.strip())
    raise InputError("not a name of a language", value=name, **place)  # type: ignore[arg-type]


def language_of(path: str, given: str | None) -> str | None:
    """``given``, or the language by the file's extension; None also for what is hidden."""
    if any(part.startswith(".") and part != ".." for part in PurePosixPath(path).parts):
        return None
    known = by_extension(path)
    return given or (known.name if known else None)


def find_pieces(
    inputs: Iterable[tuple[str | None, str]], piece_bytes: int = PIECE_BYTES
) -> tuple[list[Piece], str]:
    """The pieces of ``inputs``, each (its language or None, its path), and a hash of what is there.

    The hash covers paths, sizes and times of change. Raises InputError, OSError.
    """
    pieces: list[Piece] = []
    seen = hashlib.sha256()
    for language, path in inputs:
        before = len(pieces)
        pieces += _pieces(path, language, piece_bytes, seen)
        if len(pieces) == before:
            hint = "" if language else " of a known extension (or give --language NAME=PATH)"
            raise InputError(f"there are no source files{hint}", file=path)
    return pieces, seen.hexdigest()


def _pieces(path: str, language: str | None, most: int, seen: hashlib._Hash) -> Iterator[Piece]:
    status = os.stat(path)
    name = os.path.basename(path).lower()
    if stat.S_ISDIR(status.st_mode):
        yield from _folder(path, language, most, seen)
        return
    note(seen, path, status)
    if not stat.S_ISREG(status.st_mode):
        raise InputError("neither a folder nor a file", file=path)
    if name.endswith(JSONL_SUFFIXES):
        stem = canonical(Path(path).stem)
        given = language or (stem if stem in _KNOWN else None)
        for start in range(0, max(status.st_size, 1), most):
            stop = min(start + most, status.st_size)
            yield Piece(path, "jsonl", given, stop - start, start=start, stop=stop)
    elif name.endswith(TAR_SUFFIXES):
        yield Piece(path, "tar", language, status.st_size)
    elif language or by_extension(name):
        folder, file = os.path.split(path)
        known = language or language_of(file.lstrip("."), None)
        yield Piece(folder, "files", known, status.st_size, (file,))
    else:
        problem = "neither a folder, JSONL, tarball nor a source file of a known extension"
        raise InputError(f"{problem} (or give --language NAME=PATH)", file=path)


def _folder(path: str, language: str | None, most: int, seen: hashlib._Hash) -> Iterator[Piece]:
    files: list[str] = []
    size = 0
    for file, status in walk(path, ""):
        if language_of(file, language) is None:
            continue
        note(seen, os.path.join(path, file), status)
        files.append(file)
        size += status.st_size
        if size >= most or len(files) == PIECE_FILES:
            yield Piece(path, "files", language, size, tuple(files))
            files, size = [], 0
    if files:
        yield Piece(path, "files", language, size, tuple(files))


def walk(root: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files by path; links are not followed, hidden folders not entered."""
    with os.scandir(os.path.join(root, below)) as found:
        entries: Sequence[os.DirEntry[str]] = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = os.path.join(below, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(root, path)
        elif entry.is_file(follow_symlinks=False):
            yield path, entry.stat(follow_symlinks=False)


def note(seen: hashlib._Hash, path: str, status: os.stat_result) -> None:
    line = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\n"
    seen.update(os.fsencode(line))
