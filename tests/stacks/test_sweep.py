"""Sweeps of small runs: done once, whatever is killed when, and put together."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blendlaw.errors import InputError
from blendlaw.observations import read_observations
from blendlaw.records import key
from blendlaw.sweep.gather import constant_at, gather
from blendlaw.sweep.local import Local
from blendlaw.sweep.loop import sweep
from blendlaw.sweep.runs import find_runs

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("megatron.core", reason="needs megatron-core")

from sources import LANGUAGES, VOCABULARY, write_sources  # noqa: E402
from test_trainer import ENVIRONMENT  # noqa: E402


def plan(folder: Path, language: str, steps: int, **trainer: object) -> str:
    """A run on one language."""
    keys = {
        "vocabulary": VOCABULARY,
        "vocabulary_divisor": VOCABULARY,
        "hidden": 32,
        "layers": 2,
        "global_batch": 8,
        "schedule": "wsd",
        "log_interval": 2,
        "validation_interval": 4,
        "validation_samples": 8,
        "checkpoint_interval": 4,
    } | trainer
    lines = ["[run]", "params = 3e4", "sequence_length = 64", f"tokens = {steps * 8 * 64}"]
    lines += [f"[languages.{language}]", f'sources = ["{folder}/{language}_train"]']
    lines += [f'valid_sources = ["{folder}/{language}_valid"]', "[[stages]]", 'name = "all"']
    lines += [f"tokens = {steps * 8 * 64}", 'weights = "uniform"', "[trainer]"]
    return "\n".join([*lines, *(f"{k} = {json.dumps(v)}" for k, v in keys.items())]) + "\n"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three languages, two budgets each."""
    write_sources(tmp_path, 20_000)
    folder = tmp_path / "runs"
    for language in LANGUAGES:
        for steps in (8, 16):
            run = folder / f"{language}-{steps}"
            run.mkdir(parents=True)
            (run / "plan.toml").write_text(plan(tmp_path, language, steps))
    return folder


def start(runs: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "blendlaw", "sweep", str(runs), "--json", *flags],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="trains on the CPU")
def test_killed_it_loses_no_run_and_repeats_none(runs: Path) -> None:
    moments = random.Random(3)
    first_done: dict[str, float] = {}
    for _ in range(3):
        process = start(runs, "--at-once", "2")
        time.sleep(moments.uniform(4, 14))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for done in runs.glob("*/done.json"):
            first_done.setdefault(done.parent.name, done.stat().st_mtime)
    process = start(runs, "--at-once", "2", "--law", "chinchilla")
    output, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    told = json.loads(output)
    assert all(told["done"].values())
    assert len(told["done"]) == 6
    for name, at in first_done.items():
        assert (runs / name / "done.json").stat().st_mtime == at, "done once more"
    for run in find_runs(runs):
        rows = read_observations(run.losses)
        assert len({key(row) for row in rows}) == len(rows)
        assert max(row.step or 0 for row in rows) == run.steps
    found = read_observations(runs / "observations.jsonl")
    assert len(found) == told["observations"] == 6
    assert {row.split for row in found} == {"valid"}
    assert (runs / "fit.json").exists() == ("not fitted" not in said)
    # Nothing is left to do.
    began = time.monotonic()
    again = start(runs)
    assert again.communicate(timeout=60)[0] == output
    assert time.monotonic() - began < 30


def stand_in(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_fails_is_started_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for Python: two runs fail at first, one for good, the others end well."""
    script = f"""
for last; do :; done
case "$last" in
  *Go-8) [ -e "$last/tried" ] || {{ touch "$last/tried"; exit 3; }};;
  *Go-16) echo "blendlaw: error: no room"; exit 1;;
esac
echo "$last" >> {runs}/order
"""
    monkeypatch.setattr(sys, "executable", stand_in(runs.parent, script))
    said: list[str] = []
    ended: list[str] = []
    failures = sweep(
        runs,
        find_runs(runs),
        Local(2),
        finished=lambda run: ended.append(run.name),
        say=said.append,
    )
    assert [failure.problem for failure in failures] == ["the training failed: no room"]
    assert sorted(ended) == ["Go-8", "Python-16", "Python-8", "Rust-16", "Rust-8"]
    assert len(said) == 2
    assert len((runs / "order").read_text().split()) == 5
    # Once more: only what failed.
    sweep(runs, find_runs(runs), Local(2), retries=0)
    assert len((runs / "order").read_text().split()) == 5


def test_what_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folders with a plan\.toml"):
        find_runs(tmp_path / "nothing")
    (run,) = [run for run in find_runs(runs) if run.name == "Go-8"]
    assert not run.done
    run.finish()
    assert run.done
    run.plan_file.write_text(run.plan_file.read_text().replace("3e4", "4e4"))
    with pytest.raises(InputError, match=r"plan\.toml.*its plan was changed since"):
        _ = run.done
    (run.folder / "done.json").write_text("{}")
    with pytest.raises(InputError, match="not what a sweep wrote"):
        _ = run.done
    hold = (
        "import sys\nfrom blendlaw.schedule import claim\n"
        "with claim(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(runs / "sweep")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another run is using it"):
            sweep(runs, [], Local(1))
        other.communicate()


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [("cosine", []), ("constant", [4, 8, 12, 16, 20]), ("wsd", [4, 8, 12, 16])],
)
def test_losses_on_the_way(tmp_path: Path, schedule: str, steps: list[int]) -> None:
    """Of a cosine none counts, of a constant rate all, of WSD those before the fall."""
    write_sources(tmp_path, 3000)
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_text(
        plan(tmp_path, "Go", 20, schedule=schedule, warmup=0.1, decay=0.2)
    )
    rows = [
        {
            "language": "Go", "params": 3e4, "tokens": step * 512, "loss": 3 - step / 20,
            "step": step, "split": split,
        }
        for step in (1, 4, 8, 12, 16, 20)
        for split in ("train", "valid")
    ]  # fmt: skip
    (folder / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = find_runs(folder.parent)
    assert [step for step in (1, 4, 8, 12, 16, 20) if constant_at(run, step)] == steps
    assert gather([run]).runs == 0, "not done"
    run.finish()
    found = gather([run], curves=True)
    assert [row.step for row in found.observations] == steps
    assert found.left_out == 6 - len(steps)
    (last,) = gather([run], split="train").observations
    assert (last.step, last.split) == (20, "train")


def test_the_plans_are_read(runs: Path) -> None:
    (runs / "Go-8" / "plan.toml").write_text("[run]\nparams = 1\n")
    with pytest.raises(InputError, match=r"Go-8/plan\.toml"):
        find_runs(runs)
