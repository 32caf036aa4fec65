"""Every example runs as its page says; one that needs a checkout of Megatron-LM, where one is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CHECKOUT = os.environ.get("BLENDLAW_MEGATRON_LM")
OUTPUT = {
    "01_offline_weights": ("blend.json", "report.html"),
    "02_inside_megatron_lm": ("run/schedule.jsonl", "run/losses.jsonl", "report.html"),
}


@pytest.mark.parametrize("folder", sorted(p.name for p in EXAMPLES.iterdir() if p.is_dir()))
def test_example_runs(folder: str, tmp_path: Path) -> None:
    given = [tmp_path / "out"]
    if folder == "02_inside_megatron_lm":
        if CHECKOUT is None:
            pytest.skip("BLENDLAW_MEGATRON_LM names no Megatron-LM checkout")
        given = [Path(CHECKOUT), *given]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [EXAMPLES / folder / "run.sh", *given],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in OUTPUT[folder]:
        assert (tmp_path / "out" / name).stat().st_size > 0
