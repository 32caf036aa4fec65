"""TensorBoard logs become observations: written here by tensorboard's own writer."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorboard")
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from blendlaw.errors import InputError
from blendlaw.tensorboard import is_tensorboard, read_tensorboard

HOW = {"pattern": "lm loss/{language}", "params": 1e9, "tokens_per_step": 1e6}


def scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=value)


def write(folder: Path, *events: tuple[int, list[Summary.Value]]) -> Path:
    """An event file in ``folder``; its name sorts after those written before it."""
    writer = EventFileWriter(str(folder))
    for step, values in events:
        writer.add_event(Event(step=step, wall_time=1.0, summary=Summary(value=values)))
    writer.close()
    return max(folder.glob("*tfevents*"), key=lambda file: int(file.name.rpartition(".")[2]))


def triples(observations) -> list[tuple[str, float, float]]:
    return [(o.language, o.tokens, o.loss) for o in observations]


def test_scalars_become_observations(tmp_path):
    file = write(
        tmp_path / "logs" / "small",
        (0, [scalar("lm loss/Go", 9.0)]),
        (10, [scalar("lm loss/Go", 2.5), scalar("lm loss/C#", 3.0), scalar("lr", 1e-4)]),
        (20, [scalar("lm loss/Go", 2.0), scalar("lm loss/Visual Basic", 1.5)]),
        (20, [scalar("lm loss", 1.0), scalar("xlm loss/Go", 1.0), scalar("lm loss/", 1.0)]),
    )
    said: list[str] = []
    found = read_tensorboard(tmp_path / "logs", **HOW, say=said.append)
    assert sorted(triples(found)) == [
        ("C#", 1e7, 3.0), ("Go", 1e7, 2.5), ("Go", 2e7, 2.0), ("Visual Basic", 2e7, 1.5),
    ]  # fmt: skip
    assert {(o.params, o.run) for o in found} == {(1e9, "small")}
    assert sorted({o.step for o in found}) == [10, 20]
    assert said[0].startswith("small: 3 languages, and no weights")
    assert triples(read_tensorboard(file, **HOW)) == triples(found)
    assert is_tensorboard(file)
    assert is_tensorboard(tmp_path)
    assert not is_tensorboard("losses.csv")


def test_patterns_are_literal_but_for_the_language(tmp_path):
    write(
        tmp_path / "a",
        (1, [scalar("loss (Go).*", 1.0), scalar("loss (Go)xx", 2.0)]),
        (1, [scalar("C++ validation", 3.0), scalar("C++ validation ppl", 4.0)]),
        (1, [scalar("lm loss/Go", 5.0), scalar("lm loss/Go validation", 6.0)]),
        (900, [scalar("lm loss/Go vs samples", 7.0)]),
    )

    def read(pattern: str) -> list[tuple[str, float]]:
        found = read_tensorboard(tmp_path, **(HOW | {"pattern": pattern}))
        return [(o.language, o.loss) for o in found]

    assert read("loss ({language}).*") == [("Go", 1.0)]
    assert read("{language} validation") == [("C++", 3.0), ("lm loss/Go", 6.0)]
    assert read("lm loss/{language}") == [("Go", 5.0)]  # not Megatron's further tags
    assert read("lm loss/{language} vs samples") == [("Go", 7.0)]
    for bad in ("lm loss", "{language}/{language}"):
        with pytest.raises(InputError, match=r"must have \{language\} in it once"):
            read(bad)
    with pytest.raises(InputError, match="no scalar matches 'nothing"):
        read("nothing/{language}")


@pytest.mark.parametrize(
    "tensor",
    [np.float32(2.5), np.float64(2.5), np.array([2.5]), np.array([[2.5]], np.float16)],
)
def test_tensor_encoded_scalars(tmp_path, tensor):
    value = Summary.Value(tag="lm loss/Go", tensor=make_tensor_proto(tensor))
    text = Summary.Value(tag="lm loss/text", tensor=make_tensor_proto(b"2.5"))
    vector = Summary.Value(tag="lm loss/many", tensor=make_tensor_proto([1.0, 2.0]))
    write(tmp_path, (1, [value, text, vector]))
    found = read_tensorboard(tmp_path, **HOW)
    assert triples(found) == [("Go", 1e6, 2.5)]
    assert found[0].run == tmp_path.name


def test_tokens_by_their_own_tag_and_weights(tmp_path):
    write(
        tmp_path,
        (5, [scalar("tokens", 3e6), scalar("lm loss/Go", 2.0)]),
        (6, [scalar("lm loss/Go", 1.0)]),
    )
    how = HOW | {"tokens_per_step": None, "tokens_tag": "tokens", "weights": {"Go": 0.5, "C": 0.5}}
    bad: list[InputError] = []
    found = read_tensorboard(tmp_path, **how, on_bad=bad.append)
    assert triples(found) == [("Go", 3e6, 2.0)]
    assert found[0].shares() == {"Go": 0.5, "C": 0.5}
    assert "step 6 has no value of 'tokens'" in str(bad[0])
    with pytest.raises(InputError, match="step 6"):
        read_tensorboard(tmp_path, **how)
    for both in ({"tokens_tag": "tokens"}, {"tokens_per_step": None}):
        with pytest.raises(InputError, match="give either tokens per step or the tag"):
            read_tensorboard(tmp_path, **(HOW | both))


def test_a_restarted_run_replaces_the_steps_it_takes_again(tmp_path):
    write(tmp_path, *[(step, [scalar("lm loss/Go", 10.0 - step)]) for step in (1, 2, 3, 4)])
    write(tmp_path, *[(step, [scalar("lm loss/Go", 5.0)]) for step in (3, 5)])
    found = read_tensorboard(tmp_path, **HOW)
    assert [(o.step, o.loss) for o in found] == [(1, 9.0), (2, 8.0), (3, 5.0), (5, 5.0)]


def test_a_bad_value_is_named_by_its_step_and_tag(tmp_path):
    file = write(
        tmp_path,
        (1, [scalar("lm loss/Go", 2.0)]),
        (2, [scalar("lm loss/Go", float("nan"))]),
        (3, [scalar("lm loss/C", -1.0)]),
    )
    with pytest.raises(InputError) as caught:
        read_tensorboard(tmp_path, **HOW)
    assert str(caught.value) == (
        f"{file}, loss: not a finite number at step 2 of 'lm loss/Go' (got nan)"
    )
    bad: list[InputError] = []
    assert triples(read_tensorboard(tmp_path, **HOW, on_bad=bad.append)) == [("Go", 1e6, 2.0)]
    assert len(bad) == 2


def test_the_last_record_of_a_live_run_may_be_cut_off_at_any_byte(tmp_path):
    file = write(tmp_path, *[(step, [scalar("lm loss/Go", 2.0)]) for step in (1, 2)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    last = len(whole) - (len(whole) - len(write(tmp_path / "x").read_bytes())) // 2
    for cut in range(last + 1, len(whole)):
        file.write_bytes(whole[:cut])
        said: list[str] = []
        assert len(read_tensorboard(file, **HOW, say=said.append)) == 1
        assert said == [f"{file}: the last record is cut off (a run still writing?): left out"]


@pytest.mark.parametrize("length", [2**34, 2**60, 2**63 + 1])
def test_damaged_and_hostile_files(tmp_path, length):
    file = write(tmp_path, (1, [scalar("lm loss/Go", 2.0)]), (2, [scalar("lm loss/Go", 1.0)]))
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[-30] ^= 1
    head = struct.pack("<Q", length)
    no_event = b"\xff" * 8
    frame = struct.pack("<Q", len(no_event))
    hostile = {
        bytes(damaged): "damaged",
        b"this is no event file at all": "damaged 0 bytes into the file",
        b"": "no scalar matches",
        frame + struct.pack("<I", masked_crc32c(frame)) + no_event
        + struct.pack("<I", masked_crc32c(no_event)): "a record that is no event",
    }  # fmt: skip
    for content, named in hostile.items():
        file.write_bytes(content)
        with pytest.raises(InputError, match=named):
            read_tensorboard(file, **HOW)
    file.write_bytes(whole + head + struct.pack("<I", masked_crc32c(head)) + b"abc")
    found = read_tensorboard(file, **HOW, on_bad=lambda error: None)  # no memory, no time
    assert len(found) == 2


def test_nothing_there_and_nothing_installed(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no TensorBoard event file in this folder"):
        read_tensorboard(tmp_path, **HOW)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_tensorboard(tmp_path / "missing", **HOW)
    write(tmp_path, (1, [scalar("lm loss/Go", 2.0)]))
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing", None)
    monkeypatch.delitem(
        sys.modules, "tensorboard.backend.event_processing.event_file_loader", raising=False
    )
    with pytest.raises(InputError, match="pip install tensorboard"):
        read_tensorboard(tmp_path, **HOW)
