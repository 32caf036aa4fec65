"""Variables and their expansion in words of a bash script, as far as they are in the script.

What only the machine that runs it can tell stands in the text as ``OPEN``, the name, ``OPEN``:
a variable that the script does not set, the output of a command.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from blendlaw.errors import InputError
from blendlaw.launches.quoting import span, tokens

OPEN = "\0"
MOST = 1 << 25  # characters that are put in for variables: a script may double one line by line

PARAMETER = re.compile(r"(#?)(\w+|[@*#?$!-])(\[[^]]*\])?(.*)", re.DOTALL)
NAME = re.compile(r"\$(\w+|[@*#?$!-])")
INDEX = re.compile(r"\[[0-9]{1,9}]")
SIGNS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.Mod: operator.mod,
}


def left_open(name: str) -> str:
    """What stands for the value of ``name``; one word, whatever the name."""
    return f"{OPEN}{'_'.join(name.replace(OPEN, '').split())}{OPEN}"


def shown(text: str) -> str:
    """``text`` for people, what is open with a dollar."""
    return re.sub(rf"{OPEN}(.*?){OPEN}", r"$\1", text, flags=re.DOTALL)


class Variables:
    """What a script has set: texts and arrays. ``$1`` and what the environment has are open."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self._values: dict[str, str | list[str]] = dict(values or {})
        self._put = 0  # characters so far

    def __getitem__(self, name: str) -> str | None:
        value = self._values.get(name)
        return " ".join(value) if isinstance(value, list) else value

    def unset(self, name: str) -> None:
        self._values.pop(name, None)

    def assign(self, assignment: str) -> None:
        """Carry out ``NAME=…``, ``NAME+=…``, ``NAME=(…)`` or ``NAME+=(…)``."""
        name, _, raw = assignment.partition("=")
        add = name.endswith("+")
        name = name.removesuffix("+")
        old = self._values.get(name)
        new: str | list[str]
        if raw.startswith("("):
            inner = [t.text for t in tokens(raw[1:-1]) if t.kind == "word"]
            new = [word for each in inner for word in self.expand(each)]
            before = [old] if isinstance(old, str) else old or []
            new = before + new if add else new
        else:
            new = self.text(raw)
            if add and isinstance(old, list):
                new = [*old, new]
            elif add:
                new = (old if isinstance(old, str) else "") + new
        self._values[name] = new

    def expand(self, raw: str) -> list[str]:
        """The words that a word becomes; an unquoted value is split at its spaces."""
        words: list[str] = []
        current: str | None = None
        for text, quoted in self._pieces(raw):
            if isinstance(text, list):  # "${NAME[@]}": its elements as they are
                for number, element in enumerate(text):
                    if number:
                        words.append(current or "")
                        current = None
                    current = (current or "") + element
            elif quoted:
                current = (current or "") + text
            else:
                for number, part in enumerate(re.split(r"[ \t\n]+", text)):
                    if number and current is not None:
                        words.append(current)
                        current = None
                    if part:
                        current = (current or "") + part
        return words if current is None else [*words, current]

    def text(self, raw: str) -> str:
        """The value of a word as one text, without splitting."""
        return "".join(
            " ".join(piece) if isinstance(piece, list) else piece for piece, _ in self._pieces(raw)
        )

    def _pieces(self, raw: str, quoted: bool = False) -> list[tuple[str | list[str], bool]]:
        """(text, whether in quotes) one after the other."""
        found: list[tuple[str | list[str], bool]] = []
        at = 0
        while at < len(raw):
            end = span(raw, at) if not (quoted and raw[at] in "'\"") else at + 1
            piece = raw[at:end]
            if piece.startswith("\\"):
                keep = quoted and piece[1:] not in ("$", '"', "\\", "`", "\n")
                found.append((piece if keep else piece[1:].replace("\n", ""), True))
            elif piece.startswith("'") and not quoted:
                found.append((piece[1:-1], True))
            elif piece.startswith('"') and not quoted:
                inner = self._pieces(piece[1:-1], quoted=True)
                # "" is a word, an array without elements is none.
                found += inner if inner == [([], True)] else [("", True), *inner]
            elif piece.startswith("$"):
                name = NAME.match(raw, at)
                if len(piece) == 1 and name is not None:
                    end = at + 2 if name[1][0].isdigit() else name.end()
                    piece = raw[at:end]
                value = self._dollar(piece, quoted)
                self._put += sum(map(len, value))
                if self._put > MOST:
                    raise InputError(f"its variables come to more than {MOST:,} characters")
                found.append((value, quoted))
            elif piece.startswith("`"):
                found.append((left_open(piece), quoted))
            else:  # the quotes are gone by now: what they held is not split
                found.append((piece, True))
            at = end
        return found

    def _dollar(self, piece: str, quoted: bool) -> str | list[str]:
        if piece.startswith("$((") and piece.endswith("))"):
            return self._sum(piece[3:-2])
        if piece.startswith("$("):
            return left_open(piece)
        inner = piece[2:-1] if piece.startswith("${") else piece[1:]
        if not inner:
            return piece
        found = PARAMETER.fullmatch(inner)
        if found is None:
            return left_open(inner)
        count, name, index, rest = found.groups()
        if name in "@*":  # further arguments of the script: there are none
            return ""
        value = self._values.get(name, "0" if name == "#" else None)
        if count:
            return str(len(value)) if value is not None else left_open(inner)
        if isinstance(value, list):
            if index == "[@]" and quoted and not rest:
                return value
            if index is not None and INDEX.fullmatch(index):
                value = "".join(value[int(index[1:-1]) :][:1])
            else:
                value = " ".join(value)
        return self._defaulted(name, value, rest)

    def _defaulted(self, name: str, value: str | None, rest: str) -> str:
        """``${NAME:-…}`` and its like; other operators on a value are left open."""
        sign, word = re.match(r"(:?[-=+?]|)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        there = value is not None and (value != "" or not sign.startswith(":"))
        if sign.endswith("+"):
            return self.text(word) if there else ""
        if sign.endswith(("-", "=")) and not there:
            return self.text(word)
        if rest and not sign:
            return left_open(name)
        return left_open(name) if value is None else value

    def _sum(self, expression: str) -> str:
        """Whole-number arithmetic; names need no dollar."""
        text = self.text(expression)
        text = re.sub(r"(?<!\0)\b[A-Za-z_]\w*\b(?!\0)", lambda m: self[m[0]] or m[0], text)
        try:
            return str(_evaluated(ast.parse(text.strip(), mode="eval").body))
        except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
            return left_open(expression)


def _evaluated(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        result = SIGNS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
        if abs(result) < 1 << 63:  # as in bash
            return result
    raise ValueError("not whole-number arithmetic")
