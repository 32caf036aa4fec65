"""The demo's run at a tiny size, on generated code: killed, gone on with, and left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blendlaw.allocation import Allocation
from blendlaw.demo.size import STAGES
from blendlaw.observations import read_observations
from blendlaw.records import key
from blendlaw.schedule import read_schedule

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("megatron.core", reason="needs megatron-core")
if torch.cuda.is_available():
    pytest.skip("two ranks on the CPU are for machines without a GPU", allow_module_level=True)
pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'blendlaw[corpus]'")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
from blendlaw.cli.demo import summary
from blendlaw.demo.run import run
from blendlaw.demo.size import Size

tiny = Size(0.1, 300, layers=1, hidden=32, heads=2, length=32, batch=4, steps=20, unfitted=2,
            generated=True)
print(summary(run(Path("demo"), tiny, say=print)))
"""
STEPS = 60
FILES = ("blend.json", "fit.json", "allocation.json", "losses.jsonl", "schedule.jsonl")


def start(folder: Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("hooks", "plugin"))
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(folder: Path) -> str:
    process = start(folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output + (folder / "demo/training.log").read_text()[-3000:]
    return output


def test_killed_it_goes_on_and_done_it_does_nothing(tmp_path: Path) -> None:
    run = tmp_path / "demo"
    run.mkdir()
    for left in ("fit.json", "synergy.json", "plan.toml"):  # of an offline tour
        (run / left).write_text("of the tour")
    process = start(tmp_path)
    until = time.monotonic() + 120
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (run / "fit.json").exists()
    assert not (run / "synergy.json").exists()

    printed = done(tmp_path)
    assert "generated code of 7 languages" in printed
    assert "no evidence for any weights" in printed
    assert "For stage guided-2 the fit promised a mean loss of " in printed
    assert "wrote demo/" in printed
    log = (run / "training.log").read_text()
    assert "going on after step " in log
    assert f"step {STEPS} of {STEPS}" in log

    # The contract.
    schedule = read_schedule(run / "schedule.jsonl").records
    assert [record.stage for record in schedule] == list(STAGES)
    assert [record.fit for record in schedule] == [
        None,
        "fits/2-guided-1.json",
        "fits/3-guided-2.json",
    ]
    assert (run / "fit.json").read_text() == (run / "fits/3-guided-2.json").read_text()
    found = read_observations(run / "losses.jsonl")
    assert len({key(each) for each in found}) == len(found)
    assert len([each for each in found if each.split == "valid"]) == 7 * 30
    assert max(each.step or 0 for each in found) == STEPS
    allocation = Allocation.from_json((run / "allocation.json").read_text())
    assert allocation.weights == pytest.approx(schedule[2].weights, abs=1e-6)
    train = json.loads((run / "blend.json").read_text())["train"]
    assert dict(zip(train[1::2], train[::2], strict=True)) == pytest.approx(
        {f"demo/corpus/{slug(name)}_train": w for name, w in schedule[2].weights.items()}
    )
    told = json.loads((run / "demo.json").read_text())
    assert told["weights"] == {record.stage: record.weights for record in schedule}
    last = {each.language: each.loss for each in found if each.split == "valid"}
    assert told["measured"] == last
    assert set(told["predicted"]) == set(last)
    if (run / "report.html").exists():
        page = (run / "report.html").read_text()
        assert "Loss while training" in page
        assert "How the prediction came out" in page
        assert "no evidence for any weights" in page

    # Once more: nothing is trained, the outcome is told again.
    before = {name: (run / name).read_bytes() for name in FILES}
    again = done(tmp_path)
    assert "has the whole run already" in again
    assert (run / "training.log").read_text() == log
    assert before == {name: (run / name).read_bytes() for name in FILES}
    assert table(again) == table(printed)


def slug(language: str) -> str:
    return "csharp" if language == "C#" else language.lower()


def table(printed: str) -> str:
    """The outcome without the seconds, which are of the first time."""
    return (
        printed.partition("generated code of 7 languages")[2]
        .rpartition("\n")[0]
        .rstrip("\n0123456789 s,.")
    )
