"""Which files are code that a person wrote, and their text without licence and byte marks."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LEAST_BYTES, MOST_BYTES = 200, 300_000
MOST_ON_A_LINE, MOST_ON_AVERAGE = 2000, 120

EXTENSIONS = {
    "Python": (".py",),
    "Java": (".java",),
    "JavaScript": (".js", ".mjs", ".cjs"),
    "TypeScript": (".ts",),
    "C#": (".cs",),
    "Go": (".go",),
    "Rust": (".rs",),
}
_TEST_FOLDER = re.compile(
    r"(.*[._-])?[Tt]ests?|testdata|testing|test[-_]?suites?|__tests__|benches|third_party|.*[a-z]Tests",
)
_TEST_FILE = re.compile(
    r"test_.*\.py|conftest\.py|.*_tests?\.(go|rs|py)|.*\.(test|spec)\.[cm]?[jt]s|.*Tests?\.(cs|java)"
)
_MADE_FILE = re.compile(r".*(\.min\.[cm]?js|\.d\.ts|\.pb\.go|\.(Designer|g)\.cs)")
_MADE = re.compile(r"auto-?generated|generated (by|from)|do not edit|code generated", re.IGNORECASE)
_PYTHON_HEADER = re.compile(r"\s*((?:#[^\n]*\n\s*)+)")
_HEADER = re.compile(  # in C# it may be folded away
    r"\s*(/\*.*?\*/|(?://[^\n]*(?:\n|$)\s*)+|#region\b.*?#endregion[^\n]*)", re.DOTALL
)
_LICENCE = re.compile("copyright|licen[cs]e", re.IGNORECASE)


def wanted_path(path: str, language: str) -> bool:
    """Whether a file by its path may be code of ``language``: no test, nothing minified.

    A path that is not text (its bytes were no UTF-8) could not be written down.
    """
    *folders, name = PurePosixPath(path).parts
    return (
        name.endswith(EXTENSIONS[language])
        and path.isprintable()
        and not (_TEST_FILE.fullmatch(name) or _MADE_FILE.fullmatch(name))
        and not any(_TEST_FOLDER.fullmatch(folder) for folder in folders)
    )


def clean(content: bytes, language: str) -> str | None:
    """The text to learn from; None if generated, minified, too short, too long or not UTF-8."""
    if not LEAST_BYTES <= len(content) <= MOST_BYTES or b"\0" in content:
        return None
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    if _MADE.search(text[:400]):
        return None
    text = without_licence(text, language)
    lines = text.split("\n")
    if max(map(len, lines)) > MOST_ON_A_LINE or len(text) > MOST_ON_AVERAGE * len(lines):
        return None
    return text if len(text.encode()) >= LEAST_BYTES else None


def without_licence(text: str, language: str) -> str:
    """The text without a comment at its beginning that speaks of copyright or licence."""
    header = (_PYTHON_HEADER if language == "Python" else _HEADER).match(text)
    if header and _LICENCE.search(header[1]):
        return text[header.end() :].lstrip("\n")
    return text
