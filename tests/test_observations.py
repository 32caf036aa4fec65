"""Observations: what is accepted, how a refusal reads, exact round trips, hostile files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import string
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlaw.errors import InputError
from blendlaw.observations import (
    Observation,
    distinct,
    format_observations,
    read_observations,
    write_observations,
)
from blendlaw.pair_runs import PairLoss, read_pairs_table

HEADER = "language,params,tokens,loss"
GOOD = {"language": "Go", "params": 1e9, "tokens": 2e9, "loss": 1.5}


def read(tmp_path: Path, content: str | bytes, file: str = "o.csv", **how) -> list[Observation]:
    path = tmp_path / file
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_observations(path, **how)


# One observation


def test_shares_come_from_weights_then_tokens_then_the_own_language():
    assert Observation(**GOOD).shares() == {"Go": 1.0}
    seen = Observation(**GOOD, tokens_by_language={"Go": 1.5e9, "C#": 0.5e9})
    assert seen.shares() == {"Go": 0.75, "C#": 0.25}
    both = Observation(**GOOD, weights={"Rust": 1}, tokens_by_language={"Go": 1})
    assert both.shares() == {"Rust": 1.0}  # its own language had no share: allowed


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"loss": 0}, "loss: must be above 0 (got 0)"),
        ({"loss": -1.5}, "loss: must be above 0 (got -1.5)"),
        ({"loss": float("nan")}, "loss: not a finite number (got nan)"),
        ({"params": float("inf")}, "params: not a finite number (got inf)"),
        ({"tokens": True}, "tokens: not a number (got True)"),
        ({"tokens": 10**400}, "tokens: too large a number"),
        ({"params": "1_000"}, "params: not a number (got '1_000')"),
        ({"weights": {"Go": 0.5, "C": 0.4}}, "weights: weights must sum to 1 (got 0.9)"),
        ({"weights": {"Go": 1.5, "C": -0.5}}, "weights.C: must not be negative (got -0.5)"),
        ({"unique_tokens": {"Go": 0}}, "unique_tokens.Go: must be above 0 (got 0)"),
        ({"tokens_by_language": {"Go": 3e9}}, "tokens_by_language: they sum to 3e+09, more than"),
        ({"tokens_by_language": {"Go": 0}}, "tokens_by_language: the run has seen no tokens"),
        ({"step": 1.5}, "step: not a whole number"),
        ({"bpb": 0}, "bpb: must be above 0"),
        ({"run": ""}, "run: empty text"),
        ({"language": "a\nb"}, "language: a name has control characters"),
        ({"language": "\x1b[31m"}, "language: a name has control characters"),
        ({"language": "\u202etxt"}, "language: a name has control characters"),
        ({"language": "x" * 101}, "language: a name is longer than 100 characters"),
        ({"language": " Go"}, "language: a name begins or ends with a space"),
        ({"language": None}, "language: a name is missing"),
        ({"extra": {"weights.Go": "1"}}, "weights.Go: a known column given as extra"),
        ({"extra": {"note": "\ud800"}}, "note: text with characters no file can hold"),
    ],
)
def test_a_bad_value_is_refused_by_its_column(changed, named):
    with pytest.raises(InputError) as caught:
        Observation(**(GOOD | changed))
    assert str(caught.value).startswith(named)


# Files


def test_reads_csv_with_everything(tmp_path):
    found = read(
        tmp_path,
        f"{HEADER},weights.C#,weights.Go,unique_tokens.Go,bpb,run,step,seed,lr\n"
        'Go,1e9,2e9,1.5,0,1,5e8,.7,"a, ""b""",10.0,3,1e-4\n\n'
        "Go,1e9,2e9,1.6,,,,,,,,\n",
    )
    assert found == [
        Observation(
            **GOOD, weights={"C#": 0, "Go": 1}, unique_tokens={"Go": 5e8}, bpb=0.7,
            run='a, "b"', step=10, seed=3, extra={"lr": "1e-4"},
        ),
        Observation(**(GOOD | {"loss": 1.6})),
    ]  # fmt: skip


def test_reads_jsonl_dotted_and_nested(tmp_path):
    rows = [
        GOOD | {"weights.Go": 0.5, "weights.C#": 0.5, "run": 7, "gpu": {"n": [1, 2]}},
        GOOD | {"weights": {"Go": 0.5, "C#": 0.5}, "run": "7b", "seed": None, "ok": True},
        GOOD | {"tokens_by_language": {"Go": 1, "C": None}, "unique_tokens": {"Go": 2}},
    ]
    text = "\ufeff" + "\r\n".join(json.dumps(row) for row in rows)
    found = read(tmp_path, text, "o.jsonl")
    assert found == [
        Observation(
            **GOOD, weights={"Go": 0.5, "C#": 0.5}, run="7", extra={"gpu": '{"n": [1, 2]}'}
        ),
        Observation(**GOOD, weights={"Go": 0.5, "C#": 0.5}, run="7b", extra={"ok": "true"}),
        Observation(**GOOD, tokens_by_language={"Go": 1}, unique_tokens={"Go": 2}),
    ]
    assert read(tmp_path, text, "o.txt") == found  # by its content


def test_reads_stdin(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(f"{HEADER}\nGo,1,2,x\n".encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    with pytest.raises(InputError, match=r"^<stdin>:2, loss: not a number \(got 'x'\)$"):
        read_observations("-")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", ":1: the file is empty"),
        (HEADER + "\n", ": no observation to read"),
        ("language,params,tokens\nGo,1,2\n", ":1: required column 'loss' is missing"),
        ("language,param,tokens,loss\n", "'params' is missing (did you mean 'param'?)"),
        (HEADER + ",loss\n", ":1, loss: the header names this column twice"),
        (HEADER + ",,x\n", ":1: column 5 has no name"),
        (HEADER + ",weights.\nGo,1,2,3,1\n", ":1, weights.: no language after the dot"),
        (HEADER + "\nGo,1,2,abc\n", ":2, loss: not a number (got 'abc')"),
        (HEADER + "\n\nGo,1,2,nan\n", ":3, loss: not a finite number (got 'nan')"),
        (HEADER + "\nGo,1,2,\n", ":2, loss: is empty"),
        (HEADER + "\nGo,1,2\n", ":2: 3 fields where the header has 4"),
        (HEADER + "\nGo,1,2,3,4\n", ":2: 5 fields where the header has 4"),
        (HEADER + ',x\nGo,1,2,3,"a\nb"\nGo,1,2,0,\n', ":4, loss: must be above 0"),
        (HEADER + '\n"Go,1,2,3\nGo,1,2,3\n', ":2: a quoted cell is never closed"),
        (HEADER + ",weights.Go\nGo,1,2,3,.5\n", ":2, weights: weights must sum to 1 (got 0.5)"),
        (HEADER.encode() + b"\nG\xff,1,2,3\n", ":2: not UTF-8 text (got b'\\xff')"),
        (HEADER + "\nG\0,1,2,3\n", ":2: a NUL byte"),
        ((HEADER + "\n").encode("utf-16"), ":1: "),
        (HEADER + ",weights\nGo,1,2,3,1\n", ":2, weights: must be a table by language"),
        (
            HEADER + "\nGo,1,2,3\nC,1,2,3\nGo,1,2,4\n",
            "o.csv:2 with another loss (3); repeated runs need a 'seed' or 'run' column (got 4.0)",
        ),
    ],
)
def test_a_bad_csv_is_refused_by_line_and_column(tmp_path, content, named):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert named in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "o.csv"))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"language": "Go", "params"', ":2: not JSON: "),
        ("[1]", ":2: not a JSON object"),
        ("[" * 100_000, ":2: JSON nested too deeply"),
        ('{"x":' * 30 + "1" + "}" * 30, ":2: JSON nested too deeply"),
        ('{"loss": ' + "9" * 5000 + "}", ":2: a number with too many digits"),
        ('{"loss": NaN}', ":2: not a finite number (got 'NaN')"),
        ('{"loss": -Infinity}', ":2: not a finite number"),
        ('{"loss": 1, "loss": 2}', ":2, loss: a key given twice"),
        (json.dumps(GOOD | {"weights.": 1}), ":2, weights.: no language after the dot"),
        (json.dumps(GOOD | {"weights": {"": 1}}), ":2, weights.: a name is missing"),
        (json.dumps(GOOD | {"weights": {}}), ":2, weights: weights must sum to 1"),
        (json.dumps(GOOD | {"weights": {"Go": 1}, "weights.Go": 1}), "a language given twice"),
        (json.dumps(GOOD | {"loss": None}), ":2: required column 'loss' is missing"),
        (json.dumps(GOOD | {"loss": [1]}), ":2, loss: not a number (got [1])"),
        (json.dumps(GOOD)[:-4] + "1e999}", ":2, loss: not a finite number"),
        (json.dumps(GOOD | {"language": 3}), ":2, language: a name is missing (got 3)"),
    ],
)
def test_a_bad_jsonl_line_is_refused(tmp_path, line, named):
    with pytest.raises(InputError) as caught:
        read(tmp_path, json.dumps(GOOD) + "\n" + line, "o.jsonl")
    assert named in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_json_array_is_told_from_jsonl(tmp_path):
    with pytest.raises(InputError, match="give one JSON object a line"):
        read(tmp_path, json.dumps([GOOD]), "o.json")


def test_skip_bad_hands_over_each_bad_row_and_returns_the_rest(tmp_path):
    skipped: list[str] = []
    found = read(
        tmp_path,
        f'{HEADER}\nGo,1,2,3\nGo,1,2,x\nGo,1,2\nG\udcff"\nC,1,2,9\nGo,1,2,4\n'.encode(
            errors="surrogateescape"
        )
        + b"x" * (3 << 20)
        + b'\nRust,1,2,3\n"C#,1,2,3\n',
        skip_bad=True,
        on_bad=lambda error: skipped.append(f"{error.line} {error.problem}"),
    )
    assert [o.language for o in found] == ["Go", "C", "Rust"]
    assert [s.split()[0] for s in skipped] == ["3", "4", "5", "7", "8", "10"]
    with pytest.raises(InputError, match="no observation to read"):
        read(tmp_path, HEADER + "\nGo,1,2,x\n", skip_bad=True)
    with pytest.raises(InputError, match="names this column twice"):
        read(tmp_path, HEADER + ",loss\nGo,1,2,3,3\n", skip_bad=True)


def test_the_same_row_again_is_one_measurement_and_seeds_tell_runs_apart(tmp_path):
    assert len(read(tmp_path, HEADER + "\nGo,1,2,3\nGo,1,2,3\nGo,1,2.0,3\n")) == 1
    for column in ("seed", "run", "step", "split", "stage", "lr"):
        told = read(tmp_path, f"{HEADER},{column}\nGo,1,2,3,1\nGo,1,2,4,2\n")
        assert len(told) == 2
    with pytest.raises(InputError, match="the same measurement as observation:1"):
        distinct([Observation(**GOOD), Observation(**(GOOD | {"loss": 2}))])


def test_contradictions_between_files_are_found(tmp_path):
    for file, loss in (("a.csv", 1.0), ("b.csv", 2.0)):
        write_observations(tmp_path / file, [Observation(**(GOOD | {"loss": loss}))])
    with pytest.raises(InputError, match=r"a\.csv:2 with another loss"):
        read_observations(tmp_path / "a.csv", tmp_path / "b.csv")


# Round trips

LANGUAGES = st.sampled_from(["Go", "C#", "Ünï", '"', "a,b", "weights.x", "=1+1", "é" * 100])
COUNTS = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
TABLES = st.none() | st.dictionaries(LANGUAGES, COUNTS, min_size=1)
NAMES = st.none() | st.sampled_from(["1", "a b", "'", "007", "1e3", "None"])
WHOLE = st.none() | st.integers(-(2**53) + 1, 2**53 - 1)
PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0"), min_size=1
)


@st.composite
def observations(draw) -> Observation:
    weights = draw(st.none() | st.dictionaries(LANGUAGES, st.floats(0, 1), min_size=1))
    if weights is not None:
        total = sum(weights.values())
        weights = {k: v / total for k, v in weights.items()} if total > 1e-300 else {"Go": 1}
    tokens = draw(COUNTS)
    parts = draw(st.none() | st.dictionaries(LANGUAGES, st.floats(0, 1), min_size=1))
    seen = {k: tokens * part / len(parts) for k, part in parts.items()} if parts else None
    seen = seen if any((seen or {}).values()) else None
    return Observation(
        language=draw(LANGUAGES), params=draw(COUNTS), tokens=tokens, loss=draw(COUNTS),
        weights=weights, tokens_by_language=seen, unique_tokens=draw(TABLES),
        bpb=draw(st.none() | COUNTS), loss_tokens=draw(st.none() | COUNTS), run=draw(NAMES),
        stage=draw(NAMES), step=draw(WHOLE), split=draw(NAMES), seed=draw(WHOLE),
        extra=draw(st.dictionaries(st.sampled_from(["lr", "x y", "Weights", "é"]), PRINTABLE)),
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(written=st.lists(observations(), min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(tmp_path_factory, written):
    try:
        written = distinct(written)
    except InputError:
        return
    folder = tmp_path_factory.mktemp("round")
    for kind in ("csv", "jsonl"):
        file = folder / f"o.{kind}"
        file.write_bytes(format_observations(written, kind).encode())
        assert read_observations(file) == written


def test_the_suffix_chooses_the_format_and_a_failed_write_leaves_nothing(tmp_path):
    for file, begin in (("o.csv", "language,"), ("o.NDJSON", "{"), ("o.txt", "language,")):
        write_observations(tmp_path / file, [Observation(**GOOD)])
        assert (tmp_path / file).read_text().startswith(begin)
        assert read_observations(tmp_path / file) == [Observation(**GOOD)]
    with pytest.raises(OSError, match="missing"):
        write_observations(tmp_path / "missing" / "o.csv", [Observation(**GOOD)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.NDJSON", "o.csv", "o.txt"]


def test_counts_are_written_as_people_write_them():
    assert format_observations([Observation(**GOOD)]) == HEADER + "\nGo,1000000000,2000000000,1.5\n"


# Hostile files


def test_mutated_files_are_read_or_refused_never_worse(tmp_path):
    rows = [
        Observation(**GOOD, weights={"Go": 0.5, "C#": 0.5}, run=f"r{i}", extra={"a": 'x"'})
        for i in range(6)
    ]
    chance = random.Random(5)
    alphabet = list(b'",\n\r{}[]:.e-+\\u0\0 \xff\xc3') + list(string.ascii_letters.encode())
    for file, kind in (("o.csv", "csv"), ("o.jsonl", "jsonl"), ("o", "jsonl")):
        original = format_observations(rows, kind).encode()
        for _ in range(150):
            data = bytearray(original)
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(data))
                match chance.randrange(3):
                    case 0:
                        data[at] = chance.choice(alphabet)
                    case 1:
                        del data[at : at + chance.randint(1, 40)]
                    case 2:
                        data[at:at] = data[at : at + chance.randint(1, 60)]
            for skip_bad in (False, True):
                with contextlib.suppress(InputError):
                    read(tmp_path, bytes(data), file, skip_bad=skip_bad)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ""])
@pytest.mark.parametrize("filling", [b"\0", b"x"])
def test_a_gigabyte_line_is_refused_without_being_read(tmp_path, suffix, filling):
    path = tmp_path / f"o{suffix}"
    with open(path, "wb") as out:
        out.write(filling * 2_000_000)
        out.truncate(1 << 30)  # sparse
    tracemalloc.start()
    with pytest.raises(InputError, match=r":1: a row of more than 1,048,576 bytes"):
        read_observations(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_quote_never_closed_does_not_gather_the_file(tmp_path):
    line = b"Go,1,2,3\n"
    body = HEADER.encode() + b'\n"' + line * 1_000_000
    tracemalloc.start()
    with pytest.raises(InputError, match=r":2: not CSV: field larger"):
        read(tmp_path, body)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("header", ["a" + ",a" * 300_000, ",".join(map(str, range(100_000)))])
def test_a_header_of_very_many_columns_is_refused_quickly(tmp_path, header):
    with pytest.raises(InputError, match=r"twice|missing"):
        read(tmp_path, header + "\n1\n")


def test_an_endless_pipe_is_refused_at_its_first_bad_line(tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)

    def write() -> None:
        with open(pipe, "wb", buffering=0) as out:
            try:
                while True:
                    out.write(b"x" * 65536)
            except BrokenPipeError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(InputError, match="a row of more than"):
        read_observations(pipe)
    writer.join(5)
    assert not writer.is_alive()


# The pair table


def test_reads_the_pair_table(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("target,auxiliary,loss,gain\nGo,Go,.4,\nGo,C#,0.5,-25\n")
    assert read_pairs_table(path) == [
        PairLoss("Go", "Go", 0.4),
        PairLoss("Go", "C#", 0.5, {"gain": "-25"}),
    ]
    path.write_text("target,auxiliary,loss,seed\nGo,Go,.4,1\nGo,Go,0.5,2\n")
    assert [pair.loss for pair in read_pairs_table(path)] == [0.4, 0.5]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("Go,C,.4", ": no baseline for Go: a row whose auxiliary is Go itself"),
        ("Go,Go,.4\nGo,Go,.5", ":3: the pair Go, Go is also on line 2"),
        ("Go,Go,-1", ":2, loss: must be above 0 (got '-1')"),
        ("Go,,1", ":2, auxiliary: is empty"),
        ("Go,Go,inf", ":2, loss: not a finite number"),
        ("", ": no pair to read"),
    ],
)
def test_a_bad_pair_table_is_refused(tmp_path, rows, named):
    path = tmp_path / "pairs.csv"
    path.write_text("target,auxiliary,loss\n" + rows + "\n")
    with pytest.raises(InputError) as caught:
        read_pairs_table(path)
    assert str(caught.value).startswith(str(path) + named)
