"""The small trainer under torchrun, on the CPU."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blendlaw.errors import InputError
from blendlaw.observations import Observation, read_observations
from blendlaw.records import key
from blendlaw.schedule import read_schedule
from blendlaw.trainer_plan import Shape, Trainer

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("megatron.core", reason="needs megatron-core")
if torch.cuda.is_available():
    pytest.skip("the CPU rehearsal is for machines without a GPU", allow_module_level=True)

from sources import LANGUAGES, VOCABULARY, write_sources  # noqa: E402

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).with_name("trainer_worker.py"))
SEQUENCE, BATCH, STEPS = 64, 16, 36
LAW = [("warm", "{Python = 0.5, Go = 0.3, Rust = 0.2}"), ("guided", '"law"'), ("last", '"law"')]
STATIC = [*LAW[:1], ("even", '"uniform"'), ("last", "{Python = 0.2, Go = 0.2, Rust = 0.6}")]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("hooks", "plugin")),
    "OMP_NUM_THREADS": "1",
}


def plan(stages: list[tuple[str, str]] = LAW, steps: int = STEPS, **trainer: Any) -> str:
    """plan.toml of equal stages."""
    lines = ["[run]", "params = 60e3", f"sequence_length = {SEQUENCE}"]
    for language in LANGUAGES:
        lines += [f"[languages.{language}]", f'sources = ["{language}_train"]', "max_epochs = 4"]
        lines += [f'valid_sources = ["{language}_valid"]']
        lines += [] if language == "Rust" else ["floor = 0.1", "bytes_per_token = 3.5"]
    for name, weights in stages:
        tokens = steps * BATCH * SEQUENCE // len(stages)
        lines += ["[[stages]]", f'name = "{name}"', f"tokens = {tokens}", f"weights = {weights}"]
    keys = {
        "vocabulary": VOCABULARY,
        "vocabulary_divisor": VOCABULARY,
        "hidden": 32,
        "layers": 4,
        "global_batch": BATCH,
        "learning_rate": 5e-3,
        "log_interval": 3,
        "validation_interval": 10,
        "validation_samples": BATCH,
        "checkpoint_interval": 5,
    }
    lines += ["[trainer]", *(f"{k} = {json.dumps(v)}" for k, v in (keys | trainer).items())]
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    (tmp_path / "plan.toml").write_text(plan())
    return tmp_path


def start(
    folder: Path, run: str, *flags: str, ranks: int = 2, **environment: str
) -> subprocess.Popen[str]:
    """A run under torchrun; with ``ranks`` 0 without it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    trainer = [WORKER] if environment else ["-m", "blendlaw_hooks.trainer"]
    begin = [sys.executable, *(torchrun if ranks else []), *trainer]
    return subprocess.Popen(
        [*begin, "plan.toml", "--dir", run, *flags],
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def done(folder: Path, run: str, *flags: str, fails: bool = False, **more: Any) -> str:
    """The output of a run that ends by itself."""
    process = start(folder, run, *flags, **more)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode != 0) == fails, output[-6000:]
    return output


def losses(folder: Path, run: str = "run") -> list[Observation]:
    return read_observations(folder / run / "losses.jsonl")


def files(folder: Path, run: str) -> tuple[str, str]:
    """What a run has recorded, but for its own name."""
    written = (folder / run / "losses.jsonl").read_text()
    schedule = (folder / run / "schedule.jsonl").read_text()
    return schedule, written.replace(f'"run": "{run}"', '"run": ""')


# A run.


def test_three_stages_with_two_refits(folder: Path) -> None:
    output = done(folder, "run")
    assert "4 layers of 32, 2 heads, ffn 96, vocabulary 64: 57,632 parameters; fp32" in output
    assert "ranks: tensor 1, pipeline 1, data 2" in output
    assert "Warning" not in output
    schedule = read_schedule(folder / "run" / "schedule.jsonl").records
    assert [record.start_sample for record in schedule] == [0, 192, 384]
    for number, record in enumerate(schedule[1:], start=2):
        assert record.reason.startswith("law: chinchilla fitted to "), output
        assert record.fit == f"fits/{number}-{record.stage}.json"
        assert (folder / "run" / record.fit).exists()
    found = losses(folder)
    train = [each for each in found if each.split == "train"]
    valid = [each for each in found if each.split == "valid"]
    assert {each.step for each in train} == set(range(3, STEPS + 1, 3))
    assert {each.step for each in valid} == {10, 20, 30, STEPS}
    assert {each.loss_tokens for each in valid} == {BATCH * SEQUENCE}, "the same of each language"
    for language in LANGUAGES:
        for split in (train, valid):
            of = [each.loss for each in split if each.language == language]
            assert of[-1] < of[0] - 0.1
    # What was drawn is what the schedule says.
    drawn: dict[tuple[str | None, str], float] = defaultdict(float)
    for each in train:
        drawn[each.stage, each.language] += (each.loss_tokens or 0) / SEQUENCE
    for record in schedule:
        for language, weight in record.weights.items():
            assert drawn[record.stage, language] == pytest.approx(192 * weight, abs=2)
    # The newest two checkpoints are there, with the parameters that were said.
    checkpoints = folder / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000035", "step-00000036"]
    reader = torch.distributed.checkpoint.FileSystemReader(str(checkpoints / "step-00000036"))
    sizes = {
        name: math.prod(kept.size)
        for name, kept in reader.read_metadata().state_dict_metadata.items()
        if hasattr(kept, "size") and not name.startswith("optimizer")
    }
    assert sum(sizes.values()) == Shape(4, 32, 2, 96, VOCABULARY).params == 57_632
    # Started again it has nothing to do.
    assert f"step {STEPS} of {STEPS} in run: 0 tokens" in done(folder, "run")
    assert len(losses(folder)) == len(found)


def test_the_same_under_every_layout(folder: Path) -> None:
    """From the same initial weights, which hang on no layout, with stages that no fit moves."""
    few = plan(STATIC, steps=12, learning_rate=5e-4, validation_interval=6)
    (folder / "plan.toml").write_text(few)
    done(folder, "one", ranks=0)
    tensor, pipeline = ("--set", "tensor_parallel=2"), ("--set", "pipeline_parallel=2")
    layouts = {"DP2": (), "TP2": tensor, "PP2": pipeline, "TP2PP2": (*tensor, *pipeline)}
    one = losses(folder, "one")
    assert len(one) == 6 * 3 + 2 * 3, "ends of stages too"
    for name, flags in layouts.items():
        done(folder, name, *flags, ranks=4 if name == "TP2PP2" else 2)
        other = losses(folder, name)
        assert [key(each)[1:] for each in other] == [key(each)[1:] for each in one]
        for mine, theirs in zip(one, other, strict=True):
            assert theirs.loss == pytest.approx(mine.loss, abs=1e-5), name
            assert theirs.loss_tokens == mine.loss_tokens
        assert files(folder, name)[0] == files(folder, "one")[0]


def test_it_goes_on_under_another_layout(folder: Path) -> None:
    (folder / "plan.toml").write_text(plan(STATIC, steps=12, learning_rate=5e-4))
    done(folder, "calm", ranks=0)
    done(folder, "run", "--set", "tensor_parallel=2", "--stop-at", "6")
    assert "going on after step 6" in done(folder, "run", "--set", "pipeline_parallel=2")
    for mine, theirs in zip(losses(folder, "calm"), losses(folder), strict=True):
        assert theirs.loss == pytest.approx(mine.loss, abs=1e-5)


def test_bf16_and_workers(folder: Path) -> None:
    done(folder, "fp32")
    done(folder, "bf16", "--set", "precision=bf16", "--set", "workers=1", "--stop-at", "18")
    done(folder, "bf16", "--set", "precision=bf16", "--set", "workers=1")
    for mine, theirs in zip(losses(folder, "fp32"), losses(folder, "bf16"), strict=True):
        assert key(mine)[1:] == key(theirs)[1:]
        assert theirs.loss == pytest.approx(mine.loss, abs=0.05)
        assert theirs.loss != mine.loss
    done(folder, "again", "--set", "precision=bf16", "--set", "workers=1")
    assert files(folder, "again") == files(folder, "bf16")


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_learning_rates(schedule: Any) -> None:
    from blendlaw_hooks.trainer_model import scheduler

    trainer = Trainer(learning_rate=0.1, schedule=schedule, warmup=0.1, decay=0.25, decay_to=0.2)
    optimizer = SimpleNamespace(param_groups=[{"wd_mult": 1.0}, {"wd_mult": 0.0}])
    rate = scheduler(optimizer, trainer, 200)
    for step in range(1, 201):
        rate.step(1)
        if step <= 20:
            wanted = 0.1 * step / 20
        elif schedule == "constant":
            wanted = 0.1
        elif schedule == "wsd":
            wanted = 0.1 - 0.08 * max(0, step - 150) / 50
        else:
            wanted = 0.02 + 0.08 * (1 + math.cos(math.pi * (step - 20) / 180)) / 2
        assert optimizer.param_groups[0]["lr"] == pytest.approx(wanted, rel=1e-12)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_what_the_page_shows_is_what_happens(tmp_path: Path) -> None:
    """Numbers within a tenth, but for times; ``…`` is any lines."""
    text = (ROOT / "docs/trainer.md").read_text().partition("## An example")[2]
    for kind, block in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "toml":
            (tmp_path / "plan.toml").write_text(block)
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            name, *rest = command.split()
            command_of = {
                "python": [sys.executable],
                "blendlaw": [sys.executable, "-m", "blendlaw"],
                "torchrun": [sys.executable, "-m", "torch.distributed.run"],
            }
            printed = subprocess.run(
                [*command_of[name], *rest],
                cwd=tmp_path,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            ).stderr.splitlines()
            for line in shown.splitlines():
                if line != "…":
                    assert any(alike(line, each) for each in printed), (line, printed)


def alike(shown: str, printed: str) -> bool:
    number = r"\d[\d,.]*"
    if re.sub(number, "#", shown) != re.sub(number, "#", printed):
        return False
    pairs = zip(re.findall(number, shown), re.findall(number, printed), strict=True)
    values = [[float(n.strip(",.").replace(",", "")) for n in pair] for pair in pairs]
    timed = 2 if shown.endswith("tokens/s") else 0
    return all(b == pytest.approx(a, rel=0.1) for a, b in values[: len(values) - timed])


# Kill -9.

FAULTS = ["index:2", "losses:2", "step:2", "schedule:1", "fit:1", "checkpoint:4", "prune:2"]


def ended_undisturbed(folder: Path, ranks: int) -> None:
    """The run goes on to its end, with the records of one that nothing happened to."""
    done(folder, "run", ranks=ranks)
    done(folder, "calm", ranks=ranks)
    assert files(folder, "run") == files(folder, "calm")
    rows = [key(each) for each in losses(folder)]
    assert len(rows) == len(set(rows)) == (12 + 4) * 3


def test_killed_where_it_hurts_it_ends_as_if_undisturbed(folder: Path) -> None:
    for fault in FAULTS:
        process = start(folder, "run", ranks=0, FAULT=fault)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, fault + output[-3000:]
    ended_undisturbed(folder, ranks=0)


@pytest.mark.skipif("BLENDLAW_KILLS" not in os.environ, reason="BLENDLAW_KILLS: how often")
def test_killed_at_random_it_ends_as_if_undisturbed(folder: Path) -> None:
    moments = random.Random(int(os.environ.get("BLENDLAW_SEED", "1")))
    for _ in range(int(os.environ["BLENDLAW_KILLS"])):
        process = start(folder, "run")
        begun = moments.random() < 0.7
        until = time.monotonic() + 60
        while begun and time.monotonic() < until and process.poll() is None:
            if (folder / "run/schedule.jsonl").exists() and new_losses(folder):
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5 if begun else 8))
        os.killpg(process.pid, signal.SIGKILL)
        kill_ranks(folder)
        process.communicate()
        remember(folder)
    ended_undisturbed(folder, ranks=2)


_seen: dict[Path, int] = {}


def new_losses(folder: Path) -> bool:
    path = folder / "run/losses.jsonl"
    return path.exists() and path.stat().st_size > _seen.get(folder, 0)


def remember(folder: Path) -> None:
    path = folder / "run/losses.jsonl"
    _seen[folder] = path.stat().st_size if path.exists() else 0


def kill_ranks(folder: Path) -> None:
    """torchrun starts its ranks in sessions of their own."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            mine = str(folder) == os.readlink(status.with_name("cwd"))
            if mine and b"blendlaw_hooks.trainer" in status.read_bytes():
                os.kill(int(status.parent.name), signal.SIGKILL)
        except OSError:
            continue


# Bad input: each ends in one clear message.


def refused(folder: Path, *flags: str, run: str = "run", **more: Any) -> str:
    more = {"ranks": 0} | more
    output = done(folder, run, *flags, fails=True, **more)
    told = re.findall(r"^blendlaw: error: (.*)", output, re.MULTILINE)
    assert len(told) == 1, output[-3000:]
    # torchrun has one of its own.
    assert ("[rank" if more["ranks"] else "Traceback") not in output, output
    return str(told[0])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("precision=fp8",), "trainer.precision: needs a GPU with Transformer Engine"),
        (("vocabulary=32",), "trainer.vocabulary: there is a token 62, but the vocabulary has 32"),
        (("tensor_parallel=2",), "trainer.tensor_parallel: 1 ranks cannot be split into groups"),
        (("micro_batch=3",), "trainer.global_batch: must be a multiple of micro_batch, 3 (got 16)"),
        (("heads=5",), "trainer.heads: hidden, 32, must be an even multiple of it"),
        (("global_batch=1024",), "run.tokens: not one step of 1024 samples of 64 tokens"),
        (("learning_rat=1",), "trainer.learning_rat: unknown key (did you mean 'learning_rate'?)"),
        (("schedule=linear",), "trainer.schedule: Input should be 'cosine', 'wsd' or 'constant'"),
    ],
)
def test_what_cannot_be_trained(folder: Path, flags: tuple[str, ...], told: str) -> None:
    assert told in refused(folder, *(word for flag in flags for word in ("--set", flag)))


def test_other_ranks_hear_of_it(folder: Path) -> None:
    (folder / "plan.toml").write_text(plan().replace("Go_train", "gone"))
    assert "gone.idx: no such file, a source of Go" in refused(folder, ranks=2)
    (folder / "plan.toml").write_text(plan().replace("Go_valid", "gone"))
    assert "gone.idx: no such file, to validate Go on" in refused(folder)
    (folder / "plan.toml").write_text(plan(micro_batch=16))
    assert "a multiple of 2 data-parallel ranks" in refused(folder, ranks=2)


def test_a_token_that_is_met_in_training(folder: Path) -> None:
    assert "there is a token" in refused(folder, "--set", "vocabulary=62", LOOKED_AT="1")


def test_the_vocabulary_of_the_corpus(folder: Path) -> None:
    (folder / "plan.toml").write_text(plan().replace("vocabulary = 64\n", ""))
    assert "trainer.vocabulary: give it: there is no corpus.json" in refused(folder)
    (folder / "corpus.json").write_text("{}")
    assert "corpus.json: it says no vocabulary" in refused(folder)
    (folder / "corpus.json").write_text('{"tokenizer": {"vocabulary": 63}}')
    assert "vocabulary 64: 57,632" in done(folder, "run", "--stop-at", "1", ranks=0)


def test_a_plan_that_was_changed(folder: Path) -> None:
    # A run that has trained nothing may be started otherwise.
    assert "Transformer Engine" in refused(folder, "--set", "precision=fp8")
    done(folder, "run", "--stop-at", "4", ranks=0)
    told = "trainer.json, learning_rate: the run was started with 0.005, so it cannot go on"
    assert told in refused(folder, "--set", "learning_rate=1e-3")
    assert "trainer.json, global_batch" in refused(folder, "--set", "global_batch=32")
    (folder / "plan.toml").write_text(plan(steps=39))
    assert "layout.json: the run was started otherwise" in refused(folder)
    (folder / "plan.toml").write_text(plan())
    assert "going on after step 4" in done(folder, "run", "--stop-at", "8", ranks=0)


def test_two_runs_in_one_folder(folder: Path) -> None:
    endless = plan(STATIC, 3000, checkpoint_interval=0).replace("max_epochs = 4\n", "")

    (folder / "plan.toml").write_text(endless)
    first = start(folder, "run", ranks=0)
    try:
        until = time.monotonic() + 60
        while not new_losses(folder) and time.monotonic() < until:
            time.sleep(0.1)
        assert "schedule.jsonl: another run is using it (process" in refused(folder)
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


@pytest.mark.parametrize(
    ("changed", "column"), [({"ffn": 168}, "ffn"), ({"hidden": 72}, "hidden"), ({}, None)]
)
def test_sizes_that_fp8_cannot_multiply(changed: dict[str, int], column: str | None) -> None:
    """The engine would stop in the first step."""
    from blendlaw_hooks.trainer_model import fp8_keys

    sizes = {"layers": 2, "hidden": 64, "heads": 4, "ffn": 192, "vocabulary": 64} | changed
    for recipe, format in (("delayed", "hybrid"), ("blockwise", "e4m3")):
        trainer = Trainer(micro_batch=2, fp8_recipe=recipe)
        if column is None:
            assert fp8_keys(trainer, Shape(**sizes), 8)["fp8"] == format
            with pytest.raises(InputError, match=r"trainer\.micro_batch: .* comes to 14: .* 16"):
                fp8_keys(trainer, Shape(**sizes), 7)
        else:
            with pytest.raises(InputError, match=rf"trainer\.{column}: .* a multiple of 16"):
                fp8_keys(trainer, Shape(**sizes), 8)
