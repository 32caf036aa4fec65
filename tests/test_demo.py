"""The demo without its training, which tests/stacks/test_demo.py has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import blendlaw
from blendlaw import cli
from blendlaw import trainer_process as training
from blendlaw.corpus.result import Corpus, Part, TokenizerUsed
from blendlaw.demo.size import STAGES, Size, plan_text
from blendlaw.demo.tour import FILES, done
from blendlaw.lint import lint
from blendlaw.plan import Plan, read_plan
from blendlaw.trainer_plan import shape

LANGUAGES = ("Python", "C#")


def demo(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", *arguments])
    assert ended.value.code == 0


def test_the_tour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo("--offline", "--bootstrap", "2", "--json", "-o", str(tmp_path / "new" / "demo"))
    printed = capsys.readouterr()
    assert json.loads(printed.out)["law"] == "transient"
    assert printed.err == ""
    assert {path.name for path in (tmp_path / "new" / "demo").iterdir()} == set(FILES)
    assert done(tmp_path / "new" / "demo")
    assert not done(tmp_path)


def test_without_the_stack_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "NEEDED", {"no_such_module": "torch", "json": "json"})
    demo("--bootstrap", "2", "-o", str(tmp_path))
    printed = capsys.readouterr()
    assert "420 runs of 7 languages" in printed.out
    assert printed.err.splitlines() == [
        "no training, since there is no torch: "
        "pip install 'blendlaw[report,corpus,train]', in a clone make demo"
    ]
    assert done(tmp_path)


def test_the_tour_takes_no_files_from_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "layout.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "--offline", "-o", str(tmp_path)])
    assert ended.value.code == 1
    assert "a training run is there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["layout.json"]


def corpus() -> Corpus:
    def part(prefix: str) -> Part:
        return Part(prefix, 1, 1, 0, 3_000_000, 1_000_000, 3.0)

    parts = {n: {split: part(f"{n}_{split}") for split in ("train", "valid")} for n in LANGUAGES}
    used = TokenizerUsed("tokenizer.json", "", 2048, "<|endoftext|>", 0, "uint16", True)
    return Corpus(parts, part("all"), {}, used, 0.1)


def made_plan(folder: Path, size: Size) -> Plan:
    (folder / "plan.toml").write_text(plan_text(size, corpus(), folder))
    return read_plan(folder / "plan.toml")


def test_the_plan(tmp_path: Path) -> None:
    size = Size()
    plan = made_plan(tmp_path, size)
    assert [stage.name for stage in plan.stages] == list(STAGES)
    assert [stage.weights for stage in plan.stages] == ["uniform", "law", "law"]
    assert plan.run.tokens == 3 * size.tokens
    assert plan.run.params == shape(plan.trainer, 0, size.vocabulary).params == 614_880
    assert plan.refit.split == "valid"
    assert plan.trainer.global_batch % (plan.trainer.micro_batch * size.ranks) == 0
    assert list(plan.languages) == list(LANGUAGES)
    assert not lint(plan).errors


def test_what_failed_is_told_with_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for Python that ends as torchrun does when a rank has failed."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        "#!/bin/sh\n"
        'echo "$@"\n'
        'for n in $(seq 30); do echo "line $n"; done\n'
        '[ "$OMP_NUM_THREADS$CUDA_VISIBLE_DEVICES" = 1 ] && echo "blendlaw: error: no room"\n'
        'echo "E1128 06:24:44 1 torch/distributed/elastic/api.py:1] failed" >&2\n'
        "exit 3\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    plan = made_plan(tmp_path, Size())
    (tmp_path / training.LOG).write_text("blendlaw: error: of before\n")
    steps: list[tuple[int, int]] = []
    with pytest.raises(training.Failed, match=r"training\.log: the training failed: no room$") as e:
        training.train(plan, tmp_path / "plan.toml", 2, lambda *told: steps.append(told))
    assert e.value.tail.splitlines()[-2:] == ["line 30", "blendlaw: error: no room"]
    assert len(e.value.tail.splitlines()) == training.SHOWN
    said = (tmp_path / training.LOG).read_text()
    assert "--nproc-per-node=2 -m blendlaw_hooks.trainer" in said
    assert f"plan.toml --dir {tmp_path}" in said
    assert set(steps) <= {(0, 600)}


def test_it_waits_for_ranks_that_still_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made_plan(tmp_path, Size())
    hold = (
        "import sys, time\nfrom blendlaw.schedule import claim\n"
        "with claim(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(1)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(blendlaw.__file__).parents[1])}
    command = [sys.executable, "-c", hold, str(tmp_path / "schedule.jsonl")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        monkeypatch.setattr(sys, "executable", "/bin/true")
        said: list[str] = []
        training.train(plan, tmp_path / "plan.toml", 2, lambda *_: None, said.append)
        assert other.wait(10) == 0
    assert len(said) == 1
    assert f"another run is using it (process {other.pid} on " in said[0]


def test_how_far_it_is(tmp_path: Path) -> None:
    losses = tmp_path / "losses.jsonl"
    assert training.last_step(tmp_path) == 0
    losses.write_text('{"loss": 3.0, "step": 20}\n' * 200 + '{"loss": 3.0, "step": 40}\n{"st')
    assert training.last_step(tmp_path) == 40


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NEEDED", {"json": "json", "no_such_module": "torch"})
    assert training.missing() == ["torch"]
