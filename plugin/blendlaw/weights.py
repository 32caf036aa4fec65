"""Weights in a JSON file: an allocation, or a plain table of language and weight."""

from __future__ import annotations

import json
from pathlib import Path

from blendlaw.errors import InputError


def read_weights(path: str | Path) -> dict[str, float]:
    """The weights in ``path``: ``{language: weight}``, or the ``weights`` of an allocation.json.

    Raises InputError if it is neither, if a weight is negative, or if they do not sum to 1 within
    1e-6.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON: {error}", file=path) from error
    if isinstance(data, dict) and isinstance(data.get("weights"), dict):
        data = data["weights"]
    if not isinstance(data, dict) or not data:
        raise InputError("weights are a table of language and weight", file=path)
    for language, weight in data.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 2:
            raise InputError("a weight is from 0 to 1", file=path, column=language, value=weight)
    if abs(sum(data.values()) - 1) > 1e-6:
        raise InputError("weights must sum to 1", file=path, value=sum(data.values()))
    return {language: float(weight) for language, weight in data.items()}
