"""What is installed: asked of a process that sees only stand-ins, and the precisions it allows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blendlaw import environment
from blendlaw.cli import main
from blendlaw.environment import Environment, Part, probe
from blendlaw.precision import RECIPES, Version, lacks, version

HOOKS = Path(__file__).parents[1] / "hooks"
TORCH = """
__version__ = "2.9.0"
class version: cuda = "12.8"
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 8)
    get_device_name = staticmethod(lambda n: "NVIDIA H800")
    get_device_capability = staticmethod(lambda n: (9, 0))
print("a line that torch prints")
"""
GONE = "raise ImportError('hidden')"
ENGINE = {"transformer_engine/__init__.py": "__version__ = '2.9.0+70f53666'"}
KERNELS = ("amp_C", "fused_layer_norm_cuda", "fused_weight_gradient_mlp_cuda")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Put modules, as they are written, where they come first."""

    def put(files: dict[str, str]) -> Environment:
        for name, text in {"torch.py": TORCH, "megatron/core/__init__.py": GONE, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        if (tmp_path / "megatron").is_dir():
            (tmp_path / "megatron/__init__.py").touch()
        path = os.pathsep.join([str(tmp_path), str(HOOKS)])
        monkeypatch.setenv("PYTHONPATH", path)
        return probe()

    return put


def test_what_is_there_is_told(install) -> None:  # type: ignore[no-untyped-def]
    found = install(
        ENGINE
        | {
            "transformer_engine/pytorch.py": "",
            "transformer_engine_torch.py": "",
            "megatron/core/__init__.py": "__version__ = '0.16.1'",
            "apex/__init__.py": "",
            **{f"{name}.py": "" for name in KERNELS},
        }
    )
    assert found["torch"] == Part("torch", "2.9.0", cuda="12.8")
    assert found["GPUs"].gpus == (("NVIDIA H800", (9, 0)),) * 8
    assert found["megatron-core"] == Part("megatron-core", "0.16.1")
    assert found["Transformer Engine"].kernels == (
        "transformer_engine_torch",
        "transformer_engine.pytorch",
    )
    assert found["apex"].kernels == KERNELS
    assert (found.engine, found.cuda, found.capability) == ((2, 9), (12, 8), (9, 0))
    missed = found.precisions()
    assert [name for name in missed if not missed[name]] == ["bf16", "delayed", "tensorwise"]
    assert missed["blockwise"] == ["CUDA 12.9 or later, not 12.8"]
    assert missed["mxfp8"] == ["compute capability 10.0 or later, not 9.0"]


def test_kernels_that_are_missing(install) -> None:  # type: ignore[no-untyped-def]
    """An apex of Python alone, an engine whose extension does not load."""
    found = install(
        ENGINE
        | {
            "transformer_engine/pytorch.py": "",
            "transformer_engine_torch.py": "raise OSError('libcublas.so.13: not found')",
            "apex/__init__.py": "",
            "amp_C.py": "",
        }
    )
    engine, apex = found["Transformer Engine"], found["apex"]
    assert engine.problem == (
        "without transformer_engine_torch (OSError: libcublas.so.13: not found)"
    )
    assert apex.problem is not None
    assert apex.problem.startswith("without fused_layer_norm_cuda (ModuleNotFoundError")
    assert "fused_weight_gradient_mlp_cuda" in apex.problem
    assert "amp_C" not in apex.problem
    assert found["megatron-core"].problem == "it cannot be imported: ImportError: hidden"
    assert found.engine is None
    assert found.precisions()["delayed"] == ["Transformer Engine"]


def test_the_other_apex(install) -> None:  # type: ignore[no-untyped-def]
    about = (
        "Metadata-Version: 2.1\nName: apex\nVersion: 0.9.10.dev0\nRequires-Dist: pyramid>1.1.2\n"
    )
    found = install({"apex/__init__.py": "", "apex-0.9.10.dev0.dist-info/METADATA": about})
    assert found["apex"].version == "0.9.10.dev0"
    assert found["apex"].problem == "PyPI's apex, another project: uninstall it"


def test_an_extension_that_crashes(install) -> None:  # type: ignore[no-untyped-def]
    """What was told before stands."""
    found = install({"transformer_engine/__init__.py": "import os; os.abort()"})
    assert found["torch"].version == "2.9.0"
    assert found.parts[-1].problem == (
        "the process that asked ended, after megatron-core: status -6"
    )


def test_the_command_shows_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = (
        Part("torch", "2.9.0", cuda="12.9"),
        Part("GPUs", gpus=(("NVIDIA H800", (9, 0)),) * 8),
        Part("Transformer Engine", "2.9.0", kernels=("transformer_engine_torch",)),
    )
    monkeypatch.setattr(environment, "probe", lambda: Environment(parts))
    with pytest.raises(SystemExit, match="0"):
        main(["check", "--env"])
    assert capfd.readouterr().out.splitlines() == [
        "torch               2.9.0  CUDA 12.9",
        "GPUs                       8 × NVIDIA H800, capability 9.0",
        "Transformer Engine  2.9.0  transformer_engine_torch",
        "precisions here: bf16, delayed, tensorwise, blockwise",
        "not mxfp8: needs compute capability 10.0 or later, not 9.0",
    ]


def test_what_is_known_of_the_machine_counts_for_a_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = tmp_path / "launch.sh"
    script.write_text("torchrun pretrain_gpt.py --fp8-format e4m3 --fp8-recipe blockwise --lr 1")
    parts = (Part("torch", "2.9.0", cuda="12.8"), Part("Transformer Engine", "2.2.0"))
    monkeypatch.setattr(environment, "probe", lambda: Environment(parts))
    with pytest.raises(SystemExit, match="1"):
        main(["check", "--env", "--command", str(script)])
    assert (
        "error: --fp8-recipe: blockwise needs Transformer Engine 2.3 or later, not 2.2, "
        "CUDA 12.9 or later, not 12.8: set --fp8-recipe tensorwise or delayed"
    ) in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.9.0+70f53666", (2, 9)),
        ("core_v0.16.1", (0, 16)),
        ("v0.19.2", (0, 19)),
        ("0.20.0rc0", (0, 20)),
        ("12.9", (12, 9)),
        ("2", None),
        ("", None),
        ("new", None),
    ],
)
def test_versions(text: str, found: Version | None) -> None:
    assert version(text) == found


def test_what_is_not_known_is_not_missed() -> None:
    assert all(lacks(recipe) == [] for recipe in RECIPES.values())


def test_a_process_that_tells_nothing() -> None:
    found = environment.read("", "status 1")
    assert found.parts == (Part("what follows", problem="the process that asked ended: status 1"),)
    assert found.capability is None
    assert sys.executable in environment.PROBE
    assert subprocess.list2cmdline(environment.PROBE).endswith("-m blendlaw_hooks.environment")
