"""Run a pre-training script of Megatron-LM with blendlaw in it; nothing is patched on disk.

    torchrun … -m blendlaw_hooks.launch pretrain_gpt.py <Megatron's flags> \
        --blendlaw-plan plan.toml --blendlaw-dir DIR [--blendlaw-cpu]

Bound of Megatron-LM, by name (the same in core_v0.12 to 0.19 and main of August 2026), beside what
adapter.py binds of megatron.core: in ``megatron.training.training`` the functions ``pretrain`` (its
arguments ``train_valid_test_dataset_provider`` and ``forward_step_func``),
``setup_model_and_optimizer``, ``evaluate_and_print_results`` (``prefix``, ``iteration``) and
``save_checkpoint`` (``iteration``); what ``args`` holds as named below.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.plan import read_plan
from blendlaw.run_folder import say
from blendlaw_hooks import cpu
from blendlaw_hooks.adapter import Adapter, Job, around
from blendlaw_hooks.refusals import refuse
from blendlaw_hooks.trackers import Writers


class Launch(Adapter):
    """What one call of Megatron-LM's ``pretrain`` is given: its provider and forward step."""

    def job(self) -> Job:
        from megatron.training import get_args
        from megatron.training.global_vars import get_tensorboard_writer, get_wandb_writer

        args = get_args()
        return Job(
            step=args.iteration,
            consumed=args.consumed_train_samples,
            global_batch=args.global_batch_size,
            micro_batch=args.micro_batch_size,
            workers=args.num_workers,
            log_interval=args.log_interval,
            tracker=Writers(get_tensorboard_writer(), get_wandb_writer()),
        )

    def progress(self) -> tuple[int, int, int]:
        from megatron.training import get_args

        args = get_args()
        return args.curr_iteration, args.consumed_train_samples, args.micro_batch_size

    def setting_up(self, arguments: dict[str, Any]) -> None:
        """Before ``setup_model_and_optimizer``, the first that is called with all flags known."""
        from megatron.training import get_args

        refuse(get_args(), self.plan)

    def evaluated(self, arguments: dict[str, Any]) -> None:
        """After ``evaluate_and_print_results``; the prefix is all that tells a test set."""
        split = "test" if arguments["prefix"].endswith("test set") else "valid"
        self.validated(arguments["iteration"], split)


def bind(launch: Launch) -> None:
    """Put ``launch`` into ``megatron.training``; to be called before the script imports from it.

    Raises InputError if this Megatron has not what is bound.
    """
    import megatron.training as package
    from megatron.training import training

    pretrain = training.pretrain
    for name in ("train_valid_test_dataset_provider", "forward_step_func"):
        if name not in inspect.signature(pretrain).parameters:
            raise InputError(f"this Megatron's pretrain takes no {name}: its version is not known")

    @functools.wraps(pretrain)
    def staged_pretrain(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(pretrain).bind(*args, **kwargs)
        given = bound.arguments
        given["train_valid_test_dataset_provider"] = launch.provider(
            given["train_valid_test_dataset_provider"]
        )
        given["forward_step_func"] = launch.forward_step(given["forward_step_func"])
        launch.end()  # of an earlier attempt, where Megatron restarts within the process
        result = pretrain(*bound.args, **bound.kwargs)
        launch.end()
        return result

    package.pretrain = training.pretrain = staged_pretrain
    around(training, "setup_model_and_optimizer", before=launch.setting_up)
    around(training, "evaluate_and_print_results", after=launch.evaluated)
    around(training, "save_checkpoint", before=lambda given: launch.saving(given["iteration"]))


def main(argv: Sequence[str] | None = None) -> None:
    """The command: its own flags are taken out, the rest is the script's."""
    parser = argparse.ArgumentParser(
        prog="python -m blendlaw_hooks.launch", allow_abbrev=False, description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("script", type=Path, help="pretrain_gpt.py, _hybrid.py or _mamba.py")
    parser.add_argument("--blendlaw-plan", type=Path, required=True, metavar="PLAN")
    parser.add_argument("--blendlaw-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--blendlaw-cpu", action="store_true", help="rehearse without a GPU")
    own, rest = parser.parse_known_args(argv)
    try:
        if not own.script.exists():
            raise InputError("no such script", file=own.script)
        plan = read_plan(own.blendlaw_plan)
        beside(own.script)
        if own.blendlaw_cpu:
            cpu.install()
            rest += cpu.FLAGS  # the last of a flag counts
        run(own.script, rest, Launch(plan, own.blendlaw_dir))
    except (InputError, OSError) as error:
        if int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1:
            say(f"error: {error}")
        raise SystemExit(1) from error
    if own.blendlaw_cpu:
        cpu.leave()


def beside(script: Path) -> None:
    """Modules are found first where ``script`` is, as Python has it of a script that it starts."""
    sys.path.insert(0, str(script.resolve().parent))


def run(script: Path, flags: Sequence[str], launch: Launch) -> None:
    """Run Megatron's ``script`` with ``flags`` as if it were started itself, ``launch`` in it."""
    bind(launch)
    sys.argv = [str(script), *flags]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
