"""The first pass: what each piece holds, which texts are duplicates, which are for validation.

A text is known by 128 bits of BLAKE2b of its UTF-8 bytes. Of equal texts the first in the order
of the inputs is kept. The split depends on the text alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendlaw.corpus.inputs import MAX_LANGUAGES, Piece
from blendlaw.corpus.reading import read_texts
from blendlaw.errors import InputError
from blendlaw.files import write_atomically

RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("bytes", "<u4"), ("language", "<u4")])
SHOWN = 10
AT_ONCE = 1 << 22  # texts compared with each other at a time

Records = NDArray[np.void]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """Texts of more than ``max_bytes`` are skipped; if ``strict``, what is skipped is refused."""

    max_bytes: int
    strict: bool


@dataclass(frozen=True)
class Scanned:
    """Records (n,) of a piece's texts, their ``language`` an index into ``languages``.

    ``skipped`` counts by reason; ``examples`` names the first of them.
    """

    records: Records
    languages: list[str]
    skipped: dict[str, int]
    examples: list[str]


def digest(content: bytes) -> tuple[int, int]:
    """The two halves by which a text is known."""
    found = hashlib.blake2b(content, digest_size=16).digest()
    return int.from_bytes(found[:8], "little"), int.from_bytes(found[8:], "little")


def scan(number: int, piece: Piece, folder: Path, limits: Limits) -> None:
    """Scan a piece into ``folder``, unless that was done before. Raises InputError, OSError."""
    told = folder / f"{number:06d}.json"
    if told.exists():
        return
    rows = array("Q")  # four numbers a text: a tarball may hold millions
    languages: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    examples: list[str] = []
    for text in read_texts(piece, limits.max_bytes):
        if text.skip:
            problem = (
                f"larger than {limits.max_bytes:,} bytes" if text.skip == "too large" else text.skip
            )
            named = InputError(problem, text.file, text.line)
            if limits.strict:
                raise named
            skipped[text.skip] += 1
            if len(examples) < SHOWN:
                examples.append(str(named))
            continue
        language = languages.setdefault(text.language, len(languages))
        if language == MAX_LANGUAGES:
            problem = f"more than {MAX_LANGUAGES:,} languages"
            raise InputError(problem, text.file, text.line, value=text.language)
        rows.extend((*digest(text.content), len(text.content), language))
    columns = np.frombuffer(rows, np.uint64).reshape(-1, 4).T
    records = np.empty(columns.shape[1], RECORD)
    for name, column in zip(RECORD.fields or (), columns, strict=True):
        records[name] = column
    buffer = io.BytesIO()
    np.save(buffer, records)
    write_atomically(folder / f"{number:06d}.npy", buffer.getvalue())
    notes: dict[str, Any] = {
        "languages": list(languages),
        "skipped": dict(skipped),
        "examples": examples,
    }
    write_atomically(told, json.dumps(notes))


def load(number: int, folder: Path) -> Scanned:
    """What ``scan`` found of a piece."""
    notes = json.loads((folder / f"{number:06d}.json").read_text())
    return Scanned(np.load(folder / f"{number:06d}.npy"), **notes)


def first_of_each(folder: Path, counts: Sequence[int]) -> list[Bools]:
    """For each piece, of so many texts, which are the first of their kind.

    Holds a byte a text, and ``AT_ONCE`` texts of all pieces at a time.
    """
    begins = np.cumsum([0, *counts])
    keep = np.ones(begins[-1], bool)
    rounds = int(begins[-1]) // AT_ONCE + 1
    for turn in range(rounds):
        highs, lows, places = [], [], []
        for number, begin in enumerate(begins[:-1]):
            records = np.load(folder / f"{number:06d}.npy")
            chosen = np.flatnonzero(records["high"] % np.uint64(rounds) == turn)
            highs.append(records["high"][chosen])
            lows.append(records["low"][chosen])
            places.append(chosen + begin)
        high, low, place = map(np.concatenate, (highs, lows, places))
        order = np.lexsort((place, low, high))
        high, low, place = high[order], low[order], place[order]
        keep[place[1:][(high[1:] == high[:-1]) & (low[1:] == low[:-1])]] = False
    return np.split(keep, begins[1:-1])


def for_validation(records: Records, share: float) -> Bools:
    """Which texts are for validation: those whose hash is below ``share`` of all hashes."""
    return records["low"] < np.float64(share) * 2.0**64


def sampled(records: Records, share: NDArray[np.float64]) -> Bools:
    """A sample of ``share`` (n,) of the texts, by hash, independent of ``for_validation``."""
    return records["high"] < share * 2.0**64
