"""The runs of a sweep: folders with a plan.toml each, and how far they are.

A run that is done has a done.json, written once its training has ended well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.plan import Plan, read_plan
from blendlaw.schedule import claim
from blendlaw.trainer_process import last_step

DONE = "done.json"


@dataclass(frozen=True)
class SweptRun:
    """A run of ``steps`` steps in ``folder``, by the plan in it."""

    folder: Path
    plan: Plan
    steps: int

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def plan_file(self) -> Path:
        return self.folder / "plan.toml"

    @property
    def losses(self) -> Path:
        return self.folder / "losses.jsonl"

    @property
    def done(self) -> bool:
        """Whether it ended well. Raises InputError if the plan is another than it was then."""
        path = self.folder / DONE
        if not path.exists():
            return False
        try:
            kept = json.loads(read_text(path))["plan"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not what a sweep wrote: {error}", file=path) from None
        if kept != read_text(self.plan_file):
            problem = "the run is done and its plan was changed since: put it into another folder"
            raise InputError(problem, file=self.plan_file)
        return True

    def step(self) -> int:
        """The step that was measured last."""
        return self.steps if self.done else last_step(self.folder)

    def free(self) -> bool:
        """Whether no process trains it."""
        try:
            with claim(self.folder / "schedule.jsonl"):
                return True
        except InputError:
            return False

    def finish(self) -> None:
        """Note that it has ended well."""
        done = {"plan": read_text(self.plan_file), "steps": self.steps}
        write_atomically(self.folder / DONE, json.dumps(done) + "\n")


def find_runs(folder: Path) -> list[SweptRun]:
    """The runs below ``folder``, by name.

    Raises InputError if there is none, or if a plan is bad; OSError.
    """
    runs = []
    for file in sorted(folder.glob("*/plan.toml")):
        plan = read_plan(file)
        try:
            runs.append(SweptRun(file.parent, plan, plan.steps))
        except InputError as error:
            raise replace(error, file=file) from None
    if not runs:
        raise InputError("no folders with a plan.toml, as blendlaw experiments makes", file=folder)
    return runs
