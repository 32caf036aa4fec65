"""``blendlaw blend`` and ``blendlaw check`` as a person meets them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pluggy
import pytest
from click.testing import CliRunner, Result

from blendlaw import blend as blend_module
from blendlaw import hookspecs, plugins, policies
from blendlaw.cli.blend import command as blend_command
from blendlaw.cli.check import command as check_command
from blendlaw.errors import InputError

PLAN = """
[run]
params = 1e9
tokens = 300e6
sequence_length = 1000

[languages.Python]
sources = ["py"]
valid_sources = ["py_valid"]
unique_tokens = 200e6

[languages.Go]
sources = [{ prefix = "go/a", share = 0.75 }, { prefix = "go/b", share = 0.25 }]
valid_sources = ["go_valid"]
unique_tokens = 40e6
max_epochs = 2

[[stages]]
name = "warm"
tokens = 100e6
weights = "uniform"

[[stages]]
name = "guided"
tokens = 200e6
weights = "law"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the plan, and the plugins under test alone."""
    manager = pluggy.PluginManager("blendlaw")
    manager.add_hookspecs(hookspecs)
    manager.register(policies)
    formats: dict[str, Any] = {}
    blend_module.register_blend_formats(lambda f: formats.__setitem__(f.name, f))
    monkeypatch.setattr(plugins, "plugin_manager", lambda: manager)
    monkeypatch.setattr(plugins, "blend_formats", lambda: formats)
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    return tmp_path


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["plan.toml", *arguments])


def refused(command: Any, *arguments: str) -> str:
    result = run(command, *arguments)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


def change(old: str, new: str) -> None:
    assert old in PLAN
    Path("plan.toml").write_text(PLAN.replace(old, new))


def write_weights(content: object) -> None:
    Path("w.json").write_text(json.dumps(content))


def test_blend_on_stdout_and_table_on_stderr() -> None:
    result = run(blend_command)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "train": [0.5, "py", 0.375, "go/a", 0.125, "go/b"],
        "valid": [0.5, "py_valid", 0.5, "go_valid"],
        "test": None,
    }
    assert "stage warm of warm, guided (--stage chooses)" in result.stderr
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["source", "language", "weight", "tokens", "samples", "epochs"] in lines
    assert ["py", "Python", "0.5000", "5e+07", "5e+04", "0.25"] in lines


def test_weights_of_an_allocation_go_to_the_stage_by_law_within_its_limits() -> None:
    # 50M of Go's 80M are consumed in the first stage: 30M of 200M are left.
    write_weights({"version": 1, "weights": {"py": 0.4, "golang": 0.6, "Rust": 0.0}})
    result = run(blend_command, "--weights", "w.json", "-o", "blend.json")
    assert result.exit_code == 0
    assert result.stdout == ""
    train = json.loads(Path("blend.json").read_text())["train"]
    assert train[1::2] == ["py", "go/a", "go/b"]
    assert train[::2] == pytest.approx([0.85, 0.1125, 0.0375])
    lines = [line.split() for line in result.stderr.splitlines()]
    assert lines[0][:2] == ["stage", "guided"]
    expected = ["go/a", "Go", "0.4500", "0.1125", "2.25e+07", "2.25e+04", "?", "max_epochs"]
    assert expected in lines


def test_json_table_needs_a_file_for_the_blend() -> None:
    result = run(blend_command, "--json")
    assert result.exit_code == 2
    result = run(blend_command, "--json", "-o", "blend.json")
    found = json.loads(result.stdout)
    assert found["weights"] == {"Python": 0.5, "Go": 0.5}
    assert [source["prefix"] for source in found["sources"]] == ["py", "go/a", "go/b"]
    assert found["sources"][0]["epochs"] == 0.25
    assert "train" in json.loads(Path("blend.json").read_text())


def test_data_args_and_unknown_formats() -> None:
    result = run(blend_command, "--format", "data-args")
    assert result.stdout == "0.5 py\n0.375 go/a\n0.125 go/b\n"
    assert "validation and test are left out" in result.stderr
    result = run(blend_command, "--format", "data-arg")
    assert result.exit_code == 2
    assert "did you mean 'data-args'" in result.stderr


def test_law_without_a_fit_says_what_to_give() -> None:
    message = refused(blend_command, "--stage", "guided", "-o", "blend.json")
    assert message.startswith("stage guided wants weights by law, but there is no fit")
    assert not Path("blend.json").exists()
    assert "did you mean 'guided'" in refused(blend_command, "--stage", "guide")


def test_law_with_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, asked = object(), []

    def law(stage: Any, fit: Any, plan: Any) -> dict[str, float]:
        asked.append((stage.name, fit, plan.languages["Go"].consumed))
        return {"Python": 0.9, "Go": 0.1}

    monkeypatch.setitem(policies.POLICIES, "law", law)
    monkeypatch.setattr("blendlaw.fitted.Fit", SimpleNamespace(from_json=lambda text: fit))
    Path("fit.json").write_text("{}")
    result = run(blend_command, "--fit", "fit.json")
    assert json.loads(result.stdout)["train"][::2] == pytest.approx([0.9, 0.075, 0.025])
    assert asked == [("guided", fit, 50e6)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Python": 0.5, "Go": 0.4}, "w.json: weights must sum to 1"),
        ({"Python": 1.0}, "w.json: no weight of Go"),
        ({"Python": 0.5, "Go": 0.4, "Rust": 0.1}, "w.json, Rust: the plan has no such language"),
        ({"Python": 0.5, "py": 0.1, "Go": 0.4}, "w.json, py: a second weight of Python"),
        ([1], "w.json: weights are a table"),
    ],
)
def test_weights_that_do_not_match_the_plan(content: object, message: str) -> None:
    write_weights(content)
    assert message in refused(blend_command, "--weights", "w.json")


def test_dropped_sources_are_said() -> None:
    write_weights({"Python": 1, "Go": 0})
    result = run(blend_command, "--weights", "w.json")
    assert json.loads(result.stdout)["train"] == [1.0, "py"]
    assert "left out, weight 0: go/a" in result.stderr


def write_data(prefix: str, tokens: int) -> None:
    Path(prefix).parent.mkdir(exist_ok=True)
    Path(f"{prefix}.bin").write_bytes(b"")
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 1, 2)
    body = np.array([tokens], "<i4").tobytes() + np.array([0, 0, 1], "<i8").tobytes()
    Path(f"{prefix}.idx").write_bytes(header + body)


def test_check_shows_stages_and_warns() -> None:
    change("max_epochs = 2", "")
    for prefix, tokens in {"py": 150e6, "py_valid": 10, "go/a": 40e6, "go_valid": 10}.items():
        write_data(prefix, int(tokens))
    result = run(check_command)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["warm", "Go", "0.5000", "5e+07", "1.25", "5e+07", "1.25"] in lines
    assert "note: stage guided: weights by law, not known before there is a fit" in result.stdout
    assert "warning: Go: not here: go/b.bin, go/b.idx" in result.stdout
    assert "warning: Python: unique_tokens 2e+08, its sources hold 1.5e+08" in result.stdout
    assert result.stdout.endswith("no errors\n")


def test_check_counts_epochs_over_stages() -> None:
    change('weights = "law"', "weights = { Python = 0.2, Go = 0.8 }")
    result = run(check_command, "--json")
    rows = {(row["stage"], row["language"]): row for row in json.loads(result.stdout)["rows"]}
    assert rows["guided", "Go"]["requested"] == 0.8
    assert rows["guided", "Go"]["weight"] == pytest.approx(0.15)
    assert rows["guided", "Go"]["epochs"] == pytest.approx(0.75)
    assert rows["guided", "Go"]["total_epochs"] == pytest.approx(2.0)
    Path("plan.toml").write_text(
        PLAN.replace("max_epochs = 2", "").replace('"law"', "{ Python = 0.2, Go = 0.8 }")
    )
    result = run(check_command)
    assert "warning: Go: 5.25 epochs by the end of stage guided" in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_epochs = 2", "max_epochs = 2\nfloor = 0.9", "error: limits of stage warm: floor 0.9"),
        ('"uniform"', '"unifrom"', "error: stage warm: no plugin knows the policy 'unifrom'"),
        (", share = 0.75", "", None),
        ("max_epochs = 2", "cap = 0.0001", "warning: stage warm: only 7.5 samples of go/a"),
        ('["go_valid"]', '["go/a"]', "warning: Go: go/a is held out and trained on"),
        ('sources = ["py"]\n', "", "warning: no sources: Python"),
        ("unique_tokens = 200e6", "", "warning: unknown unique_tokens: Python"),
    ],
)
def test_check_finds(old: str, new: str, message: str | None) -> None:
    change(old, new)
    if message is None:
        assert "share of every source or of none" in refused(check_command)
        return
    result = run(check_command)
    assert message in result.stdout
    assert result.exit_code == (1 if message.startswith("error") else 0)


def test_check_asks_how_sources_share_a_weight() -> None:
    change('{ prefix = "go/a", share = 0.75 }, { prefix = "go/b", share = 0.25 }', '"go/a", "go/b"')
    result = run(check_command)
    assert "error: stage warm: how is the weight of Go split" in result.stdout
    assert result.exit_code == 1


def check_blend(train: object) -> Result:
    Path("b.json").write_text(json.dumps({"train": train, "valid": None, "test": None}))
    return run(check_command, "--blend", "b.json", "--stage", "guided", "--json")


def test_check_holds_a_blend_file_against_the_plan() -> None:
    result = check_blend([9, "./py", 0.75, "go/a", 0.25, "go/b"])
    found = json.loads(result.stdout)
    assert found["errors"] == []
    assert [row["weight"] for row in found["rows"] if row["stage"] == "guided"] == [0.9, 0.1]
    assert result.exit_code == 0
    result = check_blend([3, "py", 1, "go/a"])
    assert json.loads(result.stdout)["errors"] == [
        "stage guided: 0.25 of Go is above its max_epochs limit 0.15"
    ]
    assert result.exit_code == 1
    result = check_blend([1, "py", 1, "rust"])
    message = "b.json: a prefix that the plan does not have (got 'rust')"
    assert message in str(result.exception)
    assert "no weights" in str(check_blend(["py", "go/a"]).exception)
