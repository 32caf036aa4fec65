"""schedule.jsonl survives crashes at any byte, and two runs do not share one."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blendlaw
from blendlaw.errors import InputError
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage
from blendlaw.schedule import Schedule, StageRecord, append, boundaries, claim, read_schedule

FIRST = StageRecord("warm", 0, {"Python": 0.75, "C#": 0.25}, 0, "from the plan")
SECOND = StageRecord("guided", 100, {"Python": 0.1, "C#": 0.9}, 80, "law: überlegen", "fit-1.json")
THIRD = StageRecord("last", 200, {"Python": 1.0, "C#": 0.0}, 180, "no fit: weights kept")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(blendlaw.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "schedule.jsonl"


def test_the_keys_of_a_line_are_the_contract(path: Path) -> None:
    append(path, FIRST)
    assert append(path, SECOND) == Schedule((FIRST, SECOND)) == read_schedule(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    keys = ["stage", "start_sample", "weights", "decided_at_sample", "reason", "fit"]
    assert [list(line) for line in lines] == [keys, keys]
    assert lines[1]["weights"] == SECOND.weights
    documented = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    section = documented.partition("## schedule.jsonl")[2].partition("\n## ")[0]
    assert all(f"| `{key}` |" in section for key in keys)


def test_no_file_is_an_empty_schedule(path: Path) -> None:
    assert read_schedule(path) == Schedule()


def test_the_same_record_again_is_no_change(path: Path) -> None:
    for record in (FIRST, SECOND, FIRST, SECOND):
        append(path, record)
    assert read_schedule(path).records == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (replace(SECOND, reason="otherwise"), "schedule.jsonl:3, stage: stage 'guided' is decided"),
        (replace(THIRD, start_sample=100, decided_at_sample=0), "must be above 100, where stage"),
    ],
)
def test_what_cannot_follow_is_refused(path: Path, record: StageRecord, told: str) -> None:
    append(path, FIRST)
    append(path, SECOND)
    before = path.read_bytes()
    with pytest.raises(InputError, match=told):
        append(path, record)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"weights": {"Go": 0.9}}, "sum to 0.9"),
        ({"weights": {"Go": float("nan")}}, "weights.Go"),
        ({"weights": {"Go": 2.0, "C": -1.0}}, "weights.C"),
        ({"decided_at_sample": 101}, "from 0 to start_sample, 100"),
        ({"stage": "a\nb"}, "control characters"),
    ],
)
def test_a_record_that_is_none(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        replace(SECOND, **wrong)  # type: ignore[arg-type]


def test_a_crash_at_any_byte_of_the_last_line(path: Path) -> None:
    append(path, FIRST)
    append(path, SECOND)
    whole = path.read_bytes()
    for cut in range(len(FIRST.line()), len(whole)):
        path.write_bytes(whole[:cut])
        found = read_schedule(path)
        assert found.records == (FIRST,)
        assert (found.damage is None) == (cut == len(FIRST.line()))
        if found.damage is not None:
            assert f"{path}:2: the last line is damaged" in found.damage
        append(path, SECOND)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("rubbish", [b"\0" * 50, b"\0" * 50 + b"\n", b"\n", b'{"a": 1', b"\xff\n"])
def test_rubbish_at_the_end_is_cut_off(path: Path, rubbish: bytes) -> None:
    path.write_bytes(FIRST.line() + rubbish)
    assert read_schedule(path).records == (FIRST,)
    assert append(path, SECOND) == Schedule((FIRST, SECOND))
    assert path.read_bytes() == FIRST.line() + SECOND.line()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{\n" + SECOND.line(), ":1: damaged, and not by a crash"),
        (FIRST.line() + b"\n" + SECOND.line(), ":2: damaged, and not by a crash"),
        (FIRST.line() + FIRST.line(), ":2, stage: stage 'warm' is decided already"),
        (SECOND.line() + replace(THIRD, start_sample=90, decided_at_sample=0).line(), ":2, start"),
        (FIRST.line().replace(b'"reason"', b'"raison"'), "did you mean 'reason'"),
        (FIRST.line().replace(b"0.75", b"0.85"), ":1, weights: the weights sum to 1.1"),
        (FIRST.line().replace(b": 0,", b": true,"), ":1, start_sample: must be a whole number"),
    ],
)
def test_damage_elsewhere_names_the_line(path: Path, content: bytes, told: str) -> None:
    path.write_bytes(content)
    for act in (lambda: read_schedule(path), lambda: append(path, THIRD)):
        with pytest.raises(InputError) as error:
            act()
        assert told in str(error.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_leaves_the_file_as_it_was(path: Path, room: int) -> None:
    append(path, FIRST)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(FIRST.line()) + room, hard))
    try:
        with pytest.raises(OSError, match=r"schedule\.jsonl"):
            append(path, SECOND)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == FIRST.line()
    assert append(path, SECOND).records == (FIRST, SECOND)


APPENDING = """
import sys
from blendlaw.schedule import StageRecord, append, read_schedule
path, weight, most = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
number = len(read_schedule(path).records)
while number < most:
    record = StageRecord(str(number), number, {"Go": weight, "C": 1 - weight}, number, "x" * 2000)
    try:
        append(path, record)
        print(number, flush=True)
    except ValueError as error:
        print("refused:", error, flush=True)
    number += 1
"""


def test_killed_while_appending(path: Path) -> None:
    acknowledged = -1
    for _ in range(20):
        process = python(APPENDING, path, 0.5, 10**9)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == acknowledged + 1
        time.sleep(random.uniform(0, 0.03))
        process.kill()
        said, _ = process.communicate()
        acknowledged = max(
            [acknowledged + 1, *(int(line) for line in said.splitlines(True) if line[-1] == "\n")]
        )
        found = read_schedule(path).records
        assert [record.start_sample for record in found] == list(range(len(found)))
        # At most the one that was not acknowledged yet is there as well.
        assert acknowledged + 1 <= len(found) <= acknowledged + 2
        acknowledged = len(found) - 1


def test_two_processes_at_once(path: Path) -> None:
    both = [python(APPENDING, path, weight, 100) for weight in (0.25, 0.75)]
    said = [process.communicate()[0].splitlines() for process in both]
    records = read_schedule(path).records
    assert [record.start_sample for record in records] == list(range(100))
    for weight, lines in zip((0.25, 0.75), said, strict=True):
        for line in lines:
            if line.startswith("refused: "):
                assert "is decided already, otherwise" in line or "must be above" in line
            else:
                assert records[int(line)].weights["Go"] == weight
    assert sum(not line.startswith("refused") for lines in said for line in lines) == 100


CLAIMING = """
import sys, time
from blendlaw.schedule import claim
with claim(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_of_the_first(path: Path) -> None:
    process = python(CLAIMING, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    told = rf"schedule\.jsonl: another run is using it \(process {process.pid} on "
    with pytest.raises(InputError, match=told), claim(path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with claim(path):
        append(path, FIRST)
    assert read_schedule(path).records == (FIRST,)


def plan(length: int, tokens: list[float]) -> Plan:
    return Plan(
        Run(1e9, sum(tokens), length),
        {"Go": LanguagePlan((Source("go"),))},
        tuple(Stage(str(n), each, "uniform") for n, each in enumerate(tokens)),
    )


@given(
    st.integers(1, 5000),
    st.lists(st.floats(2, 1e9, allow_nan=False), min_size=1, max_size=6),
    st.floats(-0.009, 0.009),
)
def test_stages_in_samples(length: int, sizes: list[float], off: float) -> None:
    tokens = [size * length for size in sizes]
    samples = round(sum(sizes) * (1 + off / len(sizes)))
    try:
        found = boundaries(plan(length, tokens), samples)
    except InputError:
        assert sizes[-1] <= abs(samples - sum(sizes)) + 2
        return
    assert len(found) == len(sizes) + 1
    assert (found[0], found[-1]) == (0, samples)
    assert all(end > start for start, end in pairwise(found))
    for number in range(len(sizes)):
        assert abs(found[number] - sum(sizes[:number])) <= 0.5 + 1e-6 * sum(sizes)


def test_a_budget_that_is_not_the_plans() -> None:
    with pytest.raises(
        InputError, match=r"trains on 500 samples, the plan's 40960 tokens are 10 s"
    ):
        boundaries(plan(4096, [40960.0]), 500)
    with pytest.raises(InputError, match="stage '1' has not one sample of 4096 tokens"):
        boundaries(plan(4096, [4096e3, 1.0]), 1000)
