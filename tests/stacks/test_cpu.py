"""The CPU rehearsal: asked for, refused where it would do harm, and what it leaves."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.core"):
    pytest.skip("needs megatron-core", allow_module_level=True)

from blendlaw_hooks import cpu  # noqa: E402

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("hooks", "plugin"))


def run(code: str) -> None:
    """Patches stay in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import torch\n" + code],
        env=os.environ | {"PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_patched_unless_asked() -> None:
    run(
        "before = torch.zeros, torch.Tensor.to, torch.cuda.is_available, torch.cuda.synchronize\n"
        "from blendlaw_hooks import cpu\n"
        "assert before == (\n"
        "    torch.zeros, torch.Tensor.to, torch.cuda.is_available, torch.cuda.synchronize)\n"
    )


def test_refused_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="without a GPU"):
        cpu.install()
    assert torch.zeros is zeros


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_refused_once_megatron_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros
    monkeypatch.setitem(sys.modules, "megatron.core", os)
    with pytest.raises(ValueError, match=r"before megatron\.core is imported"):
        cpu.install()
    assert torch.zeros is zeros


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cuda_means_afterwards() -> None:
    run(
        "from blendlaw_hooks import cpu\n"
        "cpu.install()\n"
        "zeros = torch.zeros\n"
        "import megatron.core\n"
        "cpu.install()\n"
        "assert torch.zeros is zeros, 'installed once'\n"
        "where = torch.device('cpu')\n"
        "assert torch.zeros(2, device='cuda').device == where\n"
        "assert torch.ones(2).cuda().to('cuda:0', torch.bfloat16).device == where\n"
        "assert torch.ones(2).to(0).dtype == torch.float32\n"
        "assert torch.ones(2).to(torch.float16).type() == 'torch.cuda.HalfTensor'\n"
        "assert torch.ones(2).type(torch.int32).dtype == torch.int32\n"
        "torch.manual_seed(1)\n"
        "first = torch.rand(1)\n"
        "torch.manual_seed(1)\n"
        "torch.rand(3, device='cuda')\n"
        "assert torch.equal(first, torch.rand(1)), 'drawn from the CPU'\n"
        "torch.cuda.synchronize(); torch.cuda.current_stream().wait_stream(None)\n"
        "from megatron.core.datasets import helpers_cpp\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_transformer_engine_is_as_if_not_installed(tmp_path: Path) -> None:
    """On a login node it is, and Megatron would take its kernels."""
    folder = tmp_path / "transformer_engine" / "pytorch"
    folder.mkdir(parents=True)
    (folder / "optimizers.py").write_text("class FusedAdam: ...\nFusedSGD = FusedAdam\n")
    run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from blendlaw_hooks import cpu\n"
        "cpu.install()\n"
        "from megatron.core.optimizer import Adam\n"
        "assert Adam is torch.optim.AdamW, Adam\n"
    )
