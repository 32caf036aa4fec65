"""Small sources that a tiny GPT learns something from: each language has chains of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendlaw.indexed import IndexedWriter

VOCABULARY = 64
LANGUAGES = ("Python", "Go", "Rust")


def documents(seed: int, tokens: int) -> list[NDArray[np.uint16]]:
    """Texts of a Markov chain over 62 tokens, each ended by 0, of ``tokens`` in all."""
    chain = np.random.default_rng(seed % 100)
    follows = chain.integers(1, VOCABULARY - 1, (VOCABULARY, 2 + seed % 100))
    random = np.random.default_rng(seed)
    found, made = [], 0
    while made < tokens:
        length = int(random.integers(20, 200))
        text = np.zeros(length, np.uint16)
        text[0] = random.integers(1, VOCABULARY - 1)
        picks = random.integers(0, follows.shape[1], length)
        for at in range(1, length - 1):
            text[at] = follows[text[at - 1], picks[at]]
        found.append(text)
        made += length
    return found


def write_sources(folder: Path, tokens: int = 60_000) -> None:
    """``<language>_train`` and ``_valid`` of every language."""
    for number, language in enumerate(LANGUAGES):
        for split, size in (("train", tokens), ("valid", tokens // 10)):
            seed = number + (100 if split == "valid" else 0)
            with IndexedWriter(folder / f"{language}_{split}", np.dtype(np.uint16)) as out:
                for text in documents(seed, size):
                    out.add(text)
