"""The launcher in a process where something goes wrong, named by the variable ODD."""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import blendlaw
from blendlaw import decide, records, schedule
from blendlaw.plan import Plan, Stage
from blendlaw_hooks import language_loss, launch


def pause(what: str) -> None:
    """Tell the test that now is the moment, and wait for its kill."""
    Path(what).touch()
    time.sleep(60)


class Greedy:
    @blendlaw.hookimpl
    def propose_weights(self, stage: Stage, plan: Plan) -> Mapping[str, float] | None:
        return {"Rust": 0.99, "Go": 0.01} if stage.weights == "law" else None


class Broken:
    @blendlaw.hookimpl
    def propose_weights(self, stage: Stage, plan: Plan) -> Mapping[str, float] | None:
        if stage.weights == "law":
            raise KeyError("no such policy")
        return None

    @blendlaw.hookimpl
    def record_losses(self, step: int) -> None:
        raise RuntimeError("the tracker is down")


def tell(line: str) -> None:
    """In one write: of two ranks, neither cuts the other's line in two."""
    sys.stdout.write(f"TOLD {line}\n")
    sys.stdout.flush()


class Told:
    @blendlaw.hookimpl
    def before_stage(self, stage: Stage, blend: Any) -> None:
        tell(f"before {stage.name} {blend.by_language()}")

    @blendlaw.hookimpl
    def after_stage(self, stage: Stage, observations: Any) -> None:
        tell(f"after {stage.name} {len(observations)}")

    @blendlaw.hookimpl
    def record_losses(self, step: int, tokens: int, losses: Mapping[str, float]) -> None:
        tell(f"losses {step} {tokens} {sorted(losses)}")


def fit_is_killed() -> None:
    fit = decide.fit

    def fitting(*args: Any, **kwargs: Any) -> Any:
        pause("fitting")
        return fit(*args, **kwargs)

    decide.fit = fitting


def append_is_killed() -> None:
    """Half of the second stage's line is on the disk."""
    write = schedule._write

    def half(handle: int, line: bytes, at: int) -> None:
        if at > 0:
            os.pwrite(handle, line[: len(line) // 2], at)
            os.fsync(handle)
            pause("appending")
        write(handle, line, at)

    schedule._write = half


def losses_are_killed() -> None:
    """Half of a row of losses is on the disk."""
    append = records._append

    def half(path: Path, data: bytes) -> None:
        if path.stat().st_size:
            with path.open("ab") as file:
                file.write(data[: len(data) // 2 + 7])
            pause("recording")
        append(path, data)

    records._append = half


def disk_is_full(times: int) -> None:
    """The schedule and the losses cannot be written ``times`` times."""
    left = {"schedule": times, "losses": times}

    def full(what: str, own: Any) -> Any:
        def written(*args: Any) -> None:
            started = what == "losses" or args[2] > 0
            if started and left[what]:
                left[what] -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            own(*args)

        return written

    schedule._write = full("schedule", schedule._write)
    records._append = full("losses", records._append)


def loss_is_nan() -> None:
    """Go's measured losses are not numbers."""
    collect = language_loss.LanguageLoss.collect

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = collect(self, *args, **kwargs)
        return {n: x._replace(loss=math.nan) if n == "Go" else x for n, x in found.items()}

    language_loss.LanguageLoss.collect = spoilt  # type: ignore[method-assign]


ODD = {
    "fit": fit_is_killed,
    "append": append_is_killed,
    "losses": losses_are_killed,
    "full": lambda: disk_is_full(10**6),
    "full once": lambda: disk_is_full(1),
    "nan": loss_is_nan,
    "greedy": lambda: blendlaw.plugin_manager().register(Greedy()),
    "broken": lambda: blendlaw.plugin_manager().register(Broken()),
    "told": lambda: blendlaw.plugin_manager().register(Told()),
}

if __name__ == "__main__":
    ODD[os.environ["ODD"]]()
    launch.main()
