"""The rehearsal of a launch script: what is made small, and the whole with a checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None:
    pytest.skip("needs megatron-core", allow_module_level=True)

import lm
from planted import PLAN, SCRIPT
from sources import LANGUAGES, write_sources

from blendlaw.indexed import count_tokens
from blendlaw.launches.flags import read_launch
from blendlaw.limits import plan_limits
from blendlaw.observations import read_observations
from blendlaw.plan import read_plan
from blendlaw.schedule import read_schedule
from blendlaw_hooks.rehearse_small import SEQUENCE, excerpt, planned, shrink

of_a_checkout = pytest.mark.skipif(
    lm.CHECKOUT == lm.MINI, reason=f"{lm.VARIABLE} names no Megatron-LM checkout"
)


def test_every_kind_of_parallelism_stays(tmp_path: Path) -> None:
    launch = read_launch(SCRIPT)  # 16 ranks: TP 2, PP 2, CP 2, DP 2
    small = shrink(launch, 2, tmp_path)
    assert small.ranks == 8
    made = replace(launch, given=small.flags, ranks=small.ranks)
    assert (made.tensor, made.pipeline, made.context, made.data_parallel) == (2, 2, 1, 2)
    alone = shrink(read_launch(SCRIPT.replace("TP=2; PP=2", "TP=1; PP=4")), 2, tmp_path)
    assert alone.ranks == 4


def test_every_change_is_told(tmp_path: Path) -> None:
    launch = read_launch(SCRIPT)
    small = shrink(launch, 2, tmp_path)
    told = " ".join(small.changed)
    for flag in launch.given.keys() | small.flags.keys():
        if launch.given.get(flag) != small.flags.get(flag):
            assert f"--{flag}" in told.split()
    for flag in (
        "bf16",
        "sequence-parallel",
        "use-distributed-optimizer",
        "swiglu",
        "eod-mask-loss",
    ):
        assert small.flags[flag] == launch.given[flag]
        assert f"--{flag}" not in told.split()
    assert not any("fp8" in flag for flag in small.flags)
    assert all(str(tmp_path) in small.flags[flag][0] for flag in ("save", "data-cache-path"))
    assert "load" not in small.flags


def test_the_small_plan_has_the_limits_of_the_large(tmp_path: Path) -> None:
    write_sources(tmp_path)
    limited = "".join(
        f'[languages.{name}]\nsources = ["{tmp_path}/{name}_train"]\n'
        f'valid_sources = ["{tmp_path}/{name}_valid"]\nunique_tokens = {unique}\nmax_epochs = 2\n'
        for name, unique in zip(LANGUAGES, (1e9, 2e9, 20e9), strict=True)
    )
    stages = PLAN[PLAN.index("[[stages]]") : PLAN.index("[pairs]")]
    head = PLAN[: PLAN.index("[languages.Python]")] + '[refit]\nwhere = "step > 1000"\n'
    (tmp_path / "plan.toml").write_text(head + limited + stages)
    plan = read_plan(tmp_path / "plan.toml")
    small = planned(plan, shrink(read_launch(SCRIPT), 2, tmp_path).flags, tmp_path)
    assert small.run.sequence_length == SEQUENCE
    assert small.refit.where is None
    for one, other in zip(plan.stages, small.stages, strict=True):
        large, less = plan_limits(plan, one), plan_limits(small, other)
        assert less.upper.tolist() == pytest.approx(large.upper.tolist())
        assert large.upper[0] < 1  # or it would say nothing
    assert excerpt(plan, tmp_path) == 6
    for name, language in small.languages.items():
        original = count_tokens(f"{tmp_path}/{name}_train")
        copied = count_tokens(language.sources[0].prefix)
        assert original is not None
        assert copied is not None
        assert 0 < copied <= original
        assert 1_024 < (count_tokens(language.valid_sources[0].prefix) or 0) < 1_300


# With a checkout.

LAUNCH = """\
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
export CUDA_DEVICE_MAX_CONNECTIONS=1
srun torchrun --nnodes=$SLURM_NNODES --nproc-per-node=8 \\
    -m blendlaw_hooks.launch "$MEGATRON_LM/pretrain_gpt.py" \\
    --num-layers 12 --hidden-size 512 --ffn-hidden-size 1536 --num-attention-heads 8 \\
    --seq-length 256 --max-position-embeddings 256 --position-embedding-type rope --swiglu \\
    --disable-bias-linear --normalization RMSNorm --untie-embeddings-and-output-weights \\
    --tokenizer-type NullTokenizer --vocab-size 63 \\
    --bf16 --transformer-impl transformer_engine --fp8-format e4m3 --fp8-recipe blockwise \\
    --tensor-model-parallel-size 2 --sequence-parallel --use-distributed-optimizer \\
    --overlap-grad-reduce --overlap-param-gather \\
    --micro-batch-size 2 --global-batch-size 32 --train-iters 200 --lr 1e-3 --min-lr 1e-4 \\
    --lr-decay-style WSD --lr-wsd-decay-iters 20 --lr-warmup-iters 10 \\
    --full-validation --multiple-validation-sets --eval-interval 50 \\
    --save ckpt --load ckpt --save-interval 50 --data-cache-path cache \\
    --no-create-attention-mask-in-dataloader \\
    --blendlaw-plan plan.toml --blendlaw-dir run
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sources(tmp_path, 400_000)
    stages = [("warm", "uniform"), ("guided", "law"), ("last", "law")]
    plan = lm.plan(stages, rust="cap = 0.5")
    tokens = lm.STEPS * lm.BATCH * lm.SEQUENCE // 3
    plan = plan.replace(f"tokens = {tokens}", f"tokens = {200 * 32 * 256 // 3}")
    plan = plan.replace(f"sequence_length = {lm.SEQUENCE}", "sequence_length = 256")
    (tmp_path / "plan.toml").write_text(plan.replace("params = 60e3", "params = 42e6"))
    (tmp_path / "launch.slurm").write_text(LAUNCH)
    return tmp_path


def rehearsed(folder: Path, *flags: str, script: str = LAUNCH) -> tuple[int, str]:
    (folder / "launch.slurm").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "blendlaw_hooks.rehearse", "launch.slurm", *flags],
        cwd=folder,
        env=lm.ENVIRONMENT | {"MEGATRON_LM": str(lm.CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@of_a_checkout
@pytest.mark.slow
def test_a_launch_is_rehearsed(folder: Path) -> None:
    code, said = rehearsed(folder, "--indices")
    assert code == 0, said
    assert (
        "takes it as rank 0 of 16: TP 2 × PP 1 × CP 1 × DP 8, 200 steps of 2 microbatches" in said
    )
    assert "warning: run.params" not in said
    samples = 200 * 32
    assert f"samples train {samples + len(LANGUAGES):,}, valid" in said  # one more a source
    assert list((folder / "cache").glob("*StagedIndex*")), "the indices that the run will look for"
    assert "the small run, on 4 ranks; changed:" in said
    assert "--num-layers 12 → 2" in said
    assert said.endswith("rehearsed\n")
    schedule = read_schedule(folder / "rehearsal/run/schedule.jsonl").records
    assert [record.stage for record in schedule] == ["warm", "guided", "last"]
    assert all(record.reason.startswith("law: chinchilla") for record in schedule[1:])
    assert {each.language for each in read_observations(folder / "rehearsal/run/losses.jsonl")} == {
        *LANGUAGES
    }
    assert not (folder / "run").exists()
    assert not (folder / "ckpt").exists(), "the run's own folders are left alone"


@of_a_checkout
@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--hidden-size", "--hiden-size", "unrecognized arguments: --hiden-size"),
        ("--global-batch-size 32", "--global-batch-size 30", "error: --global-batch-size: 30"),
        ("--full-validation ", "--dataloader-type cyclic ", "--dataloader-type"),
        ("--lr 1e-3", "--lr $RATE", "--lr: it is $RATE, which only the job knows"),
        ("--nodes=2", "--time=2", "how many ranks it starts is not told"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_trained(
    folder: Path, old: str, new: str, message: str
) -> None:
    assert old in LAUNCH
    code, said = rehearsed(folder, script=LAUNCH.replace(old, new))
    assert code == 1
    assert message in said
    assert not (folder / "rehearsal/run").exists()


@of_a_checkout
def test_variables_are_the_environments(folder: Path) -> None:
    assert os.environ.get("RATE") is None
    launch = read_launch(LAUNCH, environment={"MEGATRON_LM": "there"})
    assert (launch.script, launch.ranks) == ("there/pretrain_gpt.py", 16)
