"""SVG for a page of HTML: the style of all figures, and the same bytes for the same figure."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

INK, QUIET, GRID = "#3c434d", "#727b87", "#dfe3e8"
FONT = 11
WIDTH, HEIGHT = 340, 260  # CSS pixels of a panel
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


def axes_of(figure: Figure, *, left: float, bottom: float, right: float, top: float) -> Axes:
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes: Axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y")
    axes.tick_params(length=3)
    return axes


def tint(hue: str, strength: float) -> str:
    """``hue`` mixed with white: 1 is the hue itself."""
    return _hex(1 - strength * (1 - part) for part in to_rgb(hue))


def darker(hue: str) -> str:
    return _hex(0.75 * part for part in to_rgb(hue))


def _hex(parts: Iterable[float]) -> str:
    red, green, blue = parts
    return str(to_hex((red, green, blue)))


def short(name: str) -> str:
    """A name that fits beside an axis, without what XML cannot hold."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= 16 else shown[:15] + "…"


def svg_of(draw: Callable[[Figure], None], width: float, height: float, alt: str, salt: str) -> str:
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
