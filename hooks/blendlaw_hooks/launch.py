"""Run a pre-training script of Megatron-LM with blendlaw in it; nothing is patched on disk.

    torchrun … -m blendlaw_hooks.launch pretrain_gpt.py <Megatron's flags> \
        --blendlaw-plan plan.toml --blendlaw-dir DIR [--blendlaw-cpu]

Bound of Megatron-LM, by name (the same in core_v0.12 to 0.19 and main of August 2026): in
``megatron.training.training`` the functions ``pretrain`` (its arguments
``train_valid_test_dataset_provider`` and ``forward_step_func``), ``setup_model_and_optimizer``,
``evaluate_and_print_results`` (``prefix``, ``iteration``) and ``save_checkpoint`` (``iteration``);
the method ``build`` of
``BlendedMegatronDatasetBuilder``, from whose instance the script's own dataset class and config
are taken; the rerun state machine; what ``args`` holds as named below.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import say
from blendlaw_hooks import cpu
from blendlaw_hooks.refusals import refuse
from blendlaw_hooks.staged_run import StagedRun
from blendlaw_hooks.trackers import Writers

PREFETCH_FACTOR = 2  # torch's default, which Megatron keeps


class Launch:
    """What one call of ``pretrain`` is given: its provider and forward step, wrapped."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.run: StagedRun | None = None

    def provider(self, provide: Callable[..., Any]) -> Callable[..., Any]:
        """The script's dataset provider, whose blends are those of the plan."""

        @functools.wraps(provide)
        def provided(*args: Any, **kwargs: Any) -> Any:
            with self._building():
                return provide(*args, **kwargs)

        return provided

    def forward_step(self, forward_step: Callable[..., Any]) -> Callable[..., Any]:
        """The script's forward step, its losses counted by language."""

        @functools.wraps(forward_step)
        def counted(*args: Any, **kwargs: Any) -> Any:
            assert self.run is not None, "datasets are built before the first step"
            return self.run.measured.wrap_forward_step(forward_step)(*args, **kwargs)

        return counted

    def setting_up(self, arguments: dict[str, Any]) -> None:
        """Before ``setup_model_and_optimizer``, the first that is called with all flags known."""
        from megatron.training import get_args

        refuse(get_args(), self.plan)

    def validated(self, arguments: dict[str, Any]) -> None:
        """After ``evaluate_and_print_results``; the prefix is all that tells a test set."""
        if self.run is not None:
            split = "test" if arguments["prefix"].endswith("test set") else "valid"
            self.run.after_validation(arguments["iteration"], split)

    def saving(self, arguments: dict[str, Any]) -> None:
        """Before ``save_checkpoint``."""
        if self.run is not None:
            self.run.before_save(arguments["iteration"])

    def end(self) -> None:
        if self.run is not None:
            self.run.end()
            self.run = None

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Megatron's builder builds the plan's blends, with the script's own class and config."""
        from megatron.core.datasets.blended_megatron_dataset_builder import (
            BlendedMegatronDatasetBuilder,
        )

        own = BlendedMegatronDatasetBuilder.build

        @functools.wraps(own)
        def build(builder: Any) -> list[Any]:
            BlendedMegatronDatasetBuilder.build = own
            try:
                return self._built(builder)
            finally:
                BlendedMegatronDatasetBuilder.build = build

        BlendedMegatronDatasetBuilder.build = build
        try:
            yield
        finally:
            BlendedMegatronDatasetBuilder.build = own

    def _built(self, builder: Any) -> list[Any]:
        """Training, validation and test sets in place of those that ``builder`` would build."""
        from blendlaw_hooks.staged_blend import build_held_out, build_staged_blend

        if self.run is None:  # the first of a process: pipeline stages may be virtual
            self._start(builder)
        assert self.run is not None
        made = blend(self.plan, self.run.schedule.records[0].weights, 1.0)
        of = {
            source.prefix: name
            for name, language in self.plan.mixture.items()
            for source in (*language.valid_sources, *language.test_sources)
        }
        sets = [
            build_staged_blend(
                builder.cls,
                self.run.index,
                builder.config,
                builder.is_built_on_rank,
                self.run.kinds,
            )
        ]
        for split, held_out in ((1, made.valid), (2, made.test)):
            sets.append(
                build_held_out(
                    builder.cls,
                    [(prefix, weight, of[prefix]) for prefix, weight in held_out],
                    split,
                    builder.sizes[split],
                    builder.config,
                    builder.is_built_on_rank,
                    self.run.kinds,
                )
            )
        return sets

    def _start(self, builder: Any) -> None:
        import torch
        from megatron.core import parallel_state
        from megatron.core.rerun_state_machine import get_rerun_state_machine
        from megatron.training import get_args
        from megatron.training.global_vars import get_tensorboard_writer, get_wandb_writer

        args = get_args()
        step_of_all = args.micro_batch_size * parallel_state.get_data_parallel_world_size()
        self.run = StagedRun(
            self.plan,
            self.folder,
            samples=builder.sizes[0],
            consumed=args.consumed_train_samples,
            batch=args.global_batch_size,
            prefetched=args.num_workers * PREFETCH_FACTOR * step_of_all,
            log_interval=args.log_interval,
            device=torch.cuda.current_device(),
            writer=torch.distributed.get_world_size() - 1,  # Megatron's trackers are on it
            surplus=getattr(builder.config, "mid_level_dataset_surplus", None),
            cache=builder.config.path_to_cache,
            counting=parallel_state.get_tensor_model_parallel_rank() == 0,
            context_parallel=(
                parallel_state.get_context_parallel_world_size(),
                parallel_state.get_context_parallel_rank(),
            ),
            tracker=Writers(get_tensorboard_writer(), get_wandb_writer()),
        )
        self.run.begin(args.iteration)
        self.run.measured.follow_reruns(get_rerun_state_machine(), self._stepped)

    def _stepped(self) -> None:
        from megatron.core.num_microbatches_calculator import get_num_microbatches
        from megatron.core.parallel_state import get_data_parallel_world_size
        from megatron.training import get_args

        args = get_args()
        batch = get_num_microbatches() * args.micro_batch_size * get_data_parallel_world_size()
        assert self.run is not None
        # Megatron counts both once the optimizer has stepped.
        self.run.after_step(args.curr_iteration + 1, args.consumed_train_samples + batch, batch)


def bind(plan: Plan, folder: Path) -> None:
    """Put blendlaw into ``megatron.training``; to be called before the script imports from it.

    Raises InputError if this Megatron has not what is bound.
    """
    import megatron.training as package
    from megatron.training import training

    launch = Launch(plan, folder)
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
    _around(training, "setup_model_and_optimizer", before=launch.setting_up)
    _around(training, "evaluate_and_print_results", after=launch.validated)
    _around(training, "save_checkpoint", before=launch.saving)


def _around(
    module: Any,
    name: str,
    before: Callable[[dict[str, Any]], None] | None = None,
    after: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Call ``before`` and ``after`` a function of Megatron with its arguments by name."""
    own = getattr(module, name, None)
    if own is None:
        raise InputError(f"this Megatron has no {module.__name__}.{name}: its version is not known")
    signature = inspect.signature(own)

    @functools.wraps(own)
    def called(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        if before is not None:
            before(arguments)
        result = own(*args, **kwargs)
        if after is not None:
            after(arguments)
        return result

    setattr(module, name, called)


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
        sys.path.insert(0, str(own.script.resolve().parent))
        if own.blendlaw_cpu:
            cpu.install()
            rest += cpu.FLAGS  # the last of a flag counts
        bind(plan, own.blendlaw_dir)
        sys.argv = [str(own.script), *rest]
        runpy.run_path(str(own.script), run_name="__main__")
    except (InputError, OSError) as error:
        if int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1:
            say(f"error: {error}")
        raise SystemExit(1) from error
    if own.blendlaw_cpu:
        cpu.leave()


if __name__ == "__main__":
    main()
