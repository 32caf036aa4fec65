"""What a job of a cluster does on its node: one run, with the trainer.

It trains only while the run's job.json names it, and waits to be named: whatever became of the
sweep that submitted it, no two jobs train one run, on any file system that shows both what was
written. Warned by Slurm that its time is up, or that another needs the node, it is put into the
queue again and goes on from its newest checkpoint.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.sweep.runs import read_run
from blendlaw.trainer_process import Failed, TrainerProcess, newest_checkpoint

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

POLL = 1.0  # seconds
NAMING = 600.0  # seconds that a job waits to be named; its sweep may have been killed before


@dataclass
class RunJob:
    """The run in ``folder`` on ``ranks`` ranks; called on the node, by submitit."""

    folder: Path
    ranks: int
    saved: int = 0

    def __call__(self) -> None:
        """Train it to its end. Raises Failed, InputError, OSError."""
        from submitit import JobEnvironment

        run = read_run(self.folder)
        self.saved = newest_checkpoint(self.folder)
        deadline = time.monotonic() + NAMING
        while run.job != JobEnvironment().job_id:
            if time.monotonic() > deadline:
                raise InputError("it is entrusted to another job, or to none", file=self.folder)
            time.sleep(POLL)
        if run.done:
            return
        process = TrainerProcess(run.plan_file, run.folder, self.ranks, {})
        try:
            while process.running(POLL):
                pass
        except Failed as error:
            sys.stderr.write(f"{error}\n{error.tail}\n")
            raise
        finally:
            process.end()
        run.finish()

    def checkpoint(self) -> DelayedSubmission | None:
        """Asked by submitit when the job is about to be ended: what to put into the queue again.

        Nothing where no checkpoint was written since it began: it would never get further.
        """
        from submitit.core.utils import DelayedSubmission

        if newest_checkpoint(self.folder) <= self.saved:
            return None
        return DelayedSubmission(self)
