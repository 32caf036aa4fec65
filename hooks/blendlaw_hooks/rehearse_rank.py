"""Rank 0 of a job that is not there: Megatron-LM's own start, as far as building the model.

Started by rehearse.py as a process of its own, with what it is to do as JSON on stdin (``Task``).
The script runs as it would on the cluster: its parser and validation, its process groups of all
ranks, the launcher's refusals, the model's configuration, and, if asked to, its data sets. What is
not there stands in: the patches of cpu.py, a GPU of capability 9.0, and process groups of torch's
``fake`` backend, in which nothing is sent. What was found is written as JSON (``Start``).
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import errors_said
from blendlaw_hooks import cpu, ranks
from blendlaw_hooks.launch import Launch, beside, run
from blendlaw_hooks.refusals import refuse

HOPPER = (9, 0)
WITHOUT_ENGINE = ("--no-rope-fusion",)
"""Added to the flags: the one fusion for which Megatron's validation wants Transformer Engine."""


@dataclass(frozen=True)
class Task:
    """``flags`` of ``script`` on so many ``ranks``; with ``indices`` the run's data sets too.

    ``folder`` takes the schedule that the first stage is decided in; ``found`` is the file to
    write.
    """

    script: str
    flags: Sequence[str]
    ranks: int
    plan: str
    folder: str
    found: str
    indices: bool


@dataclass(frozen=True)
class Start:
    """What Megatron made of the flags; ``samples`` by data set, if they were built, and the time.

    ``layout`` are the ranks of each kind of parallelism; ``parameters`` those of the whole model
    and ``gigabytes`` of weights, gradients and optimizer on the fullest rank, by its formulas.
    """

    version: str
    layout: dict[str, int]
    microbatches: int
    steps: int
    parameters: float
    gigabytes: float
    samples: dict[str, int] | None
    seconds: float


class _Done(Exception):
    """The start is made."""


class FirstRank(Launch):
    """The launcher, up to the model: there it builds the data sets, if asked to, and stops."""

    def __init__(self, plan: Plan, task: Task) -> None:
        super().__init__(plan, Path(task.folder))
        self._task = task
        self.start: Start | None = None

    def provider(self, provide: Any) -> Any:
        self._provide = super().provider(provide)
        return self._provide

    def setting_up(self, arguments: dict[str, Any]) -> None:
        from megatron.core import num_microbatches_calculator, package_info
        from megatron.core import parallel_state as state
        from megatron.training import get_args

        args = get_args()
        refuse(args, self.plan)
        _configuration(args)
        began = time.monotonic()
        args.iteration = 0  # as setting up sets it where there is no checkpoint
        samples = self._data() if self._task.indices else None
        memory = _memory(args)
        layout = {
            "TP": state.get_tensor_model_parallel_world_size(),
            "PP": state.get_pipeline_model_parallel_world_size(),
            "CP": state.get_context_parallel_world_size(),
            "DP": state.get_data_parallel_world_size(),
        }
        self.start = Start(
            package_info.__version__,
            layout,
            num_microbatches_calculator.get_num_microbatches(),
            args.train_iters or args.train_samples // args.global_batch_size,
            *memory,
            samples,
            time.monotonic() - began,
        )
        raise _Done

    def _data(self) -> dict[str, int]:
        from megatron.training.training import get_train_valid_test_num_samples

        sizes = get_train_valid_test_num_samples()
        built = dict(zip(("train", "valid", "test"), self._provide(sizes), strict=True))
        self.end()
        found = {}
        for name, one in built.items():
            if one is not None:
                found[name] = sum(map(len, one)) if isinstance(one, list) else len(one)
        return found


def _configuration(args: Any) -> None:
    """The model's configuration, whose checks are further than those of the flags."""
    try:
        from megatron.training.arguments import core_transformer_config_from_args as make
    except ImportError:  # since 0.20
        from megatron.training.utils import core_transformer_config_from_args as make
    make(args)


def _memory(args: Any) -> tuple[float, float]:
    """Parameters, and gigabytes of weights and optimizer on the fullest rank, as Megatron says."""
    from megatron.training import theoretical_memory_usage as theory

    of_rank, whole = copy.copy(args), copy.copy(args)  # they are written to
    whole.tensor_model_parallel_size = whole.pipeline_model_parallel_size = 1
    whole.use_distributed_optimizer = False
    fullest = theory.compute_weight_and_optimizer_memory(of_rank)
    # 18 bytes a parameter where nothing is split: bf16, fp32, a gradient and two moments.
    return theory.compute_weight_and_optimizer_memory(whole) / 18, fullest / 1e9


def _do(action: Callable[[], object]) -> None:
    action()


def groups_of(world: int) -> None:
    """This process is rank 0 of ``world``; what is sent to others goes nowhere.

    torch's own tests use the backend so; it comes with torch.
    """
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed: Any = torch.distributed
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    make = distributed.new_group

    @wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        return make(*args, **kwargs | {"backend": "fake"})

    distributed.new_group = made
    # What one rank does for all and each does for itself, this one does: there is no other.
    ranks.on_one = lambda writer, action: action()
    ranks.on_each = _do


def main() -> None:
    """Carry out the task on stdin."""
    task = Task(**json.load(sys.stdin))
    os.environ |= {"WORLD_SIZE": str(task.ranks), "RANK": "0", "LOCAL_RANK": "0"}
    beside(Path(task.script))
    cpu.install()
    torch.cuda.get_device_properties().major = HOPPER[0]
    torch.cuda.get_device_capability = lambda *args: HOPPER
    groups_of(task.ranks)
    launch = FirstRank(read_plan(task.plan), task)
    with errors_said(), suppress(_Done):
        run(Path(task.script), [*task.flags, *WITHOUT_ENGINE], launch)
    if launch.start is not None:
        Path(task.found).write_text(json.dumps(asdict(launch.start)))
    cpu.leave()


if __name__ == "__main__":
    main()
