"""The loss of each language through real ranks of Megatron-core, on the CPU through gloo."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.core"):
    pytest.skip("needs megatron-core", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("the CPU rehearsal is for machines without a GPU", allow_module_level=True)

from blendlaw_hooks.language_loss import LanguageLoss, zigzag  # noqa: E402

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("hooks", "plugin"))
ENVIRONMENT = os.environ | {"PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}

# name: ranks, tensor parallel, pipeline parallel, virtual stages, sequence parallel
LAYOUTS = {
    "one": (1, 1, 1, 1, 0),
    "TP2": (2, 2, 1, 1, 0),
    "TP2 SP": (2, 2, 1, 1, 1),
    "PP2": (2, 1, 2, 1, 0),
    "PP2 VPP2": (2, 1, 2, 2, 0),
    "DP2": (2, 1, 1, 1, 0),
    "TP2 PP2": (4, 2, 2, 1, 0),
}
Record = dict[str, Any]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Record]]:
    """What the worker wrote under a layout, run once: three training steps and a validation."""

    @functools.cache
    def of(layout: str) -> list[Record]:
        ranks, *sizes = LAYOUTS[layout]
        out = tmp_path_factory.mktemp("run") / "losses.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        worker = Path(__file__).with_name("language_loss_worker.py")
        done = subprocess.run(
            [*torchrun, f"--nproc-per-node={ranks}", worker, out, *map(str, sizes)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        records: list[Record] = json.loads(out.read_text())
        assert len(records) == 4
        return records

    return of


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_languages_sum_to_the_reported_loss(
    run: Callable[[str], list[Record]], layout: str
) -> None:
    for record in run(layout):
        total, tokens = record["reported"]
        collected = record["collected"].values()
        assert sum(n for _, n in collected) == tokens
        assert math.fsum(loss * n for loss, n in collected) == pytest.approx(total, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_measures_what_the_index_says(
    run: Callable[[str], list[Record]], layout: str
) -> None:
    for alone, record in zip(run("one"), run(layout), strict=True):
        assert record["collected"].keys() == alone["oracle"].keys()
        for language, (loss, tokens) in alone["oracle"].items():
            assert record["collected"][language][1] == tokens
            assert record["collected"][language][0] == pytest.approx(loss, abs=1e-5)


# Without Megatron's schedules: what is counted, and how.

LANGUAGES = ("Python", "Go", "Rust")


class Model:
    training = True


def reporting(loss_mask: Any, losses: Any) -> tuple[Any, Any, dict[str, Any]]:
    total, tokens = (losses * loss_mask).sum(), loss_mask.sum()
    return total, tokens, {"lm loss": torch.stack((total, tokens))}


def step_with(losses: Any, mask: Any, **ids: Any) -> tuple[Any, Any]:
    """A forward step of one batch, as Megatron's, and its iterator."""
    batch = {"tokens": torch.zeros_like(mask), **ids}

    def forward_step(data_iterator: Any, model: Any) -> tuple[Any, Any]:
        assert set(next(data_iterator)) == {"tokens"}
        return losses, partial(reporting, mask)

    return forward_step, iter([batch])


def count(measured: LanguageLoss, losses: Any, mask: Any, **ids: Any) -> Any:
    forward_step, batches = step_with(losses, mask, **ids)
    output, loss_func = measured.wrap_forward_step(forward_step)(batches, Model())
    return loss_func(output)


def test_only_that_languages_loss_is_nan() -> None:
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu")
    losses = torch.tensor([[1.0, 2.0], [math.nan, 1.0], [math.inf, 3.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])  # the infinite one is masked
    count(measured, losses, mask, dataset_id=torch.tensor([0, 1, 2]))
    measured.commit_step()
    collected = measured.collect()
    assert collected["Python"] == (1.5, 2)
    assert math.isnan(collected["Go"].loss)
    assert collected["Rust"] == (3.0, 1)


def test_results_and_batch_stay_as_they_are() -> None:
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu")
    losses, mask = torch.rand(2, 4, requires_grad=True), torch.ones(2, 4)
    total, tokens, report = count(measured, losses, mask, dataset_id=torch.tensor([2, 0]))
    expected = reporting(mask, losses)
    assert torch.equal(total, expected[0])
    assert total.requires_grad
    assert torch.equal(tokens, expected[1])
    assert torch.equal(report["lm loss"], expected[2]["lm loss"])
    batch = {"tokens": mask, "dataset_id": torch.tensor([0, 1])}
    tap = measured.tap(iter([batch]))
    assert tap is not None
    assert "dataset_id" not in next(tap)
    assert "dataset_id" in batch, "a replayed step reads it again"


def test_a_rank_without_data_passes_through() -> None:
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu")
    loss_func = partial(reporting, torch.ones(1, 2))
    assert measured.tap(None) is None
    assert measured.wrap_loss(loss_func, None) is loss_func
    tap = measured.tap(iter([{"dataset_id": torch.tensor([0])}]))
    next(tap)  # type: ignore[call-overload]
    first_stage = partial(reporting, None)  # as Megatron's main on a stage that computes no loss
    assert measured.wrap_loss(first_stage, tap) is first_stage
    twin = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu", counting=False)
    count(twin, torch.ones(1, 2), torch.ones(1, 2), dataset_id=torch.tensor([0]))
    twin.commit_step()
    assert twin.collect() == {}


def test_microbatches_may_be_computed_in_any_order() -> None:
    """As interleaved schedules do: several forward steps, then their losses."""
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu")
    mask, waiting = torch.ones(1, 2), []
    for language in (0, 1, 2):
        forward_step, batches = step_with(
            torch.full((1, 2), 1.0 + language), mask, dataset_id=torch.tensor([language])
        )
        waiting.append(measured.wrap_forward_step(forward_step)(batches, Model()))
    for output, loss_func in reversed(waiting):
        loss_func(output)
    measured.commit_step()
    assert measured.collect() == {"Python": (1.0, 2), "Go": (2.0, 2), "Rust": (3.0, 2)}


def test_a_step_counts_once_and_validation_apart() -> None:
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu", of_valid_dataset=(1, 1, 1))
    mask, ids = torch.ones(1, 2), torch.tensor([0])
    for attempt in (5.0, 1.0):  # the second is a replay
        measured.begin_step()
        count(measured, torch.full((1, 2), attempt), mask, dataset_id=ids)
    assert measured.collect() == {}, "not committed"
    measured.commit_step()
    measured.begin_step()
    model, tap = Model(), measured.tap(iter([{"dataset_id": ids}]))
    model.training = False
    next(tap)  # type: ignore[call-overload]
    measured.wrap_loss(partial(reporting, mask), tap, "valid")(torch.full((1, 2), 7.0))
    assert measured.collect("train") == {"Python": (1.0, 2)}
    assert measured.collect("valid") == {"Go": (7.0, 2)}
    assert measured.collect("valid") == {}


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="dataset 1 of the train blend has language 3"):
        LanguageLoss(LANGUAGES, (0, 3), "cpu")
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "cpu")
    tap = measured.tap(iter([{"dataset_id": torch.tensor([0])}]))
    next(tap)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="without its loss mask"):
        measured.wrap_loss(lambda losses: losses, tap)
    pairs = partial(lambda mask, losses: losses, torch.ones(1, 2))  # as of LLaVA's forward step
    with pytest.raises(ValueError, match="returns a tuple, not losses"):
        measured.wrap_loss(pairs, tap)((torch.ones(1, 2), torch.ones(1, 2)))


def test_nothing_waits_for_the_device() -> None:
    """On the meta device there are no values: whatever reads one raises."""
    measured = LanguageLoss(LANGUAGES, (0, 1, 2), "meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        measured.collect()  # the one place that reads
    losses, mask = (torch.ones(2, 4, device="meta") for _ in range(2))
    measured.begin_step()
    count(measured, losses, mask, dataset_id=torch.tensor([0, 2], dtype=torch.int16))
    count(measured, losses, mask, language_id=torch.zeros(2, 4, dtype=torch.int8))
    measured.commit_step()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_context_parallel_ranks_count_each_token_once(size: int) -> None:
    """Each rank sees the slice that Megatron's get_batch_on_this_cp_rank gives it."""
    random = np.random.default_rng(size)
    losses = random.random((2, 16))
    mask = (random.random((2, 16)) > 0.2).astype(float)
    language = np.where(mask > 0, random.integers(0, 3, (2, 16)), -1)

    def part(values: Any, rank: int) -> Any:
        chunks = values.reshape(2, 2 * size, -1)[:, [rank, 2 * size - rank - 1]]
        return torch.from_numpy(values if size == 1 else chunks.reshape(2, -1))

    totals = dict.fromkeys(LANGUAGES, 0.0)
    counts = dict.fromkeys(LANGUAGES, 0)
    for rank in range(size):
        assert torch.equal(zigzag(torch.from_numpy(language), size, rank), part(language, rank))
        measured = LanguageLoss(LANGUAGES, (), "cpu", context_parallel=(size, rank))
        count(
            measured, part(losses, rank), part(mask, rank), language_id=torch.from_numpy(language)
        )
        measured.commit_step()
        for name, (loss, tokens) in measured.collect().items():
            totals[name] += loss * tokens
            counts[name] += tokens
    for index, name in enumerate(LANGUAGES):
        assert counts[name] == (language == index).sum()
        assert totals[name] == pytest.approx(losses[language == index].sum())


CONTEXT_SLICES = """
import inspect, sys
from blendlaw_hooks import cpu; cpu.install()
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore
from megatron.core import parallel_state
from megatron.core.utils import get_batch_on_this_cp_rank
from blendlaw_hooks.language_loss import zigzag
size, rank = map(int, sys.argv[1:])
torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
parallel_state.initialize_model_parallel(
    context_parallel_size=size, create_gloo_process_groups=False
)
group = parallel_state.get_context_parallel_group()
newer = {"is_hybrid_cp": False, "cp_group": group}  # since core 0.18
known = inspect.signature(get_batch_on_this_cp_rank).parameters
ids = torch.arange(48).view(2, 24)
given = {key: value for key, value in newer.items() if key in known}
own = get_batch_on_this_cp_rank({"tokens": ids}, **given)["tokens"]
assert own.shape == (2, 24 // size)
assert torch.equal(own, zigzag(ids, size, rank))
"""


@pytest.mark.parametrize(("size", "rank"), [(2, 0), (2, 1), (3, 1)])
def test_megatrons_own_context_slices(size: int, rank: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CONTEXT_SLICES, str(size), str(rank)]
    subprocess.run(command, env=ENVIRONMENT, check=True)
