"""Input made to harm: it is refused, or passes through as plain text."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blendlaw.allocation import Allocation, allocate
from blendlaw.blend import read_blend
from blendlaw.cli import main
from blendlaw.cli.allocate import describe as describe_allocation
from blendlaw.cli.common import load, table
from blendlaw.cli.fit import describe as describe_fit
from blendlaw.errors import InputError
from blendlaw.fitted import Fit
from blendlaw.fitting import fit
from blendlaw.observations import Observation, read_observations
from blendlaw.pair_runs import PairLoss, read_pairs_table
from blendlaw.plan import read_plan
from blendlaw.synergy import Synergy, measure_synergy
from blendlaw.weights import read_weights
from blendlaw.where import parse, select

SCRIPT = "<script>alert(1)</script>"
MARKUP = "[bold red]x[/]"


def runs(*languages: str) -> list[Observation]:
    return [
        Observation(name, n * 1e9, d * 1e9, 0.5 + 0.3 / n**0.4 + 0.4 / d**0.35)
        for name in languages
        for n in (0.2, 0.5, 1.0)
        for d in (2, 8, 32)
    ]


PLAN = """
[run]
params = 1e9
tokens = 1e9
[languages.Go]
sources = ["../../x"]
unique_tokens = 1e9
[languages.C]
sources = [{ prefix = "../../y", tokens = 5e8 }]
[[stages]]
name = "only"
tokens = 1e9
weights = { Go = 0.5, C = 0.5 }
"""


@pytest.fixture(scope="module")
def good() -> dict[str, bytes]:
    """A good file of every kind."""
    fitted = fit(runs("Go", "C"), "chinchilla", bootstrap=3)
    caps = allocate(fitted, params=1e9, tokens=1e9, cap={"C": 0.4}, unique_tokens={"Go": 1e9})
    pairs = [PairLoss("Go", "Go", 1), PairLoss("Go", "C", 0.9), PairLoss("Go", "Go", 0.99)]
    header = "language,params,tokens,loss,weights.Go,weights.C,tokens.Go,unique_tokens.Go,seed,x"
    line = {"language": "Go", "params": 1e9, "tokens": 2e9, "loss": 0.5, "weights": {"Go": 1}}
    texts = {
        "obs.csv": f'{header}\nGo,1e9,2e9,0.5,0.5,0.5,1e9,1e8,3,"a, ""b"""\nC,1,2,3,1,0,1,1,,\n',
        "obs.jsonl": json.dumps(line) + "\n" + json.dumps(line | {"seed": 1, "x": [1]}) + "\n",
        "pairs.csv": "target,auxiliary,loss,seed\nGo,Go,1,1\nGo,C,0.9,1\nC,C,1,1\n",
        "plan.toml": PLAN,
        "weights.json": '{"Go": 0.25, "C": 0.75}',
        "fit.json": fitted.to_json(),
        "allocation.json": caps.to_json(),
        "synergy.json": measure_synergy(pairs).to_json(),
        "blend.json": '{"train": [0.3, "a", "0.7", "b"], "valid": "c d", "test": null}',
        "blend.txt": "0.3 a 0.7 b\n",
    }
    return {name: text.encode() for name, text in texts.items()}


READERS: dict[str, Callable[[str], object]] = {
    "obs.csv": read_observations,
    "obs.jsonl": read_observations,
    "pairs.csv": read_pairs_table,
    "plan.toml": read_plan,
    "weights.json": read_weights,
    "fit.json": lambda path: used(load(path, Fit.from_json)),
    "allocation.json": lambda path: shown(load(path, Allocation.from_json)),
    "synergy.json": lambda path: str(load(path, Synergy.from_json)),
    "blend.json": read_blend,
    "blend.txt": read_blend,
}


def used(found: Fit) -> None:
    """Whatever is accepted must also work, even where its numbers overflow."""
    with np.errstate(all="ignore"):
        found.predict(1e9, 1e9)
        allocate(found, params=1e9, tokens=1e9)
    str(found)
    describe_fit(found)
    found.to_json()


def shown(found: Allocation) -> None:
    str(found)
    describe_allocation(found)
    found.to_json()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    with contextlib.chdir(inside):
        yield tmp_path


def call(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code


# Code and names


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch hacked')",
        "tokens>(lambda: open('hacked','w'))()",
        "language==Go or open('hacked', 'w')",
        'tokens>=1 and exec(\'open("hacked","w")\')',
        "{0.__class__}==1",
        "tokens>1; import os",
        "(" * 10_000 + "tokens>1" + ")" * 10_000,
        "tokens>1" + " and tokens>1" * 100_000,
        "__class__==Observation",
        "tokens.__class__==1",
        "extra==1",
    ],
)
def test_an_expression_is_never_run(folder: Path, expression: str) -> None:
    with pytest.raises(InputError):
        select(runs("Go"), parse(expression))
    assert not Path("hacked").exists()


def test_names_pass_through_as_they_are(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = ["language,params,tokens,loss"]
    lines += [f"{o.language},{o.params},{o.tokens},{o.loss}" for o in runs(SCRIPT, MARKUP)]
    Path("obs.csv").write_text("\n".join(lines))
    plan = PLAN.replace("languages.Go", f'languages."{SCRIPT}"')
    plan = plan.replace("languages.C", f'languages."{MARKUP}"')
    plan = plan.replace("{ Go = 0.5, C = 0.5 }", '"law"').replace('"only"', '"[red]only"')
    Path("plan.toml").write_text(plan)
    Path("weights[red].json").write_text(json.dumps({SCRIPT: 0.5, MARKUP: 0.5}))
    assert call("fit", "obs.csv", "--law", "chinchilla", "-o", "fit.json") == 0
    options = ["--params", "1e9", "--tokens", "1e9", "--compare", "weights[red].json"]
    assert call("allocate", "fit.json", *options, "-o", "allocation.json") == 0
    assert call("blend", "plan.toml", "--weights", "allocation.json", "-o", "blend.json") == 0
    assert call("check", "plan.toml", "--fit", "fit.json", "--blend", "blend.json") == 0
    shown = capfd.readouterr()
    both = shown.out + shown.err
    for name in (SCRIPT, MARKUP, "loss weights[red]", "[red]only"):
        assert name in both
    assert list(json.loads(Path("allocation.json").read_text())["weights"]) == [SCRIPT, MARKUP]
    train = json.loads(Path("blend.json").read_text())["train"]
    assert train[1::2] == ["../../x", "../../y"]
    assert call("report", "obs.csv", "fit.json", "allocation.json", "-o", "r.html") == 0
    assert SCRIPT not in Path("r.html").read_text()


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\x00", "a\u202eb", "a\x85b", "\ud800"])
def test_names_that_move_the_cursor_are_refused_everywhere(
    folder: Path, good: dict[str, bytes], capfd: pytest.CaptureFixture[str], name: str
) -> None:
    quoted = json.dumps(name)
    for file in ("obs.jsonl", "weights.json", "fit.json", "allocation.json", "synergy.json"):
        Path(file).write_bytes(good[file].replace(b'"Go"', quoted.encode()))
        with pytest.raises(InputError, match="control characters"):
            READERS[file](file)
    if name.isascii():
        Path("plan.toml").write_bytes(good["plan.toml"].replace(b"Go", quoted.encode()))
        with pytest.raises(InputError):
            read_plan("plan.toml")
    assert call("fit", "obs.jsonl") == 1
    assert call("fit", name.replace("\0", "") + ".csv") == 1
    shown = capfd.readouterr().err
    assert shown.count("\n") == 2
    assert all(line.isprintable() for line in shown.splitlines())


def test_a_table_is_text_in_every_part() -> None:
    drawn = table([MARKUP, "[/nothing]"], [["[link=x]y[/link]", "[1, 2]"]], title="[blink]t[/]")
    for text in (MARKUP, "[/nothing]", "[link=x]y[/link]", "[1, 2]", "[blink]t[/]"):
        assert text in drawn


def test_a_path_that_climbs_out_is_kept_and_creates_nothing(
    folder: Path, good: dict[str, bytes]
) -> None:
    Path("plan.toml").write_bytes(good["plan.toml"])
    before = sorted(folder.rglob("*"))
    assert call("check", "plan.toml") == 0
    assert call("blend", "plan.toml") == 0
    assert call("blend", "plan.toml", "-o", "../../no/blend.json") == 1
    assert sorted(folder.rglob("*")) == before
    # Where the person says so, outside of the working folder is where it goes.
    assert call("blend", "plan.toml", "-o", "../../blend.json") == 0
    assert [p for p in sorted(folder.rglob("*")) if p not in before] == [folder / "blend.json"]


# Size


PEAK = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time())"


def measured(code: str, *arguments: str, stdin: int | None = None) -> tuple[str, float, float]:
    """What a fresh interpreter prints after ``code``, its peak in MB, and its seconds of work."""
    done = subprocess.run(
        [sys.executable, "-c", f"import resource, sys, time\n{code}\n{PEAK}", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    *printed, numbers = done.stdout.splitlines()
    peak, seconds = map(float, numbers.split())
    return "\n".join(printed), peak, seconds


IMPORTS = """
from blendlaw.allocation import Allocation
from blendlaw.blend import read_blend
from blendlaw.cli.common import load
from blendlaw.cli.report import kind
from blendlaw.fitted import Fit
from blendlaw.observations import read_observations
from blendlaw.pair_runs import read_pairs_table
from blendlaw.plan import read_plan
from blendlaw.plugins import blend_formats
from blendlaw.weights import read_weights
blend_formats()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KB on Linux")
def test_a_line_of_a_gigabyte_is_refused_without_holding_it(tmp_path: Path) -> None:
    _, base, _ = measured(IMPORTS)
    for name, read in (
        ("x.csv", "read_observations"),
        ("x.jsonl", "read_observations"),
        ("x.json", "read_pairs_table"),
        ("x.toml", "read_plan"),
        ("x.json", "read_weights"),
        ("x.json", "read_blend"),
        ("x.json", "(lambda path: load(path, Fit.from_json))"),
    ):
        path = tmp_path / name
        with open(path, "wb") as file:  # sparse: it takes no room
            file.write(b'{"language": "')
            file.truncate(1 << 30)
        code = f"{IMPORTS}\ntry: {read}(sys.argv[1])\nexcept ValueError as e: print(e)"
        printed, peak, seconds = measured(code, str(path))
        path.unlink()
        assert str(path) in printed
        assert peak - base < 300
        assert seconds < 10


@pytest.mark.slow
def test_a_gigabyte_of_real_text_is_passed_over_where_bad_rows_are(tmp_path: Path) -> None:
    """Streamed through stdin, where no size can be asked for."""
    _, base, _ = measured(IMPORTS)
    code = f"""{IMPORTS}
bad = []
good = read_observations("-", skip_bad=True, on_bad=lambda error: bad.append(str(error)))
print(len(good), *bad)"""
    text = (
        "import sys; write = sys.stdout.buffer.write; write(b'language,params,tokens,loss\\n');"
        "write(b'Go,1,1,1\\n'); [write(bytes([120]) * (1 << 20)) for _ in range(1 << 10)];"
        "write(b'\\nGo,2,1,1\\n')"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        printed, peak, seconds = measured(code, stdin=writer.stdout.fileno())
    assert printed.startswith("2 <stdin>:3: a row of more than")
    assert peak - base < 300
    assert seconds < 10


@pytest.mark.parametrize(
    "bomb", ["[" * 200_000, '{"a":' * 200_000, '{"version": 1, "law": ' * 9999]
)
@pytest.mark.parametrize("name", [n for n in READERS if n.endswith(("json", "jsonl"))])
def test_a_bomb_of_brackets_is_refused(folder: Path, name: str, bomb: str) -> None:
    Path(name).write_text(bomb)
    with pytest.raises(InputError, match=name):
        READERS[name](name)


def test_brackets_that_close_are_refused_where_they_are_too_deep(
    folder: Path, good: dict[str, bytes]
) -> None:
    deep = b"[" * 300 + b"]" * 300
    for name in ("obs.jsonl", "fit.json", "allocation.json", "synergy.json"):
        Path(name).write_bytes(good[name].replace(b"1", deep, 1).replace(b"0.5", deep, 1))
        with pytest.raises(InputError, match=name):
            READERS[name](name)
    Path("plan.toml").write_bytes(good["plan.toml"].replace(b"1e9", b"[" * 5000, 1))
    with pytest.raises(InputError, match="not TOML"):
        read_plan("plan.toml")


@pytest.mark.parametrize("digits", ["1" * 100_000, "9" * 400, "1e400", "-1e400", "NaN", "Infinity"])
def test_numbers_beyond_any_are_refused(folder: Path, good: dict[str, bytes], digits: str) -> None:
    for name, place in {
        "obs.csv": b"2e9",
        "obs.jsonl": b"2000000000.0",
        "pairs.csv": b"0.9",
        "plan.toml": b"5e8",
        "weights.json": b"0.75",
        "allocation.json": b"1000000000.0",
        "blend.json": b"0.3",
        "blend.txt": b"0.3",
    }.items():
        assert place in good[name]
        number = digits if name != "plan.toml" else digits.lower().replace("infinity", "inf")
        Path(name).write_bytes(good[name].replace(place, number.encode(), 1))
        with pytest.raises(InputError, match=name) as caught:
            READERS[name](name)
        assert len(str(caught.value)) < 600


def test_numbers_beyond_any_are_refused_in_results(folder: Path, good: dict[str, bytes]) -> None:
    for name, key in {
        "fit.json": ("languages", "Go", "params", "E"),
        "synergy.json": ("transfer", "Go", "C"),
        "allocation.json": ("weights", "Go"),
    }.items():
        for bad in (10**400, float("inf"), float("nan"), True, "1", None, [1.0]):
            data = inner = json.loads(good[name])
            for step in key[:-1]:
                inner = inner[step]
            inner[key[-1]] = bad
            Path(name).write_text(json.dumps(data))
            with pytest.raises(InputError, match=r"\.".join(key)):
                READERS[name](name)


# Chance

CASES = 400
JUNK = [
    b"",
    b"-",
    b"0",
    b"1e400",
    b"NaN",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[" * 50,
    b"9" * 50,
    b"=",
    b".",
    b"'",
    b"#",
    "é\u202e".encode(),
]


def spoilt(text: bytes, chance: random.Random) -> bytes:
    """``text`` with one to three pieces cut out, doubled, moved or replaced by junk."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 1, 1, 3, 10, 40]))
        piece = text[start:end]
        kind = chance.randrange(5)
        if kind == 0:
            text = text[:start] + text[end:]
        elif kind == 1:
            text = text[:end] + piece + text[end:]
        elif kind == 2:
            text = text[:start] + chance.choice(JUNK) + text[end:]
        elif kind == 3:
            to = chance.randrange(len(text) + 1)
            text = text[:to] + piece + text[to:]
        else:
            text = text[:start]
    return text


def values(data: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value: its container and its key."""
    if not isinstance(data, dict | list):
        return []
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    return [(data, key) for key in keys] + [found for key in keys for found in values(data[key])]


ODD: list[Any] = [None, True, 0, -1, 1e308, "", "Go", [], {}, [[]], {"Go": 1}, ["Go"], 10**30, -0.5]


def reshaped(text: bytes, chance: random.Random) -> bytes:
    """JSON that is well formed, with one or two values of another type or missing."""
    data = json.loads(text)
    for _ in range(chance.randint(1, 2)):
        places = values(data)
        if not places:
            break
        inside, key = chance.choice(places)
        if chance.random() < 0.3:
            del inside[key]
        else:
            inside[key] = chance.choice(ODD)
    return json.dumps(data).encode()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", list(READERS))
def test_spoilt_files_are_read_or_refused(folder: Path, good: dict[str, bytes], name: str) -> None:
    chance = random.Random(name)
    ways = [spoilt, reshaped] if name.endswith(".json") else [spoilt]
    refused = 0
    for number in range(CASES):
        text = ways[number % len(ways)](good[name], chance)
        Path(name).write_bytes(text)
        said = name
        try:
            READERS[name](name)
        except (ValueError, OSError) as error:
            refused += 1
            said = str(error)
        except Exception as error:
            raise AssertionError(text) from error
        assert name in said, text
    assert CASES / 5 < refused <= CASES


def test_spoilt_expressions_are_read_or_refused() -> None:
    chance = random.Random("where")
    seen = runs("Go", "C")
    good = b'(tokens>=6.4e10 or language!=\'Go\') and weights.Go <= "0.5" or extra = "x y"'
    for _ in range(4 * CASES):
        with contextlib.suppress(ValueError):
            select(seen, parse(spoilt(good, chance).decode(errors="replace")))
