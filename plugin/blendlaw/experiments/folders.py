"""Proxy runs as folders: each with a plan for the small trainer and the command that starts it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.experiments.result import Experiments, ProxyRun
from blendlaw.experiments.step_law import batch, body, learning_rate
from blendlaw.files import read_text, write_atomically
from blendlaw.plan import Plan
from blendlaw.plan_sources import Sources
from blendlaw.trainer_plan import Trainer

NAME = "experiments.json"
SHAPE, SPLIT = ("layers", "hidden", "heads", "ffn"), ("tensor_parallel", "pipeline_parallel")
"""Keys of [trainer] that belong to the model of the plan and not to a small one."""

RULED = ("learning_rate", "global_batch")
"""Keys that every run states."""

COMMAND = """\
#!/bin/sh
# Start it where the prefixes in plan.toml are relative to. On more ranks: PROCESSES=4 sh run.sh
here=$(dirname "$0")
exec torchrun --nproc-per-node="${PROCESSES:-1}" \\
    -m blendlaw_hooks.trainer "$here/plan.toml" --dir "$here"
"""


def designs(folder: str | Path) -> list[Experiments]:
    """The designs in ``folder``, the last one last. Raises InputError, OSError."""
    folder = Path(folder)
    found = []
    for path in (*_earlier(folder), folder / NAME):
        if path.exists():
            try:
                found.append(Experiments.from_json(read_text(path)))
            except InputError as error:
                raise replace(error, file=path) from None
    return found


def _earlier(folder: Path) -> list[Path]:
    """Where the designs before the last one are, in their order."""
    count = len(list(folder.glob("experiments-*.json")))
    return [folder / f"experiments-{number}.json" for number in range(1, count + 1)]


def stated(path: str | Path) -> frozenset[str]:
    """The keys of [trainer] that the plan.toml gives, be it with their defaults."""
    return frozenset(tomllib.loads(read_text(path)).get("trainer", {}))


def write_runs(
    found: Experiments, plan: Plan, folder: str | Path, given: Collection[str] = ()
) -> None:
    """Write ``folder``/<run>/plan.toml and run.sh for every run, and last experiments.json.

    ``given`` are the keys of [trainer] that ``plan`` states: its learning_rate and global_batch
    are taken over only then. A design that is there already becomes experiments-1.json, the one
    after it experiments-2.json.
    Raises InputError if a language that is trained on has no sources in ``plan``, OSError.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for run in found.runs:
        for name, weight in run.weights.items():
            if weight > 0 and not plan.languages[name].sources:
                raise InputError(f"the plan has no sources of {name}, which {run.name} trains on")
    for run in found.runs:
        place = folder / run.name
        place.mkdir(exist_ok=True)
        write_atomically(place / "plan.toml", plan_of(run, plan, given))
        write_atomically(place / "run.sh", COMMAND)
    if (folder / NAME).exists():
        (folder / NAME).replace(folder / f"experiments-{len(_earlier(folder)) + 1}.json")
    write_atomically(folder / NAME, found.to_json())


def plan_of(run: ProxyRun, plan: Plan, given: Collection[str] = ()) -> str:
    """The plan.toml of ``run``: ``plan``'s sources and [trainer], one stage of static weights.

    The learning rate stays until it falls at the end (WSD), so that a longer run may go on from a
    shorter one's plateau; limits are left out, since they are the large run's. Learning rate and
    batch are those of ``step_law`` where they are not among the keys ``given``.
    """
    of_the_model: dict[str, Any] = dict.fromkeys(SHAPE) | dict.fromkeys(SPLIT, 1)
    proxy = replace(plan.trainer, **of_the_model)
    if "learning_rate" not in given:
        rate = learning_rate(body(proxy, run.params, plan), run.tokens)
        proxy = replace(proxy, learning_rate=rate)
    if "global_batch" not in given:
        samples = batch(run.tokens, plan.run.sequence_length, proxy.micro_batch)
        proxy = replace(proxy, global_batch=samples)
    lines = [
        "[run]",
        f"params = {run.params!r}",
        f"tokens = {run.tokens!r}",
        f"sequence_length = {plan.run.sequence_length}",
    ]
    for name in run.weights:
        language = plan.languages[name]
        lines += ["", f"[languages.{_text(name)}]", f"sources = {_prefixes(language.sources)}"]
        if language.valid_sources:
            lines.append(f"valid_sources = {_prefixes(language.valid_sources)}")
        for key in ("unique_tokens", "bytes_per_token"):
            if (value := getattr(language, key)) is not None:
                lines.append(f"{key} = {value!r}")
    weights = ", ".join(f"{_text(name)} = {weight!r}" for name, weight in run.weights.items())
    lines += ["", "[[stages]]", 'name = "main"', f"tokens = {run.tokens!r}"]
    lines += [f"weights = {{ {weights} }}", "", "[trainer]", 'schedule = "wsd"']
    for field in fields(Trainer):
        value = getattr(proxy, field.name)
        if field.name in RULED or (value != field.default and field.name != "schedule"):
            lines.append(f"{field.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _prefixes(sources: Sources) -> str:
    tables = []
    for source in sources:
        cells = [f"prefix = {_text(source.prefix)}"]
        cells += [
            f"{key} = {value!r}"
            for key in ("share", "tokens")
            if (value := getattr(source, key)) is not None
        ]
        tables.append(f"{{ {', '.join(cells)} }}")
    return f"[{', '.join(tables)}]"


def _value(value: str | float) -> str:
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """A TOML string; what JSON escapes, TOML reads back."""
    return json.dumps(value, ensure_ascii=False)
