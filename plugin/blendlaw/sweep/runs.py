"""The runs of a sweep: folders with a plan.toml each, and how far they are.

A run that is done has a done.json, written once its training has ended well. One that a job of a
cluster does has its id in job.json.
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
JOB = "job.json"


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

    @property
    def job(self) -> str | None:
        """The id of the job that it is entrusted to, if it is to one."""
        try:
            found = json.loads(read_text(self.folder / JOB))["job"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            problem = f"not what a sweep wrote: {error}"
            raise InputError(problem, file=self.folder / JOB) from None
        return str(found)

    def entrust(self, job: str | None) -> None:
        """Note the job that is to do it: no other one begins. None: none does."""
        if job is None:
            (self.folder / JOB).unlink(missing_ok=True)
        else:
            write_atomically(self.folder / JOB, json.dumps({"job": job}) + "\n")

    def finish(self) -> None:
        """Note that it has ended well."""
        done = {"plan": read_text(self.plan_file), "steps": self.steps}
        write_atomically(self.folder / DONE, json.dumps(done) + "\n")


def read_run(folder: Path) -> SweptRun:
    """The run in ``folder``. Raises InputError if its plan is bad; OSError."""
    file = folder / "plan.toml"
    plan = read_plan(file)
    try:
        return SweptRun(folder, plan, plan.steps)
    except InputError as error:
        raise replace(error, file=file) from None


def find_runs(folder: Path) -> list[SweptRun]:
    """The runs below ``folder``, by name.

    Raises InputError if there is none, or if a plan is bad; OSError.
    """
    runs = [read_run(file.parent) for file in sorted(folder.glob("*/plan.toml"))]
    if not runs:
        raise InputError("no folders with a plan.toml, as blendlaw experiments makes", file=folder)
    return runs
