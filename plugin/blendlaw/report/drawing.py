"""Figures as inline SVG. Matplotlib's object API alone, and the same bytes for the same data."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from blendlaw.languages import colour
from blendlaw.report.figures import FITTED, HELD_OUT, Axis, Bars, Curve, Panel, Points, count

INK, QUIET, GRID = "#3c434d", "#727b87", "#dfe3e8"
WIDTH, HEIGHT = 340, 260  # CSS pixels of a panel
TICKS = 7
FONT = 11
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a language may be named "$x$"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}
# For weights compared with: a marker that prints as well as it shows.
MARKS = ("|", "D", "s", "^", "v", "P", "X")


def panel(data: Panel, salt: str) -> str:
    """One language's panel, ``WIDTH`` by ``HEIGHT``; ``salt`` must differ between figures."""

    def draw(figure: Figure) -> None:
        right = 44 if any(curve.label for curve in data.curves) else 14
        axes = _axes(figure, left=50, bottom=40, right=right, top=10)
        hue = colour(data.language)
        for curve in data.curves:
            _draw_curve(axes, curve, hue)
        for points in data.points:
            _draw_points(axes, points, hue)
        _scale(axes, data.x, _along(data, "x"), "x")
        _scale(axes, data.y, _along(data, "y"), "y")
        if data.diagonal:
            ends = [max(axes.get_xlim()[0], axes.get_ylim()[0])]
            ends += [min(axes.get_xlim()[1], axes.get_ylim()[1])]
            axes.plot(ends, ends, color=QUIET, linewidth=1, zorder=1)
        if data.y.unit == "percent":
            axes.axhline(0, color=QUIET, linewidth=1, zorder=1)

    return _svg(draw, WIDTH, HEIGHT, data.alt, salt)


def bars(data: Bars, salt: str) -> str:
    """Horizontal bars with whiskers; each weight compared with is a marker on them."""
    height = 34 * len(data.languages) + 52

    def draw(figure: Figure) -> None:
        names = [_short(language) for language in data.languages]
        left = 16 + 7 * max(map(len, names))
        axes = _axes(figure, left=left, bottom=42, right=14, top=6)
        rows = np.arange(len(names))
        hues = [colour(language) for language in data.languages]
        axes.barh(rows, data.weights, height=0.62, color=[_tint(hue, 0.5) for hue in hues])
        for row, (span, hue) in enumerate(zip(data.interval, hues, strict=True)):
            if span is not None:
                axes.plot(span, [row, row], color=_shade(hue), linewidth=1.6, solid_capstyle="butt")
                axes.plot(span, [row, row], "|", color=_shade(hue), markersize=7)
        for mark, weights in zip(MARKS, data.others.values(), strict=False):
            x = [weights.get(language, np.nan) for language in data.languages]
            long = mark == "|"
            axes.plot(
                x,
                rows,
                mark,
                color=INK,
                markersize=19 if long else 6,
                markeredgewidth=1.4,
                markerfacecolor="white",
                zorder=3,
            )
        every = [*data.weights, *(end for span in data.interval if span for end in span)]
        every += [w for weights in data.others.values() for w in weights.values()]
        axes.set_xlim(0, 1.06 * max(every, default=1.0))
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.yaxis.set_major_locator(FixedLocator(rows.tolist()))
        axes.yaxis.set_major_formatter(FixedFormatter(names))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_xlabel("share of the training tokens")

    return _svg(draw, WIDTH, height, data.alt, salt)


def legend(data: Bars) -> list[tuple[str, str]]:
    """(a character like its marker, name) of the weights compared with that are drawn."""
    return list(zip("|◇□△▽✚✖", data.others, strict=False))


def _axes(figure: Figure, *, left: float, bottom: float, right: float, top: float) -> Axes:
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes: Axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y")
    axes.tick_params(length=3)
    return axes


def _draw_curve(axes: Axes, curve: Curve, hue: str) -> None:
    tone = _tint(hue, 0.42 + 0.58 * curve.shade)
    x, y = np.array(curve.x), np.array(curve.y)
    if curve.low:
        axes.fill_between(x, curve.low, curve.high, color=tone, alpha=0.22, linewidth=0)
    axes.plot(x, y, color=tone, linewidth=1.4, zorder=2)
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
    tones = [_tint(hue, 0.42 + 0.58 * shade) for shade in points.shade]
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


def _tint(hue: str, strength: float) -> str:
    """``hue`` mixed with white: 1 is the hue itself."""
    return _hex(1 - strength * (1 - part) for part in to_rgb(hue))


def _shade(hue: str) -> str:
    return _hex(0.75 * part for part in to_rgb(hue))


def _hex(parts: Iterable[float]) -> str:
    red, green, blue = parts
    return str(to_hex((red, green, blue)))


def _short(name: str) -> str:
    """A name that fits beside an axis, without what XML cannot hold."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= 16 else shown[:15] + "…"


def _svg(draw: Callable[[Figure], None], width: float, height: float, alt: str, salt: str) -> str:
    out = io.StringIO()
    style: Any = {**STYLE, "svg.hashsalt": salt}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts have it
        figure = Figure(figsize=(width / 72, height / 72))
        FigureCanvasSVG(figure)
        draw(figure)
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=none)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.S)  # would style the page
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the same in every figure; nothing refers to them
    body = re.sub(r'<text style="[^"]*"', _plain_font, body)
    body = re.sub(r"\n\s*", "\n", body)
    alt = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in alt)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:g}" '
        f'stroke-linejoin="round"><title>{escape(alt)}</title>{body}'
    )


def _plain_font(found: re.Match[str]) -> str:
    """Matplotlib's font size and the page's own font."""
    style = re.sub(r"font: (?:\S+ )*?([\d.]+px) [^;\"]*", r"font-size: \1", found[0])
    return re.sub(r"font-family: [^;\"]*;? ?", "", style)
