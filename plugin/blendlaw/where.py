"""Choosing observations by an expression: ``tokens>=6.4e10 and language!=Go``.

    expression = term ('or' term)*        term = factor ('and' factor)*
    factor = '(' expression ')' | column operator value
    operator = == | = | != | < | <= | > | >=

Columns are those of observations, as in their files: ``weights.<language>`` (a share of the
run's tokens: 0 for a language that it says nothing of), ``tokens.<language>``,
``unique_tokens.<language>``, any extra one. Values are numbers or text; what has spaces, brackets
or operators in it, or is called ``and`` or ``or``, goes in quotes, columns too. Text columns
compare as numbers where both sides are numbers and the value is not quoted. Where a row has no
value, ``!=`` is true and every other comparison false. Expressions are parsed, never run as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from blendlaw.errors import InputError
from blendlaw.nearest import nearest
from blendlaw.observations import MAPPINGS, OPTIONAL, REQUIRED, Observation

MAX_LENGTH = 2000
MAX_DEPTH = 50

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMERIC = ("params", "tokens", "loss", "bpb", "loss_tokens", "step", "seed")
_TOKEN = re.compile(
    r"""\s*(?: (?P<bracket>[()]) | (?P<operator>[=!<>]=|[=<>])
             | "(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<word>[^\s()=!<>"']+) )""",
    re.VERBOSE,
)

Test = Callable[[Observation], bool]


@dataclass(frozen=True)
class Where:
    """A parsed expression: call it with an observation. ``columns`` are those it looks at."""

    expression: str
    columns: frozenset[str]
    test: Test

    def __call__(self, observation: Observation) -> bool:
        return self.test(observation)


def parse(expression: str) -> Where:
    """Parse an expression; raises InputError showing the position of what is wrong."""
    if len(expression) > MAX_LENGTH:
        raise InputError(f"an expression of more than {MAX_LENGTH:,} characters")
    parser = _Parser(expression)
    test = parser.any_of(0)
    if parser.kind:
        parser.fail("'and', 'or' or the end is expected")
    return Where(expression, frozenset(parser.columns), test)


def select(observations: Sequence[Observation], where: Where) -> list[Observation]:
    """The observations for which ``where`` holds; InputError for a column that none of them has."""
    for column in sorted(where.columns):
        if observations and not any(_has(o, column) for o in observations):
            present = {name: None for o in observations for name in _columns(o)}
            hint = nearest(column, islice(present, 1000))
            raise InputError(f"no observation has a column {column!r}{hint}")
    return [observation for observation in observations if where(observation)]


def refuse_mixed_splits(observations: Sequence[Observation]) -> None:
    """Raises InputError where training losses and held-out ones, or pairs' ones, are together."""
    splits = sorted({seen.split for seen in observations if seen.split is not None})
    if len(splits) > 1:
        problem = f"losses of {', '.join(splits)} are not of one kind: keep one by --where split=…"
        raise InputError(f"{problem} (blendlaw convert has it too)", column="split")


class _Parser:
    """Recursive descent. ``kind`` and ``token`` are the token looked at; kind is '' at the end."""

    def __init__(self, expression: str) -> None:
        self.columns: set[str] = set()
        self._expression = expression
        self._end = 0
        self._next()

    def _next(self) -> None:
        self._start = self._end
        while self._start < len(self._expression) and self._expression[self._start].isspace():
            self._start += 1
        found = _TOKEN.match(self._expression, self._start)
        if found is not None:
            self.kind = found.lastgroup or ""
            self.token = found[self.kind]
            self._end = found.end()
        else:
            self.kind = self.token = ""
            if self._start < len(self._expression):
                self.fail("a quote never closed" if self._rest()[0] in "\"'" else "not understood")

    def _rest(self) -> str:
        return self._expression[self._start :]

    def fail(self, problem: str) -> NoReturn:
        before, after = self._expression[: self._start], self._rest()
        shown = f"…{before[-40:]}" if len(before) > 40 else before
        shown += "[here]" + (f"{after[:40]}…" if len(after) > 40 else after)
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
        raise InputError(f"{problem} at character {self._start + 1}: {shown}")

    def _is_word(self, word: str) -> bool:
        return self.kind == "word" and self.token.lower() == word

    def any_of(self, depth: int) -> Test:
        tests = [self._all_of(depth)]
        while self._is_word("or"):
            self._next()
            tests.append(self._all_of(depth))
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _all_of(self, depth: int) -> Test:
        tests = [self._factor(depth)]
        while self._is_word("and"):
            self._next()
            tests.append(self._factor(depth))
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _factor(self, depth: int) -> Test:
        if self.kind != "bracket" or self.token != "(":
            return self._comparison()
        if depth == MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} brackets within each other")
        self._next()
        test = self.any_of(depth + 1)
        if self.kind != "bracket" or self.token != ")":
            self.fail("')', 'and' or 'or' is expected")
        self._next()
        return test

    def _text(self, what: str) -> str:
        keyword = self._is_word("and") or self._is_word("or")
        if keyword or self.kind not in ("word", "double", "single"):
            self.fail(f"{what} is expected")
        return self.token

    def _comparison(self) -> Test:
        column = self._text("a column")
        self.columns.add(column)
        self._next()
        if self.kind != "operator":
            self.fail("one of == != < <= > >= is expected")
        symbol = self.token
        self._next()
        value = self._text("a value")
        quoted = self.kind != "word"
        as_number = None if quoted else _number(value)
        if as_number is None and (column in _NUMERIC or column.startswith(tuple(MAPPINGS))):
            self.fail(f"a number is expected to compare {column} with")
        self._next()
        return _comparison(column, symbol, value, as_number)


def _comparison(column: str, symbol: str, value: str, as_number: float | None) -> Test:
    compare = _OPERATORS[symbol]

    def test(observation: Observation) -> bool:
        cell = _get(observation, column)
        if cell is None:
            return symbol == "!="
        if as_number is not None:
            cell_number = _number(cell) if isinstance(cell, str) else cell
            if cell_number is not None:
                return compare(cell_number, as_number)
        return compare(str(cell), value)

    return test


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and "_" not in text else None


def _get(observation: Observation, column: str) -> str | float | None:
    prefix, dot, language = column.partition(".")
    if (mapping := MAPPINGS.get(prefix + dot)) == "weights":
        return observation.shares().get(language, 0.0)
    if mapping is not None:
        return (getattr(observation, mapping) or {}).get(language)
    if column in REQUIRED or column in OPTIONAL:
        return getattr(observation, column)  # type: ignore[no-any-return]
    return observation.extra.get(column)


def _has(observation: Observation, column: str) -> bool:
    language = column.removeprefix("weights.")
    if language != column:  # a typo must not pass for a language of weight 0
        return language in observation.shares()
    return _get(observation, column) is not None


def _columns(observation: Observation) -> list[str]:
    """The columns that this observation has a value in."""
    known = [c for c in (*REQUIRED, *OPTIONAL) if getattr(observation, c) is not None]
    shares = [f"weights.{language}" for language in observation.shares()]
    tokens = [
        prefix + language
        for prefix in ("tokens.", "unique_tokens.")
        for language in getattr(observation, MAPPINGS[prefix]) or {}
    ]
    return [*known, *shares, *tokens, *observation.extra]
