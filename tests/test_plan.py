"""Plans from TOML: defaults, what is read from disk, and one clear line for every mistake."""

from __future__ import annotations

import struct
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from blendlaw.errors import InputError
from blendlaw.indexed import count_tokens
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage, read_plan

PLAN = """
[run]
params = 1.5e9
tokens = 350e9
sequence_length = 8192

[languages.Python]
sources = ["data/python_text_document"]
unique_tokens = 90e9
max_epochs = 4
floor = 0.02

[languages."C++"]
sources = [{ prefix = "cpp/a", share = 0.7 }, { prefix = "cpp/b", share = 0.3 }]
cap = 0.5
value = 2
consumed = 1e9

[[stages]]
name = "warm"
tokens = 100e9
weights = { Python = 0.25, "C++" = 0.75 }

[[stages]]
name = "guided"
tokens = 250e9
"""


@pytest.fixture
def read(tmp_path: Path):
    """read(old, new, …): the plan above with each ``old`` replaced by ``new``."""

    def reader(*changes: str) -> Plan:
        text = PLAN
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return read_plan(path)

    return reader


def write_index(prefix: Path, lengths: list[int]) -> None:
    """An index as Megatron lays it out, of documents of one uint16 sequence each."""
    size = np.array(lengths, dtype="<i4")
    pointers = np.concatenate([[0], np.cumsum(size[:-1].astype("<i8") * 2)])[: len(size)]
    documents = np.arange(len(size) + 1, dtype="<i8")
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, len(size), len(size) + 1)
    body = size.tobytes() + pointers.astype("<i8").tobytes() + documents.tobytes()
    Path(f"{prefix}.idx").write_bytes(header + body)


def test_what_is_written_is_what_is_read(read) -> None:
    plan = read()
    assert plan == Plan(
        run=Run(params=1.5e9, tokens=350e9, sequence_length=8192),
        languages={
            "Python": LanguagePlan(
                sources=(Source("data/python_text_document"),),
                unique_tokens=90e9,
                max_epochs=4.0,
                floor=0.02,
            ),
            "C++": LanguagePlan(
                sources=(Source("cpp/a", share=0.7), Source("cpp/b", share=0.3)),
                cap=0.5,
                value=2.0,
                consumed=1e9,
            ),
        },
        stages=(
            Stage("warm", 100e9, {"Python": 0.25, "C++": 0.75}),
            Stage("guided", 250e9, "law"),
        ),
    )
    with pytest.raises(FrozenInstanceError):
        plan.run.params = 1.0


def test_defaults_fill_in_stages_or_the_run(read) -> None:
    assert read("tokens = 350e9\n", "").run.tokens == 350e9
    plan = read(PLAN[PLAN.index("[[stages]]") :], "")
    assert plan.stages == (Stage("main", 350e9, "law"),)
    assert read("sequence_length = 8192", "").run.sequence_length == 4096
    assert read("tokens = 350e9", "tokens = 350000000001").run.tokens == 350000000001


def test_stages_by_name_and_start(read) -> None:
    plan = read()
    assert [plan.start(stage) for stage in plan.stages] == [0, 100e9]
    assert plan.stage("guided").tokens == 250e9
    with pytest.raises(InputError, match="did you mean 'guided'"):
        plan.stage("guide")


def test_after_a_stage_its_tokens_are_consumed(read) -> None:
    plan = read()
    after = plan.after(plan.stage("warm"), {"Python": 0.25, "C++": 0.75})
    assert {name: of.consumed for name, of in after.languages.items()} == {
        "Python": 25e9,
        "C++": 76e9,
    }


def test_tokens_come_from_the_index_unless_given(read, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpp").mkdir()
    write_index(tmp_path / "cpp/a", [5, 7, 0])
    assert read().languages["C++"].sources[0].tokens == 12
    assert read().languages["C++"].unique_tokens is None  # cpp/b is not known
    plan = read('prefix = "cpp/b"', 'prefix = "cpp/b", tokens = 30')
    assert plan.languages["C++"].unique_tokens == 42
    plan = read('prefix = "cpp/b"', 'prefix = "cpp/b", tokens = 30', "cap = 0.5", "unique_tokens=9")
    assert plan.languages["C++"].unique_tokens == 9


def test_count_tokens_reads_megatrons_index(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(0, 2**31 - 1, 1000).tolist()
    write_index(tmp_path / "big", lengths)
    assert count_tokens(str(tmp_path / "big")) == sum(lengths)
    assert count_tokens(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a Megatron index"),
        (b"PK" * 50, "not a Megatron index"),
        (b"MMIDIDX\0\0" + struct.pack("<QBQQ", 2, 8, 0, 1) + bytes(8), "version other than 1"),
        (b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 9, 10) + bytes(40), "cut short: 9 seq"),
        (b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 2**60, 1), "cut short"),
        (b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 0, 1) + bytes(8), "without tokens"),
    ],
)
def test_a_broken_index_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.idx").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.idx: .*{problem}"):
        count_tokens(str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("floor = 0.02", "flor = 0.02", "languages.Python.flor: unknown key (did you mean 'floor'"),
        ("params = 1.5e9", "parms = 1.5e9", "run.parms: unknown key (did you mean 'params'?)"),
        ("share = 0.7", "shar = 0.7", "languages.C++.sources[0].shar: unknown key (did you"),
        ("params = 1.5e9", "", "run.params: this key is required"),
        ("params = 1.5e9", "params = '1.5e9'", "run.params: Input should be a valid number (got '"),
        ("params = 1.5e9", "params = true", "run.params: Input should be a valid number (got True"),
        ("params = 1.5e9", "params = inf", "run.params: Input should be a finite number"),
        ("params = 1.5e9", "params = 1" + "0" * 400, "run.params: Input should be a valid number"),
        ("tokens = 100e9", "tokens = -1", "stages[0].tokens: Input should be greater than 0"),
        ("tokens = 350e9", "tokens = 300e9", "run.tokens: the stages have 3.5e+11 tokens, the run"),
        ("floor = 0.02", "floor = 2", "languages.Python.floor: Input should be less than or equal"),
        ("floor = 0.02", "floor = 0.5\ncap = 0.3", "languages.Python: floor 0.5 is above cap 0.3"),
        ("share = 0.7", "share = 0.6", "languages.C++.sources: the shares sum to 0.9, not 1"),
        (", share = 0.7", "", "languages.C++.sources: give the share of every source or of none"),
        ('["data/', '["cpp/a", "data/', "sources: a prefix that Python has already (got 'cpp/a')"),
        ('"cpp/a"', '"./cpp//b"', "languages.C++.sources: a prefix that C++ has already"),
        ('"cpp/a"', '"12"', "sources[0].prefix: Megatron would read this prefix as a weight"),
        ('"cpp/a"', '"nan"', "sources[0].prefix: Megatron would read this prefix as a weight"),
        ('"cpp/a"', '"a\\nb"', "sources[0].prefix: a prefix cannot contain control characters"),
        ('"cpp/a"', '"a\\u0000"', "sources[0].prefix: a prefix cannot contain control characters"),
        ('"cpp/a"', '"a "', "sources[0].prefix: a prefix cannot begin or end with a space"),
        ('"cpp/a"', '"a.bin"', "Megatron takes the prefix without its ending: 'a'"),
        ('"cpp/a"', '""', "sources[0].prefix: an empty prefix"),
        ('["data/python_text_document"]', '"x"', "languages.Python.sources: must be a list"),
        ('["data/python_text_document"]', "[3]", "languages.Python.sources[0]: must be a table"),
        ('name = "guided"', 'name = "warm"', "stages[1].name: two stages of one name"),
        ("Python = 0.25", "Python = 0.2", "stages[0].weights: the weights sum to 0.95, not 1"),
        ("Python = 0.25", "Python = -0.25", "the weight of Python must be from 0 to 1, not -0.25"),
        ("Python = 0.25", "Pyton = 0.25", "stages[0].weights.Pyton: no such language in the plan"),
        ("{ Python = 0.25", '{ Python = "x"', "the weight of Python must be from 0 to 1, not 'x'"),
        ('name = "guided"', 'name="guided"\nweights=3', "stages[1].weights: weights are the name"),
        ('name = "guided"', 'name="guided"\ntemperature=1', "stages[1].temperature: temperature"),
        ("[run]", "[run", "not TOML: Expected ']' at the end of a table declaration (at line 2"),
        ("[run]", "[ruin]", "ruin: unknown key (did you mean 'run'?)"),
    ],
)
def test_every_mistake_is_one_clear_line(read, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(old, new)
    assert message in str(caught.value)
    assert "plan.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(b"# \xff")
    with pytest.raises(InputError, match="not UTF-8 at byte 2"):
        read_plan(path)
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(InputError, match="larger than"):
        read_plan(path)
    path.write_bytes(b"a = " + b"[" * 100_000)
    with pytest.raises(InputError, match="not TOML"):
        read_plan(path)
    path.write_bytes(b"\xef\xbb\xbf" + PLAN.encode())
    assert read_plan(path).run.params == 1.5e9
    with pytest.raises(FileNotFoundError):
        read_plan(tmp_path / "absent.toml")
