"""Proxy runs as folders: each with a plan for the small trainer and the command that starts it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.experiments.result import Experiments, ProxyRun
from blendlaw.files import write_atomically
from blendlaw.plan import Plan
from blendlaw.plan_sources import Sources
from blendlaw.trainer_plan import Trainer

NAME = "experiments.json"
OF_THE_MODEL = ("layers", "hidden", "heads", "ffn", "tensor_parallel", "pipeline_parallel")
"""Keys of [trainer] that belong to the model of the plan and not to a small one."""

COMMAND = """\
#!/bin/sh
# Start it where the prefixes in plan.toml are relative to. On more ranks: PROCESSES=4 sh run.sh
here=$(dirname "$0")
exec torchrun --nproc-per-node="${PROCESSES:-1}" \\
    -m blendlaw_hooks.trainer "$here/plan.toml" --dir "$here"
"""


def require_new(folder: str | Path) -> None:
    """InputError where ``folder`` holds experiments already, OSError where it cannot be made."""
    folder = Path(folder)
    if (folder / NAME).exists():
        raise InputError("these experiments are there already: name another folder", file=folder)
    folder.mkdir(exist_ok=True)


def write_runs(found: Experiments, plan: Plan, folder: str | Path) -> None:
    """Write ``folder``/<run>/plan.toml and run.sh for every run, and last experiments.json.

    Raises InputError if a language that is trained on has no sources in ``plan``, OSError.
    """
    folder = Path(folder)
    for run in found.runs:
        for name, weight in run.weights.items():
            if weight > 0 and not plan.languages[name].sources:
                raise InputError(f"the plan has no sources of {name}, which {run.name} trains on")
    for run in found.runs:
        place = folder / run.name
        place.mkdir(exist_ok=True)
        write_atomically(place / "plan.toml", plan_of(run, plan))
        write_atomically(place / "run.sh", COMMAND)
    write_atomically(folder / NAME, found.to_json())


def plan_of(run: ProxyRun, plan: Plan) -> str:
    """The plan.toml of ``run``: ``plan``'s sources and [trainer], one stage of static weights.

    The learning rate stays until it falls at the end (WSD), so that a longer run may go on from a
    shorter one's plateau; limits are left out, since they are the large run's.
    """
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
        value = getattr(plan.trainer, field.name)
        if value != field.default and field.name not in ("schedule", *OF_THE_MODEL):
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
