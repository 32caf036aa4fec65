"""The small multiples, drawn. Matplotlib's object API alone."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from blendlaw.languages import colour
from blendlaw.report.figures import FITTED, HELD_OUT, Axis, Curve, Panel, Points, count
from blendlaw.report.svg import FONT, HEIGHT, INK, QUIET, WIDTH, axes_of, short, svg_of, tint

TICKS = 7


def panel(data: Panel, salt: str) -> str:
    """One language's panel, ``WIDTH`` by ``HEIGHT``; ``salt`` must differ between figures."""

    def draw(figure: Figure) -> None:
        right = 44 if any(curve.label for curve in data.curves) else 14
        axes = axes_of(figure, left=50, bottom=40, right=right, top=10)
        hue = colour(data.language)
        for curve in data.curves:
            _draw_curve(axes, curve, hue)
        for points in data.points:
            _draw_points(axes, points, hue)
        _scale(axes, data.x, _along(data, "x"), "x")
        _scale(axes, data.y, _along(data, "y"), "y")
        for at, name in data.marks:
            _mark(axes, at, name)
        if data.diagonal:
            ends = [max(axes.get_xlim()[0], axes.get_ylim()[0])]
            ends += [min(axes.get_xlim()[1], axes.get_ylim()[1])]
            axes.plot(ends, ends, color=QUIET, linewidth=1, zorder=1)
        if data.y.unit == "percent":
            axes.axhline(0, color=QUIET, linewidth=1, zorder=1)

    return svg_of(draw, WIDTH, HEIGHT, data.alt, salt)


def _draw_curve(axes: Axes, curve: Curve, hue: str) -> None:
    tone = tint(curve.hue or hue, 0.42 + 0.58 * curve.shade)
    width = {None: 1.4, False: 0.8, True: 2.6}[curve.strong]
    x, y = np.array(curve.x), np.array(curve.y)
    if curve.low:
        axes.fill_between(x, curve.low, curve.high, color=tone, alpha=0.22, linewidth=0)
    axes.plot(
        x,
        y,
        color=tone,
        linewidth=width,
        linestyle=(0, (4, 1.5)) if curve.dashed else "-",
        marker="o" if len(x) == 1 and curve.strong is not None else "",
        markersize=3 + 2 * width,
        markerfacecolor="none" if curve.dashed else tone,
        zorder=2.5 if curve.strong else 2,
    )
    if curve.label and len(x) and np.isfinite(y[-1]):
        above = curve.shade < 0.5  # the two labels may be for curves that all but touch
        axes.annotate(
            curve.label,
            (x[-1], y[-1]),
            xytext=(7, -2 if above else 2),
            textcoords="offset points",
            va="bottom" if above else "top",
            color=INK,
            fontsize=FONT - 1,
        )


def _draw_points(axes: Axes, points: Points, hue: str) -> None:
    tones = [tint(hue, 0.42 + 0.58 * shade) for shade in points.shade]
    fitted, held = points.kind == FITTED, points.kind == HELD_OUT
    axes.scatter(
        points.x,
        points.y,
        s=18,
        marker="o" if fitted else "D" if held else "x",
        facecolors=tones if fitted or not held else "none",
        edgecolors="white" if fitted else tones if held else None,
        linewidths=0.5 if fitted else 1.1,
        zorder=3 if fitted else 4,
    )


def _mark(axes: Axes, at: float, name: str) -> None:
    axes.axvline(at, color=QUIET, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.annotate(
        short(name),
        (at, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -2),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        color=QUIET,
        fontsize=FONT - 2,
    )


def _along(data: Panel, axis: str) -> list[float]:
    other = "y" if axis == "x" else "x"
    values = [v for part in (*data.points, *data.curves) for v in getattr(part, axis)]
    if data.diagonal:
        values += [v for part in data.points for v in getattr(part, other)]
    if axis == "y":
        values += [v for curve in data.curves for v in (*curve.low, *curve.high)]
    return [value for value in values if np.isfinite(value)]


def _scale(axes: Axes, axis: Axis, values: list[float], which: str) -> None:
    """Limits, ticks and their labels, by the axis's unit."""
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    if axis.limits is not None:
        low, high = axis.limits
    elif axis.unit == "share":
        low, high = -0.03 * (high or 1), 1.03 * (high or 1)
    elif axis.scale == "log":
        reach = max(np.log(high / low), 0.1)
        low, high = low * np.exp(-0.06 * reach), high * np.exp(0.06 * reach)
    else:
        reach = max(high - low, 0.02 * abs(high), 1e-9)
        low, high = low - 0.06 * reach, high + 0.06 * reach
    on, set_limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    if axis.scale == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        ticks = log_ticks(low, high)
        on.set_major_locator(FixedLocator(ticks))
        on.set_minor_locator(NullLocator())
        on.set_major_formatter(
            FixedFormatter([count(t) if axis.unit == "count" else f"{t:g}" for t in ticks])
        )
    elif axis.unit == "share":
        on.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    elif axis.unit == "count":
        on.set_major_formatter(lambda value, _: count(value))
    set_limits(low, high)
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(axis.label, labelpad=5)


def log_ticks(low: float, high: float) -> list[float]:
    """At most ``TICKS`` round numbers within the limits, spread evenly in logarithm."""
    if high / low < 2.5:
        even = MaxNLocator(TICKS - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return [float(tick) for tick in even if low <= tick <= high]
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps: tuple[tuple[float, ...], ...] = (
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
        (1, 1.5, 2, 3, 4, 6),
        (1, 2, 5),
        (1,),
    )
    ticks: list[float] = []
    for step in steps:
        ticks = [s * 10.0**p for p in powers for s in step if low <= s * 10.0**p <= high]
        if len(ticks) <= TICKS:
            return ticks
    return ticks[:: -(-len(ticks) // TICKS)]
