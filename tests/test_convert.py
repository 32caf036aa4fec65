"""blendlaw convert: files of observations and TensorBoard logs in, one checked file out."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner, Result

from blendlaw.cli.convert import command
from blendlaw.errors import InputError
from blendlaw.observations import Observation, read_observations

HEADER = "language,params,tokens,loss"


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], input=stdin)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "o.csv"
    path.write_text(f"{HEADER},lr\nGo,1e9,2e9,1.5,1e-4\nC#,1e9,2e9,1.25,\n")
    return path


def test_csv_to_jsonl_and_back_keeps_everything(table, tmp_path):
    there, back = tmp_path / "there.jsonl", tmp_path / "back.csv"
    result = run(table, "-o", there)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 observations of 2 languages\n"
    assert [json.loads(line)["language"] for line in there.read_text().splitlines()] == ["Go", "C#"]
    assert run(there, "-o", back).exit_code == 0
    assert read_observations(back) == read_observations(table)


def test_data_goes_to_stdout_and_stdin_is_a_dash(table):
    result = run("-", "--where", "language=C#", stdin=table.read_text())
    assert result.stdout == f"{HEADER}\nC#,1000000000,2000000000,1.25\n"
    result = run(table, "--format", "jsonl", "--where", "lr<1")
    assert json.loads(result.stdout)["lr"] == "1e-4"


def test_files_are_joined_and_must_not_contradict_each_other(table, tmp_path):
    more = tmp_path / "more.jsonl"
    row = {"language": "Go", "params": 1e9, "tokens": 2e9, "loss": 1.5, "lr": "1e-4"}
    more.write_text(json.dumps(row) + "\n" + json.dumps(row | {"tokens": 4e9}))
    assert run(table, more).stdout.count("\n") == 1 + 3  # the row they share, once
    more.write_text(json.dumps(row | {"loss": 1}))
    result = run(table, more)
    assert isinstance(result.exception, InputError)
    assert "with another loss" in str(result.exception)


def test_a_bad_row_refuses_the_file_or_is_skipped_counted_and_shown(table, tmp_path):
    out = tmp_path / "out.csv"
    with table.open("a") as more:
        more.write("Rust,1,2,nan,\n" * 12)
    result = run(table, "-o", out)
    assert str(result.exception).startswith(f"{table}:4, loss: not a finite number")
    assert not out.exists()
    result = run(table, "-o", out, "--skip-bad")
    assert result.exit_code == 0
    assert f"skipped {table}:4, loss: not a finite number (got 'nan')\n" in result.stderr
    assert f"skipped {table}:14" not in result.stderr
    assert "skipped 12 bad rows in all, 2 of them not shown\n" in result.stderr
    assert len(read_observations(out)) == 2


def test_usage_errors(table, tmp_path):
    assert run().exit_code == 2
    result = run(table, "--params", "1e9")
    assert result.exit_code == 2
    assert "no PATH is one" in result.stderr
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "is a TensorBoard log: give --pattern, --params" in result.stderr


def test_a_where_that_cannot_be_parsed_is_bad_input(table):
    result = run(table, "--where", "loss>")
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "a value is expected at character 6: loss>[here]"


def test_a_where_that_leaves_nothing_or_names_nothing_is_bad_input(table):
    assert "no observation is left by --where loss>9" in str(
        run(table, "--where", "loss>9").exception
    )
    assert "did you mean 'loss'" in str(run(table, "--where", "los>9").exception)


def test_tensorboard_with_weights(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "logs"))
    for language, loss in (("Go", 2.0), ("C#", 1.5)):
        value = Summary.Value(tag=f"lm loss/{language}", simple_value=loss)
        writer.add_event(Event(step=4, wall_time=1.0, summary=Summary(value=[value])))
    writer.close()
    weights = tmp_path / "allocation.json"
    weights.write_text(json.dumps({"version": 1, "weights": {"Go": 0.25, "C#": 0.75}}))
    out = tmp_path / "o.csv"
    how = ("--pattern", "lm loss/{language}", "--params", "1e9", "--tokens-per-step", "1e6")
    result = run(tmp_path / "logs", *how, "--weights", weights, "-o", out)
    assert result.exit_code == 0, result.output
    shared = {"params": 1e9, "tokens": 4e6, "weights": {"Go": 0.25, "C#": 0.75}, "run": "logs"}
    assert read_observations(out) == [
        Observation("Go", loss=2.0, step=4, **shared),
        Observation("C#", loss=1.5, step=4, **shared),
    ]
    for bad in ("[1]", "{", '{"Go": 0.5}', '{"weights": {"Go": "x"}}', "[" * 100_000):
        weights.write_text(bad)
        result = run(tmp_path / "logs", *how, "--weights", weights)
        assert isinstance(result.exception, InputError)
        assert str(result.exception).startswith(str(weights))


def test_tensorboard_is_imported_only_when_needed(table):
    for name in [m for m in sys.modules if m.split(".")[0] == "tensorboard"]:
        del sys.modules[name]
    run(table)
    assert "tensorboard" not in sys.modules
