"""How a corpus is to be prepared."""

from __future__ import annotations

from dataclasses import dataclass

from blendlaw.corpus.inputs import PIECE_BYTES
from blendlaw.errors import InputError

SAMPLE_BYTES = 1 << 26  # what a tokenizer is trained on, of all languages together
MAX_BYTES = 1 << 23  # of a text
SMALLEST = 257  # every byte, and the end of a document


@dataclass(frozen=True)
class Options:
    """How to prepare. ``tokenizer`` is a file, or None to train one of ``vocab_size`` tokens.

    A trained one has the token ``pad`` too, where it is given: pairs are padded with it.
    """

    tokenizer: str | None = None
    vocab_size: int | None = None
    eod: str = "<|endoftext|>"
    pad: str | None = None
    valid_share: float = 0.01
    max_bytes: int = MAX_BYTES
    strict: bool = False
    sample_bytes: int = SAMPLE_BYTES
    piece_bytes: int = PIECE_BYTES

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.vocab_size is None):
            raise InputError("either a tokenizer or the size of the vocabulary to train one")
        if self.vocab_size is not None and self.vocab_size < SMALLEST:
            raise InputError(
                f"must be at least {SMALLEST}", column="vocab_size", value=self.vocab_size
            )
        if not 0 <= self.valid_share < 1:
            raise InputError(
                "must be from 0, below 1", column="valid_share", value=self.valid_share
            )
        if not 0 < self.max_bytes < 1 << 30:
            raise InputError("must be from 1 to 1 GiB", column="max_bytes", value=self.max_bytes)
        if not self.eod:
            raise InputError("must not be empty", column="eod")
        if self.pad is not None and (not self.pad or self.pad == self.eod or self.tokenizer):
            problem = "must be a token of its own, for a tokenizer that is trained"
            raise InputError(problem, column="pad", value=self.pad)

    @property
    def special(self) -> tuple[str, ...]:
        return (self.eod,) if self.pad is None else (self.eod, self.pad)
