"""What is installed to train with: told by what the kernels do when they are imported.

``python -m blendlaw_hooks.environment`` writes a line of JSON for each part as soon as it is
known. It is a process of its own for ``blendlaw check --env``: a broken extension may end it, and
what was told before stands.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

ENGINE = ("transformer_engine", "transformer_engine_torch", "transformer_engine.pytorch")
APEX = ("amp_C", "fused_layer_norm_cuda", "fused_weight_gradient_mlp_cuda")
"""The kernels that Megatron calls: an apex without them can be imported, and fails later."""


def main() -> None:
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")  # extensions print what they like
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for name, probe in PARTS.items():
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"part": name} | probe()), file=told, flush=True)


def python() -> dict[str, Any]:
    return {"version": sys.version.split()[0]}


def torch() -> dict[str, Any]:
    """With the CUDA that it was built for."""
    told = _imported("torch")
    if "problem" not in told:
        told |= {"cuda": importlib.import_module("torch").version.cuda}
    return told


def gpus() -> dict[str, Any]:
    """Name and compute capability of each."""
    if "torch" not in sys.modules:
        return {"problem": "not asked: there is no torch"}
    cuda = sys.modules["torch"].cuda
    try:
        found = [
            [cuda.get_device_name(n), list(cuda.get_device_capability(n))]
            for n in range(cuda.device_count() if cuda.is_available() else 0)
        ]
    except Exception as error:  # of a driver
        return {"problem": _line(error)}
    return {"gpus": found} if found else {"problem": "none that torch can use"}


def megatron() -> dict[str, Any]:
    return _imported("megatron.core", "megatron-core")


def engine() -> dict[str, Any]:
    """Its extension for torch is a package of its own, which may be missing."""
    told = _imported("transformer_engine", "transformer-engine")
    return told if "problem" in told else told | _kernels(ENGINE[1:])


def apex() -> dict[str, Any]:
    """NVIDIA's, which PyPI does not have: the apex there is another project."""
    if find_spec("apex") is None and not any(map(find_spec, APEX)):
        return {"problem": "not installed"}
    told: dict[str, Any] = {}
    with contextlib.suppress(metadata.PackageNotFoundError):
        about = metadata.distribution("apex")
        told["version"] = about.version
        if any(each.lower().startswith("pyramid") for each in about.requires or ()):
            return told | {"problem": "PyPI's apex, another project: uninstall it"}
    return told | _kernels(APEX)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "python": python,
    "torch": torch,
    "GPUs": gpus,
    "megatron-core": megatron,
    "Transformer Engine": engine,
    "apex": apex,
}


def _imported(module: str, package: str | None = None) -> dict[str, Any]:
    """The version of a module that can be imported, or the problem."""
    try:
        if find_spec(module) is None:
            return {"problem": "not installed"}
    except ImportError:  # of the package around it
        return {"problem": "not installed"}
    try:
        found = importlib.import_module(module)
    except Exception as error:
        return {"problem": f"it cannot be imported: {_line(error)}"}
    version = getattr(found, "__version__", None)
    if version is None:
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(package or module)
    return {"version": str(version)}


def _kernels(modules: tuple[str, ...]) -> dict[str, Any]:
    """Which of them can be imported; torch, whose libraries they are linked to, comes first."""
    missing = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            missing[module] = _line(error)
    if not missing:
        return {"kernels": list(modules)}
    return {"problem": "without " + "; ".join(f"{name} ({why})" for name, why in missing.items())}


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


if __name__ == "__main__":
    main()
