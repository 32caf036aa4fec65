"""The runs of a sweep as jobs of a Slurm cluster, submitted by submitit.

Which jobs there are is known by the job.json of each run, and whether they have ended by squeue:
accounting (sacct), by which submitit would ask, is not there on every cluster.

Bound of submitit (1.5): ``SlurmExecutor`` with ``submit_array`` and, of its private names,
``_valid_parameters``, ``_make_submission_file_text`` and ``_submitit_command_str``, for a script
that is shown and not submitted.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendlaw.errors import InputError
from blendlaw.nearest import nearest
from blendlaw.sweep.job import RunJob
from blendlaw.sweep.runs import SweptRun
from blendlaw.trainer_process import LOG, SHOWN, failed
from blendlaw.values import key_value

if TYPE_CHECKING:
    from submitit import SlurmExecutor

JOBS = "jobs"
OURS = {
    "array_parallelism": "--at-once",
    "nodes": "a run has one node",
    "ntasks_per_node": "--ranks",
    "num_gpus": "gpus_per_node",
}
LISTS = ("setup", "teardown", "srun_args")
PROGRAMS = ("sbatch", "squeue", "srun")
REQUEUED = 1000  # times; a job that gets no further is not (job.py)


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE each, values as in TOML, as parameters of submitit's SlurmExecutor.

    Those that are lists are given a line at a time. Raises InputError where submitit is missing,
    for unknown names, those that have an option of their own, and a time that is not in minutes.
    """
    if find_spec("submitit") is None:
        raise InputError("jobs need submitit: pip install 'blendlaw[cluster]'")
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    found: dict[str, Any] = {}
    for each in given:
        key, value = key_value(each, "--slurm")
        if key in OURS:
            raise InputError(f"not a parameter here: {OURS[key]}", column="--slurm", value=key)
        if key not in known:
            hint = nearest(key, known) or f"; there are {', '.join(sorted(known - {*OURS}))}"
            raise InputError(f"no such parameter of Slurm jobs{hint}", column="--slurm", value=key)
        if key in LISTS:
            found.setdefault(key, []).append(str(value))
        else:
            found[key] = value
    minutes = found.get("time")
    if not isinstance(minutes, int) or minutes < 1:
        problem = "give the time of a job in minutes, time=240 say"
        raise InputError(problem, column="--slurm", value=minutes)
    if not isinstance(found.get("additional_parameters", {}), dict):
        problem = 'is a table, {hint = "nomultithread"} say'
        raise InputError(problem, column="--slurm additional_parameters")
    return found


class Slurm:
    """Submits the runs of ``folder`` as jobs of ``ranks`` ranks, at most ``at_once`` of them
    running; ``given`` are ``parameters``.

    Jobs outlive the sweep. What they say goes to ``folder``/jobs.
    """

    def __init__(
        self,
        folder: Path,
        at_once: int,
        ranks: int,
        given: Mapping[str, Any],
        *,
        poll: float = 5.0,
        settle: float = 30.0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.poll = poll
        self._folder, self._at_once, self._ranks, self._given = folder, at_once, ranks, given
        self._settle, self._say = settle, say
        self._queue = Queue(3 * poll)

    def script(self, runs: Sequence[SweptRun]) -> str:
        """What would be given to sbatch for ``runs``; needs no Slurm."""
        executor = self._executor(self._at_once)
        if len(runs) > 1:  # as submitit does for an array
            executor.parameters["map_count"] = len(runs)
        text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
        return text

    def start(
        self, waiting: Sequence[SweptRun], under_way: int
    ) -> list[tuple[SweptRun, SlurmWork]]:
        """See ``loop.Launcher``. Raises InputError where Slurm is not there or refuses the jobs."""
        if not waiting or under_way >= self._at_once:
            return []
        absent = [program for program in PROGRAMS if shutil.which(program) is None]
        if absent:
            raise InputError(f"this is no login node of a Slurm cluster: no {', '.join(absent)}")
        there = self._queue.jobs()
        begun = [run for run in waiting if run.job in there]
        if begun:
            self._say(f"{len(begun)} jobs are in the queue already")
        left = [run for run in waiting if run not in begun]
        if left and under_way + len(begun) < self._at_once:
            self._submit(left, self._at_once - under_way - len(begun))
            begun += left
        return [(run, self._work(run)) for run in begun]

    def _submit(self, runs: Sequence[SweptRun], at_once: int) -> None:
        try:
            jobs = self._executor(at_once).submit_array(
                [RunJob(run.folder.resolve(), self._ranks) for run in runs]
            )
        except Exception as error:  # what sbatch said; submitit has a class for some of it
            raise InputError(f"sbatch refused the jobs: {error}", file=self._folder) from None
        for run, job in zip(runs, jobs, strict=True):
            run.entrust(job.job_id)
        self._queue.add(job.job_id for job in jobs)
        self._say(f"submitted {len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}")

    def _work(self, run: SweptRun) -> SlurmWork:
        job = run.job
        assert job is not None
        return SlurmWork(run, job, self._queue, self._settle, self._jobs / f"{job}_0_log.err")

    @property
    def _jobs(self) -> Path:
        return self._folder.resolve() / JOBS

    def _executor(self, at_once: int) -> SlurmExecutor:
        from submitit import SlurmExecutor

        class Executor(SlurmExecutor):
            """One that can be made where there is no Slurm, to show a script."""

            @classmethod
            def affinity(cls) -> int:
                return 2

        executor = Executor(self._jobs, max_num_timeout=REQUEUED)
        ours: dict[str, Any] = {
            "job_name": f"blendlaw-{self._folder.resolve().name}",
            "ntasks_per_node": 1,
        }
        ours |= {"cpus_per_task": self._ranks, "array_parallelism": at_once}
        asked = ours | dict(self._given)
        # Since Slurm 22.05 srun no longer takes them from sbatch.
        cpus = f"--cpus-per-task={asked['cpus_per_task']}"
        asked["srun_args"] = [cpus, *self._given.get("srun_args", ())]
        executor.update_parameters(**asked)
        return executor


class SlurmWork:
    """A run that a ``job`` does; ``said`` is that job's log."""

    def __init__(self, run: SweptRun, job: str, queue: Queue, settle: float, said: Path) -> None:
        self._run, self._job, self._queue = run, job, queue
        self._settle, self._said = settle, said
        log = run.folder / LOG
        self._begin = log.stat().st_size if log.exists() else 0
        self._gone: float | None = None

    def running(self) -> bool:
        """See ``loop.Work``."""
        if self._run.done:
            return False
        if self._job in self._queue.jobs():
            self._gone = None
            return True
        now = time.monotonic()
        self._gone = self._gone or now
        if now - self._gone < self._settle:  # a node's last files may take a moment to be seen
            return True
        error = failed(self._run.folder / LOG, self._begin, f"job {self._job} ended")
        if not error.tail and self._said.exists():
            text = self._said.read_text(encoding="utf-8", errors="replace")
            error.tail = "\n".join(text.splitlines()[-SHOWN:])
        raise error

    def leave(self) -> None:
        """See ``loop.Work``: the job goes on."""


class Queue:
    """The ids of this user's jobs that have not ended, asked of squeue every ``every`` seconds."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._asked: float | None = None
        self._jobs: set[str] = set()

    def jobs(self) -> set[str]:
        """Those that were there when it last answered. Raises InputError if it never has."""
        now = time.monotonic()
        if self._asked is not None and now - self._asked < self._every:
            return self._jobs
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            self._jobs, self._asked = set(answer.stdout.split()), now
        elif self._asked is None:
            raise InputError(f"squeue does not answer: {answer.stderr.strip()}")
        return self._jobs

    def add(self, jobs: Iterable[str]) -> None:
        """These were submitted since."""
        self._jobs.update(jobs)
