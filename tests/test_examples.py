"""Every example runs as its page says, on code made up where it would fetch some.

One that trains needs the stack, and one inside Megatron-LM a checkout of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CHECKOUT = os.environ.get("BLENDLAW_MEGATRON_LM")
OUTPUT = {
    "01_offline_weights": ("blend.json", "report.html"),
    "02_inside_megatron_lm": ("run/schedule.jsonl", "run/losses.jsonl", "report.html"),
    "03_translation_pairs": ("pairs_train.bin", "translation.json", "report.html"),
    "04_cluster": ("rehearsal_1_5b/report.html", "rehearsal_7b/run/schedule.jsonl"),
    "06_study": (
        "policies.csv",
        "results.json",
        "laws.svg",
        "transfer.svg",
        "gains.svg",
        "slopes.svg",
    ),
}


@pytest.mark.parametrize("folder", sorted(p.name for p in EXAMPLES.iterdir() if p.is_dir()))
def test_example_runs(folder: str, tmp_path: Path) -> None:
    given = [tmp_path / "out"]
    if folder in ("02_inside_megatron_lm", "04_cluster"):
        if CHECKOUT is None:
            pytest.skip("BLENDLAW_MEGATRON_LM names no Megatron-LM checkout")
        given = [Path(CHECKOUT), *given]
    if folder in ("03_translation_pairs", "06_study") and find_spec("megatron") is None:
        pytest.skip("megatron-core is not installed: make stack")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [EXAMPLES / folder / "run.sh", *given],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in OUTPUT[folder]:
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_the_study_follows_from_its_record(tmp_path: Path) -> None:
    study = EXAMPLES.parent / "docs" / "study"
    fits = (study / f"{name}.json" for name in ("fit", "rationed", "transfer"))
    for file in (*study.glob("*.csv"), *fits):
        shutil.copy(file, tmp_path)
    for script in ("results.py", "figures.py"):
        command = [sys.executable, EXAMPLES / "06_study" / script, tmp_path]
        subprocess.run(command, check=True, capture_output=True)
    drawn, told = tmp_path / "results.json", study / "results.json"
    assert dict(numbers(json.loads(drawn.read_text()))) == pytest.approx(
        dict(numbers(json.loads(told.read_text()))), rel=1e-3, abs=1e-3
    )
    for figure in study.glob("*.svg"):
        assert (tmp_path / figure.name).stat().st_size > 0


def numbers(told: Any, at: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON and where it stands."""
    if isinstance(told, dict | list):
        inner = told.items() if isinstance(told, dict) else enumerate(told)
        for key, each in inner:
            yield from numbers(each, f"{at}/{key}")
    elif told is not None:
        yield at, told
