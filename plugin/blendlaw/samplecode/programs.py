"""A program made up at random: a few types and functions around a handful of words."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from blendlaw.samplecode.dialects import Dialect, pascal
from blendlaw.samplecode.vocabulary import ADJECTIVES, NOUNS, VERBS

T = TypeVar("T")
KINDS = ("int", "float", "text", "flag", "list")
PLAIN = KINDS[:4]


class Program:
    """One file in the language of ``dialect``."""

    def __init__(self, dialect: Dialect, draw: Random) -> None:
        self.to = dialect
        self.draw = draw
        self.topic = [self.pick(NOUNS) for _ in range(8)]
        self.lines: list[str] = []
        self.depth = 0
        self.taken: set[str] = set()  # names in the file, then those in the function
        self.functions: list[tuple[str, str, list[str]]] = []  # name, result, parameters
        self.scope: list[tuple[str, str]] = []  # kind and name
        self.locals: list[tuple[str, str]] = []  # those that may be assigned to

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.draw.random() * len(choices))]

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def fresh(self, *parts: Sequence[str]) -> list[str]:
        """Words, one of each part, that name nothing yet."""
        while True:
            words = [self.pick(part) for part in parts]
            name = "_".join(words)
            if name not in self.taken:
                self.taken.add(name)
                return words
            parts = (*parts, NOUNS)

    def put(self, text: str) -> None:
        tab = self.to.tab * self.depth
        self.lines += [tab + line if line else "" for line in text.split("\n")]

    def open(self, text: str) -> None:
        self.put(text)
        self.depth += 1

    def close(self, text: str) -> None:
        self.depth -= 1
        if text:
            self.put(text)

    def text(self) -> str:
        module = self.fresh(self.topic)
        title = f"{self.pick(VERBS).capitalize()} the {self.pick(ADJECTIVES)} {self.pick(NOUNS)}"
        self.put(self.to.header % {"title": title, "module": "".join(module)})
        for _ in range(self.pick((0, 1, 1, 2))):
            self.pick((self.record, self.record, self.choice))()
        if self.to.before:
            self.open(self.to.before % {"name": pascal([*module, "tools"])})
        for _ in range(self.pick((1, 2, 3, 3, 4, 5))):
            self.function()
        if self.to.after:
            self.close(self.to.after)
        return "\n".join(self.lines).rstrip("\n") + "\n"

    def record(self) -> None:
        self.comment()
        self.open(self.to.record % {"name": pascal(self.fresh(ADJECTIVES, self.topic))})
        outside, self.taken = self.taken, set()
        for _ in range(self.pick((2, 3, 3, 4, 6))):
            kind = self.pick(PLAIN)
            name = self.to.field(self.fresh(self.topic, NOUNS))
            named = {"name": name, "type": self.to.types[kind], "value": self.literal(kind)}
            self.put(self.to.record_field % named)
        self.taken = outside
        self.close(self.to.record_end)
        self.put("")

    def choice(self) -> None:
        self.comment()
        owner = pascal(self.fresh(self.topic, NOUNS))
        self.open(self.to.choice % {"name": owner})
        for number in range(self.pick((2, 3, 4, 5))):
            words = self.fresh(ADJECTIVES)
            named = {"owner": owner, "name": self.to.case(words), "plain": " ".join(words)}
            after_first = number and self.to.next_case
            self.put((after_first or self.to.choice_case) % named)
        self.close(self.to.choice_end)
        self.put("")

    def comment(self) -> None:
        if self.chance(0.5):
            words = f"{self.pick(VERBS).capitalize()} the {self.pick(ADJECTIVES)}"
            self.put(self.to.comment % f"{words} {self.pick(self.topic)}")

    def function(self) -> None:
        self.comment()
        name = self.to.function(self.fresh(VERBS, self.topic))
        outside, self.taken = self.taken, set()
        kinds = [self.pick(KINDS) for _ in range(self.pick((1, 2, 2, 3)))]
        self.scope = [(kind, self.variable()) for kind in kinds]
        self.locals = []
        form, types = self.to.parameter, self.to.types
        parameters = ", ".join(form % {"name": n, "type": types[k]} for k, n in self.scope)
        result = self.pick(PLAIN)
        named = {"name": name, "parameters": parameters, "type": types[result]}
        self.open(self.to.define % named)
        self.block(self.pick((1, 2, 3, 4)), result, 0)
        self.put(f"return {self.value(result)}{self.to.stop}")
        self.close(self.to.end)
        self.put("")
        self.functions.append((name, result, kinds))
        self.taken = outside

    def variable(self) -> str:
        words = self.fresh(self.topic) if self.chance(0.4) else self.fresh(ADJECTIVES, self.topic)
        return self.to.variable(words)

    def block(self, length: int, result: str, deep: int) -> None:
        """Statements; what they declare is known in the block alone."""
        scope, known = self.scope, self.locals
        self.scope, self.locals = scope[:], known[:]
        for _ in range(length):
            self.statement(result, deep)
        if deep:
            self.scope, self.locals = scope, known

    def statement(self, result: str, deep: int) -> None:
        lists = self.named("list")
        numbers = [one for one in self.locals if one[0] in ("int", "float")]
        what = self.draw.random()
        if what < 0.25 and numbers:
            kind, name = self.pick(numbers)
            self.put(f"{name} {self.pick(('+=', '-=', '*='))} {self.value(kind)}{self.to.stop}")
        elif what < 0.45 and deep < 2:
            self.open(self.to.test % self.flag())
            if self.chance(0.4):
                self.put(f"return {self.value(result)}{self.to.stop}")
            else:
                self.block(self.pick((1, 1, 2)), result, deep + 1)
            if self.chance(0.3):
                self.depth -= 1
                self.open(self.to.otherwise)
                self.block(1, result, deep + 1)
            self.close(self.to.end)
        elif what < 0.65 and deep < 2:
            over = self.pick(lists) if lists and self.chance(0.7) else None
            value = over or self.value("int")
            name = self.variable()
            self.open((self.to.each if over else self.to.count) % {"name": name, "value": value})
            self.scope.append(("int", name))
            self.block(self.pick((1, 2, 2)), result, deep + 1)
            self.scope.pop()
            self.close(self.to.end)
        else:
            kind = self.pick(PLAIN)
            value = self.value(kind)
            name = self.variable()
            self.put(self.to.declare % {"name": name, "type": self.to.types[kind], "value": value})
            self.scope.append((kind, name))
            self.locals.append((kind, name))

    def named(self, *kinds: str) -> list[str]:
        return [name for kind, name in self.scope if kind in kinds]

    def value(self, kind: str, deep: int = 0) -> str:
        """An expression: a name where there is one, a literal, a call or an operation."""
        names, what = self.named(kind), self.draw.random()
        if kind == "list" or (names and what < 0.4 + 0.2 * deep):
            return self.pick(names)
        if deep < 2 and what > 0.85 and (call := self.call(kind, deep)):
            return call
        if deep > 1 or what < 0.5:
            return self.literal(kind)
        if kind == "text":
            return self.joined()
        if kind == "flag":
            return self.flag(deep)
        if kind == "int" and what < 0.65 and (lists := self.named("list")):
            return self.to.length % self.pick(lists)
        both = f"{self.value(kind, deep + 1)} {self.pick('+-*')} {self.value(kind, deep + 1)}"
        return f"({both})" if deep else both

    def flag(self, deep: int = 0) -> str:
        """What an ``if`` asks: never a literal alone."""
        both, either, negated = self.to.logic
        if not deep and self.chance(0.25):
            return f"{self.flag(1)} {self.pick((both, either))} {self.flag(1)}"
        if (flags := self.named("flag")) and self.chance(0.4):
            return self.pick((negated, "")) + self.pick(flags)
        kind = self.pick(
            [known for known, _ in self.scope if known in ("int", "float")] or PLAIN[:2]
        )
        left = self.pick(self.named(kind) or [self.literal(kind)])
        return f"{left} {self.pick(('<', '<=', '>', '>='))} {self.value(kind, 2)}"

    def joined(self) -> str:
        # Of names alone: Python before 3.12 takes no string within a formatted one.
        texts = self.named("text")
        if not texts:
            return self.literal("text")
        return self.to.join % (self.pick(texts), self.pick(self.named(*PLAIN)))

    def call(self, kind: str, deep: int) -> str | None:
        fitting = [
            (name, kinds)
            for name, result, kinds in self.functions
            if result == kind and ("list" not in kinds or self.named("list"))
        ]
        if not fitting:
            return None
        name, kinds = self.pick(fitting)
        return f"{name}({', '.join(self.value(one, deep + 1) for one in kinds)})"

    def literal(self, kind: str) -> str:
        if kind == "text":
            words = " ".join(self.pick(NOUNS) for _ in range(self.pick((1, 1, 2))))
            return f"{self.to.quote}{words}{self.to.quote}"
        if kind == "flag":
            return self.pick(self.to.flags)
        number = int(10 ** (3 * self.draw.random() ** 2)) - 1
        return str(number) if kind == "int" else f"{number}.{self.pick('05')}"
