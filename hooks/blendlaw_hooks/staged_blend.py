"""StagedBlend: Megatron's BlendedDataset with weights that change from stage to stage.

Bound of Megatron (the same in core_v0.12 to 0.19 and main of August 2026): the public
``BlendedMegatronDatasetBuilder(cls, sizes, is_built_on_rank, config).build()`` with the config's
``blend``, ``blend_per_split``, ``split``, ``split_matrix``, ``mock`` and ``path_to_cache``; of a
mid-level dataset ``dataset_path``, where it has one. No private name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from blendlaw.errors import InputError
from blendlaw_hooks.staged_index import StagedIndex


class StagedBlend(torch.utils.data.Dataset[dict[str, Any]]):
    """A blend of ``datasets`` whose weights change by stage; no sample lost, none repeated.

    ``index`` says which sample of which dataset comes when. With one stage it is BlendedDataset's
    order. Raises InputError if ``datasets`` are not those of its layout or shorter than it says.
    """

    def __init__(self, datasets: Sequence[Any], index: StagedIndex, config: Any = None) -> None:
        sources = index.layout.sources
        if len(datasets) != len(sources):
            problem = f"{len(datasets)} datasets for {len(sources)} sources"
            raise InputError(problem, column="sources")
        for dataset, source in zip(datasets, sources, strict=True):
            path = getattr(dataset, "dataset_path", source.prefix)
            if path != source.prefix:
                raise InputError(f"the dataset of {path} in the place of {source.prefix}")
            if len(dataset) < source.samples:
                problem = f"has {len(dataset)} samples where the run may draw {source.samples}"
                raise InputError(problem, file=source.prefix)
        self.datasets = tuple(datasets)
        self.index = index
        self.config = config  # Megatron's own datasets have one

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        _, dataset, sample = self.index.locate(idx)
        return {"dataset_id": dataset, **self.datasets[dataset][sample]}


class Labelled(torch.utils.data.Dataset[dict[str, Any]]):
    """A dataset of Megatron whose samples say the number of their language as ``dataset_id``.

    ``language[i]`` is that of the i-th source of a blend; a dataset of one source has no id.
    """

    def __init__(self, dataset: Any, language: Sequence[int]) -> None:
        self._dataset = dataset
        self._language = np.array(language, np.int16)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        sample = dict(self._dataset[idx])
        sample["dataset_id"] = self._language[sample.get("dataset_id", 0)]
        return sample

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled there is no _dataset to ask
            raise AttributeError(name)
        return getattr(self._dataset, name)


def build_staged_blend(
    cls: type[Any], index: StagedIndex, config: Any, is_built_on_rank: Callable[[], bool]
) -> StagedBlend | None:
    """The training set of ``index``, from Megatron datasets of class ``cls`` (GPTDataset).

    ``config`` is Megatron's dataset config; its own blend and split are not used. Must be called
    on all ranks: Megatron's builder keeps them in step. None on a rank that builds no datasets.
    """
    datasets = []
    for source in index.layout.sources:
        single = per_split(config, [([source.prefix], None), None, None])
        datasets.append(_build(cls, [source.samples, None, None], is_built_on_rank, single)[0])
    if any(dataset is None for dataset in datasets):
        return None
    return StagedBlend(datasets, index, config)


def build_held_out(
    cls: type[Any],
    blend: Sequence[tuple[str, float]],
    language: Sequence[int],
    split: int,
    size: int | None,
    config: Any,
    is_built_on_rank: Callable[[], bool],
) -> Any:
    """Megatron's set of ``split`` (1 validation, 2 test), labelled.

    ``blend`` are prefixes and weights, ``language`` the number of each one's language; ``size``
    samples, None for all there are. With the config's ``multiple_validation_sets`` a list, one set
    a prefix. None where there are no prefixes, or on a rank that builds no datasets.
    """
    if not blend:
        return None
    weights = None if size is None else [weight for _, weight in blend]
    blends: list[Any] = [None, None, None]
    blends[split] = ([prefix for prefix, _ in blend], weights)
    sizes: list[int | None] = [None, None, None]
    sizes[split] = size
    built = _build(cls, sizes, is_built_on_rank, per_split(config, blends))[split]
    if isinstance(built, list):
        each = zip(built, language, strict=True)
        return [None if one is None else Labelled(one, [number]) for one, number in each]
    return None if built is None else Labelled(built, language)


def per_split(config: Any, blends: list[Any]) -> Any:
    """Megatron's dataset config with these blends of training, validation and test sets."""
    changed = copy.copy(config)
    changed.blend = changed.split = changed.split_matrix = None
    changed.blend_per_split = blends
    changed.mock = False
    return changed


def _build(cls: type[Any], sizes: list[Any], is_built_on_rank: Any, config: Any) -> list[Any]:
    from megatron.core.datasets.blended_megatron_dataset_builder import (
        BlendedMegatronDatasetBuilder,
    )

    built: list[Any] = BlendedMegatronDatasetBuilder(cls, sizes, is_built_on_rank, config).build()
    return built
