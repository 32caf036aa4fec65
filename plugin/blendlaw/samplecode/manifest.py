"""manifest.json: what lies in a folder of sample code, where it is from, under which licences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from blendlaw.corpus.result import slugs
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically

NAME = "manifest.json"
VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Archive:
    """A file that was downloaded; of the standard library, which is none, the Python version."""

    package: str
    licence: str
    file: str
    sha256: str | None
    bytes: int


@dataclass(frozen=True)
class LanguageCode:
    """The code of a language: ``bytes`` of text in ``documents``, from ``archives``.

    ``recipe`` is a hash of what was asked for; ``skipped`` says by package why it could not be
    had. ``sha256`` is that of ``file``.
    """

    file: str
    sha256: str
    bytes: int
    documents: int
    recipe: str
    archives: tuple[Archive, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ParallelCode:
    """Parallel tasks in ``file``, ``bytes`` of text. ``pairs`` counts those of two languages.

    The others are as of LanguageCode.
    """

    file: str
    sha256: str
    bytes: int
    tasks: int
    pairs: Mapping[str, int]
    recipe: str
    archives: tuple[Archive, ...]
    skipped: Mapping[str, str]

    def to_json(self) -> str:
        told = {"version": VERSION, "origin": "registries", **asdict(self)}
        return json.dumps(told, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ParallelCode:
        """Back from ``to_json``. Raises KeyError, TypeError, ValueError for anything else."""
        raw = json.loads(text)
        if (raw.pop("version"), raw.pop("origin")) != (VERSION, "registries"):
            raise ValueError
        archives = tuple(Archive(**archive) for archive in raw["archives"])
        return cls(**raw | {"archives": archives})


@dataclass(frozen=True)
class Manifest:
    """``origin`` is "registries" or "generated"; ``unavailable`` says why a language is not there.

    The files are in the folder of the manifest.
    """

    origin: str
    languages: Mapping[str, LanguageCode]
    unavailable: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps({"version": VERSION} | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Back from ``to_json``. Raises KeyError, TypeError, ValueError for anything else."""
        raw = json.loads(text)
        if raw["version"] != VERSION:
            raise ValueError
        languages = {}
        for name, one in raw["languages"].items():
            archives = tuple(Archive(**archive) for archive in one["archives"])
            languages[name] = LanguageCode(**one | {"archives": archives})
        return cls(raw["origin"], languages, dict(raw["unavailable"]))


def read_manifest(folder: Path, origin: str) -> Manifest:
    """The manifest in ``folder``, an empty one if none is there.

    Raises InputError if it is something else, so that nothing of another origin is written over.
    """
    found = _read(folder, Manifest.from_json) or Manifest(origin, {}, {})
    if found.origin != origin:
        raise _another(folder)
    return found


def read_parallel(folder: Path) -> ParallelCode | None:
    """The manifest of parallel tasks in ``folder``. Raises InputError if it is something else."""
    return _read(folder, ParallelCode.from_json)


def _read(folder: Path, parse: Callable[[str], T]) -> T | None:
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return parse(read_text(path))
    except (KeyError, TypeError, ValueError):
        raise _another(folder) from None


def _another(folder: Path) -> InputError:
    problem = "not the manifest of such sample code; choose another folder"
    return InputError(problem, file=folder / NAME)


def write_manifest(folder: Path, manifest: Manifest | ParallelCode) -> None:
    write_atomically(folder / NAME, manifest.to_json())


def write_code(
    folder: Path,
    language: str,
    rows: Iterable[Mapping[str, str]],
    recipe: str,
    archives: tuple[Archive, ...] = (),
    skipped: Mapping[str, str] | None = None,
) -> LanguageCode:
    """Write the JSONL of ``rows`` (``text``, ``path``, ``source``), whole or not at all."""
    lines, size = [], 0
    for row in rows:
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        size += len(row["text"].encode())
    content = "".join(lines).encode()
    file = f"{slugs([language])[language]}.jsonl"
    write_atomically(folder / file, content)
    digest = sha256(content).hexdigest()
    return LanguageCode(file, digest, size, len(lines), recipe, archives, skipped or {})


def is_there(folder: Path, code: LanguageCode | ParallelCode | None, recipe: str) -> bool:
    """Whether ``code`` was made by this recipe and its file is as it was written."""
    if code is None or code.recipe != recipe:
        return False
    path = folder / code.file
    return path.is_file() and sha256(path.read_bytes()).hexdigest() == code.sha256
