"""The recipe of examples/04_cluster by Megatron-Bridge's own classes, beside the Slurm scripts.

An installed Bridge, or a checkout: ``PYTHONPATH=Bridge/src:Megatron-LM``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import lm
import pytest

from blendlaw.launches.flags import read_launch

pytest.importorskip("torch", reason="needs torch")
if importlib.util.find_spec("megatron") is None or not importlib.util.find_spec("megatron.bridge"):
    pytest.skip("needs Megatron-Bridge", allow_module_level=True)

EXAMPLE = lm.ROOT / "examples" / "04_cluster"


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1_5b", "7b"])
def test_the_recipe_is_the_script(size: str) -> None:
    launch = read_launch((EXAMPLE / f"{size}.slurm").read_text())
    worker = str(Path(__file__).with_name("cluster_recipe_worker.py"))
    paths = (lm.ENVIRONMENT["PYTHONPATH"], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, worker, size, str(launch.ranks)],
        env=lm.ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    if "cannot import name 'ValidationConfig'" in done.stderr:
        pytest.skip("the recipe is for a later Bridge")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["data parallel"] == launch.data_parallel
    for flag, on in told["on"].items():
        assert on is launch.has(flag), flag
    for flag, value in told["values"].items():
        default = "1" if flag.endswith("parallel-size") else None
        given = launch.text(flag, default)
        assert value == pytest.approx(float(given)) if given[0].isdigit() else value == given, flag
