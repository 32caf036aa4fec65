"""The data of the report's figures: what is drawn, not how.

Tokens and parameters are counts, losses nats per token, residuals and gains percent. Every figure
stays bounded, however many languages and observations there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blendlaw.allocation import Allocation
from blendlaw.fitted import Fit
from blendlaw.laws.base import Array
from blendlaw.observations import Observation
from blendlaw.report.predicted import band, known, losses
from blendlaw.where import parse

MAX_PANELS = 16  # languages drawn
MAX_POINTS = 300  # of one kind in a panel
MAX_CURVES = 10  # model sizes in a panel
GRID = 60  # points of a curve
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
    """A line; ``low`` and ``high`` are its 90% band, empty without one."""

    x: Floats
    y: Floats
    shade: float
    label: str = ""
    low: Floats = ()
    high: Floats = ()


@dataclass(frozen=True)
class Axis:
    """``scale`` is linear or log; ``unit`` count, loss, percent or share; ``limits`` if shared."""

    label: str
    unit: str
    scale: str = "linear"
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One language in one figure. ``alt`` says the main numbers in words."""

    language: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    points: tuple[Points, ...]
    alt: str
    diagonal: bool = False
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Weights by language: those allocated with their 90% intervals, and those compared with."""

    languages: tuple[str, ...]
    weights: Floats
    interval: tuple[tuple[float, float] | None, ...]
    others: Mapping[str, Mapping[str, float]]
    alt: str


@dataclass(frozen=True)
class Evidence:
    """One language's observations, thinned to ``MAX_POINTS`` of each kind, of ``total``."""

    language: str
    observations: tuple[Observation, ...]
    kinds: tuple[str, ...]
    total: int

    @property
    def note(self) -> str:
        shown = len(self.observations)
        return "" if shown == self.total else f"{shown:,} of {self.total:,} observations drawn"


def chosen(fit: Fit | None, observations: Sequence[Observation], first: Sequence[str]) -> list[str]:
    """The languages drawn, at most ``MAX_PANELS``: ``first`` those, then as they come."""
    languages = dict.fromkeys(() if fit is None else fit.languages)
    languages |= dict.fromkeys(seen.language for seen in observations)
    ordered = dict.fromkeys([name for name in first if name in languages]) | languages
    shown = set(list(ordered)[:MAX_PANELS])
    return [language for language in languages if language in shown]


def evidence(
    fit: Fit | None, observations: Sequence[Observation], languages: Sequence[str]
) -> list[Evidence]:
    """The observations of each of ``languages`` that has any, and how the fit used them."""
    provenance = {} if fit is None else fit.provenance
    where, holdout = (
        parse(str(provenance[key])) if provenance.get(key) else None for key in ("where", "holdout")
    )

    def kind(seen: Observation) -> str:
        if where is not None and not where(seen):
            return NOT_USED
        return HELD_OUT if holdout is not None and holdout(seen) else FITTED

    found = []
    for language in languages:
        mine = [seen for seen in observations if seen.language == language]
        mine.sort(key=lambda seen: (seen.params, seen.tokens, seen.loss))
        kinds = [kind(seen) for seen in mine]
        kept = []
        for name in (FITTED, HELD_OUT, NOT_USED):
            rows = [row for row, k in enumerate(kinds) if k == name]
            if len(rows) > MAX_POINTS:
                rows = [rows[i] for i in np.linspace(0, len(rows) - 1, MAX_POINTS, dtype=int)]
            kept += rows
        if kept:
            found.append(
                Evidence(
                    language,
                    tuple(mine[row] for row in kept),
                    tuple(kinds[row] for row in kept),
                    len(mine),
                )
            )
    return found


def plain(seen: Observation) -> bool:
    """Whether the run saw its own language alone and nothing twice: tokens say it all."""
    alone = seen.shares().get(seen.language, 0.0) > 0.999
    return alone and (seen.unique_tokens or {}).get(seen.language, np.inf) >= seen.tokens


def weight_bars(
    allocation: Allocation, fit: Fit | None, extra: Mapping[str, Mapping[str, float]]
) -> Bars:
    """The allocated weights, largest first, beside uniform, proportional and ``extra`` ones."""
    ordered = sorted(allocation.weights, key=lambda name: -allocation.weights[name])
    ordered = ordered[: 2 * MAX_PANELS]
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


def token_panels(fit: Fit | None, found: Sequence[Evidence]) -> list[Panel]:
    """Loss against tokens, a curve for each model size, of single-language runs."""
    panels = []
    for own in found:
        params = np.array([seen.params for seen in own.observations])
        tokens = np.array([seen.tokens for seen in own.observations])
        measured = np.array([seen.loss for seen in own.observations])
        sizes, shade = _sizes(params), _shades(params)
        grid = _grid(tokens)
        curves = []
        for number, size in enumerate(sizes):
            ends = number in (0, len(sizes) - 1)
            tone = float(_shades(params, np.array([size]))[0])
            label = f"{count(size)}" if ends else ""
            if fit is not None and own.language in fit.languages:
                curves.append(_curve(fit, own.language, grid, "tokens", size, tone, label, ends))
            else:
                here = np.flatnonzero(params == size)
                here = here[np.argsort(tokens[here], kind="stable")]
                curves.append(Curve(_tuple(tokens[here]), _tuple(measured[here]), tone, label))
        panels.append(
            Panel(
                own.language,
                Axis("training tokens", "count", "log"),
                Axis("loss, nats per token", "loss", "log"),
                tuple(curves),
                _points(own, tokens, measured, shade),
                f"Loss of {own.language} from {measured.max():.3f} to {measured.min():.3f} nats "
                f"per token, {count(tokens.min())} to {count(tokens.max())} tokens, "
                f"{count(params.min())} to {count(params.max())} parameters",
                note=own.note,
            )
        )
    return panels


def size_panels(fit: Fit | None, found: Sequence[Evidence]) -> list[Panel]:
    """Loss against parameters at the most tokens that each language was trained on."""
    panels = []
    for own in found:
        most = max(seen.tokens for seen in own.observations)
        at = [row for row, seen in enumerate(own.observations) if seen.tokens >= 0.99 * most]
        own = replace(
            own,
            observations=tuple(own.observations[row] for row in at),
            kinds=tuple(own.kinds[row] for row in at),
        )
        params = np.array([seen.params for seen in own.observations])
        measured = np.array([seen.loss for seen in own.observations])
        if len(np.unique(params)) < 2:
            continue
        curves = []
        if fit is not None and own.language in fit.languages:
            curves.append(_curve(fit, own.language, _grid(params), "params", most, 1.0, "", True))
        panels.append(
            Panel(
                own.language,
                Axis(f"parameters, at {count(most)} tokens", "count", "log"),
                Axis("loss, nats per token", "loss", "log"),
                tuple(curves),
                _points(own, params, measured, _shades(params)),
                f"Loss of {own.language} at {count(most)} tokens: {measured[0]:.3f} with "
                f"{count(params[0])} parameters, {measured[-1]:.3f} with {count(params[-1])}",
            )
        )
    return panels


def measured_panels(fit: Fit, found: Sequence[Evidence]) -> list[Panel]:
    """Predicted against measured loss, where the runs were mixtures."""
    panels = []
    for own in found:
        measured, predicted = _compared(fit, own)
        error = 100 * np.abs(predicted / measured - 1)
        panels.append(
            Panel(
                own.language,
                Axis("measured loss", "loss"),
                Axis("predicted loss", "loss"),
                (),
                _points(own, measured, predicted, _shades(_params(own))),
                f"{own.language}: predicted against measured loss of {len(measured)} runs, "
                f"mean error {np.nanmean(error):.2f}%",
                diagonal=True,
                note=own.note,
            )
        )
    return panels


def residual_panels(fit: Fit, found: Sequence[Evidence]) -> list[Panel]:
    """log measured − log predicted, in percent, on one scale for all languages."""
    panels = []
    for own in found:
        measured, predicted = _compared(fit, own)
        residual = 100 * (np.log(measured) - np.log(predicted))
        if all(map(plain, own.observations)):
            x = np.array([seen.tokens for seen in own.observations])
            axis = Axis("training tokens", "count", "log")
        else:
            x = np.array([seen.shares().get(own.language, 0.0) for seen in own.observations])
            axis = Axis("share of the language itself", "share")
        rms = float(np.sqrt(np.nanmean(residual**2)))
        panels.append(
            Panel(
                own.language,
                axis,
                Axis("measured above law, %", "percent"),
                (),
                _points(own, x, residual, _shades(_params(own))),
                f"Residuals of {own.language}: {np.nanmin(residual):+.2f}% to "
                f"{np.nanmax(residual):+.2f}%, root mean square {rms:.2f}%",
                note=own.note,
            )
        )
    reach = max((abs(y) for panel in panels for p in panel.points for y in p.y), default=1.0)
    limits = (-1.1 * reach, 1.1 * reach) if reach > 0 else (-1.0, 1.0)
    return [replace(panel, y=replace(panel.y, limits=limits)) for panel in panels]


def share_panels(found: Sequence[Evidence]) -> list[Panel]:
    """Loss against the language's own share of the tokens: mixtures that nothing was fitted to."""
    panels = []
    for own in found:
        share = np.array([seen.shares().get(own.language, 0.0) for seen in own.observations])
        measured = np.array([seen.loss for seen in own.observations])
        panels.append(
            Panel(
                own.language,
                Axis("share of the language itself", "share"),
                Axis("loss, nats per token", "loss"),
                (),
                _points(own, share, measured, _shades(_params(own))),
                f"Loss of {own.language} in {len(share)} runs: {measured.min():.3f} to "
                f"{measured.max():.3f} nats per token",
                note=own.note,
            )
        )
    return panels


def count(number: float) -> str:
    """A count as people say it: 94.4M, 3.06B, 350B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def known_evidence(fit: Fit, found: Sequence[Evidence]) -> list[Evidence]:
    """Without the observations of which the fit says nothing."""
    kept = []
    for own in found:
        rows = [row for row, seen in enumerate(own.observations) if known(fit, seen)]
        if rows:
            observations = tuple(own.observations[row] for row in rows)
            kept.append(
                replace(own, observations=observations, kinds=tuple(own.kinds[r] for r in rows))
            )
    return kept


def _curve(
    fit: Fit,
    language: str,
    grid: Array,
    along: str,
    other: float,
    shade: float,
    label: str,
    with_band: bool,
) -> Curve:
    pairs = [(other, x) if along == "tokens" else (x, other) for x in grid.tolist()]
    runs = [Observation(language, params, tokens, loss=1.0) for params, tokens in pairs]
    span = band(fit, language, runs) if with_band else None
    low, high = ((), ()) if span is None else (_tuple(span[0]), _tuple(span[1]))
    return Curve(_tuple(grid), _tuple(losses(fit, language, runs)), shade, label, low, high)


def _points(own: Evidence, x: Array, y: Array, shade: Array) -> tuple[Points, ...]:
    kinds = np.array(own.kinds)
    good = np.isfinite(x) & np.isfinite(y)
    return tuple(
        Points(kind, _tuple(x[rows]), _tuple(y[rows]), _tuple(shade[rows]))
        for kind in (FITTED, HELD_OUT, NOT_USED)
        if (rows := good & (kinds == kind)).any()
    )


def _compared(fit: Fit, own: Evidence) -> tuple[Array, Array]:
    measured = np.array([seen.loss for seen in own.observations])
    predicted = losses(fit, own.language, own.observations)
    return measured, np.where(np.isfinite(predicted) & (predicted > 0), predicted, np.nan)


def _params(own: Evidence) -> Array:
    return np.array([seen.params for seen in own.observations])


def _sizes(params: Array) -> list[float]:
    """The model sizes that get a curve, at most ``MAX_CURVES``, the ends among them."""
    sizes = np.unique(params)
    if len(sizes) > MAX_CURVES:
        sizes = sizes[np.linspace(0, len(sizes) - 1, MAX_CURVES, dtype=int)]
    return [float(size) for size in sizes]


def _shades(params: Array, at: Array | None = None) -> Array:
    """From 0 to 1 by the logarithm of the parameters; 1 where all are alike."""
    low, high = np.log(params.min()), np.log(params.max())
    here = np.log(params if at is None else at)
    return np.ones_like(here) if high == low else (here - low) / (high - low)


def _grid(values: Array) -> Array:
    low, high = np.log(values.min()), np.log(values.max())
    return np.exp(np.linspace(low, high, GRID if high > low else 1))


def _tuple(values: Array | NDArray[np.float64]) -> Floats:
    return tuple(values.tolist())
