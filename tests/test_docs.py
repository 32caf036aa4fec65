"""The documentation: nothing left out, what it shows is what happens, its links lead somewhere.

Blocks of the pages in ``RUN`` are carried out in order, each page in a folder of its own:

- ``console``: each line after ``$`` is run; what follows is what it printed.
- ``python``: run; a ``text`` block right after it is what it printed.
- any language followed by a file name (``toml plan.toml``): written to that file.

Printed text matches whatever its spacing, numbers within a tenth and 0.001 (the ends of intervals
of what is hardly determined move); ``…`` stands for any text, on a line of its own for any lines.
"""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from decimal import Decimal
from inspect import signature
from pathlib import Path

import click
import pytest

import blendlaw
from blendlaw import cli, hookspecs, observations, plugins
from blendlaw.allocation import Allocation, Gain
from blendlaw.blend import BlendSource
from blendlaw.data import code7
from blendlaw.environment import Part
from blendlaw.fitted import Candidate, Fit, HoldOut, LanguageFit
from blendlaw.launches.flags import Finding
from blendlaw.launches.lint import LaunchLint
from blendlaw.lint import Lint, StageLanguage
from blendlaw.pairs.plan import Pairs
from blendlaw.pairs.translation import Direction, Translation
from blendlaw.plan import LanguagePlan, Plan, Refit, Run, Source, Stage
from blendlaw.policies import POLICIES
from blendlaw.synergy import Synergy
from blendlaw.trainer_plan import Trainer

ROOT = Path(__file__).parents[1]
PACKAGE = Path(blendlaw.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = (
    "README.md",
    *(f"docs/{n}.md" for n in ("tutorial", "commands", "files", "hooks", "laws", "pairs")),
)
FENCE = re.compile(r"^```(\w*) ?([\w./]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = r"[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """What stands below each heading, subsections included, by the heading without backticks."""
    text = FENCE.sub(lambda m: m[0].replace("\n#", "\n #"), text)
    found = {}
    for heading in re.finditer(r"^(#+) (.+)$", text, re.MULTILINE):
        end = re.compile(rf"^#{{1,{len(heading[1])}}} ", re.MULTILINE).search(text, heading.end())
        found[heading[2].replace("`", "")] = text[heading.end() : end and end.start()]
    return found


def keys(section: str) -> set[str]:
    """The names in backticks in the first column of the section's tables."""
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


# Nothing is left out.

COMMANDS = {
    f"{name} {below}" if below else name: command
    for name, one in cli.build().commands.items()
    for below, command in (one.commands.items() if isinstance(one, click.Group) else [("", one)])
}
HOOKS = [name for name, spec in vars(hookspecs).items() if hasattr(spec, "blendlaw_spec")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_its_place(name: str) -> None:
    text = sections(page("docs/commands.md"))[f"blendlaw {name}"]
    options = {
        option
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert keys(text) == options
    assert f"blendlaw {name}" in text


def test_every_name_of_the_package_has_its_place() -> None:
    assert keys(sections(page("docs/commands.md"))["From Python"]) == set(blendlaw.__all__)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_its_signature_and_an_example(name: str) -> None:
    text = sections(page("docs/hooks.md"))[name]
    arguments = signature(getattr(hookspecs, name)).parameters
    assert f"`{name}({', '.join(arguments)})`" in text
    assert "None" in text, "what None means"
    assert re.search(rf"^@blendlaw\.hookimpl\n+def {name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("name", plugins.laws())
def test_every_law_has_its_parameters(name: str) -> None:
    text = sections(page("docs/laws.md"))[name]
    parameters = plugins.laws()[name].parameters(["Go", "Rust"], 0)
    assert keys(text) == {re.sub(r"\.(Go|Rust)", ".<language>", p.name) for p in parameters}


@pytest.mark.parametrize("name", plugins.blend_formats())
def test_every_blend_format_has_its_place(name: str) -> None:
    assert name in sections(page("docs/files.md"))


def of(*types: type) -> set[str]:
    return {field.name for each in types for field in fields(each)}


def below(prefix: str, names: Iterable[str]) -> set[str]:
    return {f"{prefix}.{name}" for name in names}


def test_every_key_of_every_file_has_its_place(tmp_path: Path) -> None:
    text = sections(page("docs/files.md"))
    assert keys(text["Observations"]) == {
        *observations.REQUIRED,
        *observations.OPTIONAL,
        *(f"{prefix}<language>" for prefix in observations.MAPPINGS),
        *observations.MAPPINGS.values(),
    }
    source = below("languages.<language>.sources[]", of(Source))
    assert keys(text["plan.toml"]) == (
        below("run", of(Run))
        | below("languages.<language>", of(LanguagePlan))
        | source
        | below("stages[]", of(Stage))
        | below("refit", of(Refit))
        | below("trainer", of(Trainer))
        | below("pairs", of(Pairs))
        | {f'"{policy}"' for policy in POLICIES if policy != "static"}
    )
    assert {key.partition(".")[0].removesuffix("[]") for key in keys(text["plan.toml"])} >= of(Plan)
    fitted = run_blendlaw(f"fit {code7('losses')} --law chinchilla --json")[0]
    assert keys(text["fit.json"]) == (
        {"version"}
        | of(Fit)
        | below("languages.<language>", of(LanguageFit))
        | below("languages.<language>.holdout", of(HoldOut))
        | below("selection[]", of(Candidate))
        | below("provenance", json.loads(fitted)["provenance"])
    )
    pairs = run_blendlaw(f"synergy {code7('synergy')} --json")[0]
    assumed = below("assumed", json.loads(pairs)["assumed"])
    assert keys(text["synergy.json"]) == {"version"} | of(Synergy) | assumed
    binding = below("binding[]", ("language", "limit"))
    assert keys(text["allocation.json"]) == (
        {"version"} | of(Allocation) | below("gain.<blend>", of(Gain)) | binding
    )
    direction = below("directions[]", of(Direction))
    translated = of(Translation) - {"directions"}
    assert keys(text["translation.json"]) == {"version"} | translated | direction
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[run]\nparams=1e9\ntokens=1e9\n[languages.Go]\nsources=["go"]\n'
        '[[stages]]\nname="main"\ntokens=1e9\nweights="uniform"'
    )
    shown = run_blendlaw(f"blend {plan} --json -o {tmp_path / 'b.json'}")[0]
    assert keys(text["blendlaw blend --json"]) == {
        *json.loads(shown),
        *below("sources[]", json.loads(shown)["sources"][0]),
    }
    assert of(BlendSource) < set(json.loads(shown)["sources"][0])
    assert keys(text["blendlaw check --json"]) == (
        of(Lint)
        | below("rows[]", of(StageLanguage))
        | {"launch", "environment"}
        | below("launch", of(LaunchLint))
        | below("launch.findings[]", of(Finding))
        | below("environment[]", of(Part))
    )


def test_every_module_is_in_the_plan_of_the_house() -> None:
    listed = page("docs/design.md")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            assert re.search(rf"\b{re.escape(path.name)}\b", listed), path.relative_to(PACKAGE)


# What it shows is what happens.


@dataclass(frozen=True)
class Block:
    language: str
    file: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    return [
        Block(m[1], m[2], m[3], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text)
    ]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, what it printed) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield command, printed


def run_blendlaw(arguments: str) -> tuple[str, int]:
    """What ``blendlaw arguments`` prints, stderr included, and its exit status."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(arguments))
    assert isinstance(ended.value.code, int)
    return said.getvalue(), ended.value.code


def run_command(command: str) -> tuple[str, int]:
    name, _, arguments = command.partition(" ")
    if name == "blendlaw":  # in this process, which has it imported
        return run_blendlaw(arguments)
    found = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PACKAGE.parent),
    }
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=os.environ | found, check=False
    )
    return done.stdout + done.stderr, done.returncode


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def check_printed(shown: str, printed: str, where: str) -> None:
    pattern, numbers = "", []
    for line in lines(shown):
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
            continue
        for part in re.split(rf"({NUMBER}|…|\s+)", line.strip()):
            if part == "…":
                pattern += ".*?"
            elif re.fullmatch(NUMBER, part):
                pattern += f"({NUMBER})"
                numbers.append(part)
            else:
                pattern += r"\s+" if part.isspace() else re.escape(part)
        pattern += "\n"
    text = "".join(line.strip() + "\n" for line in lines(printed))
    found = re.fullmatch(pattern, text)
    assert found, f"{where} shows\n{shown}\nbut what is printed is\n{printed}"
    for old, new in zip(numbers, found.groups(), strict=True):
        meant, got = Decimal(old.replace("−", "-")), Decimal(new.replace("−", "-"))
        exponent = meant.as_tuple().exponent
        assert isinstance(exponent, int)
        near = abs(meant) / 10 + max(Decimal("0.001"), 3 * Decimal(10) ** exponent)
        assert abs(meant - got) <= near, f"{where}: {old} is {new} now, in\n{printed}"


def write_logs(folder: Path) -> None:
    """The TensorBoard logs that the pages read: a run of two languages, four steps."""
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder / "logs" / "small"))
    for step in (0, 1000, 2000, 4000):
        losses = {"Python": 0.6 + 20 / (step + 50), "Go": 0.4 + 15 / (step + 50)}
        values = [Summary.Value(tag=f"lm loss/{n}", simple_value=x) for n, x in losses.items()]
        writer.add_event(Event(step=step, summary=Summary(value=values)))
    writer.close()


@pytest.fixture
def fresh_plugins() -> Iterator[None]:
    """What a page registers is gone after it."""
    caches = (plugins.plugin_manager, plugins.laws, plugins.blend_formats)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_is_what_happens(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if "logs/" in page(name):
        write_logs(tmp_path)
    before = set(sys.modules)
    printed = None
    for block in blocks(page(name)):
        where = f"{name}:{block.line}"
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "console":
            for command, shown in commands(block.text):
                said, status = run_command(command)
                failing = re.search(r"^(blendlaw|[Ee]rror): ", shown, re.MULTILINE) is not None
                assert (status != 0) == failing, f"{where}: {command} exits with {status}\n{said}"
                check_printed(shown, said, f"{where}: {command}")
        elif block.language == "text" and printed is not None:
            check_printed(block.text, printed, where)
        printed = None
        if block.language == "python" and not block.file:
            Path("_block.py").write_text(block.text)
            out = io.StringIO()
            with redirect_stdout(out):
                runpy.run_path("_block.py")
            printed = out.getvalue()
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", "") in map(str, tmp_path.glob("*.py")):
            del sys.modules[module]


def test_what_is_printed_is_compared() -> None:
    check_printed("a 1.5  b\n…\nlast [2, …]\n", "a   1.52 b\nx\ny\nlast [2, 3]\n", "here")
    for wrong in ("a 2.5 b\nlast [2, ]", "a 1.5 c\nlast [2, ]", "a 1.5 b\n"):
        with pytest.raises(AssertionError):
            check_printed("a 1.5  b\n…\nlast [2, …]\n", wrong, "here")


# Its links lead somewhere.


def anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings."""
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in sections(text)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link
