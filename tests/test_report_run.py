"""The report of a training run: what it shows is what the folder says, good predictions and bad."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import blendlaw
from blendlaw.cli.report import command
from blendlaw.errors import InputError
from blendlaw.fitted import Fit, LanguageFit
from blendlaw.layout import LaidSource, Layout
from blendlaw.observations import Observation
from blendlaw.records import LossLog, observe
from blendlaw.report import drawing, outcome, run_figures, tables
from blendlaw.report.page import render
from blendlaw.report.training import TrainingRun, read_run
from blendlaw.schedule import StageRecord, append

LENGTH = 1024
PARAMS = 5e7
WEIGHTS = {
    "warm": {"Python": 0.5, "C#": 0.3, "Rust": 0.2},
    "guided": {"Python": 0.25, "C#": 0.35, "Rust": 0.4},
    "last": {"Python": 0.6, "C#": 0.4, "Rust": 0.0},
}
BOUNDARIES = (0, 8000, 24000, 32000)
UNIQUE = {"Python": 50e6, "C#": 4e6}
BYTES = {"Python": 3.6, "C#": 4.1, "Rust": 3.3}
NAMES = ("E", "A", "alpha", "B", "beta")
LAW = {  # with N and D in billions
    "Python": (0.6, 0.05, 0.4, 0.16, 0.4),
    "C#": (0.5, 0.06, 0.35, 0.09, 0.45),
    "Rust": (0.7, 0.04, 0.4, 0.12, 0.35),
}
TRUTH = Fit(
    "chinchilla",
    {n: LanguageFit(dict(zip(NAMES, p, strict=True)), 0, 0.0, 0.0) for n, p in LAW.items()},
    tuple(LAW),
)


def layout() -> Layout:
    sources = tuple(LaidSource(f"data/{name}", name, 1.0, 40000) for name in LAW)
    return Layout(sources, tuple(WEIGHTS), BOUNDARIES)


def seen_at(samples: int) -> dict[str, float]:
    """Tokens of each language after so many samples, by the weights of the stages."""
    return {
        name: LENGTH
        * sum(
            weights[name] * max(0, min(end, samples) - start)
            for weights, start, end in zip(
                WEIGHTS.values(), BOUNDARIES, BOUNDARIES[1:], strict=False
            )
        )
        for name in LAW
    }


def measured(
    samples: int,
    split: str,
    scale: float = 1.0,
    languages: Iterable[str] = LAW,
    size: Mapping[str, float] | None = BYTES,
) -> list[Observation]:
    """What a run that follows the law measures after so many samples."""
    own = seen_at(samples)
    weights = {name: tokens / sum(own.values()) for name, tokens in own.items()}
    losses = TRUTH.predict(PARAMS, samples * LENGTH, weights, UNIQUE)
    stage = max(s for s in range(len(WEIGHTS)) if BOUNDARIES[s] < samples)
    return observe(
        {name: (losses[name] * scale, 1e5) for name in languages},
        params=PARAMS,
        tokens=samples * LENGTH,
        bytes_per_token=size,
        tokens_by_language=own,
        unique_tokens=UNIQUE,
        run="r",
        stage=list(WEIGHTS)[stage],
        step=samples,
        split=split,
    )


def a_fit(bootstrap: int = 0, split: str = "valid") -> Fit:
    """A fit of the first stage's losses and of a few runs of other sizes."""
    noise = np.random.default_rng(5)
    own = [one for samples in range(500, 8001, 500) for one in measured(samples, split)]
    others = [
        Observation(name, n, d, TRUTH.predict(n, d, {name: 1.0})[name], split=split)
        for name in LAW
        for n in (1e7, 2e7, 1e8)
        for d in (1e6, 3e6, 1e7, 2e7)
    ]
    noisy = [replace(o, loss=o.loss * float(np.exp(2e-3 * noise.normal()))) for o in own + others]
    return blendlaw.fit(noisy, "chinchilla", bootstrap=bootstrap)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return a_fit(bootstrap=30)


class Folder:
    """A run's folder, written as the trainer writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "fits").mkdir(parents=True)
        layout().keep(path / "layout.json")
        self.log = LossLog(path / "losses.jsonl")

    def decide(self, stage: str, fit: Fit | None = None, reason: str = "static") -> None:
        number = list(WEIGHTS).index(stage)
        name = None if fit is None else f"fits/{number + 1}-{stage}.json"
        if fit is not None and name is not None:
            (self.path / name).write_text(fit.to_json())
        start = BOUNDARIES[number]
        record = StageRecord(stage, start, WEIGHTS[stage], max(0, start - 200), reason, name)
        append(self.path / "schedule.jsonl", record)

    def train(self, samples: int, **how: float) -> None:
        for at in range(400, samples + 1, 400):
            self.log.append(measured(at, "train", 1.01))
            if at % 2000 == 0:
                self.log.append(measured(at, "valid", **how))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


@pytest.fixture
def whole(folder: Folder, fit: Fit) -> Folder:
    """A run that is over; its second stage was decided by a fit of validation losses."""
    folder.decide("warm")
    folder.decide("guided", replace(fit, provenance=fit.provenance | {"split": "valid"}), "law: x")
    folder.decide("last", None, "the plan's table")
    folder.train(BOUNDARIES[-1])
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and is not what these tests look at."""
    monkeypatch.setattr(drawing, "panel", lambda panel, salt: f"<svg><title>{salt}</title></svg>")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def text_of(page: str) -> str:
    page = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def outcomes_of(run: TrainingRun) -> list[outcome.Outcome]:
    found = outcome.outcomes(run)
    assert not isinstance(found, str), found
    return found


def cells(table: tables.Table) -> dict[str, dict[str, str]]:
    return {
        row.language: {
            column: cell.text for column, cell in zip(table.columns, row.cells, strict=True)
        }
        for row in table.rows
    }


# What is shown is what the folder says.


@pytest.mark.usefixtures("undrawn")
def test_the_whole_page(whole: Folder) -> None:
    result = run(whole.path, "-o", whole.path / "report.html")
    assert result.exit_code == 0, result.output
    page = (whole.path / "report.html").read_text()
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == ["Loss while training", "Stages", "How the prediction came out"]
    text = text_of(page)
    assert "The run is at 32.8M tokens; 3 of 3 stages are decided." in text
    assert "C# 35%" in text
    assert "law: x" in text
    assert "fits/2-guided.json" in text
    assert 'role="img"' in page


def test_curves_are_the_losses_of_each_split_in_one_unit(whole: Folder) -> None:
    found = read_run(whole.path)
    panels = run_figures.loss_panels(found)
    assert [panel.language for panel in panels] == list(LAW)
    assert len({panel.y.limits for panel in panels}) == 1
    for panel in panels:
        assert panel.curves[0].shade < panel.curves[1].shade
        for split, curve in zip(("train", "valid"), panel.curves, strict=True):
            mine = [
                (o.tokens, o.loss / math.log(2) / BYTES[o.language])
                for o in found.observations
                if (o.language, o.split) == (panel.language, split)
            ]
            assert list(zip(curve.x, curve.y, strict=True)) == [
                (tokens, pytest.approx(loss)) for tokens, loss in mine
            ]
        assert panel.marks == ((8000 * LENGTH, "guided"), (24000 * LENGTH, "last"))


def test_nats_where_one_language_has_no_bytes(folder: Folder) -> None:
    folder.decide("warm")
    folder.log.append(measured(400, "train", languages=["Python", "C#"]))
    folder.log.append(measured(400, "train", languages=["Rust"], size=None))
    found = read_run(folder.path)
    panels = run_figures.loss_panels(found)
    assert {panel.y.label for panel in panels} == {"loss, nats per token"}
    assert {panel.y.limits for panel in panels} == {None}
    assert panels[0].curves[0].y == (found.observations[0].loss,)


def test_long_runs_are_thinned_and_say_so(folder: Folder) -> None:
    folder.decide("warm")
    folder.log.append(one for at in range(1, 402) for one in measured(at, "train"))
    panels = run_figures.loss_panels(read_run(folder.path))
    assert panels[0].note == "300 of 401 drawn"
    assert (panels[0].curves[0].x[0], panels[0].curves[0].x[-1]) == (LENGTH, 401 * LENGTH)


def test_decisions_are_the_schedule(whole: Folder) -> None:
    found = read_run(whole.path)
    bars = run_figures.stage_bars(found)
    assert bars.languages == tuple(LAW)
    assert dict(zip(bars.stages, bars.weights, strict=True)) == WEIGHTS
    rows = cells(tables.decision_table(found))
    assert rows["guided"] == {
        "starts at sample": "8,000",
        "decided at sample": "7,800",
        "weights": "Python 25%, C# 35%, Rust 40%",
        "why": "law: x",
        "fit": "fits/2-guided.json",
    }
    assert rows["warm"]["fit"] == "–"


@settings(max_examples=30)
@given(st.data())
def test_weights_shown_are_those_of_the_schedule(data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, 6))
    names = data.draw(st.lists(st.sampled_from([*LAW, "Go", "C"]), min_size=1, unique=True))
    records = []
    for number in range(data.draw(st.integers(0, stages))):
        parts = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=5, max_size=5)))
        parts = parts[: len(names)] / parts[: len(names)].sum()
        weights = dict(zip(names, parts.tolist(), strict=True))
        records.append(StageRecord(f"s{number}", 10 * number, weights, 0, f"why {number}"))
    sources = tuple(LaidSource(name, name, 1.0, 99) for name in names)
    laid = Layout(
        sources, tuple(f"s{n}" for n in range(stages)), tuple(range(0, 10 * stages + 1, 10))
    )
    found = TrainingRun(laid, tuple(records), (), "none")
    bars = run_figures.stage_bars(found)
    assert [w for w in bars.weights if w is not None] == [r.weights for r in records]
    table = tables.decision_table(found)
    assert [row.language for row in table.rows] == list(laid.stages)
    for record, row in zip(records, table.rows, strict=False):
        shown = dict(part.rsplit(" ", 1) for part in row.cells[2].text.split(", "))
        assert list(shown) == names
        for name, share in shown.items():
            assert float(share[:-1]) == pytest.approx(100 * record.weights[name], abs=0.0051)
        assert row.cells[3].text == record.reason
    assert [row.cells[3].text for row in table.rows[len(records) :]] == ["not decided yet"] * (
        stages - len(records)
    )


def test_epochs_are_tokens_seen_by_unique_tokens(whole: Folder) -> None:
    found = read_run(whole.path)
    own = seen_at(BOUNDARIES[-1])
    assert found.epochs == pytest.approx({n: own[n] / UNIQUE[n] for n in UNIQUE})
    bars = run_figures.epoch_bars(found)
    assert bars is not None
    assert dict(zip(bars.languages, bars.values, strict=True)) == found.epochs
    rows = cells(tables.seen_table(found, in_bytes=True))
    assert rows["C#"]["epochs"] == f"{own['C#'] / UNIQUE['C#']:.2f}"
    assert rows["Rust"]["unique tokens"] == rows["Rust"]["epochs"] == "–"
    assert rows["Rust"]["last valid loss"] == "0.6459"


# Predicted beside measured.


def test_predictions_are_the_fits_and_come_out_as_the_law_says(whole: Folder, fit: Fit) -> None:
    found = read_run(whole.path)
    (one,) = outcomes_of(found)
    assert (one.split, one.of_fit) == ("valid", True)
    own = seen_at(BOUNDARIES[-1])
    weights = {name: tokens / sum(own.values()) for name, tokens in own.items()}
    told = fit.predict(PARAMS, sum(own.values()), weights, UNIQUE)
    true = TRUTH.predict(PARAMS, sum(own.values()), weights, UNIQUE)
    # A language that nothing repeats follows the formula as it is printed.
    e, a, alpha, b, beta = LAW["Rust"]
    by_hand = e + a * (PARAMS / 1e9) ** -alpha + b * (own["Rust"] / 1e9) ** -beta
    assert true["Rust"] == pytest.approx(by_hand)
    for result in one.results:
        assert result.predicted == pytest.approx(told[result.language])
        assert result.measured == pytest.approx(true[result.language], rel=1e-8)
        assert result.error == pytest.approx(
            told[result.language] / true[result.language] - 1, abs=1e-7
        )
        assert abs(result.error) < 0.01
        assert result.interval is not None
        assert result.interval[0] <= result.interval[1]
        assert result.interval[0] * 0.99 < true[result.language] < result.interval[1] * 1.01
    bars = run_figures.error_bars(one)
    assert bars is not None
    assert bars.values == pytest.approx([100 * (r.error or 0) for r in one.results])
    rows = cells(tables.outcome_table(one))
    assert rows["Rust"]["measured"] == f"{true['Rust']:.4f}"
    assert rows["Rust"]["predicted"] == f"{told['Rust']:.4f}"


@pytest.mark.usefixtures("undrawn")
def test_a_bad_prediction_is_the_headline(folder: Folder, fit: Fit) -> None:
    folder.decide("warm")
    folder.decide("guided", replace(fit, provenance=fit.provenance | {"split": "valid"}))
    folder.train(12000, scale=0.5)
    (one,) = outcomes_of(read_run(folder.path))
    assert all(error == pytest.approx(1, abs=0.03) for _, error in one.compared)
    text = text_of(run(folder.path).output)
    found = re.search(r"The validation losses .*? are off by ([\d.]+)% on average, most in", text)
    assert found is not None
    assert float(found[1]) == pytest.approx(100, abs=3)


@pytest.mark.parametrize(
    ("provenance", "splits"),
    [
        ({"split": "train"}, ["train"]),
        ({"where": "split==train and tokens>1e6"}, ["train"]),
        ({"where": "tokens>1e6"}, ["valid", "train"]),
        ({"split": "test"}, ["valid", "train"]),
        ({}, ["valid", "train"]),
    ],
)
def test_the_split_is_the_fits(
    folder: Folder, fit: Fit, provenance: dict[str, str], splits: list[str]
) -> None:
    folder.decide("warm")
    folder.decide("guided", replace(fit, provenance=fit.provenance | provenance))
    folder.train(12000)
    found = outcomes_of(read_run(folder.path))
    assert [one.split for one in found] == splits
    assert all(one.of_fit for one in found) == (len(splits) == 1)


def test_losses_of_no_split_are_compared_with_the_rest(folder: Folder, fit: Fit) -> None:
    folder.decide("warm")
    folder.decide("guided", fit)
    folder.train(12000)
    found = read_run(folder.path)
    some = tuple(replace(o, split=None) if o.split == "valid" else o for o in found.observations)
    found = replace(found, observations=some)
    assert [(one.split, one.of_fit) for one in outcomes_of(found)] == [
        (None, False),
        ("train", False),
    ]


def test_without_a_bootstrap_there_is_no_interval(folder: Folder, fit: Fit) -> None:
    bare = {n: replace(f, draws=(), interval={}) for n, f in fit.languages.items()}
    folder.decide("warm")
    folder.decide("guided", replace(fit, languages=bare))
    folder.train(12000)
    assert all(
        r.interval is None for one in outcomes_of(read_run(folder.path)) for r in one.results
    )
    assert "no intervals" in text_of(run(folder.path).output)


def test_refits_of_one_run_are_no_interval(folder: Folder) -> None:
    one_run = [seen for at in range(500, 8001, 500) for seen in measured(at, "train")]
    folder.decide("warm")
    folder.decide("guided", blendlaw.fit(one_run, "chinchilla", bootstrap=5))
    folder.train(12000)
    assert all(
        r.interval is None for one in outcomes_of(read_run(folder.path)) for r in one.results
    )


def test_languages_measured_at_different_times_say_when(folder: Folder, fit: Fit) -> None:
    folder.decide("warm")
    folder.decide("guided", fit)
    folder.log.append(measured(9000, "train", languages=["Python"]))
    folder.log.append(measured(9500, "train", languages=["C#", "Rust"]))
    (one,) = outcomes_of(read_run(folder.path))
    rows = cells(tables.outcome_table(one))
    assert (rows["Python"]["after tokens"], rows["Rust"]["after tokens"]) == ("9.22M", "9.73M")


def test_only_what_came_after_the_decision_counts(folder: Folder, fit: Fit) -> None:
    folder.decide("warm")
    folder.decide("guided", fit)
    folder.train(BOUNDARIES[1])
    found = outcome.outcomes(read_run(folder.path))
    assert found == "nothing has been measured yet in stage guided, which the fit decided"


def test_a_language_that_is_not_measured_or_not_fitted_says_so(folder: Folder, fit: Fit) -> None:
    some = {name: one for name, one in fit.languages.items() if name != "Rust"}
    folder.decide("warm")
    folder.decide("guided", replace(fit, languages=some))
    for at in range(400, 12001, 400):
        folder.log.append(measured(at, "train", languages=["Python", "Rust"]))
    found = read_run(folder.path)
    (one,) = outcomes_of(found)
    rows = {row.language: row.cells for row in tables.outcome_table(one).rows}
    assert list(rows) == list(LAW)
    assert (rows["Rust"][0].text, rows["Rust"][0].note) == ("–", "not in the fit")
    assert (rows["C#"][1].text, rows["C#"][1].note) == ("–", "not since")
    assert rows["C#"][0].text != "–"
    assert [language for language, _ in one.compared] == ["Python"]
    assert [panel.language for panel in run_figures.loss_panels(found)] == ["Python", "Rust"]


def test_an_infinite_prediction_is_shown_as_one(whole: Folder, fit: Fit) -> None:
    found = read_run(whole.path)
    never = [
        replace(seen, tokens_by_language={**(seen.tokens_by_language or {}), "Rust": 0.0})
        for seen in found.observations
    ]
    (one,) = outcomes_of(replace(found, observations=tuple(never)))
    assert one.compared[0] == ("Rust", math.inf)
    assert cells(tables.outcome_table(one))["Rust"]["error"] == "∞"
    bars = run_figures.error_bars(one)
    assert bars is not None
    assert bars.languages == ("Python", "C#")
    assert "off by ∞ on average, most in Rust: ∞" in text_of(
        render(run=replace(found, observations=tuple(never)))
    )


def test_what_cannot_be_predicted_has_its_reason(folder: Folder, fit: Fit) -> None:
    folder.decide("warm")
    folder.decide("guided", fit)
    folder.train(12000)
    found = read_run(folder.path)

    def why(run: TrainingRun) -> set[str]:
        return {result.why for one in outcomes_of(run) for result in one.results}

    bare = tuple(replace(seen, tokens_by_language=None) for seen in found.observations)
    assert why(replace(found, observations=bare)) == {
        "what the run saw of each language is not recorded"
    }
    other = tuple(
        replace(seen, tokens_by_language={"Go": 1.0, "Python": 1.0}) for seen in found.observations
    )
    assert any("no language 'Go'" in reason for reason in why(replace(found, observations=other)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "fits/2-guided.json cannot be read: No such file or directory"),
        ("{}", "fits/2-guided.json: not a fit.json"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_fit_that_is_not_there_leaves_the_rest(
    whole: Folder, content: str | None, reason: str
) -> None:
    path = whole.path / "fits" / "2-guided.json"
    path.unlink() if content is None else path.write_text(content)
    text = text_of(run(whole.path).output)
    assert f"There is no prediction to compare: {reason}" in text
    assert "Loss while training" in text


def test_a_fit_elsewhere_is_not_read(folder: Folder, fit: Fit) -> None:
    (folder.path.parent / "fit.json").write_text(fit.to_json())
    for name in ("../fit.json", str(folder.path.parent / "fit.json")):
        record = StageRecord("warm", 0, WEIGHTS["warm"], 0, "x", name)
        (folder.path / "schedule.jsonl").write_bytes(record.line())
        assert read_run(folder.path).fit == f"{name} is not in the folder of the run"


# Runs that are not over, and what a crash leaves.


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_has_hardly_begun(folder: Folder) -> None:
    text = text_of(run(folder.path).output)
    assert "Nothing has been measured yet; 0 of 3 stages are decided." in text
    assert "There is no prediction to compare: no stage was decided by a fit." in text
    folder.decide("warm")
    (folder.path / "losses.jsonl").unlink()
    text = text_of(run(folder.path).output)
    assert "Nothing has been measured yet; 1 of 3 stages is decided." in text
    assert text.count("not decided yet") == 2
    LossLog(folder.path / "losses.jsonl").append(measured(400, "train"))
    text = text_of(run(folder.path).output)
    assert "The run is at 410k tokens; 1 of 3 stages is decided, none by a fit." in text
    assert "now in warm" in text


def test_a_run_of_one_stage_and_language(tmp_path: Path) -> None:
    Layout((LaidSource("go", "Go", 1.0, 9),), ("main",), (0, 100)).keep(tmp_path / "layout.json")
    append(tmp_path / "schedule.jsonl", StageRecord("main", 0, {"Go": 1.0}, 0, "uniform"))
    seen = Observation("Go", 1e6, 1e5, 2.0, run="r", stage="main", step=1)
    LossLog(tmp_path / "losses.jsonl").append([seen])
    page = run(tmp_path).output
    assert run_figures.loss_panels(read_run(tmp_path))[0].marks == ()
    assert page.count("<svg") == 2
    assert "last loss" in page


@pytest.mark.usefixtures("undrawn")
def test_damaged_last_lines_are_left_out_and_told(whole: Folder) -> None:
    for name in ("schedule.jsonl", "losses.jsonl"):
        content = (whole.path / name).read_text()
        (whole.path / name).write_text(content[:-20])
    found = read_run(whole.path)
    assert [record.stage for record in found.records] == ["warm", "guided"]
    assert (
        len(found.observations) == len((whole.path / "losses.jsonl").read_text().splitlines()) - 1
    )
    text = text_of(run(whole.path).output)
    for name in ("schedule.jsonl:3", "losses.jsonl:288"):
        assert f"{name}: the last line is damaged and left out" in text
    (whole.path / "losses.jsonl").write_text('{"language": "Py')
    assert read_run(whole.path).observations == ()


def test_damage_elsewhere_is_refused_with_its_line(whole: Folder) -> None:
    path = whole.path / "losses.jsonl"
    good = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*good[:3], "{\n", *good[4:]]))
    with pytest.raises(InputError, match=r"losses\.jsonl:4: not JSON"):
        read_run(whole.path)
    path.write_text("".join(good))
    laid = json.loads((whole.path / "layout.json").read_text())
    for change, words in (
        ({"boundaries": [0, 8000]}, "3 stages have 4 boundaries"),
        ({"boundaries": [0, 7000, 24000, 32000]}, r"schedule\.jsonl:2: .*was the plan changed"),
        ({"version": 9}, r"layout\.json: .*version 1"),
    ):
        (whole.path / "layout.json").write_text(json.dumps(laid | change))
        with pytest.raises(InputError, match=words):
            read_run(whole.path)
    (whole.path / "layout.json").unlink()
    result = run(whole.path)
    assert isinstance(result.exception, FileNotFoundError)
    assert "layout.json" in str(result.exception)


@pytest.mark.usefixtures("undrawn")
def test_a_stage_whose_fit_failed_is_told(folder: Folder) -> None:
    folder.decide("warm")
    folder.decide("guided", None, "kept the weights of warm: too few observations")
    assert "Stage guided kept the weights of warm: too few observations" in text_of(
        run(folder.path).output
    )


# Beside what else is given.


@pytest.mark.usefixtures("undrawn")
def test_a_run_beside_other_files(whole: Folder, fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text(fit.to_json())
    heads = re.findall(r"<h2>(.*?)</h2>", run(whole.path, tmp_path / "fit.json").output)
    assert heads == [
        "Loss while training",
        "Stages",
        "How the prediction came out",
        "Predicted and measured loss",
        "Residuals",
        "The chinchilla law",
        "Where it comes from",
    ]
    # Its losses as a file of their own are observations like any others.
    alone = run(whole.path / "losses.jsonl").output
    assert re.findall(r"<h2>(.*?)</h2>", alone) == ["Loss and the share of a language"]
    both = run(whole.path, whole.path / "losses.jsonl").output
    assert both == run(whole.path).output


def test_two_runs_are_refused(whole: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "other")
    result = run(whole.path, other.path)
    assert isinstance(result.exception, InputError)
    assert "two folders are of training runs" in str(result.exception)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    bad = '<script>window.hacked=1</script>"' + "x" * 40
    Layout((LaidSource("p", bad, 1.0, 9),), (bad, "b"), (0, 50, 100)).keep(tmp_path / "layout.json")
    for number, stage in enumerate((bad, "b")):
        append(
            tmp_path / "schedule.jsonl", StageRecord(stage, 50 * number, {bad: 1.0}, 0, bad, bad)
        )
    log = LossLog(tmp_path / "losses.jsonl")
    for step, stage in enumerate((bad, "b")):
        for split in ("train", bad):
            log.append(
                [
                    Observation(
                        bad, 1e6, 1e5 * (1 + step), 2.0, stage=stage, step=step, split=split,
                        tokens_by_language={bad: 1e5}, unique_tokens={bad: 1e4},
                    )
                ]
            )  # fmt: skip
    page = run(tmp_path).output
    assert "<script" not in page
    assert html.escape(bad, quote=False)[:20] in page
    assert page == run(tmp_path).output
