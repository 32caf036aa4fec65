"""How a pair becomes text: the built-in ``render_pair``, and the parts of what any of them gives.

Texts are tokenized part by part, so the tokens of a program are the same wherever it stands, and
those of a prompt are the same in training and when a model is asked.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from blendlaw.errors import InputError
from blendlaw.hookspecs import hookimpl
from blendlaw.pairs import Pair

PROBES = ("\ue000" * 9, "\ue001" * 9)  # private characters: in no program


class Rendered(NamedTuple):
    """What stands before the source, between it and the target, and after that."""

    before: str
    between: str
    after: str


@cache
def _template(strategy: str) -> str:
    text = (files("blendlaw.pairs") / "templates" / f"{strategy}.txt").read_text("utf-8")
    return text.removesuffix("\n")


@hookimpl(trylast=True)
def render_pair(pair: Pair) -> str | None:
    """The template of the pair's strategy, filled in."""
    return _template(pair.strategy).format(
        source=pair.source,
        target=pair.target,
        source_text=pair.source_text,
        target_text=pair.target_text,
    )


def rendered(pair: Pair) -> Rendered:
    """The parts of ``pair``'s document by the first plugin that renders it.

    Raises InputError if the text does not have the source and after it the target, verbatim, or
    has them in more than one way.
    """
    text = _rendering(pair)
    source, target = pair.source_text, pair.target_text
    begin = text.find(source)
    end = begin + len(source)
    place = text.rfind(target)
    if begin < 0 or place < end:
        raise _refused(pair, "without the source and after it the target, word for word")
    if (
        text.find(source, begin + 1, place) >= 0
        or text.find(target, end, place + len(target) - 1) >= 0
    ):
        begin, place = _probed(pair, text)
        end = begin + len(source)
    return Rendered(text[:begin], text[end:place], text[place + len(target) :])


def _rendering(pair: Pair) -> str:
    from blendlaw.plugins import plugin_manager

    text = plugin_manager().hook.render_pair(pair=pair)
    if not isinstance(text, str):
        raise _refused(pair, f"that is no text: {text!r}")
    return text


def _probed(pair: Pair, text: str) -> tuple[int, int]:
    """Where source and target are, by a rendering of texts that occur nowhere else."""
    probe = replace(pair, source_text=PROBES[0], target_text=PROBES[1])
    before, found, rest = _rendering(probe).partition(PROBES[0])
    between, also, after = rest.partition(PROBES[1])
    whole = before + pair.source_text + between + pair.target_text + after
    if not (found and also) or whole != text:
        raise _refused(pair, "in which source and target cannot be told from the rest")
    begin = len(before)
    return begin, begin + len(pair.source_text) + len(between)


def _refused(pair: Pair, problem: str) -> InputError:
    direction = f"{pair.source}->{pair.target}"
    return InputError(
        f"render_pair makes a document {problem}", column=f"task {pair.id!r}, {direction}"
    )
