"""The folder of a run: held by one, decided once, measured once, whatever the disk does."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import pytest

from blendlaw import records
from blendlaw.errors import InputError
from blendlaw.layout import Layout, lay_out
from blendlaw.observations import read_observations
from blendlaw.plan import LanguagePlan, Plan, Refit, Run, Source, Stage
from blendlaw.run_folder import RunFolder
from blendlaw.schedule import StageRecord, read_schedule


def plan_of(**changes: Any) -> Plan:
    languages = {
        "Go": LanguagePlan(sources=(Source("go"),), unique_tokens=5e4, bytes_per_token=3.0),
        "Rust": LanguagePlan(sources=(Source("rust"),)),
    }
    stages = (Stage("a", 1e5, "uniform"), Stage("b", 1e5, {"Go": 0.25, "Rust": 0.75}))
    return Plan(Run(1e6, 2e5, 100), languages, stages, **changes)


def opened(folder: Path, plan: Plan | None = None) -> RunFolder:
    plan = plan or plan_of()
    return RunFolder(folder, plan, layout(plan))


def layout(plan: Plan) -> Layout:
    return lay_out(plan, 2000)


def ready(record: StageRecord) -> None:
    """Nothing against it."""


def test_what_a_run_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = opened(tmp_path / "run")
    assert folder.decide(0, ready).weights == {"Go": 0.5, "Rust": 0.5}
    assert folder.decide(900, ready).weights == {"Go": 0.25, "Rust": 0.75}
    found = folder.record(
        {"Go": (2.0, 640), "Rust": (math.nan, 640)}, step=11, samples=1100, stage=1, split="train"
    )
    assert "step 11: the train loss of Rust is nan: left out" in capsys.readouterr().err
    (one,) = found
    assert (one.tokens, one.stage, one.run, one.split) == (1.1e5, "b", "run", "train")
    assert one.tokens_by_language == {"Go": 5e4 + 2.5e3, "Rust": 5e4 + 7.5e3}
    assert one.unique_tokens == {"Go": 5e4}
    assert one.bpb == pytest.approx(2.0 / math.log(2) / 3.0)
    assert read_observations(tmp_path / "run/losses.jsonl") == [one]
    assert folder.of_stage("b") == [one]
    assert folder.of_stage("a") == []
    assert [r.stage for r in read_schedule(folder.schedule_file).records] == ["a", "b"]


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = opened(tmp_path / "run")
    folder.close()
    opened(tmp_path / "run").close()


def test_a_refused_folder_is_not_held(tmp_path: Path) -> None:
    opened(tmp_path / "run").close()
    changed = plan_of()
    with pytest.raises(InputError, match="the run was started otherwise"):
        RunFolder(tmp_path / "run", changed, lay_out(changed, 2001))
    opened(tmp_path / "run").close()


def test_a_decision_that_is_refused_is_not_recorded(tmp_path: Path) -> None:
    folder = opened(tmp_path / "run")

    def full(record: StageRecord) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        folder.decide(0, full)
    assert folder.schedule.records == ()
    assert read_schedule(folder.schedule_file).records == ()
    assert folder.decide(0, ready).stage == "a"


def test_losses_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = opened(tmp_path / "run")
    folder.decide(0, ready)
    append = records._append

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "_append", full)
    losses = {"Go": (2.0, 64), "Rust": (3.0, 64)}
    folder.record(losses, step=1, samples=16, stage=0, split="train")
    assert "2 losses are not written yet: " in capsys.readouterr().err
    assert len(folder.of_stage("a")) == 2, "they count all the same"
    monkeypatch.setattr(records, "_append", append)
    folder.record(losses, step=2, samples=32, stage=0, split="train")
    assert [o.step for o in read_observations(tmp_path / "run/losses.jsonl")] == [1, 1, 2, 2]


def test_sums_of_an_interval_cut_in_two(tmp_path: Path) -> None:
    folder = opened(tmp_path / "run")
    folder.save_pending(7, [[1.5, 2.0], [0.1 + 0.2, 1.0]])
    folder.save_pending(8, [[0.0, 0.0], [0.0, 0.0]])
    folder.close()
    again = opened(tmp_path / "run")
    assert again.pending(7) == [[1.5, 2.0], [0.1 + 0.2, 1.0]]
    assert again.pending(8) is None
    (tmp_path / "run/pending/9.json").write_text("{")
    with pytest.raises(InputError, match=r"pending/9\.json: not JSON"):
        again.pending(9)


def test_bad_earlier_runs_are_met_at_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "proxies.csv"
    bad.write_text("language,params,tokens,loss\nGo,1e6,1e5,-1\n")
    with pytest.raises(InputError, match=r"proxies\.csv:2, loss: must be above 0"):
        opened(tmp_path / "run", plan_of(refit=Refit(observations=(str(bad),))))
    with pytest.raises(InputError, match="expected"):
        opened(tmp_path / "run", plan_of(refit=Refit(where="step >")))
    assert not (tmp_path / "run").exists()
