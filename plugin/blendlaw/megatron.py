"""The two blend files that Megatron reads, written and read by its own rules.

The rules are those of ``get_blend_from_list`` and ``get_blend_and_blend_per_split`` (Megatron
core 0.12 to 0.20): a list of an odd length, or one without a number at any even place, holds
prefixes without weights; otherwise weights and prefixes take turns. Megatron is silent about
most mistakes; here they are errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from blendlaw.errors import InputError

SPLITS = ("train", "valid", "test")

Entries: TypeAlias = tuple[tuple[str, float | None], ...]
"""(prefix, weight) in the order of the file; the weight is None in an unweighted list."""
Splits: TypeAlias = Mapping[str, Entries | None]
"""The entries of ``train``, ``valid``, ``test``; None for a split that has none."""


def read_per_split(text: str) -> Splits:
    """The splits in the JSON of ``--per-split-data-args-path``. Raises InputError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # malformed, nested too deep, too many digits
        raise InputError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError("a blend per split is a JSON object with train, valid and test")
    splits: dict[str, Entries | None] = {}
    for split in SPLITS:
        if split not in content:
            raise InputError(f"Megatron needs the keys train, valid and test: no {split}")
        items = content[split]
        if isinstance(items, str):
            items = items.split()
        if items is not None and not isinstance(items, list):
            raise InputError(f"{split} must be a list or null", value=items)
        splits[split] = None if items is None else _entries(items, split)
    return splits


def write_per_split(splits: Splits) -> str:
    """The JSON of ``--per-split-data-args-path``, one pair a line."""
    lines = []
    for split in SPLITS:
        entries = splits[split]
        if entries is None:
            lines.append(f"  {json.dumps(split)}: null")
            continue
        pairs = [
            json.dumps(prefix) if weight is None else f"{weight!r}, {json.dumps(prefix)}"
            for prefix, weight in entries
        ]
        lines.append(f"  {json.dumps(split)}: [\n    " + ",\n    ".join(pairs) + "\n  ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_data_args(text: str) -> Splits:
    """The blend in the text of ``--data-args-path``, as ``train``. Raises InputError."""
    return {"train": _entries(text.split(), "the blend"), "valid": None, "test": None}


def write_data_args(splits: Splits) -> str:
    """The text of ``--data-args-path``: the training entries, one pair a line.

    Raises InputError if a prefix holds whitespace, which would end it.
    """
    lines = []
    for prefix, weight in splits["train"] or ():
        if prefix.split() != [prefix]:
            raise InputError(
                "--data-args-path cannot hold a prefix with a space: use per-split-json",
                value=prefix,
            )
        lines.append(prefix if weight is None else f"{weight!r} {prefix}")
    return "\n".join(lines) + "\n"


def _entries(items: Sequence[object], where: str) -> Entries:
    if not items:
        raise InputError(f"{where} has no entries")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise InputError(f"{where} may hold only weights and prefixes", value=item)
    weights = [_number(item) for item in items[::2]]
    if len(items) % 2 or all(weight is None for weight in weights):
        return tuple((_prefix(item, where), None) for item in items)
    entries = []
    for item, weight, prefix in zip(items[::2], weights, items[1::2], strict=True):
        if weight is None:
            raise InputError(f"{where} mixes weighted and unweighted prefixes", value=item)
        if not 0 < weight < float("inf"):
            raise InputError(f"{where} has a weight that is not a positive number", value=item)
        entries.append((_prefix(prefix, where), weight))
    return tuple(entries)


def _number(item: object) -> float | None:
    try:
        return float(item)  # type: ignore[arg-type]
    except ValueError:
        return None
    except OverflowError:  # an integer beyond any float
        return float("inf")


def _prefix(item: object, where: str) -> str:
    if not isinstance(item, str) or _number(item) is not None:
        raise InputError(f"{where} has a number in the place of a prefix", value=item)
    return item.strip()
