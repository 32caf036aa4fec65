"""The trainer, started by torchrun as a process of its own: this package never imports torch."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.plan import Plan
from blendlaw.schedule import claim

NEEDED = {
    "torch": "torch",
    "megatron": "megatron-core",
    "psutil": "psutil",  # else megatron-core hangs when it saves
    "tokenizers": "tokenizers",
}
# Two ranks on the CPU, also where there is a GPU, which they could not share.
CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
LOG = "training.log"
SHOWN = 15  # lines of the log after a failure
TORCHRUN = re.compile(r"^[WE]\d{4} .*torch/distributed/", re.MULTILINE)  # its account of one
POLL = 0.5  # seconds
PATIENCE = 40.0  # seconds that torchrun, which gives its ranks 30, has to end


def missing() -> list[str]:
    """What training needs and is not installed."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]


class Failed(InputError):
    """Training ended badly; ``tail`` is the end of its log."""

    tail: str = ""


class TrainerProcess:
    """The trainer in ``folder`` by ``plan_file``, started, or going on where it stood.

    ``environment`` is added to this process's. It ends when this process does, however that ends.
    What it says goes to training.log. Raises OSError.
    """

    def __init__(
        self, plan_file: Path, folder: Path, ranks: int, environment: Mapping[str, str]
    ) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", "-m", "blendlaw_hooks.trainer"]
        command += [str(plan_file), "--dir", str(folder)]
        self._folder = folder
        with open(folder / LOG, "ab") as said:
            self._begin = said.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def step(self) -> int:
        """The step that was measured last."""
        return last_step(self._folder)

    def running(self, wait: float = 0.0) -> bool:
        """Whether it runs, after ``wait`` seconds at most. Raises Failed if it ended badly."""
        try:
            status = self._process.wait(wait)
        except subprocess.TimeoutExpired:
            return True
        if status:
            ended = f"it ended with status {status}"
            raise failed(self._folder / LOG, self._begin, ended)
        return False

    def end(self) -> None:
        """After Ctrl-C, which torchrun has heard too, say."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()


def train(
    plan: Plan,
    plan_file: Path,
    ranks: int,
    progress: Callable[[int, int], None],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Train on the CPU by ``plan_file`` in its folder, or go on there. Raises Failed, OSError.

    ``progress`` is told steps and all steps.
    """
    folder, steps = plan_file.parent, plan.steps

    def show() -> None:
        progress(last_step(folder), steps)

    _wait_for_others(folder / "schedule.jsonl", show, say)
    process = TrainerProcess(plan_file, folder, ranks, CPU)
    try:
        while process.running(POLL):
            show()
    finally:
        process.end()


def _wait_for_others(schedule: Path, show: Callable[[], None], say: Callable[[str], None]) -> None:
    """Ranks whose torchrun was killed train on: let them, and then go on from there."""
    told = False
    while True:
        try:
            with claim(schedule):
                return
        except InputError as error:
            if not told:
                say(f"waiting: {error}")
            told = True
        show()
        time.sleep(POLL)


def _end_with_parent() -> None:
    """In the child: be asked to end when the parent has, even by kill -9."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # Slurm warns every process of a job by it; what follows is the parent's to decide.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def last_step(folder: Path) -> int:
    """The step that was measured last in a run's folder; 0 if none was."""
    try:
        with open(folder / "losses.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            found = re.findall(rb'"step": (\d+)', file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the trainer's checkpoints in ``folder``, ascending."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in folder.glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def newest_checkpoint(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder; 0 if there is none."""
    return max(checkpoint_steps(folder / "checkpoints"), default=0)


def failed(log: Path, begin: int, ended: str) -> Failed:
    """What the log says of it, from byte ``begin`` on; ``ended`` where it says nothing."""
    text = log.read_bytes()[begin:].decode(errors="replace") if log.exists() else ""
    own = TORCHRUN.split(text, 1)[0].rstrip()
    told = re.findall(r"^blendlaw: error: (.*)", text, re.MULTILINE)
    problem = told[0] if told else f"{ended}; see the end of the log"
    failed = Failed(f"the training failed: {problem}", file=log)
    failed.tail = "\n".join((own or text).splitlines()[-SHOWN:])
    return failed
