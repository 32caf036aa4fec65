"""Bad input to every command: one line that says what is wrong, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from blendlaw.cli import main

HEADER = "language,params,tokens,loss"
PLAN = """
[run]
params = 1e9
tokens = 3e8

[languages.Python]
sources = ["py"]
unique_tokens = 2e8
[languages.Go]
sources = ["go"]
unique_tokens = 4e7

[[stages]]
name = "warm"
tokens = 1e8
weights = "uniform"

[[stages]]
name = "guided"
tokens = 2e8
weights = "law"
"""


def observations() -> str:
    rows = [HEADER]
    for language, floor in (("Python", 0.5), ("Go", 0.4)):
        for n in (0.2, 0.5, 1.0):
            for d in (2, 8, 32):
                loss = floor + 0.3 / n**0.4 + 0.4 / d**0.35
                rows.append(f"{language},{n * 1e9:.0f},{d * 1e9:.0f},{loss:.6f}")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good file of every kind."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "obs.csv").write_text(observations())
    (folder / "plan.toml").write_text(PLAN)
    (folder / "weights.json").write_text('{"Python": 0.5, "Go": 0.5}')
    (folder / "pairs.csv").write_text("target,auxiliary,loss\nGo,Go,1\nGo,C,0.9\n")
    (folder / "folder").mkdir()
    with contextlib.chdir(folder):
        for line in (
            "fit obs.csv --law chinchilla -o fit.json",
            "allocate fit.json --params 1e9 --tokens 1e10 -o allocation.json",
            "synergy pairs.csv -o synergy.json",
        ):
            with pytest.raises(SystemExit, match="0"):
                main(line.split())
    (folder / "out").write_text("what was here before")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, as the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def plan(old: str, new: str) -> str:
    assert old in PLAN
    return PLAN.replace(old, new)


FIT = "fit bad.csv --law chinchilla"
ALLOCATE = "allocate fit.json --params 1e9 --tokens 1e10"
BLEND = "blend bad.toml"

# What is wrong; the file that is; the command; the exit status; what the message must say.
Case = tuple[str, dict[str, str | bytes], str, int, list[str]]
CASES: list[Case] = [
    (
        "a missing column",
        {"bad.csv": "language,parms,tokens,loss\nGo,1,1,1\n"},
        FIT,
        1,
        ["bad.csv:1", "'params'", "did you mean 'parms'"],
    ),
    ("nan", {"bad.csv": rows("Go,1,1,1", "Go,2,1,nan")}, FIT, 1, ["bad.csv:3, loss", "'nan'"]),
    ("an infinite count", {"bad.csv": rows("Go,1e400,1,1")}, FIT, 1, ["bad.csv:2, params"]),
    ("a negative loss", {"bad.csv": rows("Go,1,1,-0.5")}, FIT, 1, ["bad.csv:2, loss", "-0.5"]),
    ("no parameters", {"bad.csv": rows("Go,0,1,1")}, FIT, 1, ["bad.csv:2, params", "'0'"]),
    ("text for a number", {"bad.csv": rows("Go,1,many,1")}, FIT, 1, ["bad.csv:2, tokens", "many"]),
    ("a row too short", {"bad.csv": rows("Go,1,1")}, FIT, 1, ["bad.csv:2", "3 fields", "has 4"]),
    (
        "a weight of no language",
        {"bad.csv": rows("Go,1,1,1,1", header=HEADER + ",weights.")},
        FIT,
        1,
        ["bad.csv:1, weights.", "no language"],
    ),
    (
        "rows that contradict each other",
        {"bad.csv": rows("Go,1,1,1", "Go,2,1,1", "Go,1,1,0.9")},
        FIT,
        1,
        ["bad.csv:4, loss", "bad.csv:2", "0.9"],
    ),
    ("an empty file", {"bad.csv": ""}, FIT, 1, ["bad.csv", "empty"]),
    ("a header only", {"bad.csv": HEADER + "\n"}, FIT, 1, ["bad.csv", "no observation"]),
    (
        "a line cut short",
        {"bad.jsonl": '{"language": "Go", "params": 1, "tokens": 1, "loss": 1}\n{"langua'},
        "fit bad.jsonl",
        1,
        ["bad.jsonl:2", "not JSON"],
    ),
    (
        "losses of two splits",
        {"bad.csv": rows("Go,1,1,1,train", "Go,1,1,1,valid", header=HEADER + ",split")},
        FIT,
        1,
        ["split", "train, valid", "--where split="],
    ),
    ("one observation", {"bad.csv": rows("Go,1e9,1e9,1")}, "fit bad.csv", 1, ["Go", "too few"]),
    ("one observation, one law", {"bad.csv": rows("Go,1e9,1e9,1")}, FIT, 1, ["Go", "too few"]),
    (
        "losses all equal",
        {"bad.csv": rows(*(f"Go,{n}e8,{d}e9,1" for n in (1, 2, 4) for d in (1, 2, 4)))},
        "fit bad.csv",
        1,
        ["Go", "all its losses are 1"],
    ),
    (
        "weights of a run that do not sum to 1",
        {"bad.csv": rows("Go,1,1,1,0.5,0.6", header=HEADER + ",weights.Go,weights.C")},
        FIT,
        1,
        ["bad.csv:2, weights", "1.1"],
    ),
    (
        "weights in a file that do not sum to 1",
        {"bad.json": '{"Python": 0.5, "Go": 0.4}'},
        "predict fit.json --params 1e9 --tokens 1e9 --weights bad.json",
        1,
        ["bad.json", "sum to 1", "0.9"],
    ),
    (
        "weights in a file with nan",
        {"bad.json": '{"Python": 0.5, "Go": NaN}'},
        "predict fit.json --params 1e9 --tokens 1e9 --weights bad.json",
        1,
        ["bad.json, Go", "nan"],
    ),
    (
        "weights in a plan that do not sum to 1",
        {"bad.toml": plan('"uniform"', "{ Python = 0.5, Go = 0.4 }")},
        BLEND,
        1,
        ["bad.toml, stages[0].weights", "0.9"],
    ),
    (
        "a typo in a plan",
        {"bad.toml": plan("unique_tokens = 4e7", "unique_token = 4e7")},
        "check bad.toml",
        1,
        ["bad.toml, languages.Go.unique_token", "did you mean 'unique_tokens'"],
    ),
    (
        "a plan that is not TOML",
        {"bad.toml": plan("params = 1e9", "params = ")},
        "check bad.toml",
        1,
        ["bad.toml", "not TOML", "line 3"],
    ),
    (
        "a language that the plan does not know",
        {"bad.json": '{"Python": 0.5, "Go": 0.4, "Perl": 0.1}'},
        "blend plan.toml --weights bad.json",
        1,
        ["bad.json, Perl", "no such language"],
    ),
    (
        "a language of the plan that the fit does not know",
        {"bad.toml": plan("[languages.Go]", "[languages.Perl]")},
        f"{ALLOCATE} --plan bad.toml",
        1,
        ["Perl", "not in the fit"],
    ),
    ("an unknown law", {}, "fit obs.csv --law chinchila", 1, ["chinchila", "chinchilla"]),
    ("an unknown stage", {}, "blend plan.toml --stage gided", 1, ["gided", "'guided'"]),
    ("a stage by law without a fit", {}, "blend plan.toml --stage guided", 1, ["guided", "--fit"]),
    ("floors above 1", {}, f"{ALLOCATE} --floor 0.6", 1, ["floors sum to 1.2", "0.2 too much"]),
    ("caps below 1", {}, f"{ALLOCATE} --cap 0.4", 1, ["caps allow only 0.8"]),
    ("a floor above its cap", {}, f"{ALLOCATE} --floor Go=0.5 --cap Go=0.2", 1, ["Go", "0.2"]),
    ("a floor that is nan", {}, f"{ALLOCATE} --floor nan", 1, ["floor", "nan"]),
    (
        "epochs that do not reach",
        {},
        f"{ALLOCATE} --max-epochs 2 --unique-tokens 1e9",
        1,
        ["only 0.4", "1e+10"],
    ),
    ("epochs of unknown tokens", {}, f"{ALLOCATE} --max-epochs 2", 1, ["Python", "unique tokens"]),
    ("a value of an unknown language", {}, f"{ALLOCATE} --value Pyton=2", 1, ["--value", "Python"]),
    ("values all zero", {}, f"{ALLOCATE} --value 0", 1, ["value"]),
    ("no parameters asked", {}, "predict fit.json --params 0 --tokens 1e9", 1, ["params", "0"]),
    ("fewer than none", {}, "predict fit.json --params -1 --tokens 1e9", 1, ["params", "-1"]),
    ("nan parameters", {}, "predict fit.json --params nan --tokens 1e9", 1, ["params", "nan"]),
    ("infinite tokens", {}, "allocate fit.json --params 1 --tokens inf", 1, ["tokens", "inf"]),
    (
        "what is no fit",
        {},
        "predict weights.json --params 1 --tokens 1",
        1,
        ["weights.json: not a fit.json"],
    ),
    ("an allocation for a fit", {}, "predict allocation.json --params 1 --tokens 1", 1, ["params"]),
    (
        "a fit cut short",
        {"bad.json": '{"version": 1, "law": "chinchilla", "langu'},
        "predict bad.json --params 1e9 --tokens 1e9",
        1,
        ["bad.json", "fit.json", "line 1"],
    ),
    (
        "a fit of another version",
        {"bad.json": '{"version": 2}'},
        "predict bad.json --params 1e9 --tokens 1e9",
        1,
        ["bad.json", "version 1", "got 2"],
    ),
    (
        "a fit by an unknown law",
        {"bad.json": '{"version": 1, "law": "x", "languages": {"Go": {"params": {}}}}'},
        "predict bad.json --params 1e9 --tokens 1e9",
        1,
        ["bad.json, languages.Go.n_observations", "required"],
    ),
    ("a binary file", {"bad.csv": b"\x7fELF\0\1"}, FIT, 1, ["bad.csv:1", "not a text file"]),
    ("a binary plan", {"bad.toml": b"\x80\0"}, "check bad.toml", 1, ["bad.toml", "not UTF-8"]),
    (
        "a binary fit",
        {"bad.json": b"PK\3\4\xff\xfe"},
        "predict bad.json --params 1e9 --tokens 1e9",
        1,
        ["bad.json", "not UTF-8"],
    ),
    ("a folder for observations", {}, "fit folder", 1, ["folder: Is a directory"]),
    ("a folder for a plan", {}, "check folder", 1, ["folder: Is a directory"]),
    ("a folder for a fit", {}, "predict folder --params 1 --tokens 1", 1, ["folder: Is a dir"]),
    ("no such observations", {}, "fit no.csv", 1, ["no.csv: No such file"]),
    ("no such plan", {}, "blend no.toml", 1, ["no.toml: No such file"]),
    ("no such weights", {}, "blend plan.toml --weights no.json", 1, ["no.json: No such file"]),
    ("no such file to report", {}, "report no.json", 1, ["no.json: No such file"]),
    ("no such file to convert", {}, "convert no.csv", 1, ["no.csv: No such file"]),
    ("no such pairs", {}, "synergy no.csv", 1, ["no.csv: No such file"]),
    ("an unknown column", {}, "fit obs.csv --where tokns>1", 1, ["tokns", "'tokens'"]),
    ("an expression cut short", {}, "fit obs.csv --where tokens>", 1, ["character 8", "value"]),
    ("an expression of nothing", {}, "fit obs.csv --holdout (", 1, ["character 2", "column"]),
    ("nothing left to fit", {}, "fit obs.csv --where tokens>1e99", 1, ["no observations"]),
    ("nothing to keep", {}, "convert obs.csv --where tokens>1e99", 1, ["no observation", "1e99"]),
    (
        "a pair without its baseline",
        {"bad.csv": "target,auxiliary,loss\nGo,C,1\n"},
        "synergy bad.csv",
        1,
        ["bad.csv", "no baseline for Go"],
    ),
    (
        "a pair twice",
        {"bad.csv": "target,auxiliary,loss\nGo,Go,1\nGo,C,1\nGo,C,0.9\n"},
        "synergy bad.csv",
        1,
        ["bad.csv:4", "line 3"],
    ),
    ("pairs from a pipe", {}, "synergy -", 1, ["-: must be a file"]),
    ("more parameters than any", {}, "predict fit.json --params 1e99 --tokens 1e9", 1, ["1e+99"]),
    ("less than a token", {}, "predict fit.json --params 1e9 --tokens 0.5", 1, ["tokens", "0.5"]),
    ("no unique tokens", {}, f"{ALLOCATE} --unique-tokens Go=0", 1, ["unique_tokens.Go", "0"]),
    ("fewer refits than none", {}, "fit obs.csv --bootstrap -1", 1, ["bootstrap", "-1"]),
    ("a negative seed", {}, "fit obs.csv --bootstrap 1 --seed -1", 1, ["seed", "-1"]),
    ("no delta", {}, "fit obs.csv --delta 0", 1, ["delta", "0"]),
    (
        "two fits in a report",
        {"bad.json": '{"law": 1}'},
        "report fit.json bad.json",
        1,
        ["bad.json"],
    ),
    ("an unknown option", {}, "fit obs.csv --bootstraps 3", 2, ["--bootstraps", "--bootstrap"]),
    ("a missing argument", {}, "fit", 2, ["OBSERVATIONS"]),
    ("a missing option", {}, "predict fit.json --params 1", 2, ["--tokens"]),
    ("an unknown command", {}, "fti obs.csv", 2, ["fti"]),
    ("text for an option's number", {}, f"{ALLOCATE} --floor low", 2, ["--floor", "low"]),
    ("an unknown format", {}, "blend plan.toml --format per-split-jsn", 2, ["per-split-json"]),
]
# Commands that do write a file, and so must not touch the one that is there.
WRITING = ("fit", "predict", "allocate", "synergy", "blend", "convert", "report")


@pytest.mark.parametrize(
    ("files", "command", "status", "says"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    files: dict[str, str | bytes],
    command: str,
    status: int,
    says: list[str],
) -> None:
    for name, text in files.items():
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    before = content(folder)
    arguments = command.split()
    if arguments[0] in WRITING:
        arguments += ["-o", "out"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
    shown = capfd.readouterr()
    assert exit_.value.code == status, shown.err
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if not line.startswith("stage ")]
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("blendlaw: ")
    for words in says:
        assert words in lines[0]
    assert content(folder) == before


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("no/such/out", "no/such/out: there is no such folder"),
        ("folder", "folder: is a folder"),
        ("out/below", "out/below: there is no such folder"),
        ("/dev/full", "/dev/full: No space left on device"),
        ("a" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        "fit obs.csv --law chinchilla",
        "predict fit.json --params 1e9 --tokens 1e9",
        "allocate fit.json --params 1e9 --tokens 1e9",
        "synergy pairs.csv",
        "blend plan.toml",
        "convert obs.csv",
        "report fit.json",
    ],
)
def test_output_that_cannot_be_written(
    folder: Path, capfd: pytest.CaptureFixture[str], command: str, output: str, says: str
) -> None:
    before = content(folder)
    with pytest.raises(SystemExit, match="1"):
        main([*command.split(), "-o", output])
    shown = capfd.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("blendlaw: ")]
    assert lines
    assert says in lines[-1]
    assert shown.err.splitlines()[-1] == lines[-1]
    assert shown.out == ""
    assert content(folder) == before
    assert Path("/dev/full").is_char_device()


def test_output_may_be_a_device_or_a_link(folder: Path) -> None:
    Path("link").symlink_to("out")
    for output in ("/dev/null", "link"):
        with pytest.raises(SystemExit, match="0"):
            main(["predict", "fit.json", "--params", "1e9", "--tokens", "1e9", "-o", output])
    assert Path("/dev/null").is_char_device()
    assert Path("link").is_symlink()
    assert "loss" in json.loads(Path("out").read_text())


def run(
    command: list[str], stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, env=environment
    )


INSTALLED = Path(sys.executable).with_name("blendlaw")
MODULE = [sys.executable, "-m", "blendlaw"]
ENTRY = (
    [str(INSTALLED)]
    if INSTALLED.exists()
    else [sys.executable, "-c", "from blendlaw.cli import main; main()"]
)


@pytest.mark.parametrize("program", [MODULE, ENTRY], ids=["module", "entry point"])
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("fit no.csv", 1, "no.csv: No such file or directory"),
        ("fit weights.json", 1, "'language'"),
        ("check plan.toml --fit plan.toml", 1, "plan.toml: not a fit.json"),
        ("fit obs.csv --laws x", 2, "--laws"),
    ],
)
def test_as_a_process(
    folder: Path, program: list[str], arguments: str, status: int, says: str
) -> None:
    result = run([*program, *arguments.split()])
    assert result.returncode == status
    assert result.stdout == ""
    assert result.stderr.startswith("blendlaw: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_a_closed_stdin(folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m blendlaw fit - <&-', sys.executable],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "blendlaw: <stdin>: standard input is closed\n"


def test_a_full_disk_behind_stdout_and_a_closed_pipe(folder: Path) -> None:
    command = [*MODULE, "check", "plan.toml"]
    with open("/dev/full", "w") as full:
        result = run(command, full.fileno())
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "No space left" in result.stderr
    reading, writing = os.pipe()
    os.close(reading)
    result = run(command, writing)
    os.close(writing)
    assert result.stderr == ""


def test_bad_rows_may_be_skipped_and_are_counted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("obs.csv", "a") as file:
        file.write("Go,1,1,nan\nGo,\n")
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "obs.csv", "--law", "chinchilla", "--skip-bad", "--json"])
    shown = capfd.readouterr()
    assert json.loads(shown.out)["provenance"]["skipped_rows"] == 2
    assert "obs.csv:20, loss" in shown.err
    assert "skipped 2 bad rows in all" in shown.err


def test_any_name_of_a_language_is_observed(folder: Path) -> None:
    Path("own.csv").write_text(observations().replace("Go", "my own DSL"))
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "own.csv", "--law", "chinchilla", "-o", "own.json"])
    assert "my own DSL" in json.loads(Path("own.json").read_text())["languages"]
