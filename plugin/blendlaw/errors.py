"""What blendlaw raises when the user's input is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class InputError(ValueError):
    """Bad input, named by file, line, column and value as far as they are known.

    The command line prints it as one line and exits with 1.
    """

    problem: str
    file: str | Path | None = None
    line: int | None = None
    column: str | None = None
    value: object = None

    def __str__(self) -> str:
        place = "" if self.file is None else str(self.file)
        if self.line is not None:
            place += f":{self.line}"
        if self.column is not None:
            place += f"{', ' if place else ''}{self.column}"
        message = f"{place}: {self.problem}" if place else self.problem
        if self.value is not None:
            shown = repr(self.value)
            message += f" (got {shown if len(shown) <= 80 else shown[:77] + '...'})"
        return message
