"""The figures of the study, drawn from the record alone.

python figures.py ../../docs/study
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import LANGUAGES
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from policies import POLICIES

import blendlaw
from blendlaw.languages import colour
from blendlaw.observations import read_observations

STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "study", "font.size": 9}


def curves(record: Path) -> Figure:
    """Measured losses of the grid, the law fitted to them, and the larger runs."""
    figure = Figure((9, 4.6), layout="constrained")
    grid = read_observations(record / "grid.csv")
    larger = read_observations(record / "larger.csv")
    fit = blendlaw.fit(grid, "transient")
    panels = figure.subplots(2, 4, sharex=True, sharey=True).flatten()
    for axes, name in zip(panels, LANGUAGES, strict=False):
        for runs, filled in ((grid, True), (larger, False)):
            own = [seen for seen in runs if seen.language == name]
            for params in sorted({seen.params for seen in own}):
                points = sorted((seen.tokens, seen.loss) for seen in own if seen.params == params)
                tokens = np.array([at for at, _ in points])
                told = [fit.predict(params, at, {name: 1.0})[name] for at in tokens]
                style = "-" if filled else "--"
                axes.plot(tokens, told, style, color=colour(name), linewidth=1)
                face = colour(name) if filled else "white"
                losses = [loss for _, loss in points]
                axes.plot(tokens, losses, "o", color=colour(name), mfc=face, markersize=3.5)
        axes.set_title(name, fontsize=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[-1].axis("off")
    figure.supxlabel("training tokens", fontsize=9)
    figure.supylabel("held-out loss, nats/token", fontsize=9)
    return figure


def transfer(record: Path) -> Figure:
    """The gains of the pair runs beside the paper's."""
    found = json.loads((record / "results.json").read_text())["transfer"]
    figure = Figure((9, 4), layout="constrained")
    figure.suptitle("gain of the row's language in %, by auxiliary", fontsize=9)
    for axes, (title, key) in zip(
        figure.subplots(1, 2), (("this study", "gain_percent"), ("the paper", "paper")), strict=True
    ):
        rows = [found[key].get(name, {}) for name in LANGUAGES]
        _heatmap(axes, np.array([[row.get(a, np.nan) for a in LANGUAGES] for row in rows]), title)
    return figure


def _heatmap(axes: Axes, gains: Any, title: str) -> None:
    most = np.nanmax(np.abs(gains))
    axes.imshow(gains, cmap="PuOr", vmin=-most, vmax=most)
    axes.set_xticks(range(7), LANGUAGES, rotation=45, ha="right")
    axes.set_yticks(range(7), LANGUAGES)
    axes.set_title(title, fontsize=9)
    for row, column in np.argwhere(~np.isnan(gains)):
        gain = gains[row, column]
        hue = "white" if abs(gain) > 0.6 * most else "black"
        axes.text(column, row, f"{gain:+.1f}", color=hue, ha="center", va="center", fontsize=7)


def gains(record: Path) -> Figure:
    """What each policy gains on uniform, with 90% intervals over seeds, and what was predicted."""
    found = json.loads((record / "results.json").read_text())["policies"]
    against = found["against"]["uniform"]
    figure = Figure((9, 3.4), layout="constrained")
    languages = list(against["proportional"]["languages"])
    rows = ["mean", *languages]
    others = [policy for policy in POLICIES if policy in against]
    panels = figure.subplots(1, len(others), sharex=True, sharey=True)
    for axes, policy in zip(panels, others, strict=True):
        entries = [against[policy], *against[policy]["languages"].values()]
        for row, (name, entry) in enumerate(zip(rows, entries, strict=True)):
            hue = "black" if name == "mean" else colour(name)
            axes.plot(entry["interval"], [row, row], "|-", color=hue)
            axes.plot(entry["mean"], row, "o", color=hue, markersize=4)
            axes.plot(entry["predicted"], row, "x", color=hue, markersize=4)
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.set_title(policy, fontsize=9)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(
        "held-out bits/byte lower than with uniform weights, % (×: predicted)", fontsize=9
    )
    return figure


def slopes(record: Path) -> Figure:
    """What a share is worth, measured and told, at the small and at the large size."""
    found = json.loads((record / "results.json").read_text())["shares"]["slope"]
    figure = Figure((9, 2.8), layout="constrained")
    marks = {"measured": "o", "saturating": "x", "transfer": "+"}
    panels = figure.subplots(1, len(found), sharex=True, sharey=True)
    for axes, (size, values) in zip(panels, found.items(), strict=True):
        names = list(values["measured"])
        for row, name in enumerate(names):
            for what, mark in marks.items():
                axes.plot(values[what][name], row, mark, color=colour(name), markersize=6)
        axes.set_title(f"{size} models", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_xlim(left=0)  # of all panels, and so only when everything is drawn
    figure.supxlabel(
        "bits/byte lower for e times the share (● measured, × told by saturating, + by transfer)",
        fontsize=9,
    )
    return figure


FIGURES: dict[str, tuple[Callable[[Path], Figure], Sequence[str]]] = {
    "laws": (curves, ("grid", "larger")),
    "transfer": (transfer, ("pairs",)),
    "gains": (gains, ("policies",)),
    "slopes": (slopes, ("policies", "longer", "rationed")),
}


def main() -> None:
    import matplotlib

    record = Path(sys.argv[1])
    with matplotlib.rc_context(STYLE):
        for name, (draw, files) in FIGURES.items():
            if all((record / f"{file}.csv").exists() for file in files):
                figure = draw(record)
                FigureCanvasSVG(figure)
                figure.savefig(record / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
