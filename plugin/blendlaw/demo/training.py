"""The trainer, started by torchrun as a process of its own: this package never imports torch."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def train(
    plan: Plan,
    plan_file: Path,
    ranks: int,
    progress: Callable[[int, int], None],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Train by ``plan_file`` in its folder, or go on there. Raises Failed, OSError.

    ``progress`` is told steps and all steps. What the trainer says goes to training.log.
    """
    folder = plan_file.parent
    steps = round(plan.run.tokens / plan.run.sequence_length) // plan.trainer.global_batch

    def show() -> None:
        progress(_step(folder / "losses.jsonl"), steps)

    _wait_for_others(folder / "schedule.jsonl", show, say)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "blendlaw_hooks.trainer"]
    command += [str(plan_file), "--dir", str(folder)]
    log = folder / LOG
    with open(log, "ab") as said:
        begin = said.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | CPU,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        while process.poll() is None:
            show()
            try:
                process.wait(POLL)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(process)
    if process.returncode:
        raise _failed(log, begin, process.returncode)


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


def _end(process: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C, which torchrun has heard too, say."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _step(losses: Path) -> int:
    """The step that was measured last."""
    try:
        with open(losses, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            found = re.findall(rb'"step": (\d+)', file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


def _failed(log: Path, begin: int, status: int) -> Failed:
    """What the log says of it, from byte ``begin`` on."""
    text = log.read_bytes()[begin:].decode(errors="replace")
    own = TORCHRUN.split(text, 1)[0].rstrip()
    told = re.findall(r"^blendlaw: error: (.*)", text, re.MULTILINE)
    problem = told[0] if told else f"it ended with status {status}; see the end of the log"
    failed = Failed(f"the training failed: {problem}", file=log)
    failed.tail = "\n".join((own or text).splitlines()[-SHOWN:])
    return failed
