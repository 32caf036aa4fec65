"""The small multiples: one panel for each language, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blendlaw.fitted import Fit
from blendlaw.laws.effective import Array
from blendlaw.observations import Observation
from blendlaw.report.evidence import Evidence, plain
from blendlaw.report.figures import (
    FITTED,
    HELD_OUT,
    NOT_USED,
    Axis,
    Curve,
    Floats,
    Panel,
    Points,
    count,
)
from blendlaw.report.predicted import band, losses

MAX_CURVES = 10  # model sizes in a panel
GRID = 60  # points of a curve


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
        if np.isnan(predicted).all():
            continue
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
        if np.isnan(predicted).all():
            continue
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


def _tuple(values: Array) -> Floats:
    return tuple(values.tolist())
