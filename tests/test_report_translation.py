"""Translations in the report: what is drawn is what was judged, and languages stay as they were."""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from blendlaw.cli.report import command
from blendlaw.errors import InputError
from blendlaw.layout import LaidSource, Layout
from blendlaw.observations import Observation
from blendlaw.pairs.translation import Direction, Score, Translation
from blendlaw.records import LossLog, observe
from blendlaw.report import directions, drawing, run_figures, tables, translations
from blendlaw.report.outcome import outcomes
from blendlaw.report.page import render
from blendlaw.report.run_words import run_facts
from blendlaw.report.training import TrainingRun, read_run
from blendlaw.schedule import StageRecord, append

LANGUAGES = ("C#", "Go", "Python", "Rust")
TRAINED = [("Go", "Python"), ("Python", "Rust"), ("C#", "Python")]
BYTES = dict.fromkeys(LANGUAGES, 3.5)
WEIGHTS = {"C#": 0.2, "Go": 0.2, "Python": 0.1, "Rust": 0.1, "pairs": 0.4}


def write_run(folder: Path, *, pairs: bool) -> TrainingRun:
    """A run of 8 log intervals and 3 validations; with ``pairs``, losses of directions too."""
    folder.mkdir()
    names = (*LANGUAGES, "pairs") if pairs else LANGUAGES
    Layout(tuple(LaidSource(n, n, 1.0, 99) for n in names), ("one", "two"), (0, 500, 1000)).keep(
        folder / "layout.json"
    )
    weights = {n: WEIGHTS[n] / sum(WEIGHTS[m] for m in names) for n in names}
    for number, stage in enumerate(("one", "two")):
        record = StageRecord(stage, 500 * number, weights, 0, "table")
        append(folder / "schedule.jsonl", record)
    noise = np.random.default_rng(7)
    log = LossLog(folder / "losses.jsonl")

    def measure(step: int, split: str, names: list[str], size: dict[str, float] | None) -> None:
        losses = {
            name: (2.0 + 3.0 / step + float(noise.uniform()), int(noise.integers(50, 500)))
            for name in names
        }
        log.append(
            observe(
                losses,
                params=1e6,
                tokens=1e5 * step,
                bytes_per_token=size,
                tokens_by_language=dict.fromkeys(LANGUAGES, 20000.0 * step),
                unique_tokens=dict.fromkeys(LANGUAGES, 1e5),
                run="r",
                stage="one" if step <= 4 else "two",
                step=step,
                split=split,
            )
        )

    trained = ["->".join(pair) for pair in TRAINED]
    every = ["->".join(pair) for pair in permutations(LANGUAGES, 2)]
    for split, steps in (("train", range(1, 9)), ("valid", (2, 4, 8))):
        for step in steps:
            measure(step, split, list(LANGUAGES), BYTES)
    for step in range(1, 9) if pairs else ():
        measure(step, "train-pairs", trained[: 2 if step < 3 else 3], None)
        if step in (2, 4, 8):
            measure(step, "valid-pairs", every, None)
    return read_run(folder)


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    return write_run(tmp_path / "run", pairs=True)


def score(loss: float) -> Score:
    return Score(loss, (loss - 0.1, loss + 0.2), 5, 700)


def judged(name: str = "paired", by: float = 0.0) -> Translation:
    """All directions but one: each language costs a little more than the one before."""
    found = [
        Direction(s, t, (s, t) in TRAINED, score(1.5 + by + 0.1 * LANGUAGES.index(t)))
        for s, t in permutations(LANGUAGES, 2)
        if (s, t) != ("Rust", "C#")
    ]
    means = score(1.65 + by), score(1.7 + by)
    return Translation(name, 100, 4e5, 8e5, "prompt", 60, 3, tuple(found), *means)


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def text_of(page: str) -> str:
    page = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "panel", lambda panel, salt: f"<svg><title>{salt}</title></svg>")


# A run with pairs.


def test_directions_are_no_languages(run: TrainingRun, tmp_path: Path) -> None:
    without = write_run(tmp_path / "without", pairs=False)
    assert len(run.directions) == 2 * 2 + 3 * 6 + 12 * 3
    assert run.observations == without.observations
    assert run.languages == without.languages == LANGUAGES
    assert run.splits == ("train", "valid")
    assert run_figures.loss_panels(run) == run_figures.loss_panels(without)
    assert run_figures.in_bytes(run)
    assert run_figures.epoch_bars(run) == run_figures.epoch_bars(without)
    assert tables.seen_table(run, True) == tables.seen_table(without, True)
    assert outcomes(run) == outcomes(without)
    assert run_facts(run, "none") == run_facts(without, "none")


@pytest.mark.usefixtures("undrawn")
def test_nor_are_they_among_other_observations(run: TrainingRun, tmp_path: Path) -> None:
    folders = tmp_path / "run", tmp_path / "without"
    write_run(folders[1], pairs=False)
    pages = [report(folder / "losses.jsonl").output for folder in folders]
    assert pages[0] == pages[1]
    assert "4 languages" in pages[0]


def test_pairs_have_their_part_of_a_stage(run: TrainingRun) -> None:
    bars = run_figures.stage_bars(run)
    assert bars.languages == (*LANGUAGES, "pairs")
    assert bars.weights[0] == pytest.approx(WEIGHTS)


def test_curves_of_directions_and_their_means_are_the_losses(run: TrainingRun) -> None:
    valid, train = directions.direction_panels(run)
    assert (valid.language, train.language) == ("Validation losses", "Training losses")
    trained = {"->".join(pair) for pair in TRAINED}
    assert directions.trained_directions(run) == trained
    for panel, split in ((valid, "valid-pairs"), (train, "train-pairs")):
        rows = [seen for seen in run.directions if seen.split == split]
        expected = defaultdict(list)
        for seen in rows:
            expected[seen.language].append((seen.tokens, seen.loss))
        drawn = [
            (curve.dashed, list(zip(curve.x, curve.y, strict=True)))
            for curve in panel.curves
            if not curve.strong
        ]
        for name, points in expected.items():
            assert (name not in trained, points) in drawn
        assert len(drawn) == len(expected)
        for curve in panel.curves:
            if not curve.strong:
                continue
            for tokens, loss in zip(curve.x, curve.y, strict=True):
                here = [
                    (seen.loss * (seen.loss_tokens or 0), seen.loss_tokens or 0)
                    for seen in rows
                    if seen.tokens == tokens and (seen.language in trained) != curve.dashed
                ]
                nats, counted = np.sum(here, axis=0)
                assert loss == pytest.approx(nats / counted)
        assert panel.marks == ((4e5, "two"),)
    assert [curve.dashed for curve in valid.curves if curve.strong] == [False, True]
    assert [curve.dashed for curve in train.curves if curve.strong] == [False]
    assert "mean of 9 untrained" in valid.alt
    assert "Trained so far: 3 of 12 directions." in directions.directions_text(run)


def test_many_directions_stay_bounded(run: TrainingRun) -> None:
    rows = tuple(
        Observation(f"L{n}->M", 1e6, 1e5 * step, 2.0, split="train-pairs", loss_tokens=9)
        for step in range(1, 3)
        for n in range(100)
    )
    (panel,) = directions.direction_panels(replace(run, directions=rows))
    assert len(panel.curves) == directions.MAX_LINES + 1
    assert panel.note == "40 more directions are in the means only"


def test_the_page_of_a_run_with_pairs(run: TrainingRun, tmp_path: Path) -> None:
    page = render(run=run)
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads[:3] == ["Loss while training", "Translation while training", "Stages"]
    assert page.count("<svg") == len(LANGUAGES) + 2 + 2
    assert "pairs 40%" in text_of(page)
    assert "->" not in html.unescape(page)  # directions are drawn, and nowhere a language
    without = render(run=write_run(tmp_path / "without", pairs=False))
    assert "Translation while training" not in without


# translation.json


def test_the_heatmap_is_the_losses_and_hatches_what_was_not_trained() -> None:
    found = judged()
    reach = translations.reach({"paired": found, "worse": judged(by=0.4)})
    assert reach == pytest.approx((1.5, 2.2))
    table = translations.heat_table(found, reach)
    assert table.columns == LANGUAGES == tuple(row.language for row in table.rows)
    cells = {
        (row.language, target): cell
        for row in table.rows
        for target, cell in zip(table.columns, row.cells, strict=True)
    }
    for language in LANGUAGES:
        assert cells[language, language] == tables.Cell("")
    assert cells["Rust", "C#"] == tables.Cell("·")
    for one in found.directions:
        cell = cells[one.source, one.target]
        assert float(cell.text) == pytest.approx(one.score.loss, abs=0.005)
        assert cell.hatched != ((one.source, one.target) in TRAINED)
        part = (one.score.loss - 1.5) / 0.7
        assert cell.tone == pytest.approx(0.15 + 0.85 * part)


def test_the_table_has_the_means_and_every_direction() -> None:
    found = judged()
    table = translations.score_table(found)
    names = [row.language for row in table.rows]
    assert names[:3] == ["all trained", "all untrained", "C#->Python"]
    assert len(names) == len(set(names)) == 2 + 11
    row = table.rows[names.index("Python->Rust")]
    assert [cell.text for cell in row.cells] == ["trained", "1.8000", "5", "700"]
    assert row.cells[1].note == "[1.7000, 2.0000]"
    assert [row.cells[0].text for row in table.rows].count("trained") == 1 + len(TRAINED)


def test_means_of_runs_are_side_by_side() -> None:
    found = translations.named([judged(), judged("shuffled", 0.4)])
    dots = translations.means(found)
    assert dots is not None
    assert dots.rows == tuple(
        (group, name) for group in ("trained", "untrained") for name in ("paired", "shuffled")
    )
    assert dots.values == pytest.approx((1.65, 2.05, 1.7, 2.1))
    assert dots.interval[3] == pytest.approx((2.0, 2.3))
    assert translations.means(translations.named([judged()])) is None
    assert translations.unlike(found) == []


def test_what_makes_a_comparison_unfair_is_said() -> None:
    one = judged()
    more = tuple(replace(direction, trained=True) for direction in one.directions)
    for other, words in (
        (replace(one, directions=more), "over other sets"),
        (replace(one, strategy="direct"), "another strategy"),
        (replace(one, tokens=9e5), "training tokens"),
    ):
        (told,) = translations.unlike(translations.named([one, other]))
        assert words in told
    assert list(translations.named([one, one])) == ["1: paired", "2: paired"]


def test_the_page_of_translations(tmp_path: Path) -> None:
    for name, by in (("paired", 0.0), ("shuffled", 0.4)):
        (tmp_path / f"{name}.json").write_text(judged(name, by).to_json())
    result = report(tmp_path / "paired.json", tmp_path / "shuffled.json")
    assert result.exit_code == 0, result.output
    page = result.output
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Translation"]
    assert page.count("<svg") == 1
    assert page.count('<div class="scroll matrix"') == 2
    assert page.count('class="helps hatched"') == 2 * (11 - len(TRAINED))
    text = text_of(page)
    assert (
        "Translations are predicted at 1.650 (paired), 2.050 (shuffled) nats per token in trained "
        "directions; 1.700 (paired), 2.100 (shuffled) nats per token in untrained directions."
    ) in text
    assert "not trained" in text
    assert "Beware" not in text
    assert report(tmp_path / "paired.json", tmp_path / "shuffled.json").output == page


def test_a_run_of_nothing_trained_and_a_run_of_nothing_judged() -> None:
    found = judged()
    untrained = tuple(replace(one, trained=False) for one in found.directions)
    page = text_of(render(judged=[replace(found, directions=untrained, trained=None)]))
    assert "Translations are predicted at 1.700 nats per token in untrained directions." in page
    assert "all trained" not in page
    nothing = replace(found, directions=(), trained=None, untrained=None)
    assert "No direction of translation was judged." in text_of(render(judged=[nothing, nothing]))


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_has_one(tmp_path: Path, run: TrainingRun) -> None:
    (tmp_path / "run" / "translation.json").write_text(judged().to_json())
    heads = re.findall(r"<h2>(.*?)</h2>", report(tmp_path / "run").output)
    assert heads[-1] == "Translation"
    assert heads[0] == "Loss while training"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gap": 1}, "unknown key"),
        ({"tasks": "60"}, "must be a whole number"),
        ({"untrained": {"loss": 1.0}}, "this key is required"),
        ({"version": 9}, "version 1"),
    ],
)
def test_a_bad_translation_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(json.loads(judged().to_json()) | change))
    result = report(path)
    assert isinstance(result.exception, InputError)
    assert str(path) in str(result.exception)
    assert words in str(result.exception)
    path.write_text(judged().to_json()[:-20])
    assert str(path) in str(report(path).exception)
