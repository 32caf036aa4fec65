"""Runs with translation pairs among their sources: the trainer's and the launcher's."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blendlaw.observations import Observation, read_observations
from blendlaw.records import key
from blendlaw.schedule import read_schedule

torch = pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.core"):
    pytest.skip("needs megatron-core", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("the CPU rehearsal is for machines without a GPU", allow_module_level=True)

import lm  # noqa: E402
import test_trainer as small  # noqa: E402
from packed import Packed, pack, write  # noqa: E402
from sources import write_sources  # noqa: E402

pytestmark = pytest.mark.slow
SEQUENCE = lm.SEQUENCE
LENGTHS = [(12 + n % 17, 10 + n % 23) for n in range(60)]
PAIRS = """
[pairs]
sources = ["pairs"]
valid_sources = ["held_out"]
weight = 0.25
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    write(tmp_path / "pairs", pack(LENGTHS, SEQUENCE))
    one = pack(LENGTHS[:1], SEQUENCE, seed=3)  # whichever sequences are drawn, they are this one
    write(tmp_path / "held_out", Packed(*(np.repeat(array, 40, 0) for array in vars(one).values())))
    return tmp_path


def rows(folder: Path, run: str, split: str) -> list[Observation]:
    return [o for o in read_observations(folder / run / "losses.jsonl") if o.split == split]


def test_the_trainer_measures_directions(folder: Path) -> None:
    few = small.plan(small.STATIC, steps=12, learning_rate=5e-4, validation_interval=6)
    (folder / "plan.toml").write_text(few + PAIRS)
    said = small.done(folder, "one", ranks=0)
    assert "train-pairs loss: Go->Python " in said
    schedule = read_schedule(folder / "one" / "schedule.jsonl").records
    assert [record.weights["pairs"] for record in schedule] == [0.25] * 3
    for split, steps in (("train-pairs", {3, 4, 6, 8, 9, 12}), ("valid-pairs", {6, 12})):
        found = rows(folder, "one", split)
        assert {o.step for o in found} == steps
        assert {o.language for o in found} <= {"Go->Python", "Python->Go"}
    # Padding, the instruction and the ends count for no language, and no loss is on padding.
    counted = sum(o.loss_tokens or 0 for o in rows(folder, "one", "train"))
    assert 0.75 < counted / (12 * small.BATCH * SEQUENCE) < 0.95
    last = rows(folder, "one", "train")[-1].tokens_by_language
    assert last is not None
    assert "pairs" not in last
    assert last["Go"] > 0
    # The same under other layouts.
    for name, flag in (("TP2", "tensor_parallel=2"), ("PP2", "pipeline_parallel=2")):
        small.done(folder, name, "--set", flag)
        one, other = (small.losses(folder, run) for run in ("one", name))
        assert [key(each)[1:] for each in one] == [key(each)[1:] for each in other]
        for mine, theirs in zip(one, other, strict=True):
            assert theirs.loss == pytest.approx(mine.loss, abs=1e-5), name
            assert theirs.loss_tokens == mine.loss_tokens
    # And what the checkpoint is found to predict, read again, token by token.
    script = f"""
import sys
import numpy as np
from pathlib import Path
from blendlaw.plan import read_plan
from blendlaw_hooks.scoring import Scorer
scorer = Scorer(read_plan("plan.toml"), Path("TP2"))
tokens = np.fromfile("held_out.bin", np.uint16)[:{SEQUENCE}]
np.save("scores.npy", scorer.score([tokens, tokens[:9]])[0])
"""
    process = small.subprocess.run(
        [small.sys.executable, "-c", script],
        cwd=folder,
        env=small.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    source, target = LENGTHS[0]
    predicted = np.load(folder / "scores.npy")[source + 1 : source + 1 + target]
    (measured,) = [o for o in rows(folder, "one", "valid-pairs") if o.step == 12]
    assert measured.loss == pytest.approx(float(predicted.mean()), abs=1e-5)


def test_the_launcher_measures_directions(folder: Path) -> None:
    """And Megatron's own loss is the sum of what is counted, where every token is."""
    made = pack(LENGTHS, SEQUENCE)
    spoken = np.where((made.language < 0) & ~made.padding, 0, made.language)
    write(folder / "pairs", replace(made, language=spoken))
    stages = [("one", {"Python": 0.5, "Go": 0.3, "Rust": 0.2}), ("two", "law")]
    (folder / "plan.toml").write_text(lm.plan(stages) + PAIRS)
    output = lm.done(folder, lm.command("run"))
    assert rows(folder, "run", "valid-pairs")
    train = rows(folder, "run", "train")
    every_five = {step: loss for step, loss in lm.reported(output).items() if step % 5 == 0}
    for step, reported in every_five.items():
        at = [o for o in train if o.step == step]
        tokens = sum(o.loss_tokens for o in at)  # type: ignore[misc]
        total = math.fsum(o.loss * o.loss_tokens for o in at)  # type: ignore[operator]
        assert tokens < 5 * lm.BATCH * SEQUENCE
        # Megatron's is the mean of microbatches, or of ranks, of unequally many tokens.
        assert total / tokens == pytest.approx(reported, rel=2e-3)
    schedule = read_schedule(folder / "run" / "schedule.jsonl").records
    assert schedule[1].reason.startswith("law: chinchilla fitted to ")
    assert sum(schedule[1].weights.values()) == pytest.approx(1)
    directions = {o.language for o in rows(folder, "run", "train-pairs")}
    assert directions == {"Go->Python", "Python->Go"}


def test_held_out_pairs_alone(folder: Path) -> None:
    """A run on no pairs, whose translation is measured: what pairs are compared with."""
    few = small.plan(small.STATIC, steps=12, validation_interval=6)
    (folder / "plan.toml").write_text(few + '[pairs]\nvalid_sources = ["held_out"]\n')
    small.done(folder, "run", ranks=0)
    schedule = read_schedule(folder / "run" / "schedule.jsonl").records
    assert [record.weights.get("pairs") for record in schedule] == [0.0] * 3
    assert not rows(folder, "run", "train-pairs")
    assert {o.step for o in rows(folder, "run", "valid-pairs")} == {6, 12}
