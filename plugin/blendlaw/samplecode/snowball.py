"""The routines of the Snowball stemmers, each in six languages.

No registry has the stemmers in all of them, but Debian has Snowball's own compiler as source: a
small C program that writes one stemmer in any of them. It is built and run in a folder of its own.
A task is a routine, not a stemmer: most stemmers are longer than a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

from blendlaw.samplecode.archives import read_archive
from blendlaw.samplecode.registries import Missing, run

FLAGS = {
    "Python": "-python",
    "Java": "-java",
    "JavaScript": "-js",
    "C#": "-csharp",
    "Go": "-go",
    "Rust": "-rust",
}
_NEEDED = re.compile(r"(compiler/\w+\.[ch])|(algorithms/\w+\.sbl)")
_ROUTINE = re.compile(
    r"^(?P<indent> *)"
    r"(?:(?:func|function|fn|(?:private|public) bool(?:ean)?) r_(?P<name>\w+)\(.*?^(?P=indent)\};?$"
    r"|def __r_(?P<python>\w+)\(.*?(?=^(?P=indent)\S|^\S|\Z))",
    re.MULTILINE | re.DOTALL,
)


def stemmers(archive: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Name and texts by language of each routine of each stemmer in Snowball's source.

    Raises Missing if the source is not what it was, Unavailable without a C compiler.
    """
    with TemporaryDirectory(prefix="blendlaw-") as scratch:
        folder = Path(scratch)
        (folder / "compiler").mkdir()
        (folder / "algorithms").mkdir()
        for name, content in read_archive(archive, lambda name: bool(_NEEDED.fullmatch(name))):
            (folder / name).write_bytes(content)
        sources = sorted(str(path) for path in folder.glob("compiler/*.c"))
        _run(["cc", "-w", "-o", "snowball", *sources], folder, archive)
        for algorithm in sorted(folder.glob("algorithms/*.sbl")):
            routines: dict[str, dict[str, str]] = {}
            for language, flag in FLAGS.items():
                for name, text in _compiled(algorithm, flag, folder, archive):
                    routines.setdefault(name, {})[language] = text
            for name, docs in routines.items():
                yield f"{algorithm.stem}/{name}", docs


def _compiled(algorithm: Path, flag: str, folder: Path, archive: Path) -> Iterator[tuple[str, str]]:
    name = algorithm.stem
    out = folder / flag
    out.mkdir(exist_ok=True)
    command = [str(folder / "snowball"), str(algorithm), flag, "-o", str(out / name), "-n", name]
    _run(command, folder, archive)
    for path in out.glob(f"{name}.*"):
        yield from routines_of(path.read_text(encoding="utf-8"))


def routines_of(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of the routines in what the compiler wrote."""
    for found in _ROUTINE.finditer(text):
        yield found["name"] or found["python"], dedent(found[0]).strip() + "\n"


def _run(command: list[str], folder: Path, archive: Path) -> None:
    failed, said = run(command, folder, {})
    if failed:
        raise Missing(f"{archive.name}: {Path(command[0]).name}: {said.strip()[:300]}")
