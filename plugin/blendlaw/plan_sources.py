"""Sources of a plan: the Megatron prefixes that are trained on or held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass

from blendlaw.indexed import count_tokens
from blendlaw.limits import SUM_TOLERANCE
from blendlaw.plan_values import STRICT, Positive, Share


def _prefix(prefix: str) -> str:
    """Refuse a prefix that Megatron would not read back as it is written."""
    if not prefix.strip():
        raise ValueError("an empty prefix")
    if any(ord(letter) < 32 for letter in prefix):
        raise ValueError("a prefix cannot contain control characters")
    if prefix != prefix.strip():
        raise ValueError("a prefix cannot begin or end with a space: Megatron strips it")
    if prefix.endswith((".bin", ".idx")):
        raise ValueError(f"Megatron takes the prefix without its ending: {prefix[:-4]!r}")
    try:
        float(prefix)
    except ValueError:
        return prefix
    raise ValueError("Megatron would read this prefix as a weight; write it as ./" + prefix)


@dataclass(frozen=True, config=STRICT)
class Source:
    """One Megatron prefix of a language; ``share`` of the language's samples, ``tokens`` in it."""

    prefix: Annotated[str, AfterValidator(_prefix)]
    share: Share | None = None
    tokens: Positive | None = None


def _sources(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    shares = [source.share for source in sources if source.share is not None]
    if shares and len(shares) < len(sources):
        raise ValueError("give the share of every source or of none")
    if shares and abs(sum(shares) - 1) > SUM_TOLERANCE:
        raise ValueError(f"the shares sum to {sum(shares):.7g}, not 1")
    return sources


_OneSource = Annotated[
    Source, BeforeValidator(lambda given: {"prefix": given} if isinstance(given, str) else given)
]
Sources = Annotated[tuple[_OneSource, ...], AfterValidator(_sources)]


def sized(sources: Sources) -> Sources:
    """``sources`` with the tokens that their ``.idx`` files tell, where the plan does not.

    Raises InputError as ``count_tokens``.
    """
    return tuple(
        replace(s, tokens=count_tokens(s.prefix)) if s.tokens is None else s for s in sources
    )


def tokens_in(sources: Sources) -> float | None:
    """The tokens in all of ``sources``; None if those of one are not known, or there is none."""
    known = [source.tokens for source in sources if source.tokens is not None]
    return sum(known) if sources and len(known) == len(sources) else None
