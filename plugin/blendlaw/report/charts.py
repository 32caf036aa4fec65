"""Horizontal bars and dots, drawn: weights, weights by stage, a value for each language or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from blendlaw.languages import colour
from blendlaw.report.figures import Bars, Dots, StageBars, ValueBars, hue_of
from blendlaw.report.svg import INK, QUIET, WIDTH, axes_of, darker, short, svg_of, tint
from blendlaw.report.words import signed

ROOM, VALUE = 27, 58  # CSS pixels that a share and a value take
# For weights compared with: a marker that prints as well as it shows.
MARKS = ("|", "D", "s", "^", "v", "P", "X")


def bars(data: Bars, salt: str) -> str:
    """Horizontal bars with whiskers; each weight compared with is a marker on them."""
    height = 34 * len(data.languages) + 52

    def draw(figure: Figure) -> None:
        names = [short(language) for language in data.languages]
        axes = _rows(figure, names)
        rows = np.arange(len(names))
        hues = [colour(language) for language in data.languages]
        axes.barh(rows, data.weights, height=0.62, color=[tint(hue, 0.5) for hue in hues])
        for row, (span, hue) in enumerate(zip(data.interval, hues, strict=True)):
            if span is not None:
                axes.plot(span, [row, row], color=darker(hue), linewidth=1.6, solid_capstyle="butt")
                axes.plot(span, [row, row], "|", color=darker(hue), markersize=7)
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
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_xlabel("share of the training tokens")

    return svg_of(draw, WIDTH, height, data.alt, salt)


def stage_bars(data: StageBars, salt: str) -> str:
    """A bar for each stage, cut by language; the page has the colours in a legend."""
    height = 40 * len(data.stages) + 44

    def draw(figure: Figure) -> None:
        names = [short(stage) for stage in data.stages]
        axes = _rows(figure, names)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_xlabel("share of the stage's samples")
        for row, weights in enumerate(data.weights):
            left = 0.0
            if weights is None:
                axes.text(0.02, row, "not decided yet", color=QUIET, va="center")
                continue
            for language in data.languages:
                width = weights.get(language, 0.0)
                axes.barh(row, width, 0.66, left, color=hue_of(language), edgecolor="white")
                if width * axes.get_position().width * WIDTH >= ROOM:
                    middle = (left + width / 2, row)
                    text = f"{100 * width:.0f}%"
                    axes.annotate(text, middle, color="white", ha="center", va="center")
                left += width

    return svg_of(draw, WIDTH, height, data.alt, salt)


def value_bars(data: ValueBars, salt: str) -> str:
    """A bar for each language with its value at the end, or whiskers where it has an interval."""
    height = 30 * len(data.languages) + 50

    def draw(figure: Figure) -> None:
        axes = _rows(figure, [short(language) for language in data.languages])
        spans = [
            span or (value, value) for span, value in zip(data.interval, data.values, strict=True)
        ]
        low = min(0.0, *data.values, *(span[0] for span in spans))
        high = max(0.0, *data.values, *(span[1] for span in spans))
        before, behind = VALUE * (min(data.values) < 0), VALUE * (max(data.values) >= 0)
        pixels = max(axes.get_position().width * WIDTH - before - behind, 1)
        unit = ((high - low) or 1.0) / pixels
        axes.set_xlim(low - before * unit, high + behind * unit)
        axes.set_xlabel(data.label)
        axes.axvline(0, color=QUIET, linewidth=1)
        for row, (language, value, span) in enumerate(
            zip(data.languages, data.values, spans, strict=True)
        ):
            hue = colour(language)
            axes.barh(row, value, 0.62, color=tint(hue, 0.5))
            axes.plot(span, [row, row], color=darker(hue), linewidth=1.6, solid_capstyle="butt")
            if span[0] < span[1]:
                axes.plot(span, [row, row], "|", color=darker(hue), markersize=7)
            below = value < 0
            axes.annotate(
                f"{signed(value, '+.2f')}%" if data.unit == "percent" else f"{value:.2f}",
                (span[0] if below else span[1], row),
                xytext=(-6 if below else 6, 0),
                textcoords="offset points",
                ha="right" if below else "left",
                va="center",
                color=INK,
            )

    return svg_of(draw, WIDTH, height, data.alt, salt)


def dots(data: Dots, hues: Mapping[str, str], salt: str) -> str:
    """A dot with whiskers in each row, its value beside it; ``hues`` are those of the groups."""
    height = 30 * len(data.rows) + 50
    groups = list(hues)

    def draw(figure: Figure) -> None:
        axes = _rows(figure, [short(name) for _, name in data.rows])
        low = min(span[0] for span in data.interval)
        high = max(span[1] for span in data.interval)
        room = (high - low or abs(high) or 1.0) / (axes.get_position().width * WIDTH - VALUE - 12)
        axes.set_xlim(low - 12 * room, high + VALUE * room)
        axes.set_xlabel(data.label)
        for row, ((group, _), value, span) in enumerate(
            zip(data.rows, data.values, data.interval, strict=True)
        ):
            hue, first = hues[group], group == groups[0]
            axes.plot(span, [row, row], "|-", color=hue, linewidth=1.6, markersize=7)
            axes.plot(value, row, "o", color=hue, markerfacecolor=hue if first else "white")
            if row and data.rows[row - 1][0] != group:
                axes.axhline(row - 0.5, color=QUIET, linewidth=1)
            axes.annotate(
                f"{value:.3f}",
                (span[1], row),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color=INK,
            )

    return svg_of(draw, WIDTH, height, data.alt, salt)


def _rows(figure: Figure, names: Sequence[str]) -> Axes:
    """Axes for horizontal bars, one for each name, downwards."""
    left = 16 + 7 * max(map(len, names))
    axes = axes_of(figure, left=left, bottom=42, right=14, top=6)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    axes.yaxis.set_major_formatter(FixedFormatter(names))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    return axes


def legend(data: Bars) -> list[tuple[str, str]]:
    """(a character like its marker, name) of the weights compared with that are drawn."""
    return list(zip("|◇□△▽✚✖", data.others, strict=False))
