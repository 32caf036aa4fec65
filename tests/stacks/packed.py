"""Small sets of packed pairs, written without the code that builds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendlaw.indexed import IndexedWriter
from blendlaw.pairs.segments import SEGMENT, PairSet, Role

EOD, PAD = 0, 63
LANGUAGES = ("Python", "Go")
DIRECTIONS = (("Go", "Python"), ("Python", "Go"))


@dataclass(frozen=True)
class Packed:
    """Sequences [n, s], the language (-1: none) and direction of each token, what is padding."""

    tokens: NDArray[np.uint16]
    language: NDArray[np.int64]
    direction: NDArray[np.int64]
    padding: NDArray[np.bool_]


def pack(lengths: Sequence[tuple[int, int]], length: int, seed: int = 0) -> Packed:
    """A pair a sequence: source, an instruction of two tokens, target, padding, the end."""
    random = np.random.default_rng(seed)
    tokens = np.full((len(lengths), length), PAD, np.uint16)
    language = np.full(tokens.shape, -1)
    direction = np.full(tokens.shape, -1)
    for row, (source, target) in enumerate(lengths):
        end = source + 2 + target
        assert end < length
        tokens[row, :end] = random.integers(1, 62, end)
        way = int(random.integers(2))
        language[row, :source] = LANGUAGES.index(DIRECTIONS[way][0])
        language[row, source + 2 : end] = LANGUAGES.index(DIRECTIONS[way][1])
        direction[row, source + 2 : end] = way
        if way == 1:  # the target repeats the source, so that there is something to learn
            copied = min(source, target)
            tokens[row, source + 2 : source + 2 + copied] = tokens[row, :copied]
    padding = tokens == PAD
    tokens[:, -1], padding[:, -1] = EOD, False
    return Packed(tokens, language, direction, padding)


def write(prefix: Path, made: Packed) -> None:
    """``prefix``.bin, .idx, .segments.npy and .pairs.json."""
    with IndexedWriter(prefix, np.dtype(np.uint16)) as out:
        for row in made.tokens:
            out.add(row)
    segments = []
    for row in range(len(made.tokens)):
        what = np.stack((made.language[row], made.direction[row], made.padding[row]), axis=1)
        starts = np.flatnonzero(np.any(np.diff(what, axis=0, prepend=-9), axis=1))
        for start, end in zip(starts, [*starts[1:], len(what)], strict=True):
            language, direction, padding = what[start].tolist()
            if padding:
                segments.append((row, start, end, -1, -1, Role.PADDING))
            elif direction >= 0:
                segments.append((row, start, end, language, direction, Role.TARGET))
            elif language >= 0:
                segments.append((row, start, end, language, -1, Role.SOURCE))
    table = np.array(segments, SEGMENT)
    np.save(f"{prefix}.segments.npy", table)
    counted = {name: int((made.language == n).sum()) for n, name in enumerate(LANGUAGES)}
    about = PairSet(
        sequence_length=made.tokens.shape[1],
        sequences=len(made.tokens),
        segments=len(table),
        languages=LANGUAGES,
        directions=DIRECTIONS,
        strategy="prompt",
        eod=EOD,
        padding=PAD,
        tokens=counted,
    )
    Path(f"{prefix}.pairs.json").write_text(about.to_json())
