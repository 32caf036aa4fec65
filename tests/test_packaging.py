"""What is installed: light to import, whole, and working from anywhere."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import blendlaw

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "plugin" / "blendlaw"
HOOKS = ROOT / "hooks" / "blendlaw_hooks"
HEAVY = ("torch", "scipy", "click", "pydantic", "matplotlib", "numpy", "rich", "jinja2")
STACKS = ("torch", "megatron", "transformer_engine", "blendlaw_hooks")
SOURCES = sorted(PLUGIN.rglob("*.py"))


def python(code: str) -> str:
    path = os.pathsep.join([str(ROOT / "plugin"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)


def test_the_import_costs_almost_nothing() -> None:
    code = """
import time
begin = time.perf_counter()
import blendlaw
seconds = time.perf_counter() - begin
import json, sys
print(json.dumps([seconds, sorted(sys.modules)]))"""
    found = [json.loads(python(code)) for _ in range(3)]
    assert min(seconds for seconds, _ in found) < 0.5
    assert {name for name in found[0][1] if name.partition(".")[0] in HEAVY} == set()


def test_the_commands_are_listed_without_what_they_compute_with() -> None:
    code = """
import sys
from blendlaw.cli import build
build()
print(*sys.modules)"""
    loaded = {name.partition(".")[0] for name in python(code).split()}
    assert loaded.isdisjoint({"torch", "matplotlib", "jinja2", "pydantic", "tensorboard"})


def test_every_public_name_is_there() -> None:
    assert sorted(blendlaw.__all__) == list(blendlaw.__all__)
    for name in blendlaw.__all__ * 2:  # twice: a module of the same name would take its place
        assert callable(getattr(blendlaw, name))
    with pytest.raises(AttributeError, match="no attribute 'ftt'"):
        _ = blendlaw.ftt


def imported(source: Path) -> set[str]:
    """The top packages that a file imports, by statement or by ``import_module("…")``."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("import_module", "__import__", "find_spec", "importorskip"):
                found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PLUGIN)))
def test_what_decides_does_not_import_what_acts(source: Path) -> None:
    assert imported(source).isdisjoint(STACKS)


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = ("report", "corpus", "pairs", "datatrove", "train", "cluster")
    wanted = [*project["dependencies"], *(one for name in named for one in extras[name])]
    declared = {one.partition(">")[0] for one in wanted}
    used = set().union(*map(imported, SOURCES)) - set(sys.stdlib_module_names)
    # google is protobuf, without which there is no TensorBoard.
    assert used - {"blendlaw", "google", ""} <= declared


def test_every_module_can_be_imported() -> None:
    for source in SOURCES:
        name = ".".join(source.relative_to(ROOT / "plugin").with_suffix("").parts)
        if name == "blendlaw.pairs.pipeline" and find_spec("datatrove") is None:
            continue
        if not name.endswith("__main__"):
            importlib.import_module(name.removesuffix(".__init__"))


def test_the_two_roots_are_no_packages() -> None:
    assert not (ROOT / "plugin" / "__init__.py").exists()
    assert not (ROOT / "hooks" / "__init__.py").exists()


def test_the_version_is_told_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == blendlaw.__version__


# The wheel

needs_build = pytest.mark.skipif(
    find_spec("pip") is None or find_spec("hatchling") is None or find_spec("editables") is None,
    reason="pip, hatchling and editables build the wheel: pip install 'blendlaw[test]'",
)
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), *OFFLINE, "--wheel-dir", str(folder))
    (made,) = folder.iterdir()
    return made


def shipped(root: Path) -> set[str]:
    return {
        str(path.relative_to(root.parent))
        for path in root.rglob("*")
        if path.is_file() and "cache" not in str(path.relative_to(root))
    }


@needs_build
def test_the_wheel_has_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    about = f"blendlaw-{blendlaw.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"blendlaw", "blendlaw_hooks", about}
    packaged = {name for name in names if not name.startswith(about)}
    assert packaged == shipped(PLUGIN) | shipped(HOOKS)
    for name in (
        "blendlaw/py.typed",
        "blendlaw/data/code7/losses.csv",
        "blendlaw/data/code7/plan.toml",
        "blendlaw/pairs/templates/prompt.txt",
        "blendlaw/report/page.html.j2",
        "blendlaw_hooks/py.typed",
        f"{about}/licenses/LICENSE",
    ):
        assert name in names
    entry = zipfile.ZipFile(wheel).read(f"{about}/entry_points.txt").decode()
    assert "blendlaw = blendlaw.cli:main" in entry


@needs_build
def test_the_wheel_of_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    pip("wheel", str(archive), *OFFLINE, "--wheel-dir", str(tmp_path))
    (again,) = tmp_path.glob("*.whl")
    first, second = (
        {one.filename: one.CRC for one in zipfile.ZipFile(path).infolist()}
        for path in (wheel, again)
    )
    assert first == second


def environment(folder: Path) -> Path:
    """A bare environment that has what this one has, but not its blendlaw. Returns bin/."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Found through a .pth file, this environment's own .pth files (its blendlaw) do not count.
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@needs_build
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="bin/ is Scripts/ there")
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_an_installation_works_from_anywhere(wheel: Path, tmp_path: Path, editable: bool) -> None:
    home = environment(tmp_path / "venv")
    what = ["--editable", str(ROOT)] if editable else [str(wheel)]
    pip("--python", str(home / "python"), "install", *OFFLINE, *what)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=clean
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run(str(home / "python"), "-c", "import blendlaw; print(blendlaw.__file__)").strip()
    assert Path(place).is_relative_to(PLUGIN if editable else tmp_path)
    assert blendlaw.__version__ in run(str(home / "blendlaw"), "--version")
    assert "observations" in run(str(home / "python"), "-m", "blendlaw", "fit", "--help").lower()
    tour = ("demo", "--offline", "--bootstrap", "2", "-o", "made")
    assert "Python" in run(str(home / "blendlaw"), *tour)
    for name in ("blend.json", "fit.json", "allocation.json", "report.html"):
        assert (tmp_path / "made" / name).stat().st_size > 0
