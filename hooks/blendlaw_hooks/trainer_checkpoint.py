"""The trainer's checkpoints: each whole or not there, the newest two kept.

A checkpoint is a folder ``step-<number>``. It is written beside, as ``.step-<number>``, and renamed
when all of it is on the disk. What is kept may be read under another layout of ranks.

Bound of Megatron (megatron-core 0.16.1): ``dist_checkpointing`` with the ``sharded_state_dict`` of
model and optimizer; ``OptimizerParamScheduler.state_dict``; the random states' tracker; and one
private name, ``filesystem_async._results_queue``.
"""

from __future__ import annotations

import queue
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import dist_checkpointing, parallel_state, tensor_parallel
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.strategies import filesystem_async

from blendlaw.errors import InputError
from blendlaw.files import sync
from blendlaw.trainer_process import checkpoint_steps
from blendlaw_hooks import ranks
from blendlaw_hooks.trainer_model import Model

KEPT = 2

FORM = {"singleton_local_shards": False, "chained_optim_avoid_prefix": True}
"""How Megatron describes its state; kept with a checkpoint. As in its own training loop."""

# Megatron's queue is a process of its own, for saving in the background (filesystem_async.py:54):
# it takes seconds to start, and outlives a run that is killed. Here save returns when it is done.
if hasattr(filesystem_async, "_results_queue"):
    filesystem_async._results_queue = queue.SimpleQueue()


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    return max(checkpoint_steps(folder), default=0)


def save(folder: Path, step: int, model: Model) -> None:
    """Write the checkpoint of ``step``, then remove all but the newest. By every rank."""
    beside, place = folder / f".{_name(step)}", folder / _name(step)
    ranks.on_one(0, lambda: _empty(beside))
    dist_checkpointing.save(_state(model, step), str(beside), content_metadata=FORM)
    ranks.on_one(0, lambda: _finish(folder, beside, place))


def load(folder: Path, step: int, model: Model) -> None:
    """Go on from the checkpoint of ``step``. By every rank."""
    place = folder / _name(step)
    layout = dist_checkpointing.load_common_state_dict(str(place))["layout"]
    wanted = _state(model, step, loading=True)
    if layout != wanted["layout"]:
        del wanted["random"]  # nothing of this model draws while it trains
    found = dist_checkpointing.load(wanted, str(place))
    if found["step"] != step:
        raise InputError(f"holds step {found['step']}", file=place)
    model.bare.load_state_dict(found["model"])
    model.optimizer.load_state_dict(found["optimizer"])
    model.scheduler.load_state_dict(found["scheduler"])
    if "random" in found:
        _set_random(found["random"])


def load_model(folder: Path, step: int, model: Model) -> None:
    """Take the weights of the checkpoint of ``step``, and nothing else. By every rank.

    Raises InputError if it is not there.
    """
    place = folder / _name(step)
    if not place.is_dir():
        known = ", ".join(map(str, checkpoint_steps(folder)))
        raise InputError(f"no checkpoint of that step: there are {known}", file=place)
    wanted = {"model": model.bare.sharded_state_dict(metadata=_content())}
    model.bare.load_state_dict(dist_checkpointing.load(wanted, str(place))["model"])


def clean(folder: Path) -> None:
    """Make the folder, without what killed runs left in it. By one rank."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".step-*"):
        shutil.rmtree(left)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _finish(folder: Path, beside: Path, place: Path) -> None:
    for path in (*beside.rglob("*"), beside):
        sync(path)
    beside.rename(place)
    sync(folder)
    for step in checkpoint_steps(folder)[:-KEPT]:
        old = folder / _name(step)
        # Out of sight first: half of a checkpoint must never be taken for one.
        shutil.rmtree(old.rename(folder / f".{old.name}"))


def _content() -> dict[str, Any]:
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    return {**FORM, "dp_cp_group": group}


def _state(model: Model, step: int, loading: bool = False) -> dict[str, Any]:
    content = _content()
    tensor = parallel_state.get_tensor_model_parallel_rank()
    pipeline = parallel_state.get_pipeline_model_parallel_rank()
    layout = (
        parallel_state.get_pipeline_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_world_size(),
    )
    state: dict[str, Any] = {"model": model.bare.sharded_state_dict(metadata=content)}
    state["optimizer"] = model.optimizer.sharded_state_dict(
        state, is_loading=loading, metadata=content
    )
    return state | {
        "scheduler": model.scheduler.state_dict(),
        "step": step,
        "layout": layout,
        "random": ShardedObject(
            "random",
            _random(),
            layout,
            (pipeline, tensor),
            replica_id=parallel_state.get_data_parallel_rank(with_context_parallel=True),
        ),
    }


def _random() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 -- the state there is, not a new one
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(),
        "tracked": tensor_parallel.get_cuda_rng_tracker().get_states(),
    }


def _set_random(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state(state["device"])
    tensor_parallel.get_cuda_rng_tracker().set_states(state["tracked"])
