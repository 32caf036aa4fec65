"""Translation pairs: a program and its translation, to be trained on as one document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One program in two languages; its direction is ``source`` → ``target``."""

    id: str
    source: str
    target: str
    source_text: str
    target_text: str
