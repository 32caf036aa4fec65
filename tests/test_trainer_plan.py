"""The [trainer] table of a plan, and the shapes of models by their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blendlaw.errors import InputError
from blendlaw.plan import read_plan
from blendlaw.trainer_plan import Shape, Trainer, known_vocabulary, shape

PLAN = """
[run]
params = 1e6
tokens = 1e6
[languages.Go]
sources = ["go"]
[trainer]
"""


def plan(tmp_path: Path, *lines: str) -> Any:
    (tmp_path / "plan.toml").write_text(PLAN + "\n".join(lines))
    return read_plan(tmp_path / "plan.toml")


def test_keys_are_read_and_changed(tmp_path: Path) -> None:
    read = plan(tmp_path, 'schedule = "wsd"', "decay = 0.3")
    assert read.trainer == Trainer(schedule="wsd", decay=0.3)
    changed = read.with_trainer({"decay": 0.1, "layers": 3})
    assert changed.trainer == Trainer(schedule="wsd", decay=0.1, layers=3)
    assert changed.languages == read.languages


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("layer = 2", "trainer.layer: unknown key (did you mean 'layers'?)"),
        ("layers = 0", "trainer.layers: Input should be greater than 0 (got 0)"),
        ("layers = 2.5", "trainer.layers: Input should be a valid integer (got 2.5)"),
        ("warmup = 1.5", "trainer.warmup: Input should be less than or equal to 1"),
        ('precision = "fp16"', "trainer.precision: Input should be 'fp32', 'bf16' or 'fp8'"),
        ("micro_batch = 5", "trainer.global_batch: must be a multiple of micro_batch, 5 (got 16)"),
        ("hidden = 33\ntensor_parallel = 2", "trainer.hidden: must be a multiple of tensor_par"),
    ],
)
def test_bad_keys_are_named(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        plan(tmp_path, line)
    assert told in str(error.value)
    assert "plan.toml" in str(error.value)


def test_bad_changes_are_named(tmp_path: Path) -> None:
    read = plan(tmp_path)
    for changes, told in (
        ({"learning_rat": 1.0}, r"trainer.learning_rat: unknown key \(did you mean"),
        ({"layers": "two"}, "trainer.layers: Input should be a valid integer"),
        ({"micro_batch": 5}, "trainer.global_batch: must be a multiple of micro_batch"),
    ):
        with pytest.raises(InputError, match=told):
            read.with_trainer(changes)


@pytest.mark.parametrize("params", [1e5, 1e6, 1e7, 1e8, 1e9, 7e9])
def test_a_shape_has_the_parameters_asked_for(params: float) -> None:
    made = shape(Trainer(), params, 400)
    assert made.params == pytest.approx(params, rel=0.35 if params < 1e6 else 0.1)
    assert made.vocabulary == 512
    assert made.hidden % made.heads == 0
    assert shape(Trainer(tensor_parallel=2, pipeline_parallel=2), params, 400) == made


def test_a_shape_keeps_what_is_given() -> None:
    made = shape(Trainer(layers=3, hidden=96, heads=3, vocabulary_divisor=100), 1e12, 256)
    assert made == Shape(3, 96, 3, 256, 300)
    assert made.params == 2 * 300 * 96 + 3 * (4 * 96**2 + 3 * 96 * 256 + 2 * 96) + 96
    assert str(made) == "3 layers of 96, 3 heads, ffn 256, vocabulary 300: 390,048 parameters"
    assert shape(Trainer(layers=5), 1e7, 100).layers == 5
    assert shape(Trainer(hidden=256), 1e7, 100).hidden == 256


def test_what_cannot_be_split() -> None:
    for trainer, told in (
        (Trainer(layers=3, hidden=64, pipeline_parallel=2), "the 3 layers cannot be split over it"),
        (Trainer(layers=2, hidden=48, tensor_parallel=2), "the 3 heads cannot be split over it"),
        (Trainer(layers=2, hidden=48, heads=5), "hidden, 48, must be an even multiple of it"),
        (
            Trainer(hidden=64, pipeline_parallel=64),
            "layers cannot be split over it: give trainer.l",
        ),
        (
            Trainer(layers=2, hidden=96, heads=3, tensor_parallel=3, vocabulary_divisor=3),
            "ffn, 256",
        ),
    ):
        with pytest.raises(InputError, match=told):
            shape(trainer, 1e6, 100)


def test_the_vocabulary_of_a_corpus(tmp_path: Path) -> None:
    prefixes = [f"{tmp_path}/{part}/go_train" for part in ("a", "b", "c")]
    assert known_vocabulary(prefixes) is None
    for part, size in (("a", 300), ("b", 500)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "corpus.json").write_text(f'{{"tokenizer": {{"vocabulary": {size}}}}}')
    assert known_vocabulary(prefixes) == 500
    (tmp_path / "a" / "corpus.json").write_text("[]")
    with pytest.raises(InputError, match=r"a/corpus\.json: it says no vocabulary"):
        known_vocabulary(prefixes)
