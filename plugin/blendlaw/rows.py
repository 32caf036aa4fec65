"""Reading tables of any size safely: CSV with a header or JSONL, one row at a time.

A row that cannot be read is handed to ``on_bad``: if that raises, reading stops there; if it
returns, reading goes on with the next row. Problems of the file as a whole (its header, no rows
at all) are raised whatever ``on_bad`` does.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from blendlaw.errors import InputError
from blendlaw.nearest import nearest

MAX_ROW_BYTES = 1 << 20
MAX_DEPTH = 20
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".json-lines")

OnBad = Callable[[InputError], None]


def refuse(error: InputError) -> NoReturn:
    """The strict ``on_bad``: the first bad row refuses the file."""
    raise error


def require_columns(present: Collection[str], required: Collection[str]) -> None:
    """InputError naming the first required column that is not there, and the likeliest typo."""
    for column in required:
        if column not in present:
            hint = nearest(
                column, (other for other in islice(present, 200) if other not in required)
            )
            raise InputError(f"required column {column!r} is missing{hint}")


def read_rows(
    path: str | Path, check_header: Callable[[list[str]], None], on_bad: OnBad = refuse
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and cells of each row; empty cells and nulls are absent.

    CSV or JSONL by the suffix; otherwise, and for ``-`` (stdin), by whether the content begins
    with ``{``. ``check_header`` sees the column names once (CSV) or of every row (JSONL).
    Raises InputError (file, line, column, value), OSError. No row is held beyond 1 MiB.
    """
    label = "<stdin>" if str(path) == "-" else str(path)
    with opened(path) as stream:
        lines = _Lines(stream)

        def skip(error: InputError, line: int) -> None:
            error.file, error.line = label, line
            on_bad(error)

        suffix = Path(path).suffix.lower()
        try:
            first = lines.first()
        except InputError as error:
            error.file, error.line = label, max(lines.number, 1)
            raise
        if suffix in JSONL_SUFFIXES or (suffix != ".csv" and first.startswith("{")):
            rows = _json_rows(lines, check_header, skip)
        elif suffix != ".csv" and first.startswith("["):
            raise InputError("a JSON array; give one JSON object a line (JSONL)", file=label)
        else:
            rows = _csv_rows(lines, check_header, skip, label)
        yield from rows


def opened(path: str | Path) -> AbstractContextManager[BinaryIO]:
    """The file, or stdin for ``-``. Raises OSError, InputError where stdin is closed."""
    if str(path) != "-":
        return open(path, "rb")
    if sys.stdin is None:
        raise InputError("standard input is closed", file="<stdin>")
    return nullcontext(sys.stdin.buffer)


class _Lines:
    """Lines of a binary stream as text. ``begin`` starts a row and its allowance of bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again: str | None = None
        self._left = MAX_ROW_BYTES
        self._overlong = False
        self.number = 0

    def begin(self) -> None:
        self._left = MAX_ROW_BYTES

    def first(self) -> str:
        """The first line that is not blank, to look at; it is read again afterwards."""
        for line in self:
            if line.strip():
                self._again = line
                return line.strip()
            self.begin()
        raise InputError("the file is empty")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again is not None:
            line, self._again = self._again, None
            return line
        while self._overlong:  # only when the caller chose to go on past a refused line
            self._overlong = not self._take(MAX_ROW_BYTES)[1]
        raw, whole = self._take(self._left + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        self._left -= len(raw)
        if self._left < 0:
            self._overlong = not whole
            raise InputError(f"a row of more than {MAX_ROW_BYTES:,} bytes")
        if b"\0" in raw:
            raise InputError("a NUL byte: not a text file")
        try:
            return raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            shown = raw[error.start : error.end]
            raise InputError("not UTF-8 text", value=shown) from None

    def _take(self, most: int) -> tuple[bytes, bool]:
        raw = self._stream.readline(most)
        return raw, raw.endswith(b"\n") or len(raw) < most


def _csv_rows(
    lines: _Lines,
    check_header: Callable[[list[str]], None],
    skip: Callable[[InputError, int], None],
    label: str,
) -> Iterator[tuple[int, dict[str, Any]]]:
    # csv.reader starts afresh at each next(), so one bad row does not spoil those after it.
    reader = csv.reader(lines, strict=True)

    def record() -> list[str]:
        lines.begin()
        try:
            return next(reader)
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError("a quoted cell is never closed") from None
            raise InputError(f"not CSV: {error}") from None

    try:
        header = [cell.strip() for cell in record()]
        if "" in header:
            raise InputError(f"column {header.index('') + 1} has no name")
        if twice := _twice(header):
            raise InputError("the header names this column twice", column=twice)
        check_header(header)
    except InputError as error:
        error.file, error.line = label, lines.number
        raise
    width = len(header)
    while True:
        line = lines.number + 1
        try:
            cells = record()
            if not cells:
                continue
            if len(cells) != width:
                raise InputError(f"{len(cells)} fields where the header has {width}")
        except StopIteration:
            return
        except InputError as error:
            skip(error, line)
            continue
        yield line, {column: cell for column, cell in zip(header, cells, strict=True) if cell}


def _json_rows(
    lines: _Lines,
    check_header: Callable[[list[str]], None],
    skip: Callable[[InputError, int], None],
) -> Iterator[tuple[int, dict[str, Any]]]:
    while True:
        lines.begin()
        try:
            line = next(lines)
            if not line.strip():
                continue
            cells = _json_object(line)
            cells = {key: cell for key, cell in cells.items() if cell is not None and cell != ""}
            check_header(list(cells))
        except StopIteration:
            return
        except InputError as error:
            skip(error, lines.number)
            continue
        yield lines.number, cells


def _json_object(line: str) -> dict[str, Any]:
    try:
        cells = json.loads(line, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at character {error.colno}") from None
    except RecursionError:
        raise InputError("JSON nested too deeply") from None
    except InputError:
        raise
    except ValueError:  # Python's own limit on the digits of an integer
        raise InputError("a number with too many digits") from None
    if not isinstance(cells, dict):
        raise InputError("not a JSON object")
    _check_depth(cells, MAX_DEPTH)
    return cells


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if left == 0:
            raise InputError("JSON nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise InputError("a key given twice", column=_twice([key for key, _ in pairs]))
    return cells


def _twice(names: list[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _no_constant(constant: str) -> NoReturn:
    raise InputError("not a finite number", value=constant)
