"""A small trainer on megatron.core alone, for proxy runs: a plan in, its losses out.

    torchrun --nproc-per-node=2 -m blendlaw_hooks.trainer plan.toml --dir DIR

It trains a LLaMA of the plan's [trainer] table through the plan's stages, with the parts that the
launcher puts into Megatron-LM. DIR gets layout.json, schedule.jsonl, losses.jsonl, fits/, and
checkpoints/; started again with the same DIR it goes on from the newest of these. Without a GPU
it trains on the CPU (one thread a rank, unless OMP_NUM_THREADS is set), without torchrun on one
rank.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blendlaw.errors import InputError
from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import say
from blendlaw.values import key_value
from blendlaw_hooks import cpu
from blendlaw_hooks.trainer_setup import OutOfVocabulary, device, join


def train(
    plan: str | Path | Plan,
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    stop_at: int | None = None,
    **changes: Any,
) -> None:
    """Train by ``plan`` in ``folder``, or go on there; every rank of a torchrun job calls it.

    ``cache`` is a folder for the indices of the data (default: in ``folder``), ``stop_at`` a step
    to stop at before the end, ``changes`` are keys of the plan's [trainer] table. Raises InputError
    where the plan, the folder or the ranks are not fit to train with.
    """
    read = plan if isinstance(plan, Plan) else read_plan(plan)
    if changes:
        read = read.with_trainer(changes)
    here = device()
    join(here)
    from blendlaw_hooks.trainer_loop import Training  # Megatron, for which the device is made fit

    Training(read, Path(folder), here, cache).run(stop_at)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m blendlaw_hooks.trainer",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="plan.toml; its keys are in docs/files.md")
    parser.add_argument("--dir", type=Path, required=True, help="the run's folder, made if needed")
    parser.add_argument("--cache", type=Path, help="where indices of the data are kept")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="stop there, to go on later")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the plan's [trainer] table, such as precision=bf16; may be repeated",
    )
    given = parser.parse_args(argv)
    # They warn of what is not installed, and of their own ways, on every rank.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(megatron|torch)\.")
    try:
        changes = dict(key_value(each, "--set") for each in given.set)
        train(given.plan, given.dir, cache=given.cache, stop_at=given.stop_at, **changes)
    except (InputError, OSError) as error:
        # Every rank has met it, but for one kind; some errors come before the ranks have met.
        if os.environ.get("RANK", "0") == "0" or isinstance(error, OutOfVocabulary):
            say(f"error: {error}")
        else:
            time.sleep(10)  # torchrun ends all with the first that ends: not before it is told
        raise SystemExit(1) from error
    if device().type == "cpu":
        cpu.leave()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
