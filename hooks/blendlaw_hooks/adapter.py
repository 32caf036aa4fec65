"""What the launcher and the adapter of Megatron-Bridge do alike: datasets, losses, steps.

Bound of megatron.core, by name (the same in 0.12 to 0.19 and main of August 2026): the method
``build`` of ``BlendedMegatronDatasetBuilder``, from whose instance the stack's own dataset class
and config are taken; the rerun state machine; ``parallel_state`` and ``get_num_microbatches``.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.plan import Plan
from blendlaw_hooks.staged_run import PREFETCH_FACTOR, StagedRun
from blendlaw_hooks.trackers import Writers


@dataclass(frozen=True)
class Job:
    """What a stack says of its training: ``step`` steps are done, ``consumed`` samples in them.

    ``global_batch`` (the largest) and ``micro_batch`` are in samples, ``workers`` data loading
    processes a rank.
    """

    step: int
    consumed: int
    global_batch: int
    micro_batch: int
    workers: int
    log_interval: int
    tracker: Writers


class Adapter(ABC):
    """A plan's run inside a ``pretrain`` that has a dataset provider and a forward step."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.run: StagedRun | None = None

    @abstractmethod
    def job(self) -> Job:
        """The job as it is when the datasets are built."""

    @abstractmethod
    def progress(self) -> tuple[int, int, int]:
        """Steps and samples done before the one under way, and the size of a microbatch."""

    def provider(self, provide: Callable[..., Any]) -> Callable[..., Any]:
        """The stack's dataset provider, whose blends are those of the plan."""

        @functools.wraps(provide)
        def provided(*args: Any, **kwargs: Any) -> Any:
            with self._building():
                return provide(*args, **kwargs)

        return provided

    def forward_step(self, forward_step: Callable[..., Any]) -> Callable[..., Any]:
        """Megatron's ``forward_step(data_iterator, model, …)``, its losses counted by language."""

        @functools.wraps(forward_step)
        def counted(*args: Any, **kwargs: Any) -> Any:
            assert self.run is not None, "datasets are built before the first step"
            return self.run.measured.wrap_forward_step(forward_step)(*args, **kwargs)

        return counted

    def validated(self, step: int, split: str) -> None:
        """An evaluation of ``split``, valid or test, has ended."""
        if self.run is not None:
            self.run.after_validation(step, split)

    def saving(self, step: int) -> None:
        """A checkpoint of ``step`` is about to be made."""
        if self.run is not None:
            self.run.before_save(step)

    def end(self) -> None:
        """Nothing follows, or begins anew."""
        if self.run is not None:
            self.run.end()
            self.run = None

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Megatron's builder builds the plan's blends, with the stack's own class and config."""
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

        job = self.job()
        step_of_all = job.micro_batch * parallel_state.get_data_parallel_world_size()
        self.run = StagedRun(
            self.plan,
            self.folder,
            samples=builder.sizes[0],
            consumed=job.consumed,
            batch=job.global_batch,
            prefetched=job.workers * PREFETCH_FACTOR * step_of_all,
            log_interval=job.log_interval,
            device=torch.cuda.current_device(),
            writer=torch.distributed.get_world_size() - 1,  # Megatron's trackers are on it
            surplus=getattr(builder.config, "mid_level_dataset_surplus", None),
            cache=builder.config.path_to_cache,
            counting=parallel_state.get_tensor_model_parallel_rank() == 0,
            context_parallel=(
                parallel_state.get_context_parallel_world_size(),
                parallel_state.get_context_parallel_rank(),
            ),
            tracker=job.tracker,
        )
        self.run.begin(job.step)
        self.run.measured.follow_reruns(get_rerun_state_machine(), self._stepped)

    def _stepped(self) -> None:
        from megatron.core.num_microbatches_calculator import get_num_microbatches
        from megatron.core.parallel_state import get_data_parallel_world_size

        step, consumed, micro_batch = self.progress()
        batch = get_num_microbatches() * micro_batch * get_data_parallel_world_size()
        assert self.run is not None
        # Megatron counts both once the optimizer has stepped.
        self.run.after_step(step + 1, consumed + batch, batch)


def around(
    module: Any,
    name: str,
    before: Callable[[dict[str, Any]], None] | None = None,
    after: Callable[[dict[str, Any]], None] | None = None,
) -> Callable[[], None]:
    """Call ``before`` and ``after`` a function of Megatron with its arguments by name.

    Returns what puts the function back. Raises InputError if there is none of that name.
    """
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
    return lambda: setattr(module, name, own)
