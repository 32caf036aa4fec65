"""Weights in a JSON file: an allocation, or a plain table of language and weight."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.values import ROUNDED, printable
from blendlaw.values import weights as check_weights


def read_weights(path: str | Path) -> dict[str, float]:
    """The weights in ``path``: ``{language: weight}``, or the ``weights`` of an allocation.json.

    Raises InputError if it is neither, if a weight is negative, or if they do not sum to 1 within
    1e-3; they are divided by their sum.
    """
    try:
        return _checked(json.loads(read_text(path)))
    except InputError as error:
        raise replace(error, file=path) from None
    except RecursionError:
        raise InputError("JSON nested too deeply", file=path) from None
    except ValueError as error:  # malformed, or an integer of more digits than Python takes
        raise InputError(f"not JSON: {error}", file=path) from None


def _checked(data: Any) -> dict[str, float]:
    if isinstance(data, dict) and isinstance(data.get("weights"), dict):
        data = data["weights"]
    if not isinstance(data, dict) or not data:
        raise InputError("weights are a table of language and weight")
    for language, weight in data.items():
        printable(language, "a language")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 2:
            raise InputError("a weight is from 0 to 1", column=language, value=weight)
    return check_weights(data, None, ROUNDED)
