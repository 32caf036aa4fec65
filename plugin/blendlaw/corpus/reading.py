"""The texts of a piece, one at a time. Members of tarballs are read, never extracted."""

from __future__ import annotations

import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, NoReturn

from blendlaw.corpus.inputs import Piece, checked_name, language_of
from blendlaw.errors import InputError

ESCAPED = 6  # bytes that JSON takes at most for a byte of text


@dataclass(frozen=True)
class Text:
    """A text in UTF-8; or, where ``skip`` says why, one that cannot be used. ``place`` names it."""

    language: str
    content: bytes
    file: str
    line: int | None = None
    skip: str | None = None


def read_texts(piece: Piece, most: int) -> Iterator[Text]:
    """The texts of ``piece``; those of more than ``most`` bytes are not read.

    Raises InputError (file, line) for what is not a JSONL or a tarball; OSError.
    """
    reader = {"files": _files, "jsonl": _rows, "tar": _members}[piece.kind]
    yield from reader(piece, most)


def _checked(language: str, raw: bytes, file: str) -> Text:
    """The text without a byte order mark, or why it is skipped."""
    content = raw.removeprefix(b"\xef\xbb\xbf")
    skip = None
    try:
        if not content.decode().strip():
            skip = "empty"
        elif b"\0" in content:
            skip = "binary"
    except UnicodeDecodeError:
        skip = "not UTF-8"
    return Text(language, b"" if skip else content, file, skip=skip)


def _files(piece: Piece, most: int) -> Iterator[Text]:
    for name in piece.files:
        path = os.path.join(piece.path, name)
        language = language_of(name, piece.language) or piece.language
        assert language is not None
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            yield Text(language, b"", path, skip="too large")
        else:
            yield _checked(language, content, path)


def _members(piece: Piece, most: int) -> Iterator[Text]:
    try:
        with tarfile.open(piece.path, "r|*") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined,unused-ignore]  # else all are kept
                language = language_of(member.name, piece.language)
                if language is None or not member.isfile():
                    continue
                place = f"{piece.path}!{member.name}"
                file = None if member.size > most else tar.extractfile(member)
                if file is None:
                    yield Text(language, b"", place, skip="too large")
                else:
                    yield _checked(language, file.read(), place)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"not a whole tarball: {error}", file=piece.path) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"not a whole tarball: {error}", file=piece.path) from None


def _rows(piece: Piece, most: int) -> Iterator[Text]:
    longest = ESCAPED * most + (1 << 16)
    for number, line in lines_between(piece.path, piece.start, piece.stop, longest):
        if line is not None and not line.strip():
            continue
        try:
            text = _row(piece, line, most)
        except InputError as error:
            error.line = number + lines_before(piece.path, piece.start)
            raise
        if text.skip:
            text = replace(text, line=number + lines_before(piece.path, piece.start))
        yield text


def lines_between(
    path: str, start: int, stop: int, longest: int
) -> Iterator[tuple[int, bytes | None]]:
    """The lines that begin in bytes [``start``, ``stop``) of a file, and their numbers from 1.

    One of ``longest`` bytes or more is None.
    """
    with open(path, "rb") as file:
        if start:  # a line that began before belongs to what is before
            file.seek(start - 1)
            _to_line_end(file)
        number = 0
        while file.tell() < stop and (line := file.readline(longest)):
            number += 1
            whole = line.endswith(b"\n") or len(line) < longest
            if not whole:
                _to_line_end(file)
            yield number, line if whole else None


def _to_line_end(file: BinaryIO) -> None:
    while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def lines_before(path: str, start: int) -> int:
    """Lines that begin before byte ``start``. Reads all that is before it: only for messages."""
    if not start:
        return 0
    count, left = 1, start - 1
    with open(path, "rb") as file:
        while left and (part := file.read(min(left, 1 << 20))):
            count += part.count(b"\n")
            left -= len(part)
    return count


def _row(piece: Piece, line: bytes | None, most: int) -> Text:
    def refuse(problem: str, column: str | None = None, value: object = None) -> NoReturn:
        raise InputError(problem, piece.path, column=column, value=value)

    if line is None:
        if piece.language is None:
            refuse("a row too long to be read, and --language does not say its language")
        return Text(piece.language, b"", piece.path, skip="too large")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        refuse("not UTF-8", value=line[error.start : error.end])
    except (ValueError, RecursionError) as error:
        refuse(f"not JSON: {error}")
    if not isinstance(row, dict):
        refuse("not a JSON object")
    text, language = row.get("text"), row.get("language", piece.language)
    if not isinstance(text, str):
        refuse("required, a string", "text", text)
    if language is None:
        refuse("required, unless --language NAME=PATH says it", "language")
    language = checked_name(language, file=piece.path, column="language")
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return Text(language, b"", piece.path, skip="not UTF-8")
    if len(content) > most:
        return Text(language, b"", piece.path, skip="too large")
    return _checked(language, content, piece.path)
