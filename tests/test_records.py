"""losses.jsonl: durable, each record once, whatever a crash left at its end."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blendlaw
from blendlaw.errors import InputError
from blendlaw.observations import Observation, read_observations
from blendlaw.records import LossLog, append_observations, observe, record

LOSSES = {"Python": (0.8, 1000), "C#": (0.6, 400), "Go": (math.nan, 10)}


def measured(step: int, scale: float = 1.0) -> list[Observation]:
    scaled = {language: (loss * scale, n) for language, (loss, n) in LOSSES.items()}
    return observe(scaled, params=1e6, tokens=step * 4096, step=step, split="train", stage="warm")


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    log = LossLog(path)
    assert log.append(measured(1)) == measured(1)
    log.append(measured(2))
    assert read_observations(path) == measured(1) + measured(2)
    assert [seen.language for seen in measured(1)] == ["Python", "C#"], "NaN is no observation"


def test_each_record_once(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    log = LossLog(path)
    log.append(measured(1))
    assert log.append(measured(1, scale=1.5)) == []
    resumed = LossLog(path)
    assert resumed.append(measured(1, scale=1.5) + measured(2) + measured(2)) == measured(2)
    valid = observe(LOSSES, params=1e6, tokens=4096, step=1, split="valid", stage="warm")
    assert append_observations(path, valid) == valid
    assert read_observations(path) == measured(1) + measured(2) + valid


@given(cut=st.integers(min_value=0), junk=st.sampled_from([b"", b"\0\0\0", b"\0\n", b"{\n", b"7"]))
def test_a_kill_during_the_append_leaves_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("run") / "losses.jsonl"
    append_observations(path, measured(1) + measured(2))
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)] + junk)
    log = LossLog(path)
    assert whole.startswith(path.read_bytes())
    for step in (1, 2):
        log.append(measured(step))
    assert path.read_bytes() == whole


def test_a_damaged_line_within_is_named(tmp_path: Path) -> None:
    path = tmp_path / "losses.jsonl"
    append_observations(path, measured(1))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:20] + b"\n" + second)
    with pytest.raises(InputError, match=r"losses\.jsonl:2: not a record"):
        LossLog(path)


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "losses.jsonl"
    log = LossLog(path)
    log.append(measured(1))
    before, write = path.read_bytes(), os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as raised:
            log.append(measured(2))
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    assert log.append(measured(2)) == measured(2)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LossLog(tmp_path / "none" / "losses.jsonl")


def test_bits_per_byte() -> None:
    (seen,) = observe(
        {"Go": (math.log(2) * 3, 5)}, params=1e6, tokens=1, bytes_per_token={"Go": 4.0}
    )
    assert seen.bpb == pytest.approx(0.75)


def test_trackers_are_told_of_training(tmp_path: Path) -> None:
    told = []

    class Tracker:
        @blendlaw.hookimpl
        def record_losses(self, step: int, tokens: int, losses: Mapping[str, float]) -> None:
            told.append((step, tokens, list(losses)))

    manager = blendlaw.plugin_manager()
    tracker = Tracker()
    manager.register(tracker, name="tracker")
    try:
        log = LossLog(tmp_path / "losses.jsonl")
        for split in ("train", "valid"):
            new = record(log, LOSSES, params=1e6, tokens=4096, step=1, split=split)
            assert [seen.split for seen in new] == [split] * 2
    finally:
        manager.unregister(tracker)
    assert told == [(1, 4096, ["Python", "C#", "Go"])]
