"""StagedBlend against Megatron's own BlendedDataset, and its promises on random stages."""

from __future__ import annotations

import multiprocessing
import pickle
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blendlaw.blend import blend
from blendlaw.errors import InputError
from blendlaw.layout import LaidSource, Layout, lay_out
from blendlaw.pairs.kinds import Kinds
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage
from blendlaw.schedule import StageRecord, append

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("megatron.core.datasets.helpers", reason="megatron-core is not installed")

from megatron.core.datasets.blended_dataset import BlendedDataset  # noqa: E402
from megatron.core.datasets.blended_megatron_dataset_builder import (  # noqa: E402
    BlendedMegatronDatasetBuilder,
)
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig  # noqa: E402
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder  # noqa: E402
from megatron.core.datasets.utils import Split as MegatronSplit  # noqa: E402
from megatron.core.datasets.utils import normalize  # noqa: E402

from blendlaw_hooks.staged_blend import StagedBlend, build_staged_blend  # noqa: E402
from blendlaw_hooks.staged_index import StagedIndex  # noqa: E402
from blendlaw_hooks.staged_run import FILES_OF_SOURCE  # noqa: E402

LENGTH = 16


@dataclass(frozen=True)
class Numbers:
    """A dataset whose samples say which they are."""

    size: int
    name: int = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, idx: int) -> dict[str, Any]:
        if not 0 <= idx < self.size:
            raise IndexError(idx)
        return {"sample": int(idx), "name": self.name}


def no_cache() -> Any:
    return SimpleNamespace(path_to_cache=None)


def layout(sizes: list[int], languages: list[str], most: int) -> Layout:
    """Stages of ``sizes`` over one source a language, ``most`` samples of each."""
    sources = tuple(LaidSource(f"p{n}", name, 1.0, most) for n, name in enumerate(languages))
    stages = tuple(str(number) for number in range(len(sizes)))
    return Layout(sources, stages, tuple(np.cumsum([0, *sizes]).tolist()))


def decide(path: Path, laid: Layout, number: int, weights: list[float]) -> StageRecord:
    by_language = dict(zip((s.language for s in laid.sources), weights, strict=True))
    start = laid.boundaries[number]
    record = StageRecord(laid.stages[number], start, by_language, start, "test")
    append(path, record)
    return record


def staged(laid: Layout, path: Path, config: Any = None, patience: float = 0.0) -> StagedBlend:
    datasets = [Numbers(source.samples, n) for n, source in enumerate(laid.sources)]
    cache = (config or no_cache()).path_to_cache
    return StagedBlend(datasets, StagedIndex(laid, path, cache, patience))


def order(data: StagedBlend, start: int = 0) -> list[tuple[int, int]]:
    drawn = (data[idx] for idx in range(start, data.index.layout.boundaries[-1]))
    return [(int(each["dataset_id"]), each["sample"]) for each in drawn]


# The order is Megatron's.


class Tokenizer:
    """What GPTDataset asks of one."""

    vocab_size = 500
    eod = 0
    pad = 499
    unique_identifiers: dict[str, str] = {}  # noqa: RUF012


def write_source(prefix: Path, documents: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.uint16)
    for _ in range(documents):
        tokens = rng.integers(1, 498, rng.integers(5, 60))
        builder.add_document(torch.from_numpy(tokens.astype(np.int64)), [len(tokens)])
    builder.finalize(f"{prefix}.idx")


@pytest.fixture(scope="module")
def prefixes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sources")
    for number, documents in enumerate((300, 40, 120, 80)):
        write_source(folder / f"s{number}", documents, number)
    return [str(folder / f"s{number}") for number in range(4)]


def megatron_config(prefixes: list[str], weights: list[float], cache: str | None) -> Any:
    return GPTDatasetConfig(
        random_seed=7,
        sequence_length=LENGTH,
        blend_per_split=[(prefixes, weights), None, None],
        path_to_cache=cache,
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )


def plan(prefixes: list[str], stages: list[tuple[int, Any]]) -> Plan:
    """Three languages; the second has two sources."""
    first, second, third, fourth = prefixes
    languages = {
        "Go": LanguagePlan((Source(first),)),
        "C": LanguagePlan((Source(second, share=0.3), Source(third, share=0.7))),
        "Zig": LanguagePlan((Source(fourth),)),
    }
    made = tuple(
        Stage(str(n), float(samples * LENGTH), weights)
        for n, (samples, weights) in enumerate(stages)
    )
    total = float(sum(samples for samples, _ in stages) * LENGTH)
    return Plan(Run(1e9, total, LENGTH), languages, made)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(np.asarray(ours[key]), np.asarray(theirs[key])) for key in ours)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "weights", [{"Go": 0.5, "C": 0.3, "Zig": 0.2}, {"Go": 1 / 3, "C": 1 / 3, "Zig": 1 / 3}]
)
def test_one_stage_is_megatrons_blend_bit_for_bit(
    prefixes: list[str], tmp_path: Path, weights: dict[str, float], cached: bool
) -> None:
    samples = 2000
    made = plan(prefixes, [(samples, weights)])
    laid = lay_out(made, samples)
    append(tmp_path / "s.jsonl", StageRecord("0", 0, weights, 0, "plan"))
    theirs_weights = [weights["Go"], weights["C"] * 0.3, weights["C"] * 0.7, weights["Zig"]]
    cache = str(tmp_path / "cache") if cached else None
    config = megatron_config(prefixes, theirs_weights, cache)

    sizes = [samples, None, None]
    if cached:  # core ≤ 0.18 asks torch.distributed for its rank there
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
        )
    try:
        theirs = BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[0]
        ours = build_staged_blend(
            GPTDataset,
            StagedIndex(laid, tmp_path / "s.jsonl", config.path_to_cache),
            config,
            lambda: True,
            Kinds(()),
        )
    finally:
        if cached:
            torch.distributed.destroy_process_group()
    assert isinstance(theirs, BlendedDataset)
    assert ours is not None
    assert [d.unique_description for d in ours.datasets] == [
        d.unique_description for d in theirs.datasets
    ]
    assert samples <= len(theirs) <= len(ours)
    for idx in range(len(theirs)):
        _, dataset, sample = ours.index.locate(idx)
        assert dataset == theirs.dataset_index[idx]
        assert sample == theirs.dataset_sample_index[idx]
        assert dataset.dtype == theirs.dataset_index.dtype
        if idx % 50 == 0:
            assert same(ours[idx], theirs[idx])
    assert not list(tmp_path.glob("cache/.*"))
    assert len(list(tmp_path.glob("cache/*StagedIndex*"))) == (3 if cached else 0)


@settings(deadline=None)
@example([1, 1, 2, 1, 8, 6], 5000, 0)
@example([1, 5, 8, 2, 6, 7, 9, 11, 5, 5, 6], 5000, 0)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=12), st.integers(1, 600), st.integers(0, 3)
)
def test_weights_are_megatrons_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int], samples: int, shared: int
) -> None:
    """Its builder normalizes twice, and the last bit decides ties: in one of ten such orders."""
    path = tmp_path_factory.mktemp("weights") / "s.jsonl"
    weights = {f"L{n}": part / sum(parts) for n, part in enumerate(parts)}
    languages = {
        name: LanguagePlan(tuple(Source(f"{name}-{k}", share=share) for k, share in enumerate(of)))
        for number, name in enumerate(weights)
        for of in [(0.3, 0.7) if number < shared else (1.0,)]
    }
    stage = Stage("0", float(samples * LENGTH), weights)
    made = Plan(Run(1e9, float(samples * LENGTH), LENGTH), languages, (stage,))
    laid = lay_out(made, samples)
    append(path, StageRecord("0", 0, weights, 0, "plan"))
    ours = staged(laid, path)

    class Split(Numbers):
        index_split = MegatronSplit.train
        unique_identifiers = {}  # noqa: RUF012

    # As read from a blend file, normalized by the builder, which passes it on to BlendedDataset.
    theirs = BlendedDataset(
        [Split(samples) for _ in laid.sources],
        normalize([source.weight for source in blend(made, weights, 1.0).sources]),
        samples,
        SimpleNamespace(path_to_cache=None, defer_npy_index_mmap=False),
    )
    located = [ours.index.locate(idx) for idx in range(samples)]
    assert [dataset for _, dataset, _ in located] == theirs.dataset_index.tolist()
    assert [sample for _, _, sample in located] == theirs.dataset_sample_index.tolist()


def test_stages_of_real_sources_go_on_where_they_stood(prefixes: list[str], tmp_path: Path) -> None:
    first, second = {"Go": 0.5, "C": 0.3, "Zig": 0.2}, {"Go": 0.0, "C": 0.6, "Zig": 0.4}
    made = plan(prefixes, [(500, first), (500, second)])
    laid = lay_out(made, 1000)
    append(tmp_path / "s.jsonl", StageRecord("0", 0, first, 0, "plan"))
    append(tmp_path / "s.jsonl", StageRecord("1", 500, second, 0, "plan"))
    config = megatron_config(prefixes, [1.0] * 4, None)
    ours = build_staged_blend(
        GPTDataset,
        StagedIndex(laid, tmp_path / "s.jsonl", config.path_to_cache),
        config,
        lambda: True,
        Kinds(()),
    )
    assert ours is not None
    seen: list[list[int]] = [[] for _ in prefixes]
    for idx in range(1000):
        _, dataset, sample = ours.index.locate(idx)
        seen[dataset].append(int(sample))
        assert same(ours[idx], {"dataset_id": dataset, **ours.datasets[dataset][sample]})
    assert all(each == list(range(len(each))) for each in seen)
    assert [len(each) for each in seen] == pytest.approx([250, 135, 315, 300], abs=3)
    again = pickle.loads(pickle.dumps(ours))
    assert [again.index.locate(idx) for idx in range(1000)] == [
        ours.index.locate(idx) for idx in range(1000)
    ]


# None lost, none repeated.


@st.composite
def stages(draw: st.DrawFn) -> tuple[list[int], list[list[float]]]:
    n = draw(st.integers(1, 6))
    sizes, weights = [], []
    for _ in range(draw(st.integers(1, 6))):
        part = st.one_of(st.just(0.0), st.floats(1e-4, 1))
        parts = np.array(draw(st.lists(part, min_size=n, max_size=n)))
        if not parts.any():
            parts[draw(st.integers(0, n - 1))] = 1.0
        sizes.append(draw(st.integers(1, 400)))
        weights.append((parts / parts.sum()).tolist())
    return sizes, weights


@settings(max_examples=60, deadline=None)
@given(stages(), st.data())
def test_whatever_the_stages(
    tmp_path_factory: pytest.TempPathFactory,
    given_stages: tuple[list[int], list[list[float]]],
    data: st.DataObject,
) -> None:
    sizes, weights = given_stages
    folder = tmp_path_factory.mktemp("stages")
    languages = [f"L{n}" for n in range(len(weights[0]))]
    laid = layout(sizes, languages, sum(sizes))
    config = SimpleNamespace(path_to_cache=data.draw(st.sampled_from([None, str(folder)])))
    running = staged(laid, folder / "s.jsonl", config)
    found: list[tuple[int, int]] = []
    for number, (start, end) in enumerate(pairwise(laid.boundaries)):
        decide(folder / "s.jsonl", laid, number, weights[number])
        drawn = [running[idx] for idx in range(start, end)]
        found += [(int(each["dataset_id"]), each["sample"]) for each in drawn]
        # Each stage's share is its weight, but for two samples.
        counts = np.bincount([d for d, _ in found[start:]], minlength=len(languages))
        assert np.abs(counts - sizes[number] * np.array(weights[number])).max() <= 2
        assert (counts[np.array(weights[number]) == 0] == 0).all()
    for dataset in range(len(languages)):
        # Contiguous from 0 across all stages.
        samples = [sample for each, sample in found if each == dataset]
        assert samples == list(range(len(samples)))
    # Any resume point gives the same order, with and without the cache.
    resumed = data.draw(st.integers(0, sum(sizes) - 1))
    assert order(staged(laid, folder / "s.jsonl", config), resumed) == found[resumed:]
    assert order(staged(laid, folder / "s.jsonl"), resumed) == found[resumed:]


def test_reading_backwards_is_the_same(tmp_path: Path) -> None:
    laid = layout([50, 70, 30], ["a", "b"], 150)
    for number, weights in enumerate(([0.3, 0.7], [1.0, 0.0], [0.5, 0.5])):
        decide(tmp_path / "s.jsonl", laid, number, weights)
    forwards = order(staged(laid, tmp_path / "s.jsonl"))
    backwards = staged(laid, tmp_path / "s.jsonl")
    ids = [backwards[idx] for idx in reversed(range(150))]
    assert [(int(i["dataset_id"]), i["sample"]) for i in reversed(ids)] == forwards
    assert len(backwards) == 152
    for outside in (-1, 152):
        with pytest.raises(IndexError):
            backwards[outside]


# Workers see a stage that is decided while they run.


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_persistent_workers_see_a_new_stage(tmp_path: Path, start_method: str) -> None:
    if start_method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start_method} here")
    laid = layout([64, 64], ["a", "b"], 128)
    path = tmp_path / "s.jsonl"
    config = SimpleNamespace(path_to_cache=str(tmp_path / "cache"))
    decide(path, laid, 0, [0.5, 0.5])
    ours = staged(laid, path, config, patience=60.0)
    loader = torch.utils.data.DataLoader(
        ours,
        batch_sampler=[list(range(k, k + 4)) for k in range(0, 128, 4)],
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=start_method,
    )
    batches = iter(loader)
    got = [next(batches) for _ in range(14)]  # prefetching has met the end of the stage by now
    time.sleep(0.5)
    decide(path, laid, 1, [0.25, 0.75])
    got += list(batches)
    ids = np.concatenate([batch["dataset_id"].numpy() for batch in got])
    samples = np.concatenate([batch["sample"].numpy() for batch in got])
    assert got[0]["dataset_id"].dtype == torch.int16
    assert order(ours) == list(zip(ids.tolist(), samples.tolist(), strict=True))
    assert np.bincount(ids[64:]).tolist() == [16, 48]


def test_a_stage_that_is_never_decided(tmp_path: Path) -> None:
    laid = layout([10, 10], ["a", "b"], 20)
    decide(tmp_path / "s.jsonl", laid, 0, [0.5, 0.5])
    ours = staged(laid, tmp_path / "s.jsonl", patience=0.2)
    told = r"s\.jsonl: sample 13 is in stage '1', which starts at 10 and was not decided within 0.2"
    with pytest.raises(InputError, match=told):
        ours[13]
    later = threading.Timer(0.3, decide, (tmp_path / "s.jsonl", laid, 1, [1.0, 0.0]))
    later.start()
    patient = staged(laid, tmp_path / "s.jsonl", patience=30.0)
    assert patient[13]["dataset_id"] == 0
    later.join()


# What does not belong together is refused.


def test_datasets_of_another_layout(prefixes: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    laid = layout([10], ["a", "b"], 10)
    with pytest.raises(InputError, match="sources: 1 datasets for 2 sources"):
        StagedBlend([Numbers(10)], StagedIndex(laid, path))
    with pytest.raises(InputError, match="p1: has 9 samples where the run may draw 10"):
        StagedBlend([Numbers(10), Numbers(9)], StagedIndex(laid, path))
    made = plan(prefixes, [(100, {"Go": 0.5, "C": 0.3, "Zig": 0.2})])
    laid = lay_out(made, 100)
    config = megatron_config(prefixes, [1.0] * 4, None)
    ours = build_staged_blend(GPTDataset, StagedIndex(laid, path), config, lambda: True, Kinds(()))
    assert ours is not None
    with pytest.raises(InputError, match=r"the dataset of .*s3 in the place of .*s0"):
        StagedBlend(ours.datasets[::-1], StagedIndex(laid, path))


def test_a_schedule_of_other_languages(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    decide(path, layout([10], ["a", "c"], 10), 0, [0.5, 0.5])
    with pytest.raises(InputError, match=r"s\.jsonl:1: no weight of 'b', which has sources"):
        staged(layout([10], ["a", "b"], 10), path)


def test_a_schedule_that_is_rewritten_under_a_run(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    laid = layout([10, 10], ["a", "b"], 20)
    record = decide(path, laid, 0, [0.5, 0.5])
    ours = staged(laid, path)
    path.write_bytes(replace(record, weights={"a": 0.1, "b": 0.9}).line())
    with pytest.raises(InputError, match="lines that this run has trained by were changed"):
        ours[15]


def test_a_stage_is_prepared_before_it_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    laid = layout([40, 40], ["a", "b"], 50)
    decide(path, laid, 0, [0.5, 0.5])
    config = SimpleNamespace(path_to_cache=str(tmp_path / "cache"))
    ours = staged(laid, path, config)
    with pytest.raises(InputError, match=r"stage '1' would bring p1 \(b\) to 60 samples"):
        ours.index.prepare(StageRecord("1", 40, {"a": 0.0, "b": 1.0}, 30, ""))
    ours.index.prepare(StageRecord("1", 40, {"a": 0.5, "b": 0.5}, 30, ""))
    files = set((tmp_path / "cache").iterdir())
    assert len(files) == 6
    # Prepared is not decided: other weights may follow.
    decide(path, laid, 1, [0.75, 0.25])
    assert np.bincount([d for d, _ in order(ours)[40:]]).tolist() == [30, 10]
    assert files < set((tmp_path / "cache").iterdir())
    ours.index.prepare(StageRecord("1", 40, {"a": 0.75, "b": 0.25}, 40, "test"))


def test_a_full_disk_is_met_before_the_stage_is_recorded(tmp_path: Path) -> None:
    path, cache = tmp_path / "s.jsonl", tmp_path / "cache"
    laid = layout([4, 4000], ["a", "b"], 4000)
    decide(path, laid, 0, [0.5, 0.5])
    ours = staged(laid, path, SimpleNamespace(path_to_cache=str(cache)))
    record = StageRecord("1", 4, {"a": 0.5, "b": 0.5}, 4, "")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            ours.index.prepare(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list(cache.iterdir())) == 3  # those of the first stage
    ours.index.prepare(record)
    assert len(list(cache.iterdir())) == 6


# Many sources.


def test_as_many_files_are_open_as_the_limit_is_raised_for(
    prefixes: list[str], tmp_path: Path
) -> None:
    """Megatron's files of a source, counted: more would end in `Too many open files`."""

    def opened(count: int) -> int:
        laid = layout([8], ["Go", "C", "Rust", "Java"][:count], 4)
        sources = zip(laid.sources, prefixes, strict=False)
        laid = replace(laid, sources=tuple(replace(s, prefix=p) for s, p in sources))
        path = tmp_path / f"{count}.jsonl"
        decide(path, laid, 0, [1 / count] * count)
        config = megatron_config(prefixes, [0.25] * 4, str(tmp_path / "cache"))
        kinds = Kinds(("Go", "C", "Rust", "Java"))
        before = len(list(Path("/proc/self/fd").iterdir()))
        data = build_staged_blend(GPTDataset, StagedIndex(laid, path), config, lambda: True, kinds)
        assert data is not None
        assert all(len(dataset) for dataset in data.datasets)
        return len(list(Path("/proc/self/fd").iterdir())) - before

    opened(4)  # the indices are made
    assert opened(4) - opened(2) == 2 * FILES_OF_SOURCE


@pytest.mark.parametrize("hard", [4096, 900])
def test_the_limit_of_open_files_is_raised_or_told(hard: int) -> None:
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"
        "from blendlaw_hooks.staged_run import allow_open_files\n"
        "allow_open_files(100)\n"
        "print(len([open('/dev/null') for _ in range(600)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if hard == 4096:
        assert done.stdout == "600\n", done.stderr
    else:
        assert "100 sources need 1112 open files: raise the limit (ulimit -Hn) (got 900)" in (
            done.stderr
        )
