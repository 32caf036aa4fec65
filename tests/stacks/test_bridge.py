"""Megatron-Bridge's own pretrain with blendlaw in it, on the CPU: the Bridge that can be imported.

An installed one, or a checkout: ``PYTHONPATH=Bridge/src:Bridge/3rdparty/Megatron-LM``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import lm
import pytest

from blendlaw.observations import Observation, read_observations
from blendlaw.records import key
from blendlaw.schedule import read_schedule

torch = pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.bridge"):
    pytest.skip("needs Megatron-Bridge: see docs/bridge.md", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("the CPU rehearsal is for machines without a GPU", allow_module_level=True)

from packed import pack, write  # noqa: E402
from sources import LANGUAGES, write_sources  # noqa: E402

RECIPE = Path(__file__).with_name("bridge_recipe.py")
PYTHONPATH = os.pathsep.join(
    filter(None, (lm.ENVIRONMENT["PYTHONPATH"], os.environ.get("PYTHONPATH")))
)
FIRST = {"Python": 0.5, "Go": 0.3, "Rust": 0.2}
THREE = [("warm", FIRST), ("guided", "law"), ("last", "law")]
SAVING = ("checkpoint.save=ckpt", "checkpoint.load=ckpt", "checkpoint.save_interval=7")
pytestmark = pytest.mark.slow


def start(
    folder: Path, *words: str, ranks: int = 1, said: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line = [*torchrun, f"--nproc-per-node={ranks}", str(RECIPE), *words]
    return lm.start(folder, line, said, PYTHONPATH=PYTHONPATH)


def done(folder: Path, *words: str, ranks: int = 1) -> str:
    process = start(folder, *words, ranks=ranks)
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, output[-6000:]
    return output


def validated(output: str) -> dict[int, float]:
    """Bridge's own validation losses; of the last step, those of the evaluation after training."""
    found = re.findall(r"validation loss at iteration (\d+).*?value: (\S+)", output)
    return {int(step): float(loss) for step, loss in found}


def losses(folder: Path, split: str | None = None) -> list[Observation]:
    found = read_observations(folder / "run/losses.jsonl")
    return [each for each in found if split in (None, each.split)]


def folder_with(folder: Path, stages: list[tuple[str, object]]) -> Path:
    write_sources(folder)
    (folder / "plan.toml").write_text(lm.plan(stages))
    return folder


def check(folder: Path, output: str) -> None:
    """Losses by language, together, are Bridge's own; what was drawn is what the schedule says."""
    at: dict[int, list[Observation]] = defaultdict(list)
    for each in losses(folder, "train"):
        assert each.step is not None
        at[each.step].append(each)
    reported = {step: loss for step, loss in lm.reported(output).items() if step % 5 == 0}
    assert set(reported) == set(at) == set(range(5, lm.STEPS + 1, 5))
    for step, loss in reported.items():
        tokens = sum(each.loss_tokens or 0 for each in at[step])
        total = math.fsum(each.loss * (each.loss_tokens or 0) for each in at[step])
        assert tokens == 5 * lm.BATCH * lm.SEQUENCE
        assert total / tokens == pytest.approx(loss, rel=1e-6)
    drawn: dict[tuple[str, str], float] = defaultdict(float)
    for each in losses(folder, "train"):
        drawn[str(each.stage), each.language] += (each.loss_tokens or 0) / lm.SEQUENCE
    records = read_schedule(folder / "run/schedule.jsonl").records
    for number, record in enumerate(records):
        ends = [*(r.start_sample for r in records), lm.STEPS * lm.BATCH][number + 1]
        for language, weight in record.weights.items():
            expected = (ends - record.start_sample) * weight
            assert drawn[record.stage, language] == pytest.approx(expected, abs=2)


def test_one_constant_stage_trains_as_without(tmp_path: Path) -> None:
    """The same samples in the same order, so the same losses and gradients, to the last digit."""
    folder = folder_with(tmp_path, [("main", FIRST)])
    blends = [
        [[f"{name}_train" for name in LANGUAGES], [FIRST[name] for name in LANGUAGES]],
        [[f"{name}_valid" for name in LANGUAGES], [1 / 3] * 3],
        None,
    ]
    without = done(folder, "--plain", json.dumps(blends), "logger.log_interval=1")
    with_it = done(folder, "logger.log_interval=1")
    assert len(lm.reported(with_it)) == lm.STEPS
    assert lm.reported(with_it) == lm.reported(without)
    assert lm.reported(with_it, "grad norm:") == lm.reported(without, "grad norm:")
    # Bridge shuffles what it validates on, for its own config only: of 15 steps, two.
    for step, loss in validated(without).items():
        assert validated(with_it)[step] == pytest.approx(loss, abs=0.2)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three stages with two refits, undisturbed, and what was said."""
    folder = folder_with(tmp_path_factory.mktemp("calm"), THREE)
    return folder, done(folder, *SAVING, "dataset.num_workers=2", "logger.tensorboard_dir=tb")


def test_three_stages_with_two_refits(calm: tuple[Path, str]) -> None:
    folder, output = calm
    schedule = read_schedule(folder / "run/schedule.jsonl").records
    assert [record.start_sample for record in schedule] == [0, 320, 640]
    for number, record in enumerate(schedule[1:], start=2):
        assert record.reason.startswith("law: chinchilla fitted to "), output
        assert record.fit == f"fits/{number}-{record.stage}.json"
        assert (folder / "run" / record.fit).exists()
        assert record.weights != schedule[0].weights
    check(folder, output)
    at = {each.step for each in losses(folder, "valid")}
    assert at == set(range(10, lm.STEPS + 1, 10))
    for step, loss in validated(output).items():
        seen = [each for each in losses(folder, "valid") if each.step == step]
        if step < lm.STEPS:  # of the last step there are two, and the first is kept
            tokens = sum(each.loss_tokens or 0 for each in seen)
            total = math.fsum(each.loss * (each.loss_tokens or 0) for each in seen)
            assert tokens == 2 * lm.BATCH * lm.SEQUENCE
            assert total / tokens == pytest.approx(loss, rel=1e-6)
    assert list((folder / "tb").glob("events*"))


@pytest.mark.parametrize("split", ["", "tensor", "pipeline"], ids=["DP2", "TP2", "PP2"])
def test_two_ranks(tmp_path: Path, split: str) -> None:
    folder = folder_with(tmp_path, [("warm", FIRST), ("even", "uniform"), ("guided", "law")])
    settings = (f"model.{split}_model_parallel_size=2",) if split else ()
    output = done(folder, *settings, ranks=2)
    schedule = read_schedule(folder / "run/schedule.jsonl").records
    assert schedule[2].reason.startswith("law: chinchilla fitted to "), output
    check(folder, output)


def test_translation_pairs(tmp_path: Path) -> None:
    """A quarter of the samples are pairs; directions are measured, their padding is not."""
    folder = folder_with(tmp_path, [("main", FIRST)])
    lengths = [(12 + n % 17, 10 + n % 23) for n in range(60)]
    write(folder / "pairs", pack(lengths, lm.SEQUENCE))
    write(folder / "held_out", pack(lengths, lm.SEQUENCE, seed=3))
    with (folder / "plan.toml").open("a") as plan:
        plan.write('[pairs]\nsources = ["pairs"]\nvalid_sources = ["held_out"]\nweight = 0.25\n')
    output = done(folder)
    (record,) = read_schedule(folder / "run/schedule.jsonl").records
    assert record.weights["pairs"] == 0.25
    for split, every in (("train-pairs", 5), ("valid-pairs", 10)):
        found = losses(folder, split)
        assert {each.language for each in found} == {"Go->Python", "Python->Go"}
        assert {each.step for each in found} == set(range(every, lm.STEPS + 1, every))
    counted = sum(each.loss_tokens or 0 for each in losses(folder, "train"))
    assert 0.75 < counted / (lm.STEPS * lm.BATCH * lm.SEQUENCE) < 0.95
    assert len(lm.reported(output)) == 12


def recorded(folder: Path) -> tuple[list[object], list[object]]:
    """What a run has recorded, but for its own name."""
    schedule = [
        {**vars(record), "decided_at_sample": None}
        for record in read_schedule(folder / "run/schedule.jsonl").records
    ]
    lines = (folder / "run/losses.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "run": None} for line in lines]
    return schedule, sorted(
        rows, key=lambda row: [str(row[k]) for k in ("step", "split", "language")]
    )


def test_ended_and_killed_and_started_again(calm: tuple[Path, str], tmp_path: Path) -> None:
    """It ends as the undisturbed run did: once by an exit within a log interval, once by a kill."""
    folder = folder_with(tmp_path, THREE)
    again = (*SAVING, "dataset.num_workers=2")
    done(folder, *again, "train.exit_interval=14")
    assert max(each.step or 0 for each in losses(folder)) == 10
    process = start(folder, *again, said=subprocess.DEVNULL)
    deadline = time.monotonic() + 1800
    while max(each.step or 0 for each in losses(folder)) < 25:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill(folder)
    process.communicate()
    assert max(each.step or 0 for each in losses(folder)) < lm.STEPS
    done(folder, *again)
    assert recorded(folder) == recorded(calm[0])
    rows = [key(each) for each in losses(folder)]
    assert len(rows) == len(set(rows)) == 12 * 3 + 6 * 3


def kill(folder: Path) -> None:
    """All that works in the folder."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if os.readlink(link) == str(folder):
                os.kill(int(link.parent.name), signal.SIGKILL)


def test_what_cannot_go_with_stages(tmp_path: Path) -> None:
    output = done(folder_with(tmp_path, THREE), "--refused")
    told = dict(re.findall(r"^REFUSED (\w+): (.*)$", output, re.MULTILINE))
    expected = {
        "mock": "config.dataset is a MockGPTDatasetConfig: it must be a GPTDatasetConfig",
        "cyclic": "config.dataset.dataloader_type cannot go with stages: other loaders shuffle",
        "external": "config.dataset.dataloader_type cannot go with stages",
        "blend": "leave out config.dataset.blend: the sources are those of the plan",
        "short": "config.dataset.seq_length is 32, the plan's is 64",
        "long": "config.model.seq_length is 128, the plan's is 64",
        "graph": "config.model with a CUDA graph of the full iteration cannot go with losses",
        "groups": "config.dist.use_decentralized_pg",
    }
    assert told.keys() == expected.keys()
    for name, message in expected.items():
        assert message in told[name]
    assert not (tmp_path / "run").exists()
