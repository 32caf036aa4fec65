"""What the trainer reads: the staged blend and the held-out sets, in Megatron's order of samples.

Bound of Megatron (megatron-core 0.16.1): ``GPTDataset`` and ``GPTDatasetConfig``;
``parallel_state``'s ranks, sizes and groups.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.indexed import Index
from blendlaw.plan import Plan
from blendlaw_hooks import ranks
from blendlaw_hooks.staged_blend import build_held_out, build_staged_blend
from blendlaw_hooks.staged_run import PREFETCH_FACTOR, StagedRun
from blendlaw_hooks.trainer_setup import OutOfVocabulary

LOOKED_AT = 1 << 22
"""Tokens of each source whose ids are looked at before training; later ones as they are read."""

TENSORS = {
    "tokens": torch.int64,
    "labels": torch.int64,
    "loss_mask": torch.float32,
    "position_ids": torch.int64,
}


class Ids:
    """All that GPTDataset needs of a tokenizer; without a ``pad`` it masks no token."""

    unique_identifiers: Mapping[str, str] = {}
    eod = 0

    def __init__(self, vocabulary: int) -> None:
        self.vocab_size = vocabulary


@dataclass(frozen=True)
class Data:
    """The training set and, by language, the validation sets; None where a rank reads nothing."""

    train: Any
    valid: Mapping[str, Any]


def reads() -> bool:
    """Whether this rank reads data: its first of tensor-parallel ranks, where they are needed."""
    ends = parallel_state.is_pipeline_first_stage() or parallel_state.is_pipeline_last_stage()
    return bool(ends) and first_of_tensor_group()


def first_of_tensor_group() -> bool:
    """Whether this rank is the first of its tensor-parallel group."""
    return bool(parallel_state.get_tensor_model_parallel_rank() == 0)


def build_data(plan: Plan, run: StagedRun, vocabulary: int, cache: Path, *, own: bool) -> Data:
    """The sets of ``run``, their indices in the folder ``cache``, which is the run's ``own``.

    Megatron writes an index in place, so one that a killed run left may be cut short: until all
    of a run's own are there they are made anew.
    """
    size = validation_size(plan)  # the one thing that may change from start to start
    whole = cache / f"complete-{size}"
    if own:
        ranks.on_one(0, lambda: None if whole.exists() else shutil.rmtree(cache, True))
    config = GPTDatasetConfig(
        random_seed=plan.trainer.seed,
        sequence_length=plan.run.sequence_length,
        path_to_cache=str(cache),
        tokenizer=Ids(vocabulary),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    train = build_staged_blend(GPTDataset, run.index, config, reads, run.kinds)
    held_out = blend(plan, run.schedule.records[0].weights, 1.0).valid
    valid = {}
    for name, language in plan.mixture.items():
        own_prefixes = {source.prefix for source in language.valid_sources}
        sources = [(prefix, w, name) for prefix, w in held_out if prefix in own_prefixes]
        if sources:
            valid[name] = build_held_out(GPTDataset, sources, 1, size, config, reads, run.kinds)
    if own:
        ranks.on_one(0, whole.touch)
    return Data(train, valid)


def validation_size(plan: Plan) -> int:
    """Validation samples of each language: whole global batches, so that any layout has them."""
    batch = plan.trainer.global_batch
    return -(-plan.trainer.validation_samples // batch) * batch


class Order:
    """The samples of each of this rank's microbatches from ``first`` to ``end``, as Megatron's."""

    def __init__(self, first: int, end: int, micro: int) -> None:
        self._step = micro * parallel_state.get_data_parallel_world_size()
        self._first = first + micro * parallel_state.get_data_parallel_rank()
        self._end = end
        self._micro = micro

    def __len__(self) -> int:
        return len(range(self._first, self._end, self._step))

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(self._first, self._end, self._step):
            yield list(range(start, start + self._micro))


def microbatches(
    dataset: Any, first: int, end: int, micro: int, workers: int, pin: bool
) -> Iterator[Mapping[str, Any]] | None:
    """This rank's microbatches of samples ``first`` to ``end``; None where it reads nothing."""
    if dataset is None:
        return None
    loader: Iterator[Mapping[str, Any]] = iter(
        torch.utils.data.DataLoader(
            dataset,
            batch_sampler=Order(first, end, micro),
            num_workers=workers,
            prefetch_factor=PREFETCH_FACTOR if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pin,
        )
    )
    return loader


def check_sources(plan: Plan, vocabulary: int) -> None:
    """InputError if a set to validate on is missing, or a source has a token too large.

    Of each source the beginning is read. Missing training sources are told by StagedRun.
    """
    for name, language in plan.mixture.items():
        for source in (*language.sources, *language.valid_sources):
            index, data = Path(source.prefix + ".idx"), Path(source.prefix + ".bin")
            missing = [path for path in (index, data) if not path.is_file()]
            if not missing:
                dtype = Index(source.prefix).dtype
                if dtype is not None:
                    largest = int(np.fromfile(data, dtype, LOOKED_AT).max(initial=0))
                    if largest >= vocabulary:
                        problem = _too_large(largest, vocabulary)
                        raise InputError(problem, file=data, column="trainer.vocabulary")
            elif source in language.valid_sources and "://" not in source.prefix:
                raise InputError(f"no such file, to validate {name} on", file=missing[0])


def _too_large(token: int, vocabulary: int) -> str:
    return f"there is a token {token}, but the vocabulary has {vocabulary}"


def batch_on_this_rank(
    batches: Iterator[Mapping[str, Any]] | None,
    shape: tuple[int, int],
    vocabulary: int,
    device: torch.device,
) -> dict[str, torch.Tensor | None]:
    """The next microbatch of ``shape`` (samples, tokens), which the first rank reads for all.

    Of a tensor-parallel group, that is. Nothing in the middle of a pipeline.
    """
    if not (parallel_state.is_pipeline_first_stage() or parallel_state.is_pipeline_last_stage()):
        return dict.fromkeys(TENSORS)
    if batches is not None:
        read = next(batches)
        largest = max(int(read["tokens"].max()), int(read["labels"].max()))
        if largest >= vocabulary:
            raise OutOfVocabulary(_too_large(largest, vocabulary), column="trainer.vocabulary")
        found = {
            name: read[name].to(device, dtype, non_blocking=True) for name, dtype in TENSORS.items()
        }
    else:
        found = {n: torch.empty(shape, dtype=dtype, device=device) for n, dtype in TENSORS.items()}
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        for tensor in found.values():
            torch.distributed.broadcast(
                tensor,
                parallel_state.get_tensor_model_parallel_src_rank(),
                group=parallel_state.get_tensor_model_parallel_group(),
            )
    return {**found}
