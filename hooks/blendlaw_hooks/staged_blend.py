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
from blendlaw.pairs.kinds import Kinds
from blendlaw.pairs.plan import PAIRS
from blendlaw_hooks.pair_dataset import Labels, OneLanguage, PairLabels
from blendlaw_hooks.staged_index import StagedIndex


class StagedBlend(torch.utils.data.Dataset[dict[str, Any]]):
    """A blend of ``datasets`` whose weights change by stage; no sample lost, none repeated.

    ``index`` says which sample of which dataset comes when. With one stage it is BlendedDataset's
    order. ``labels``, one a dataset, say what each token is counted as; without them samples say
    their dataset only. Raises InputError if ``datasets`` are not those of its layout or shorter
    than it says.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        index: StagedIndex,
        config: Any = None,
        labels: Sequence[Labels] = (),
    ) -> None:
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
        self._labels = tuple(labels)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        _, number, index = self.index.locate(idx)
        dataset = self.datasets[number]
        sample = {"dataset_id": number, **dataset[index]}
        if self._labels:
            self._labels[number](dataset, int(index), sample)
        return sample


class Labelled(torch.utils.data.Dataset[dict[str, Any]]):
    """A dataset of Megatron whose samples say the number of their language as ``dataset_id``.

    ``language[i]`` is that of the i-th source of a blend; a dataset of one source has no id.
    ``labels``, one a source, say what each token is counted as.
    """

    def __init__(
        self, dataset: Any, language: Sequence[int], labels: Sequence[Labels] = ()
    ) -> None:
        self._dataset = dataset
        self._language = np.array(language, np.int16)
        self._labels = tuple(labels)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        sample = dict(self._dataset[idx])
        source = int(sample.get("dataset_id", 0))
        if self._labels:
            dataset, index = self._dataset, idx
            if "dataset_id" in sample:  # a blend
                dataset = self._dataset.datasets[source]
                index = int(self._dataset.dataset_sample_index[idx])
            self._labels[source](dataset, index, sample)
        sample["dataset_id"] = self._language[source]
        return sample

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled there is no _dataset to ask
            raise AttributeError(name)
        return getattr(self._dataset, name)


def build_staged_blend(
    cls: type[Any],
    index: StagedIndex,
    config: Any,
    is_built_on_rank: Callable[[], bool],
    kinds: Kinds,
) -> StagedBlend | None:
    """The training set of ``index``, from Megatron datasets of class ``cls`` (GPTDataset).

    ``config`` is Megatron's dataset config; its own blend and split are not used. ``kinds`` are
    what tokens are counted as. Translation pairs are read by GPTDataset whatever ``cls`` is:
    fill-in-the-middle would tear them. Must be called on all ranks: Megatron's builder keeps them
    in step. None on a rank that builds no datasets.
    """
    from megatron.core.datasets.gpt_dataset import GPTDataset

    datasets = []
    for source in index.layout.sources:
        single = per_split(config, [([source.prefix], None), None, None])
        of_source = GPTDataset if kinds.pairs and source.language == PAIRS else cls
        sizes = [source.samples, None, None]
        datasets.append(_build(of_source, sizes, is_built_on_rank, single)[0])
    if any(dataset is None for dataset in datasets):
        return None
    sources = [(source.prefix, source.language) for source in index.layout.sources]
    return StagedBlend(datasets, index, config, _labels(sources, kinds, config))


def build_held_out(
    cls: type[Any],
    sources: Sequence[tuple[str, float, str]],
    split: int,
    size: int | None,
    config: Any,
    is_built_on_rank: Callable[[], bool],
    kinds: Kinds,
) -> Any:
    """Megatron's set of ``split`` (1 validation, 2 test), labelled.

    ``sources`` are prefixes, their weights and languages; ``size`` samples, None for all there
    are. With the config's ``multiple_validation_sets`` a list, one set a prefix. None where there
    are no sources, or on a rank that builds no datasets.
    """
    if not sources:
        return None
    weights = None if size is None else [weight for _, weight, _ in sources]
    blends: list[Any] = [None, None, None]
    blends[split] = ([prefix for prefix, _, _ in sources], weights)
    sizes: list[int | None] = [None, None, None]
    sizes[split] = size
    built = _build(cls, sizes, is_built_on_rank, per_split(config, blends))[split]
    if built is None or (isinstance(built, list) and None in built):
        return built
    names = (*kinds.languages, PAIRS)
    numbers = [names.index(language) for _, _, language in sources]
    labels = _labels([(prefix, language) for prefix, _, language in sources], kinds, config)
    if isinstance(built, list):
        return [
            Labelled(one, [number], labels[place : place + 1])
            for place, (one, number) in enumerate(zip(built, numbers, strict=True))
        ]
    return Labelled(built, numbers, labels)


def _labels(sources: Sequence[tuple[str, str]], kinds: Kinds, config: Any) -> list[Labels]:
    """What the tokens of each of (prefix, language) are counted as; none without pairs."""
    if not kinds.pairs:
        return []
    return [
        PairLabels(prefix, kinds, config.sequence_length)
        if language == PAIRS
        else OneLanguage(kinds.languages.index(language))
        for prefix, language in sources
    ]


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
