"""Checks of single values that come from outside: numbers, names, text."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from blendlaw.errors import InputError

MAX_NAME = 100
SUM_TOLERANCE = 1e-6
"""Sums of weights that were written down may be off by this: rounding, not a mistake."""
ROUNDED = 1e-3
"""Sums of weights that were measured or published may be off by this."""

# C0 and C1 controls, lone surrogates, and the characters that reorder or break lines on screen.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


def number(value: Any, column: str) -> float:
    """``value`` (a number, or text of one) as a finite float; InputError otherwise."""
    try:
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError):
        raise InputError("not a number", column=column, value=value) from None
    except OverflowError:
        raise InputError("too large a number", column=column) from None
    if not math.isfinite(result):
        raise InputError("not a finite number", column=column, value=value)
    return result


def name(value: Any, column: str) -> str:
    """``value`` as a name to be shown in reports: one line of 1 to 100 characters, verbatim."""
    if not isinstance(value, str) or not value:
        raise InputError("a name is missing", column=column, value=value or None)
    if len(value) > MAX_NAME:
        raise InputError(f"a name is longer than {MAX_NAME} characters", column=column, value=value)
    printable(value, column)
    if value != value.strip():
        raise InputError("a name begins or ends with a space", column=column, value=value)
    return value


def printable(value: str, column: str) -> str:
    """``value`` if no character of it moves the cursor or the text around it; else InputError."""
    if _CONTROL.search(value):
        raise InputError("a name has control characters", column=column, value=value)
    return value


def text(value: Any, column: str) -> str:
    """``value`` as free text that can be written to any of our files; numbers by their digits."""
    result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not result:
        raise InputError("empty text: leave it out instead", column=column)
    if _UNWRITABLE.search(result):
        raise InputError("text with characters no file can hold", column=column, value=result)
    return result


def weights(
    given: Mapping[str, float], column: str | None, tolerance: float = SUM_TOLERANCE
) -> dict[str, float]:
    """``given`` weights by language, divided by their sum.

    Raises InputError if one is negative, or if the sum is off 1 by more than ``tolerance``.
    """
    for language, weight in given.items():
        if weight < 0:
            problem = f"the weight of {language} must not be negative"
            raise InputError(problem, column=column, value=weight)
    total = sum(given.values())
    if not abs(total - 1) <= tolerance:
        raise InputError("weights must sum to 1", column=column, value=total)
    return {language: float(weight) / total for language, weight in given.items()}


def positive(value: Any, column: str) -> float:
    """``value`` as a finite float above 0; InputError otherwise."""
    result = number(value, column)
    if result <= 0:
        raise InputError("must be above 0", column=column, value=value)
    return result


def whole(value: Any, column: str) -> int:
    """``value`` as an exact integer; InputError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    result = number(value, column)  # through float: data frames write 3 as 3.0 beside empty cells
    if not result.is_integer() or abs(result) >= 2**53:
        raise InputError("not a whole number below 2^53", column=column, value=value)
    return int(result)


def key_value(given: str, option: str) -> tuple[str, Any]:
    """KEY=VALUE of ``option``, the value as in TOML; a word need not be quoted."""
    key, equals, value = given.partition("=")
    if not equals:
        raise InputError("it is KEY=VALUE", column=option, value=given)
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
