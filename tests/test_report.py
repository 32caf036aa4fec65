"""The report: its figures against the fit, and its page as a browser and a villain see it."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pluggy
import pytest
from click.testing import CliRunner, Result

import blendlaw
from blendlaw import hookspecs, laws, plugins
from blendlaw.allocation import Allocation
from blendlaw.cli.report import command
from blendlaw.errors import InputError
from blendlaw.fitted import Candidate, Fit
from blendlaw.layout import LaidSource, Layout
from blendlaw.observations import Observation, write_observations
from blendlaw.pair_runs import PairLoss
from blendlaw.pairs.translation import Direction, Score, Translation
from blendlaw.report import drawing, evidence, figures, panels
from blendlaw.report.page import render
from blendlaw.report.training import TrainingRun
from blendlaw.synergy import Synergy, measure_synergy

HOSTILE = (
    "<script>window.hacked=1</script>",
    "[red]",
    r"$\alpha$",
    '"><img src=x onerror=window.hacked=1>' + "x" * 60,
)
HOLDOUT = "tokens>=3.2e10"


@pytest.fixture(scope="module", autouse=True)
def only_laws() -> Iterator[None]:
    """The built-in laws alone: the report needs nothing else of the plugin manager."""
    manager = pluggy.PluginManager("blendlaw")
    manager.add_hookspecs(hookspecs)
    manager.register(laws)
    plugins.laws.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "plugin_manager", lambda: manager)
        yield
    plugins.laws.cache_clear()


def surface(params: float, tokens: float, scale: float = 1.0) -> float:
    return scale * float(0.4 + 0.1 * (params / 1e9) ** -0.4 + 1.2 * (tokens / 1e9) ** -0.5)


def single(languages: tuple[str, ...]) -> list[Observation]:
    noise = np.random.default_rng(3)
    return [
        Observation(
            language, n, d, surface(n, d, 1 + 0.2 * i) * float(np.exp(0.005 * noise.normal()))
        )
        for i, language in enumerate(languages)
        for n in (1e8, 3e8, 1e9, 3e9)
        for d in (2e9, 4e9, 8e9, 16e9, 32e9)
    ]


def gains(languages: tuple[str, ...]) -> Synergy:
    return measure_synergy(
        [
            PairLoss(t, a, 0.7 * (1 if t == a else 0.97 + 0.02 * j))
            for t in languages
            for j, a in enumerate(languages)
        ]
    )


@pytest.fixture(scope="module")
def everything() -> SimpleNamespace:
    return all_of(("Python", "Rust", "C#"))


def all_of(languages: tuple[str, ...]) -> SimpleNamespace:
    """Observations of these languages, and what follows from them."""
    seen, pairs = single(languages), gains(languages)
    fit = blendlaw.fit(
        seen,
        "chinchilla",
        bootstrap=20,
        holdout=lambda o: o.tokens >= 3.2e10,
        transfer=pairs.transfer,
        substitution=pairs.substitution,
    )
    fit = replace(
        fit,
        provenance=fit.provenance | {"holdout": HOLDOUT, "files": {"a.csv": "0" * 64}},
        selection=(Candidate("chinchilla", 0.01, "least"), Candidate("transient", None, "too few")),
    )
    allocation = blendlaw.allocate(
        fit,
        params=1e9,
        tokens=5e10,
        unique_tokens=dict(zip(languages, (9e9, 6e9, 30e9, 30e9), strict=False)),
    )
    return SimpleNamespace(
        observations=seen, fit=fit, synergy=pairs, allocation=allocation, languages=languages
    )


def page_of(found: SimpleNamespace, **more: Any) -> str:
    return render(
        observations=found.observations,
        fit=found.fit,
        synergy=found.synergy,
        allocation=found.allocation,
        **more,
    )


@pytest.fixture(scope="module")
def page(everything: SimpleNamespace) -> str:
    return page_of(everything)


@pytest.fixture(scope="module")
def hostile() -> SimpleNamespace:
    found = all_of(HOSTILE)
    found.page = page_of(found, weights={HOSTILE[0] * 3: dict.fromkeys(HOSTILE, 0.25)})
    return found


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and is not what these tests look at."""
    monkeypatch.setattr(drawing, "panel", lambda panel, salt: f"<svg><title>{salt}</title></svg>")


# Figures


def test_curves_and_bands_are_the_fits(everything: SimpleNamespace) -> None:
    fit: Fit = everything.fit
    drawn = panels.token_panels(fit, evidence.evidence(fit, everything.observations, ["Rust"]))
    (panel,) = drawn
    assert len(panel.curves) == 4
    for curve, params in zip(panel.curves, (1e8, 3e8, 1e9, 3e9), strict=True):
        for tokens, loss in list(zip(curve.x, curve.y, strict=True))[::20]:
            assert loss == pytest.approx(fit.predict(params, tokens, {"Rust": 1.0})["Rust"])
    largest, fitted = panel.curves[-1], fit.languages["Rust"]
    spread = [
        e + a * 3**-alpha + b * (largest.x[-1] / 1e9) ** -beta
        for e, a, alpha, b, beta in fitted.draws
    ]
    assert largest.low[-1] == pytest.approx(np.quantile(spread, 0.05))
    assert largest.high[-1] == pytest.approx(np.quantile(spread, 0.95))
    assert [bool(curve.low) for curve in panel.curves] == [True, False, False, True]


def test_points_are_the_observations_held_out_ones_apart(everything: SimpleNamespace) -> None:
    found = evidence.evidence(everything.fit, everything.observations, ["C#"])
    (panel,) = panels.token_panels(everything.fit, found)
    drawn = {(p.kind, x, y) for p in panel.points for x, y in zip(p.x, p.y, strict=True)}
    assert drawn == {
        ("held out" if o.tokens >= 3.2e10 else "fitted", o.tokens, o.loss)
        for o in everything.observations
        if o.language == "C#"
    }
    (panel,) = panels.size_panels(everything.fit, found)
    assert [p.kind for p in panel.points] == ["held out"]
    assert panel.points[0].x == (1e8, 3e8, 1e9, 3e9)


def test_residuals_share_a_scale(everything: SimpleNamespace) -> None:
    fit: Fit = everything.fit
    found = evidence.evidence(fit, everything.observations, everything.languages)
    drawn = panels.residual_panels(fit, found)
    assert len({panel.y.limits for panel in drawn}) == 1
    expected = sorted(
        100 * math.log(o.loss / fit.predict(o.params, o.tokens, {"Python": 1.0})["Python"])
        for o in everything.observations
        if o.language == "Python"
    )
    assert sorted(y for p in drawn[0].points for y in p.y) == pytest.approx(expected)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("law", ["exponential", "proportion"])
def test_mixtures_are_predicted_against_measured(law: str) -> None:
    generator = np.random.default_rng(0)
    seen = []
    for number, share in enumerate(generator.dirichlet((1, 1), size=20).tolist()):
        weights = dict(zip(("Go", "Java"), share, strict=True))
        size = 1e9 if law == "exponential" else 1e8 * (1 + number)
        seen += [
            Observation(n, size, 1e10, 0.5 + 0.3 * math.exp(-w) + 1e7 / size, weights=weights)
            for n, w in weights.items()
        ]
    fit = blendlaw.fit(seen, law)
    found = evidence.evidence(fit, seen, ["Go"])
    (panel,) = panels.measured_panels(fit, found)
    (points,) = panel.points
    for row in (0, 7, 19):
        run = found[0].observations[row]
        predicted = fit.predict(run.params, run.tokens, run.weights)["Go"]
        assert (points.x[row], points.y[row]) == pytest.approx((run.loss, predicted))
    page = render(observations=seen, fit=fit)
    assert "Predicted and measured loss" in page
    assert "Loss against tokens" not in page
    assert "share of a language" in render(observations=seen)


def test_proportional_weights_are_told_only_where_the_fit_confirms_them(
    everything: SimpleNamespace,
) -> None:
    allocation: Allocation = everything.allocation
    found = figures.references(allocation, everything.fit)
    assert found["proportional"] == pytest.approx({"Python": 0.2, "Rust": 6 / 45, "C#": 30 / 45})
    assert "proportional" not in figures.references(allocation, None)
    wrong = replace(allocation, epochs=dict.fromkeys(allocation.epochs, 1.0))
    assert "proportional" not in figures.references(wrong, everything.fit)


def test_large_input_stays_bounded() -> None:
    generator = np.random.default_rng(1)
    seen = [
        Observation(f"L{i % 100}", float(n), float(d), 1.0, seed=i)
        for i, (n, d) in enumerate(np.exp(generator.uniform(19, 24, (10_000, 2))))
    ]
    for i in range(400):
        seen.append(Observation("L0", 1e9, 1e9 + i, 1.0))
    page = render(observations=seen)
    assert "16 of 100 languages are drawn" in page
    assert 16 <= page.count("<svg") <= 32
    assert "300 of 500 observations drawn" in page
    assert len(page) < 3e6


# The page


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps text, attributes and scripts."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def drawings(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]


def test_the_same_input_gives_the_same_bytes(everything: SimpleNamespace, page: str) -> None:
    assert page_of(everything) == page


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    reader = Reader(page)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "embed", "image"}
    for _, name, value in reader.attributes:
        if name in {"href", "xlink:href", "src", "action", "srcset"}:
            assert value.startswith("#")
        assert not name.startswith("on")
        if not name.startswith("xmlns"):
            assert "//" not in value
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page))
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(names)


def test_every_figure_is_described(page: str) -> None:
    pictures = drawings(page)
    assert len(pictures) == 1 + 3 * 3
    for picture in pictures:
        assert picture.get("role") == "img"
        assert picture.get("aria-label")
        assert len(picture.findall("{http://www.w3.org/2000/svg}title")) == 1
    assert page.count("<figure ") == page.count("<figcaption>") == len(pictures)


def test_the_headline_is_the_finding(everything: SimpleNamespace, page: str) -> None:
    text = Reader(page).text
    gain = everything.allocation.gain["uniform"]
    assert f"The chinchilla law predicts a gain of {gain.mean:.4f} nats" in text
    assert f"(90% interval {gain.interval[0]:.4f} to {gain.interval[1]:.4f})" in text
    assert gain.verdict[1:] in text
    # At an optimum without binding limits no language is worth more than another.
    assert "the next billion tokens are worth as much in every language" in text
    marginal = everything.allocation.marginal | {"Rust": -1.0}
    tilted = replace(everything.allocation, marginal=marginal)
    assert "The next billion tokens are worth most in Rust." in render(allocation=tilted)


@pytest.mark.usefixtures("undrawn")
def test_sections_are_those_of_the_input(everything: SimpleNamespace) -> None:
    def heads(**given: Any) -> list[str]:
        return [html.unescape(h) for h in re.findall(r"<h2>(.*?)</h2>", render(**given))]

    seen, fit = everything.observations, everything.fit
    law = ["The chinchilla law", "Where it comes from"]
    runs = ["Loss against tokens", "Loss against parameters"]
    assert heads(observations=seen) == runs
    assert heads(synergy=everything.synergy) == ["Between languages"]
    assert heads(allocation=everything.allocation) == ["Weights"]
    assert heads(fit=fit) == ["Between languages", *law]
    assert heads(fit=replace(fit, transfer={})) == law
    assert heads(observations=seen, fit=fit, allocation=everything.allocation) == [
        "Weights",
        *runs,
        "Residuals",
        "Between languages",
        *law,
    ]
    with pytest.raises(InputError, match="needs observations"):
        render()


def test_hostile_names_are_shown_as_they_are_and_never_run(hostile: SimpleNamespace) -> None:
    reader = Reader(hostile.page)
    assert not reader.tags & {"script", "img"}
    assert not any(name.startswith("on") for _, name, _ in reader.attributes)
    for name in HOSTILE:
        assert name in reader.text
    labels = [
        "".join(text.itertext()) for text in drawings(hostile.page)[0].iter() if "text" in text.tag
    ]
    assert r"$\alpha$" in labels
    assert "<script>window." in {label[:15] for label in labels}


def test_names_that_no_file_should_hold_do_not_break_the_page(everything: SimpleNamespace) -> None:
    bad = "a\x00\ud800-->" + "x" * 200
    weights = {bad: 1.0}
    fields = {"tokens_by_language": {bad: 5e10}, "epochs": {bad: None}, "marginal": {bad: -1.0}}
    one = replace(
        everything.allocation, weights=weights, interval=None, predicted_interval=None, **fields
    )
    page = render(allocation=one)
    page.encode()
    assert drawings(page)


# The command


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, everything: SimpleNamespace) -> Path:
    write_observations(tmp_path / "losses.jsonl", everything.observations)
    for name in ("fit", "synergy", "allocation"):
        (tmp_path / f"{name}.json").write_text(getattr(everything, name).to_json())
    (tmp_path / "blend.json").write_text("{}")
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_a_folder_and_files_under_any_name(folder: Path, everything: SimpleNamespace) -> None:
    assert run(folder, "-o", folder / "r.html").exit_code == 0
    assert (folder / "r.html").read_text() == page_of(everything)
    for name in ("fit.json", "allocation.json", "losses.jsonl"):
        (folder / name).rename(folder / f"other-{name}")
    others = [folder / f"other-{name}" for name in ("allocation.json", "losses.jsonl", "fit.json")]
    assert run(*others, folder).output == (folder / "r.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_further_weights(folder: Path, everything: SimpleNamespace) -> None:
    (folder / "w.json").write_text(json.dumps({"Python": 0.5, "Rust": 0.5}))
    text = Reader(run(folder, "--weights", f"mine={folder / 'w.json'}").output).text
    assert "mine" in text


def test_what_cannot_be_reported_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "twice.json").write_text((folder / "fit.json").read_text())
    empty = folder / "empty"
    empty.mkdir()
    for paths, words in (
        ((folder / "blend.json",), "neither observations nor"),
        ((folder, folder / "twice.json"), "two files are fit.json"),
        ((empty,), "has none of"),
        ((folder / "absent.csv",), "absent.csv"),
    ):
        result = run(*paths)
        assert result.exit_code == 1
        assert isinstance(result.exception, InputError | OSError)
        assert words in str(result.exception)
    assert run(folder, "--weights", "mine").exit_code == 2


def test_it_says_what_to_install(
    everything: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'blendlaw\[report\]'"):
        page_of(everything)


# In a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MEASURE = """<body><iframe id=page></iframe><pre id=found></pre><script>
const page = document.getElementById('page'), found = [], errors = [];
const widths = [400, 1400];
page.style.cssText = 'border:0;height:900px;width:' + widths[0] + 'px';
page.onload = () => {
  const inner = page.contentWindow, root = page.contentDocument.documentElement;
  inner.onerror = (message) => errors.push(message);
  for (const width of widths) {
    page.style.width = width + 'px';
    const clipped = [...page.contentDocument.querySelectorAll('svg text')].filter((text) => {
      const box = text.getBoundingClientRect();
      const card = text.closest('.card').getBoundingClientRect();
      return box.left < card.left || box.right > card.right || box.bottom > card.bottom;
    });
    found.push({width, inner: inner.innerWidth, scroll: root.scrollWidth, clipped: clipped.length});
  }
  const svg = page.contentDocument.querySelectorAll('svg').length;
  document.getElementById('found').textContent =
    JSON.stringify({found, svg, ran: !!inner.hacked, title: page.contentDocument.title});
};
page.srcdoc = PAGE;
</script>"""


def translating(languages: tuple[str, ...]) -> TrainingRun:
    """A run that measured only directions of translation: half of them it trains."""
    found = [
        Observation("->".join(pair)[:100], 1e6, 1e6 * step, 2.0 + i / step, split=f"{split}-pairs")
        for split, every in (("train", 2), ("valid", 1))
        for step in range(1, 5)
        for i, pair in enumerate(list(permutations(languages, 2))[::every])
    ]
    layout = Layout((LaidSource("p", "pairs", 1.0, 9),), ("one",), (0, 9))
    return TrainingRun(layout, (), (), "no fit", directions=tuple(found))


def judged(languages: tuple[str, ...]) -> list[Translation]:
    """Two checkpoints' translations, the second's run named like nothing that is a run."""
    means = [Score(loss, (loss - 0.1, loss + 0.1), 9, 900) for loss in (2.0, 2.5)]
    found = tuple(
        Direction(s, t, i % 2 == 0, means[i % 2])
        for i, (s, t) in enumerate(permutations(languages, 2))
    )
    return [
        Translation(run, 9, 1e6, 1e6, "prompt", 9, 0, found, *means)
        for run in ("paired", languages[-1])
    ]


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium to open it in")
def test_in_a_browser_it_fits_and_runs_nothing(tmp_path: Path, hostile: SimpleNamespace) -> None:
    # In a frame, since a headless window is never as narrow as a telephone.
    wrapper = tmp_path / "wrapper.html"
    page = page_of(hostile, run=translating(HOSTILE), judged=judged(HOSTILE))
    shown = json.dumps(page).replace("<", "\\u003c")
    wrapper.write_text(MEASURE.replace("PAGE", shown, 1))
    result = subprocess.run(
        [
            next(filter(None, map(shutil.which, BROWSERS))),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1500,1000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", wrapper.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in result.stderr
    dumped = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.S)
    assert dumped is not None
    found = json.loads(html.unescape(dumped[1]))
    assert found["title"] == "blendlaw report"
    assert found["svg"] == 1 + 3 * 4 + 2 + 1
    assert not found["ran"]
    for view in found["found"]:
        assert view["inner"] == view["width"]
        assert view["scroll"] <= view["inner"]
        assert not view["clipped"]
