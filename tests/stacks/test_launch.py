"""The launcher around pretrain_gpt.py, on the CPU: a checkout's, or that of the stand-in."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lm
import pytest

from blendlaw.observations import Observation, read_observations
from blendlaw.records import key
from blendlaw.schedule import read_schedule

torch = pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.core"):
    pytest.skip("needs megatron-core", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("the CPU rehearsal is for machines without a GPU", allow_module_level=True)

from sources import write_sources  # noqa: E402

THREE = [("warm", {"Python": 0.5, "Go": 0.3, "Rust": 0.2}), ("guided", "law"), ("last", "law")]
SAVING = ("--save", "ckpt", "--load", "ckpt", "--save-interval", "7", "--num-workers", "2")
pytestmark = pytest.mark.slow
of_a_checkout = pytest.mark.skipif(
    lm.CHECKOUT == lm.MINI, reason=f"{lm.VARIABLE} names no Megatron-LM checkout"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    (tmp_path / "plan.toml").write_text(lm.plan(THREE))
    return tmp_path


def losses(folder: Path, run: str = "run") -> list[Observation]:
    return read_observations(folder / run / "losses.jsonl")


def test_one_constant_stage_trains_as_without(folder: Path) -> None:
    weights = {"Python": 0.5, "Go": 0.3, "Rust": 0.2}
    (folder / "plan.toml").write_text(lm.plan([("main", weights)]))
    train = [str(item) for name, w in weights.items() for item in (w, f"{name}_train")]
    valid = [str(item) for name in weights for item in (1 / 3, f"{name}_valid")]
    data = ["--train-data-path", *train, "--valid-data-path", *valid]
    without = lm.done(folder, lm.command(None, "--log-interval", "1", *data))
    with_it = lm.done(folder, lm.command("run", "--log-interval", "1"))
    assert len(lm.reported(with_it)) == lm.STEPS
    assert lm.reported(with_it) == lm.reported(without)
    assert lm.reported(with_it, "grad norm:") == lm.reported(without, "grad norm:")  # of a checkout
    assert lm.validated(with_it) == lm.validated(without) != []


def test_three_stages_with_two_refits(folder: Path) -> None:
    output = lm.done(folder, lm.command("run", "--tensorboard-dir", "tb"))
    schedule = read_schedule(folder / "run" / "schedule.jsonl").records
    assert [record.start_sample for record in schedule] == [0, 320, 640]
    assert schedule[0].reason == "the plan's table"
    for number, record in enumerate(schedule[1:], start=2):
        assert record.reason.startswith("law: chinchilla fitted to "), output
        assert record.decided_at_sample == record.start_sample - lm.BATCH
        assert (folder / "run" / record.fit).exists()  # type: ignore[arg-type]
        assert record.fit == f"fits/{number}-{record.stage}.json"
        assert record.weights != schedule[0].weights
        assert min(record.weights["Python"], record.weights["Go"]) >= 0.1 - 1e-12
    seen = losses(folder)
    train = [each for each in seen if each.split == "train"]
    assert {each.step for each in train} == set(range(5, lm.STEPS + 1, 5))
    assert {each.step for each in seen if each.split == "valid"} == set(range(10, 61, 10))
    assert [each.bpb for each in train if each.language == "Rust"] == [None] * 12
    for each in train:
        assert each.stage == ("warm", "guided", "last")[(each.step - 1) // 20]  # type: ignore[operator]
    assert list((folder / "tb").glob("events*"))
    # What Megatron reports at a step is the mean of the steps since the last report.
    every_five = {step: loss for step, loss in lm.reported(output).items() if step % 5 == 0}
    assert len(every_five) == 12
    for step, reported in every_five.items():
        at = [each for each in train if each.step == step]
        tokens = sum(each.loss_tokens for each in at)  # type: ignore[misc]
        total = math.fsum(each.loss * each.loss_tokens for each in at)  # type: ignore[operator]
        assert tokens == 5 * lm.BATCH * lm.SEQUENCE
        assert total / tokens == pytest.approx(reported, rel=1e-6)


def test_what_was_drawn_is_what_the_schedule_says(folder: Path) -> None:
    """Tokens of each language counted in the losses, against the blend's own index."""
    lm.done(folder, lm.command("run"))
    schedule = read_schedule(folder / "run" / "schedule.jsonl").records
    drawn: dict[tuple[str, str], float] = defaultdict(float)
    for each in losses(folder):
        if each.split == "train":
            drawn[str(each.stage), each.language] += (each.loss_tokens or 0) / lm.SEQUENCE
    for record in schedule:
        for language, weight in record.weights.items():
            assert drawn[record.stage, language] == pytest.approx(320 * weight, abs=2)
    last = losses(folder)[-1]
    for language, tokens in last.tokens_by_language.items():  # type: ignore[union-attr]
        counted = sum(drawn[record.stage, language] for record in schedule)
        assert tokens / lm.SEQUENCE == pytest.approx(counted, abs=6)


@of_a_checkout
@pytest.mark.parametrize(
    ("ranks", "flags"),
    [
        (2, ()),
        (2, ("--tensor-model-parallel-size", "2")),
        (2, ("--pipeline-model-parallel-size", "2")),
        (4, ("--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2")),
    ],
    ids=["DP2", "TP2", "PP2", "TP2 PP2"],
)
def test_every_layout_starts_from_one_checkpoint(
    folder: Path, ranks: int, flags: tuple[str, ...]
) -> None:
    """The same figures under every layout, from the same weights, with stages that no fit moves."""
    static = [*THREE[:1], ("even", "uniform"), ("last", {"Python": 0.2, "Go": 0.2, "Rust": 0.6})]
    (folder / "plan.toml").write_text(lm.plan(static))
    divisible = "64" if "--tensor-model-parallel-size" not in flags else "32"
    begin = ("--save", "begin", "--save-interval", "1", "--exit-interval", "1")
    lm.done(folder, lm.command("first", *begin))
    load = ("--load", "begin", "--finetune", "--lr", "1e-4", "--min-lr", "1e-5")
    lm.done(folder, lm.command("run", *load))
    vocabulary = ("--make-vocab-size-divisible-by", divisible)
    lm.done(folder, lm.command("other", *load, *vocabulary, *flags, ranks=ranks))
    one, other = losses(folder, "run"), losses(folder, "other")
    assert [key(each)[1:] for each in one] == [key(each)[1:] for each in other]
    for mine, theirs in zip(one, other, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, abs=1e-5)
        assert theirs.loss_tokens == mine.loss_tokens
    schedules = [read_schedule(folder / run / "schedule.jsonl") for run in ("run", "other")]
    assert schedules[0] == schedules[1]


# Kill -9 at any moment.


def files(folder: Path, run: str) -> tuple[list[object], list[object]]:
    """What a run has recorded, but for its own name."""
    schedule = [
        {**vars(record), "decided_at_sample": None}
        for record in read_schedule(folder / run / "schedule.jsonl").records
    ]
    lines = (folder / run / "losses.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "run": None} for line in lines]
    return schedule, sorted(
        rows, key=lambda row: [str(row[k]) for k in ("step", "split", "language")]
    )


def test_killed_time_and_again_it_ends_as_if_undisturbed(folder: Path) -> None:
    lm.done(folder, lm.command("calm", *SAVING[4:], "--save", "calm_ckpt", "--save-interval", "7"))
    moments = random.Random(4)
    line = lm.command("run", *SAVING)
    kills = 0
    while kills < int(os.environ.get("BLENDLAW_KILLS", "3")):
        process = lm.start(folder, line, said=subprocess.DEVNULL)
        ready = time.monotonic() + 400
        before = len(losses_or_none(folder))
        while process.poll() is None and time.monotonic() < ready:
            if len(losses_or_none(folder)) > before or moments.random() < 0.002:
                break  # it trains
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.7))
        ended = process.poll() is not None
        kill_ranks(folder)
        process.communicate()
        kills += 1
        if ended:
            break
    lm.done(folder, line)
    assert files(folder, "run") == files(folder, "calm")
    rows = [key(each) for each in losses(folder)]
    assert len(rows) == len(set(rows)) == 12 * 3 + 6 * 3


@pytest.mark.parametrize(
    ("odd", "moment"), [("fit", "fitting"), ("append", "appending"), ("losses", "recording")]
)
def test_killed_at_a_bad_moment_it_ends_as_if_undisturbed(
    folder: Path, odd: str, moment: str
) -> None:
    lm.done(folder, lm.command("calm", *SAVING[4:], "--save", "calm_ckpt"))
    process = lm.start(
        folder, lm.command("run", *SAVING, wrong=True), said=subprocess.DEVNULL, ODD=odd
    )
    deadline = time.monotonic() + 400
    while not (folder / moment).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill_ranks(folder)
    process.communicate()
    if odd == "append":
        assert not (folder / "run/schedule.jsonl").read_bytes().endswith(b"\n")
    output = lm.done(folder, lm.command("run", *SAVING))
    assert ("the last line is damaged" in output) == (odd == "append")
    assert files(folder, "run") == files(folder, "calm")
    rows = [key(each) for each in losses(folder)]
    assert len(rows) == len(set(rows)) == 12 * 3 + 6 * 3


def losses_or_none(folder: Path) -> list[str]:
    path = folder / "run/losses.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def kill_ranks(folder: Path) -> None:
    for pid in working(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def working(folder: Path) -> list[int]:
    """All that works in the folder: torchrun, its ranks, their loaders and writers."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if os.readlink(link) == str(folder):
                found.append(int(link.parent.name))
    return found


# Faults: each ends in a clear message.


def refused(folder: Path, *flags: str, plan: str | None = None, **environment: str) -> str:
    if plan is not None:
        (folder / "plan.toml").write_text(plan)
    output = lm.done(folder, lm.command("run", *flags), fails=True, **environment)
    told = [line for line in output.splitlines() if line.startswith("blendlaw: error: ")]
    assert len(told) == 1, output[-3000:]
    assert not lm.reported(output), "before training starts"
    return told[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataloader-type", "cyclic"), "--dataloader-type cannot go with stages"),
        (("--dataloader-type", "external"), "--dataloader-type cannot go with stages"),
        (("--phase-transition-iterations", "20"), "--phase-transition-iterations cannot go"),
        (("--data-path", "Python_train"), "leave out --data-path: the sources are those"),
        (("--mock-data",), "leave out --mock-data"),
        (("--seq-length", "32"), "--seq-length is 32, the plan's is 64"),
        (("--train-iters", "90"), "run.tokens: the run trains on 1440 samples"),
    ],
)
def test_what_cannot_go_with_stages(folder: Path, flags: tuple[str, ...], message: str) -> None:
    assert message in refused(folder, *flags)


def edit(change: Callable[[str], str]) -> str:
    return change(lm.plan(THREE))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (edit(lambda plan: plan.replace("Go_train", "gone")), "gone.idx: no such file"),
        (edit(lambda plan: plan.replace("valid_sources", "test_sources")), "no valid_sources"),
        (lm.plan([("first", "law")]), "stage 'first' is the first, so no weights can stand"),
        (lm.plan(THREE, law="chinchila"), "no law named"),
    ],
)
def test_a_plan_that_cannot_be_trained(folder: Path, plan: str, message: str) -> None:
    if "chinchila" in plan:  # a wrong law is a fit that fails: the weights before stand
        (folder / "plan.toml").write_text(plan)
        output = lm.done(folder, lm.command("run"))
        reasons = [r.reason for r in read_schedule(folder / "run/schedule.jsonl").records]
        assert reasons[1].startswith("kept the weights of warm: no law named 'chinchila'"), output
        return
    assert message in refused(folder, plan=plan)
    assert not (folder / "run/schedule.jsonl").exists() or not (
        read_schedule(folder / "run/schedule.jsonl").records
    )


def run_with(folder: Path, odd: str, *flags: str, fails: bool = False) -> str:
    return lm.done(folder, lm.command("run", *flags, wrong=True), fails, ODD=odd)


def test_a_loss_that_is_no_number(folder: Path) -> None:
    """That language has no observations, so no law for all: the weights before stand."""
    output = run_with(folder, "nan")
    assert "the train loss of Go is nan: left out" in output
    assert {each.language for each in losses(folder)} == {"Python", "Rust"}
    schedule = read_schedule(folder / "run/schedule.jsonl").records
    assert schedule[1].reason == "kept the weights of warm: no train loss of Go to fit"
    assert schedule[1].weights == pytest.approx(schedule[0].weights)
    assert len(lm.reported(output)) >= 12


def test_a_proposal_beyond_a_cap(folder: Path) -> None:
    (folder / "plan.toml").write_text(lm.plan(THREE, rust="cap = 0.3"))
    run_with(folder, "greedy")
    record = read_schedule(folder / "run/schedule.jsonl").records[1]
    assert record.weights["Rust"] == pytest.approx(0.3)
    assert record.weights["Python"] >= 0.1 - 1e-12
    assert "within limits" in record.reason
    assert "Rust 0.99 to 0.3" in record.reason


def test_plugins_that_raise(folder: Path) -> None:
    output = run_with(folder, "broken")
    record = read_schedule(folder / "run/schedule.jsonl").records[1]
    assert record.reason == "kept the weights of warm: KeyError: 'no such policy'"
    assert "a tracker failed: RuntimeError: the tracker is down" in output
    assert len(losses(folder)) == 12 * 3 + 6 * 3


def test_hooks_are_called_on_every_rank(folder: Path) -> None:
    output = lm.done(folder, lm.command("run", ranks=2, wrong=True), ODD="told")
    told = [line for line in output.splitlines() if line.startswith("TOLD ")]
    for stage in ("warm", "guided", "last"):
        assert sum(line.startswith(f"TOLD before {stage} {{'Python'") for line in told) == 2
        assert sum(line.startswith(f"TOLD after {stage} ") for line in told) == 2
    assert sum(line.startswith("TOLD losses") for line in told) == 12
    assert "TOLD losses 5 5120 ['Go', 'Python', 'Rust']" in told


def test_a_disk_that_is_full(folder: Path) -> None:
    """Losses wait; a stage cannot: the run stops before the first sample of it is needed."""
    output = run_with(folder, "full", fails=True)
    assert "losses are not written yet: " in output
    assert "a stage cannot be recorded, to be tried again" in output
    assert "blendlaw: error: a stage cannot be recorded: [Errno 28]" in output
    assert len(read_schedule(folder / "run/schedule.jsonl").records) == 1
    lm.done(folder, lm.command("run"))  # from the beginning, with space again
    assert len(losses(folder)) == 12 * 3 + 6 * 3


def test_a_disk_that_is_full_for_a_moment(folder: Path) -> None:
    output = run_with(folder, "full once")
    assert "a stage cannot be recorded, to be tried again" in output
    assert len(read_schedule(folder / "run/schedule.jsonl").records) == 3
    assert len(losses(folder)) == 12 * 3 + 6 * 3


def test_two_runs_in_one_folder(folder: Path) -> None:
    with open(folder / "said", "wb") as said:
        first = lm.start(folder, lm.command("run", "--train-iters", "60"), said=said.fileno())
    deadline = time.monotonic() + 400
    while not losses_or_none(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGSTOP)
    stopped = [pid for pid in working(folder) if pid != first.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        told = refused(folder)
    finally:
        for pid in (first.pid, *stopped):
            os.kill(pid, signal.SIGCONT)
    assert "another run is using it (process " in told
    assert first.wait(timeout=400) == 0, (folder / "said").read_text()[-3000:]
    assert len(losses(folder)) == 12 * 3 + 6 * 3


def test_a_plan_that_was_changed_between_runs(folder: Path) -> None:
    leave = (*SAVING, "--exit-interval", "14")
    lm.done(folder, lm.command("run", *leave))
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*.json*")}
    for change, message in (
        (lambda plan: plan.replace("floor = 0.1", "floor = 0.2"), "samples of source"),
        (
            lambda plan: plan.replace('name = "guided"', 'name = "other"'),
            "stages were warm, guided",
        ),
        (lambda plan: plan.replace("Go_train", "Go_valid"), "source Go_train (Go) is gone"),
    ):
        told = refused(folder, *SAVING, plan=edit(change))
        assert "layout.json: the run was started otherwise" in told
        assert message in told
        for path, content in before.items():
            if not path.name.endswith(".lock"):
                assert path.read_bytes() == content
    (folder / "plan.toml").write_text(lm.plan(THREE))
    lm.done(folder, lm.command("run", *SAVING))
    assert len(losses(folder)) == 12 * 3 + 6 * 3
