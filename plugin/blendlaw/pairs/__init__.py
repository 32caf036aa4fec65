"""Translation pairs: a program and its translation, to be trained on as one document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One program in two languages; its direction is ``source`` → ``target``.

    ``strategy`` is what is built: "direct" (source, then translation) or "prompt" (an instruction
    between them).
    """

    id: str
    source: str
    target: str
    source_text: str
    target_text: str
    strategy: str = "prompt"
