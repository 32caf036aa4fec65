"""Before the trainer begins: the device, the ranks, and what must stay the same when it goes on.

Bound of Megatron (megatron-core 0.16.1): ``parallel_state.initialize_model_parallel`` and
``model_parallel_cuda_manual_seed``. It is imported late: the CPU rehearsal must come before.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.plan import Plan
from blendlaw.trainer_plan import Shape, known_vocabulary
from blendlaw_hooks import cpu

FAR = 0.2
"""How far a model's parameters may be from ``run.params`` before it is said."""

# What a run may change when it goes on: what is split otherwise, and what is only looked at.
FREE = {
    *("layers", "hidden", "heads", "ffn", "vocabulary", "vocabulary_divisor"),  # the shape is kept
    *("micro_batch", "tensor_parallel", "pipeline_parallel", "workers"),
    *("log_interval", "validation_interval", "validation_samples", "checkpoint_interval"),
}


class OutOfVocabulary(InputError):
    """A token that the model has no embedding of, met by one rank alone, in the midst of a step."""


def device() -> torch.device:
    """The GPU of this rank; or the CPU, where Megatron is made fit for it."""
    if torch.cuda.is_available() and torch.cuda.get_device_name() != "cpu":  # its rehearsal says so
        number = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(number)
        return torch.device("cuda", number)
    cpu.install()
    if "OMP_NUM_THREADS" not in os.environ:  # which torchrun sets for several ranks, not for one
        torch.set_num_threads(1)
    return torch.device("cpu")


def join(device: torch.device) -> None:
    """Meet the other ranks of torchrun; without it this process is the only one."""
    if torch.distributed.is_initialized():
        return
    backend = "gloo" if device.type == "cpu" else "nccl"
    if "RANK" in os.environ:
        torch.distributed.init_process_group(backend)
    else:
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)


def arrange(plan: Plan) -> int:
    """Split the ranks as the plan says and seed them; how many read data of their own."""
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    trainer = plan.trainer
    world: int = torch.distributed.get_world_size()
    model_ranks = trainer.tensor_parallel * trainer.pipeline_parallel
    if world % model_ranks:
        problem = f"{world} ranks cannot be split into groups of {model_ranks}"
        raise InputError(problem, column="trainer.tensor_parallel")
    data_ranks = world // model_ranks
    if trainer.global_batch % (trainer.micro_batch * data_ranks):
        raise InputError(
            f"must be a multiple of {data_ranks} data-parallel ranks with a micro_batch of "
            f"{trainer.micro_batch}",
            column="trainer.global_batch",
            value=trainer.global_batch,
        )
    parallel_state.destroy_model_parallel()  # of an earlier run in this process
    if (engine := sys.modules.get("transformer_engine.pytorch.fp8")) is not None:
        engine.FP8GlobalStateManager.reset()  # it goes on scaling for that run's model
    parallel_state.initialize_model_parallel(trainer.tensor_parallel, trainer.pipeline_parallel)
    random.seed(trainer.seed)
    np.random.seed(trainer.seed)  # noqa: NPY002 -- for whoever draws from the global state
    torch.manual_seed(trainer.seed)
    model_parallel_cuda_manual_seed(trainer.seed)
    return data_ranks


def vocabulary(plan: Plan) -> int:
    """The plan's vocabulary, or that of the corpus that its sources are of."""
    if plan.trainer.vocabulary is not None:
        return plan.trainer.vocabulary
    sources = [source.prefix for each in plan.languages.values() for source in each.sources]
    found = known_vocabulary(sources)
    if found is None:
        problem = "give it: there is no corpus.json beside the sources that tells it"
        raise InputError(problem, column="trainer.vocabulary")
    return found


def about(plan: Plan, shape: Shape, steps: int, data_ranks: int) -> str:
    """What is about to be trained, and whether it is the model that the plan is about."""
    trainer = plan.trainer
    told = (
        f"{shape}; {trainer.precision}, {steps} steps of {trainer.global_batch} × "
        f"{plan.run.sequence_length} tokens; ranks: tensor {trainer.tensor_parallel}, pipeline "
        f"{trainer.pipeline_parallel}, data {data_ranks}"
    )
    if abs(shape.params / plan.run.params - 1) > FAR:
        told += f"\nblendlaw: run.params is {plan.run.params:.4g}, this model has {shape.params:,}"
    return told


class Settings:
    """What must stay the same when a run goes on, kept in its trainer.json."""

    def __init__(self, folder: Path, plan: Plan, shape: Shape) -> None:
        self._folder, self._path = folder, folder / "trainer.json"
        fixed = {key: value for key, value in asdict(plan.trainer).items() if key not in FREE}
        self._now = {**asdict(shape), "sequence_length": plan.run.sequence_length, **fixed}

    def check(self, step: int) -> None:
        """InputError if the run that has got to ``step`` was started otherwise."""
        losses = self._folder / "losses.jsonl"
        begun = step > 0 or (losses.exists() and losses.stat().st_size > 0)
        if not (begun and self._path.exists()):
            return
        try:
            kept = json.loads(read_text(self._path))
            changed = [key for key, value in self._now.items() if kept[key] != value]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not what the trainer wrote: {error}", file=self._path) from None
        if changed:
            key = changed[0]
            problem = f"the run was started with {kept[key]!r}, so it cannot go on"
            raise InputError(problem, file=self._path, column=key, value=self._now[key])

    def keep(self) -> None:
        """Write them."""
        write_atomically(self._path, json.dumps(self._now, indent=2) + "\n")
