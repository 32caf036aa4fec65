"""The training command of a launch script, its flags, and the ranks it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.launches.expanding import OPEN, Variables, shown
from blendlaw.launches.script import read_script

TRAINS = {"train-iters", "train-samples", "global-batch-size", "lr"}
"""A command with one of these after its script is a training command."""

TORCHRUN = ("torchrun", "torch.distributed.run", "torch.distributed.launch")

BROKEN = re.compile(r"^.*\\[ \t]+$", re.MULTILINE)


class Open(Exception):
    """A value that is asked for and that the command does not tell; ``str()`` says which."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with ``flag``, and what to ``change``.

    An error stops the training, or makes it another than was asked for.
    """

    level: str
    flag: str
    problem: str
    change: str

    def __str__(self) -> str:
        return f"{self.flag}: {self.problem}: {self.change}"


def error(flag: str, problem: str, change: str) -> Finding:
    return Finding("error", flag, problem, change)


def warning(flag: str, problem: str, change: str) -> Finding:
    return Finding("warning", flag, problem, change)


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Launch:
    """A training command: its script, flags (without ``--``), ranks, and what the script set.

    ``ranks`` is None where it does not tell; ``megatron`` is the version it is for, if known.
    """

    script: str
    given: Mapping[str, tuple[str, ...]]
    ranks: int | None
    variables: Variables
    notes: tuple[str, ...] = ()
    malformed: tuple[Finding, ...] = ()
    megatron: tuple[int, int] | None = None

    def has(self, flag: str) -> bool:
        return flag in self.given

    def text(self, flag: str, default: str | None = None) -> str:
        """The first value of ``flag``. Raises Open where it is not there or not known."""
        values = self.given.get(flag) or (() if default is None else (default,))
        if not values:
            raise Open(f"--{flag} is not given")
        if OPEN in values[0]:
            raise Open(f"--{flag} is {shown(values[0])}")
        return values[0]

    def number(self, flag: str, default: int | None = None, least: int = 1) -> int:
        """Its first value as a whole number; InputError where it is none, or below ``least``."""
        text = self.text(flag, None if default is None else str(default))
        try:
            number = int(text)
        except ValueError:
            raise InputError("a whole number is needed", column=f"--{flag}", value=text) from None
        if number < least:
            raise InputError(f"must be {least} or more", column=f"--{flag}", value=number)
        return number

    def real(self, flag: str) -> float:
        text = self.text(flag)
        try:
            return float(text)
        except ValueError:
            raise InputError("a number is needed", column=f"--{flag}", value=text) from None

    @property
    def tensor(self) -> int:
        return self.number("tensor-model-parallel-size", 1)

    @property
    def pipeline(self) -> int:
        return self.number("pipeline-model-parallel-size", 1)

    @property
    def context(self) -> int:
        return self.number("context-parallel-size", 1)

    @property
    def heads(self) -> int:
        return self.number("num-attention-heads")

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        if self.has("group-query-attention"):
            return self.number("num-query-groups", 1)
        return self.heads

    @property
    def head_size(self) -> int:
        if self.has("kv-channels"):
            return self.number("kv-channels")
        return max(1, self.number("hidden-size") // self.heads)

    @property
    def ffn(self) -> int:
        """As Megatron chooses it where it is not given."""
        if self.has("ffn-hidden-size"):
            return self.number("ffn-hidden-size")
        hidden = self.number("hidden-size")
        return int((4 * hidden * 2 / 3) / 64) * 64 if self.has("swiglu") else 4 * hidden

    @property
    def data_parallel(self) -> int:
        if self.ranks is None:
            raise Open("the number of GPUs is not told: --gpus")
        each = self.tensor * self.pipeline * self.context
        if self.ranks % each:
            raise Open("the layout does not fit the GPUs")
        return self.ranks // each

    @property
    def global_batch(self) -> int:
        if self.has("global-batch-size"):
            return self.number("global-batch-size")
        return self.number("micro-batch-size") * self.data_parallel


def read_launch(
    text: str,
    gpus: int | None = None,
    megatron: tuple[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Launch:
    """The first training command in a script or a command line.

    ``environment`` are variables that it would find set. Raises InputError where there is none.
    """
    meant = BROKEN.sub(lambda found: found[0].rstrip(), text)
    script = read_script(meant, environment)
    for words in script.commands:
        at = next((n for n, word in enumerate(words) if re.search(r"\w\.py$", word)), None)
        while at is not None and at + 1 < len(words) and words[at + 1].endswith(".py"):
            at += 1  # a launcher's script before Megatron's
        if at is None:
            continue
        given, malformed = _flags(words[at + 1 :])
        if TRAINS.isdisjoint(given):
            continue
        ranks = gpus if gpus is not None else _ranks(words[:at], script.variables)
        notes = [f"not looked at: what is under `{line}`" for line in script.passed_over]
        return Launch(
            words[at],
            given,
            ranks,
            script.variables,
            tuple(dict.fromkeys(notes)),
            (*malformed, *_broken(text)),
            megatron,
        )
    raise InputError("no training command: none has a .py with flags such as --train-iters")


def _flags(words: list[str]) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    """Flags and their values as argparse takes them: the last one of a name counts."""
    given: dict[str, tuple[str, ...]] = {}
    malformed = []
    name = ""
    for word in words:
        if word.startswith("--") and " " in word.partition("=")[0]:
            flag = word.split()[0]
            malformed.append(
                error(flag, f"{word!r} is one word", "leave out the quotes around flag and value")
            )
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given[name] = (value,) if equals else ()
        elif name:
            given[name] += (word,)
    return given, malformed


def _broken(text: str) -> Iterator[Finding]:
    for found in BROKEN.finditer(text):
        if not found[0].lstrip().startswith("#"):
            words = re.findall(r"--[\w-]+", found[0])
            line = text.count("\n", 0, found.start()) + 1
            problem = f"a space after the backslash of line {line}: the line does not go on"
            yield error(words[-1] if words else "\\", problem, "take the space away")


def _ranks(words: list[str], variables: Variables) -> int | None:
    """How many processes torchrun starts, or else Slurm; None where that is not told."""
    options, _ = _flags([re.sub(r"^--?(?=\w)", "--", word).replace("_", "-") for word in words])

    def told(names: tuple[str, ...], default: str | None) -> int | None:
        given = (value for name in names for value in options.get(name, ())[:1])
        value = next(given, default or "")
        return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None

    if any(word.rpartition("/")[2] in TORCHRUN for word in words):
        each, nodes = told(("nproc-per-node",), "1"), told(("nnodes",), "1")
    else:
        tasks = told(("ntasks", "n"), variables["SLURM_NTASKS"])
        if tasks is not None:
            return tasks
        each = told(("ntasks-per-node",), variables["SLURM_NTASKS_PER_NODE"])
        nodes = told(("nodes", "N"), variables["SLURM_NNODES"])
    return None if each is None or nodes is None else each * nodes
