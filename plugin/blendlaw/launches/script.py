"""The commands of a bash script with their words, found by following it, not by running it.

It is read as far as launch scripts go: variables, arrays, defaults, whole-number arithmetic,
``if`` and ``case`` on what the script itself sets, commands in quotes and here-documents. What
the environment would set counts as not set. Loops and conditions on files are passed over.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from blendlaw.errors import InputError
from blendlaw.launches.expanding import OPEN, Variables
from blendlaw.launches.quoting import tokens

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
DECLARES = ("export", "declare", "local", "readonly", "typeset")
SHELLS = ("bash", "sh", "zsh")
TESTS = ("[", "[[", "test")
DEEPEST = 8  # scripts within scripts
LONGEST = 1 << 22  # characters that are followed in all, those of inner scripts each time
DIRECTIVE = re.compile(r"^#SBATCH\s+(.*)$", re.MULTILINE)
NODES = ("SLURM_NNODES", "SLURM_JOB_NUM_NODES")
SLURM = {
    "nodes": NODES,
    "N": NODES,
    "ntasks": ("SLURM_NTASKS",),
    "n": ("SLURM_NTASKS",),
    "ntasks-per-node": ("SLURM_NTASKS_PER_NODE",),
    "gpus-per-node": ("SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE"),
    "gres": ("SLURM_GPUS_ON_NODE",),
}
"""The variables that an option of ``#SBATCH`` sets."""

UNSET = re.compile(rf"{OPEN}\w+{OPEN}")
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-lt": operator.lt,
    "-gt": operator.gt,
    "-le": operator.le,
    "-ge": operator.ge,
}


@dataclass
class _Frame:
    """An ``if``, ``case`` or loop; ``taken``: one of its branches was, or none may be."""

    kind: str
    live: bool
    taken: bool
    value: str = ""
    patterns: list[str] | None = None  # of a case, while they are read


@dataclass
class Script:
    """What was found: ``commands`` as lists of words, ``passed_over`` conditions with flags."""

    variables: Variables = field(default_factory=Variables)
    commands: list[list[str]] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    _frames: list[_Frame] = field(default_factory=list)
    _condition: tuple[str, list[tuple[str, list[str]]]] | None = None
    _followed: int = 0
    _asked: list[str] = field(default_factory=list)  # the last command
    _succeeded: bool | None = True  # whether it did; only tests may fail
    _doubt: str | None = None  # the condition that could not be told, while its branches are read

    def read(self, text: str, depth: int = 0) -> None:
        """Follow ``text``. Raises InputError where it is not bash."""
        self._followed += len(text)
        if depth > DEEPEST or self._followed > LONGEST:
            raise InputError("scripts within scripts, too deep to follow")
        words: list[str] = []
        before = ""
        try:
            for token in [*tokens(text), *tokens("\n")]:
                if token.kind == "word":
                    words.append(token.text)
                elif token.kind == "document":
                    if self._live and self._last_starts("sbatch", *SHELLS):
                        self.read(self.variables.text(f'"{_escaped(token.text)}"'), depth + 1)
                else:
                    self._command(words, before, token.text, depth)
                    words, before = [], token.text
        except RecursionError:
            raise InputError("too many brackets within brackets") from None

    @property
    def _live(self) -> bool:
        return all(frame.live for frame in self._frames)

    def _last_starts(self, *names: str) -> bool:
        return bool(self.commands) and self.commands[-1][:1] in [[name] for name in names]

    def _command(self, words: list[str], before: str, after: str, depth: int) -> None:
        top = self._frames[-1] if self._frames else None
        if top is not None and top.patterns is not None and words[:1] != ["esac"]:
            self._pattern(top, words, after)
            return
        if after == ";;":
            self._command(words, before, "\n", depth)
            if self._frames and self._frames[-1].kind == "case":
                self._frames[-1].live, self._frames[-1].patterns = False, []
            return
        if not words:
            return
        first, rest = words[0], words[1:]
        if first in ("if", "elif", "while", "until"):
            self._condition = (first, [("", rest)])
        elif first in ("then", "do"):
            self._branch()
            self._command(rest, "", after, depth)
        elif self._condition is not None:
            self._condition[1].append((before, words))
        elif first == "else" and top is not None:
            top.live, top.taken = not top.taken, True
            self._command(rest, "", after, depth)
        elif first in ("fi", "done", "esac") and top is not None:
            self._frames.pop()
            self._doubt = self._doubt if self._frames else None
        elif first in ("for", "select"):
            self._condition = ("for", [("", rest)])
        elif first == "case":
            value = UNSET.sub("", self.variables.text(rest[0])) if rest else ""
            self._frames.append(_Frame("case", False, False, value, []))
            self._pattern(self._frames[-1], rest[2:], after)
        elif first not in ("{", "}", "!", "function"):
            self._simple(words, before, depth)
        else:
            self._command(rest, "", after, depth)

    def _pattern(self, case: _Frame, words: list[str], after: str) -> None:
        assert case.patterns is not None
        case.patterns += [self.variables.text(word) for word in words]
        if after == ")":
            matched = any(fnmatchcase(case.value, pattern) for pattern in case.patterns)
            case.live, case.patterns = matched and not case.taken, None
            case.taken = case.taken or matched

    def _branch(self) -> None:
        """The condition before ``then`` or ``do`` is complete."""
        kind, parts = self._condition or ("for", [])
        self._condition = None
        told = False if kind in ("for", "while", "until") else self._holds(parts)
        if kind == "elif" and self._frames:
            frame = self._frames[-1]
            frame.live = bool(told) and not frame.taken
            frame.taken = frame.taken or told is not False
        else:
            self._frames.append(_Frame(kind, bool(told), told is not False))
        if told is None or kind in ("for", "while", "until"):
            self._doubt = " ".join([kind, *(word for _, part in parts for word in part)])

    def _holds(self, parts: list[tuple[str, list[str]]]) -> bool | None:
        """Whether a condition holds; None where only the machine can tell."""
        result: bool | None = True
        for join, words in parts:
            told = self._test(_bare(words))
            if join == "||":
                result = True if result or told else None if None in (result, told) else False
            else:
                result = False if False in (result, told) else result and told
        return result

    def _test(self, words: list[str]) -> bool | None:
        if words[:1] == ["!"]:
            told = self._test(words[1:])
            return None if told is None else not told
        values = [UNSET.sub("", self.variables.text(word)) for word in words]
        if any(OPEN in value for value in values):
            return None
        if len(values) == 2 and values[0] in ("-n", "-z"):
            return (values[1] == "") == (values[0] == "-z")
        if len(values) == 3 and values[1] in ("=", "==", "!="):
            return fnmatchcase(values[0], values[2]) == (values[1] != "!=")
        if len(values) == 3 and values[1] in COMPARISONS:
            try:
                left, right = int(values[0]), int(values[2])
            except ValueError:
                return None
            return COMPARISONS[values[1]](left, right)
        return None

    def _simple(self, words: list[str], before: str, depth: int) -> None:
        if not self._live:
            if self._doubt and any("--" in word for word in words):
                self.passed_over.append(self._doubt)
                self._doubt = None
            return
        if before in ("&&", "||") and self._succeeded is not (before == "&&"):
            if self._succeeded is None and any("--" in word for word in words):
                self.passed_over.append(f"{' '.join(self._asked)} {before}")
            return
        self._asked = words
        self._succeeded = self._test(_bare(words)) if words[0] in TESTS else True
        while words and ASSIGNMENT.match(words[0]):
            self.variables.assign(words[0])
            words = words[1:]
        if words[:1] and words[0] in DECLARES:
            for word in words[1:]:
                if ASSIGNMENT.match(word):
                    self.variables.assign(word)
            return
        if words[:1] == ["unset"]:
            for word in words[1:]:
                self.variables.unset(word)
            return
        expanded = [word for raw in words for word in self.variables.expand(raw)]
        if not expanded:
            return
        self.commands.append(expanded)
        if expanded[0] == "eval":
            self.read(" ".join(expanded[1:]), depth + 1)
        for at, word in enumerate(expanded[:-1]):
            shells = [w.rpartition("/")[2] for w in expanded[:at]]
            if re.fullmatch(r"-\w*c", word) and any(shell in SHELLS for shell in shells):
                self.read(expanded[at + 1], depth + 1)
                break


def read_script(text: str, environment: Mapping[str, str] | None = None) -> Script:
    """The commands of ``text``, with what ``#SBATCH`` lines tell as Slurm's variables.

    ``environment`` are further variables that it would find set.
    """
    script = Script(Variables({**(environment or {}), **_slurm(text)}))
    script.read(text)
    return script


def _slurm(text: str) -> dict[str, str]:
    """Slurm's variables, as far as the ``#SBATCH`` lines of a script tell them."""
    found: dict[str, str] = {}
    for line in DIRECTIVE.findall(text):
        for option, value in re.findall(r"--?([\w-]+)[= ]\s*(?:\w+:)*(\d+)", line):
            found |= dict.fromkeys(SLURM.get(option, ()), value)
    return found


def _bare(words: list[str]) -> list[str]:
    """The words of a test without its brackets."""
    return [word for word in words if word not in (*TESTS, "]", "]]")]


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')
