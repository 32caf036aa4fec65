"""The trainer on a rank that kills itself: ``FAULT=<where>:<nth time>``.

At ``losses`` and ``schedule`` half of what is to be written has been; ``checkpoint`` is before its
folder is renamed; ``prune`` is before an old one is removed; ``fit`` is in the middle of a refit,
``step`` in that of a step; ``index`` is a Megatron index half written.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from blendlaw import decide, records, schedule
from blendlaw_hooks import trainer, trainer_setup

WHERE, _, TIMES = os.environ.get("FAULT", ":0").partition(":")
times = 0


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def before(owner: Any, name: str, where: str, half: Callable[..., None] | None = None) -> None:
    """Die when ``owner.name`` is called for the n-th time, after ``half`` of its work."""
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def called(*args: Any, **kwargs: Any) -> Any:
        global times
        if where == WHERE:
            times += 1
            if times == int(TIMES):
                if half is not None:
                    half(*args)
                die()
        return whole(*args, **kwargs)

    setattr(owner, name, called)


def half_a_line(handle: int, line: bytes, at: int) -> None:
    os.pwrite(handle, line[: len(line) // 2], at)


def half_the_losses(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data[: len(data) // 2])


def half_an_index(path: str, array: Any, *rest: Any) -> None:
    Path(path).write_bytes(array.tobytes()[: array.nbytes // 2])


if __name__ == "__main__":
    before(schedule, "_write", "schedule", half_a_line)
    before(records, "_append", "losses", half_the_losses)
    before(decide, "fit", "fit")
    before(shutil, "rmtree", "prune")
    before(np, "save", "index", half_an_index)
    trainer_setup.device()  # what is imported below is made fit
    from blendlaw_hooks import trainer_checkpoint, trainer_data, trainer_model

    before(trainer_checkpoint, "sync", "checkpoint")
    before(trainer_model, "finalize_model_grads", "step")
    if limit := os.environ.get("LOOKED_AT"):
        trainer_data.LOOKED_AT = int(limit)
    trainer.main()
