"""The words and operators of a bash script, as they are written: nothing is expanded yet."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blendlaw.errors import InputError

OPERATOR = re.compile(r"&&|\|\||;;|\|&|[;|&()\n]")
REDIRECT = re.compile(r"\d*(?:<<<|<<-?|>&|<&|&>>?|>>|[<>])")
ARRAY = re.compile(r"\w+\+?=$")


@dataclass(frozen=True)
class Token:
    """``kind`` is word, operator or document (what stands between ``<<EOF`` and ``EOF``)."""

    kind: str
    text: str


def tokens(script: str) -> list[Token]:
    """The tokens of ``script``, without comments, redirections and continuations of lines.

    An array, ``NAME=(…)``, is one word. Raises InputError where a quote or bracket is not closed.
    """
    text = script.replace("\r\n", "\n")
    found: list[Token] = []
    ends: list[str] = []  # of the documents that begin after this line
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text.startswith("\\\n", at):
            at += 2
        elif text[at] == "#":
            at = _line_end(text, at)
        elif (redirect := REDIRECT.match(text, at)) is not None:
            at = redirect.end()
            while at < len(text) and text[at] in " \t":
                at += 1
            end = _word_end(text, at)
            if redirect[0].lstrip("0123456789") in ("<<", "<<-"):
                ends.append(text[at:end].strip("'\"\\"))
            at = end
        elif (operator := OPERATOR.match(text, at)) is not None:
            found.append(Token("operator", operator[0]))
            at = operator.end()
            while operator[0] == "\n" and ends:
                body, at = _document(text, at, ends.pop(0))
                found.append(Token("document", body))
        else:
            end = _word_end(text, at)
            found.append(Token("word", text[at:end]))
            at = end
    return found


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _document(text: str, at: int, end: str) -> tuple[str, int]:
    body = []
    while at < len(text):
        stop = _line_end(text, at)
        line, at = text[at:stop], stop + 1
        if line.strip() == end:
            break
        body.append(line + "\n")
    return "".join(body), min(at, len(text))


def _word_end(text: str, at: int) -> int:
    begin = at
    while at < len(text) and text[at] not in " \t\n;|&()<>":
        at = span(text, at)
        if text[at : at + 1] == "(" and ARRAY.fullmatch(text, begin, at):
            at = _array_end(text, at + 1)
    return max(at, begin + 1)


def _array_end(text: str, at: int) -> int:
    while at < len(text) and text[at] != ")":
        comment = text[at] == "#" and text[at - 1] in " \t\n("
        at = _line_end(text, at) if comment else span(text, at)
    if at >= len(text):
        raise InputError("an array that is not closed")
    return at + 1


def span(text: str, at: int) -> int:
    """Where the character, quoted text or expansion that begins at ``at`` ends."""
    two = text[at : at + 2]
    if text[at] == "\\":
        return at + 2
    if text[at] in "'`":
        end = text.find(text[at], at + 1)
        if end < 0:
            raise InputError(f"a {text[at]} that is not closed")
        return end + 1
    if text[at] == '"':
        return _closed(text, at + 1, '"')
    if two == "$(":
        return _closed(text, at + 2, ")")
    if two == "${":
        return _closed(text, at + 2, "}")
    return at + 1


def _closed(text: str, at: int, end: str) -> int:
    depth = 1
    while at < len(text):
        if text[at] == end:
            depth -= 1
            if depth == 0:
                return at + 1
        if end == ")" and text[at] == "(":
            depth += 1
        # Within double quotes a single quote is a letter like any other.
        at = at + 1 if end == '"' and text[at] == "'" else max(span(text, at), at + 1)
    raise InputError(f"a {end} is missing")
