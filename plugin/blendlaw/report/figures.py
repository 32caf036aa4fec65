"""The data of the report's figures: what is drawn, not how.

Tokens and parameters are counts, losses nats per token, residuals percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blendlaw.allocation import Allocation
from blendlaw.fitted import Fit
from blendlaw.languages import colour
from blendlaw.pairs.plan import PAIRS

MAX_BARS = 32
FITTED, HELD_OUT, NOT_USED = "fitted", "held out", "not used"

Floats = tuple[float, ...]


@dataclass(frozen=True)
class Points:
    """Measurements of one ``kind``; ``shade`` is from 0, the smallest model, to 1, the largest."""

    kind: str
    x: Floats
    y: Floats
    shade: Floats


@dataclass(frozen=True)
class Curve:
    """A line; ``low`` and ``high`` are its 90% band, empty without one.

    ``hue`` is its colour if not that of the panel's language. A ``strong`` line says what thin
    ones come to; None where no line is more than another.
    """

    x: Floats
    y: Floats
    shade: float
    label: str = ""
    low: Floats = ()
    high: Floats = ()
    hue: str = ""
    strong: bool | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """``scale`` is linear or log; ``unit`` count, loss, percent or share; ``limits`` if shared."""

    label: str
    unit: str
    scale: str = "linear"
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One language, or what else is named there, in one figure.

    ``alt`` says the main numbers in words.
    """

    language: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    points: tuple[Points, ...]
    alt: str
    diagonal: bool = False
    note: str = ""
    marks: tuple[tuple[float, str], ...] = ()
    """Where on the x axis something begins, and what."""


@dataclass(frozen=True)
class Bars:
    """Weights by language: those allocated with their 90% intervals, and those compared with."""

    languages: tuple[str, ...]
    weights: Floats
    interval: tuple[tuple[float, float] | None, ...]
    others: Mapping[str, Mapping[str, float]]
    alt: str


@dataclass(frozen=True)
class StageBars:
    """Weights by stage, a bar of all languages each; None for a stage that is not decided."""

    languages: tuple[str, ...]
    stages: tuple[str, ...]
    weights: tuple[Mapping[str, float] | None, ...]
    alt: str


@dataclass(frozen=True)
class ValueBars:
    """A value by language, with its 90% interval where there is one; ``unit`` percent or count."""

    languages: tuple[str, ...]
    values: Floats
    interval: tuple[tuple[float, float] | None, ...]
    label: str
    unit: str
    alt: str


@dataclass(frozen=True)
class Dots:
    """A value with its 90% interval in each row, by the group that it is compared in."""

    rows: tuple[tuple[str, str], ...]
    """The group and the name of each."""
    values: Floats
    interval: tuple[tuple[float, float], ...]
    label: str
    alt: str


def hue_of(name: str) -> str:
    """The colour of a language, or of translation pairs, which are none: grey."""
    return "#6b7480" if name == PAIRS else colour(name)


def weight_bars(
    allocation: Allocation, fit: Fit | None, extra: Mapping[str, Mapping[str, float]]
) -> Bars:
    """The allocated weights, largest first, beside uniform, proportional and ``extra`` ones."""
    ordered = sorted(allocation.weights, key=lambda name: -allocation.weights[name])
    ordered = ordered[:MAX_BARS]
    spans = allocation.interval or {}
    parts = []
    for name in ordered:
        span = spans.get(name)
        text = f"{name} {allocation.weights[name]:.1%}"
        parts.append(text if span is None else f"{text} ({span[0]:.1%} to {span[1]:.1%})")
    return Bars(
        languages=tuple(ordered),
        weights=tuple(allocation.weights[name] for name in ordered),
        interval=tuple(spans.get(name) for name in ordered),
        others=references(allocation, fit) | dict(extra),
        alt="Allocated weights: " + ", ".join(parts),
    )


def references(allocation: Allocation, fit: Fit | None) -> dict[str, dict[str, float]]:
    """Uniform weights, and proportional ones if known.

    An allocation says how many unique tokens there are only through its epochs, which count tokens
    of earlier stages too and mean nothing at weight 0. So proportional weights are told only where
    ``fit`` confirms that they give the losses predicted for them.
    """
    names = list(allocation.weights)
    found = {"uniform": dict.fromkeys(names, 1 / len(names))}
    unique = {
        name: allocation.tokens_by_language[name] / epochs
        for name, epochs in allocation.epochs.items()
        if epochs
    }
    expected = allocation.predicted.get("proportional")
    if fit is None or expected is None or not set(names) == set(fit.sources) == set(unique):
        return found
    total = sum(unique.values())
    weights = {name: tokens / total for name, tokens in unique.items()}
    predicted = fit.predict(allocation.params, allocation.tokens, weights, unique)
    if all(abs(predicted[n] - (loss or 0.0)) < 1e-6 for n, loss in expected.items()):
        found["proportional"] = weights
    return found


def count(number: float) -> str:
    """A count as people say it: 94.4M, 3.06B, 350B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
