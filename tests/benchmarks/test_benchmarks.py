"""The benchmarks run, at tiny sizes, and what they compare is the same. Times are not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def figures(name: str, *options: str) -> dict[str, Any]:
    script = Path(__file__).parent / f"{name}.py"
    command = [sys.executable, str(script), "--repeats", "1", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["machine"]["numpy"]
    found: dict[str, Any] = result["figures"]
    return found


def test_one_fit_is_as_low_as_the_published_procedure() -> None:
    found = figures(
        "chinchilla_fit",
        *("--points", "60", "--stride", "100", "--reference-fits", "1"),
        *("--resamples", "2", "--resample-stride", "100"),
    )
    for other in ("differences", "gradients", "gradients, polished"):
        assert found[f"objective less that of {other}"] < 1e-9
    assert found["resamples more than 1e-9 above it"] == 0


def test_refits_are_as_low_as_bfgs() -> None:
    found = figures("bootstrap", "--points", "60", "--draws", "40", "--subset", "20")
    assert found["refits where blendlaw's objective is more than 1e-9 above"] == 0


def test_auto_chooses_a_law() -> None:
    found = figures("auto", "--draws", "5", "--languages", "1")
    assert found["chosen"] in ("chinchilla", "transient")
    assert 0 < found["its error on larger runs than fitted"] < 0.1


@pytest.mark.parametrize("languages", ["3", "7"])
def test_allocations_are_optimal_and_no_worse_than_slsqp(languages: str) -> None:
    found = figures("allocation", "--languages", languages, "--fits", "1")
    assert found[f"{languages} languages: blendlaw, residual"] < 1e-12
    assert found[f"{languages} languages: excess of blendlaw's sum of losses"] < 1e-9


def test_mixing_predicts_mixtures_that_it_did_not_see() -> None:
    found = figures("mixing", "--runs", "128")
    assert found["mixing, mean rank correlation"] > 0.99
    assert found["mixing, mean rank correlation"] > found["exponential, mean rank correlation"]


def test_a_corpus_is_what_tokenizers_alone_encodes() -> None:
    pytest.importorskip("tokenizers", reason="pip install 'blendlaw[corpus]'")
    found = figures("corpus", "--megabytes", "0.2", "--vocab-size", "400")
    assert found["documents"] > 3


def test_packing_is_full() -> None:
    found = figures("packing", "--documents", "3000", "--large", "3000", "--capacity", "2048")
    assert float(found["2048: filled, %"]) > 99
    assert int(found["2048: bins"]) >= int(found["2048: bins, at least"])


def test_pairs_have_every_document_that_tokenizers_alone_encodes() -> None:
    for library in ("tokenizers", "rensa"):
        pytest.importorskip(library, reason="pip install 'blendlaw[pairs]'")
    found = figures("pairs", "--megabytes", "0.2", "--vocab-size", "400", "--length", "1024")
    assert found["pivot: documents"] > found["one way: documents"] > 3


def test_a_design_is_compared_with_three_others() -> None:
    found = figures("experiments", "--languages", "2", "--budgets", "2")
    told = [found[what] for what in found if what.startswith("to 10% of uniform's regret")]
    assert len(told) == 4
    assert all("times the designed" in one for one in told[1:])


def test_designed_runs_predict_the_column_that_nobody_saw() -> None:
    found = figures("experiments_oracle", "--within", "0.1")
    assert found["designed, mean error, %"] < 2.5


def test_scale_is_measured_and_computed() -> None:
    pytest.importorskip("megatron.core.datasets.helpers", reason="megatron-core is not installed")
    found = figures(
        "scale",
        *("--sources", "6", "--languages", "3", "--tokens", "1e8", "--length", "512"),
        *("--batch", "65536", "--stages", "2"),
    )
    assert found["files held open by them"] == 6 * 6
    assert found["all-reduce of a log interval, bytes (16 a language)"] == 3 * 16
    assert found["samples of a stage"] == pytest.approx(1e8 / 512 / 2, abs=1)
