"""What ``blendlaw demo`` prints of the tour on the paper's data."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING

from blendlaw.cli.common import table

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation
    from blendlaw.demo.tour import Tour
    from blendlaw.fitted import Fit


def as_data(tour: Tour) -> str:
    """What the summary says, as JSON: the full results are in the folder."""
    return json.dumps(
        {
            "held_out_error": {law: _error(judged) for law, judged in tour.judged.items()},
            "law": tour.fitted.law,
            "gain_percent": tour.transfer.gain_percent,
            "own_tokens_only": asdict(tour.alone),
            "with_transfer": asdict(tour.allocation),
        },
        indent=1,
    )


def _error(judged: Fit) -> float:
    """The mean error on the held-out runs, over languages."""
    return fmean(f.holdout.mean_abs_rel_error for f in judged.languages.values() if f.holdout)


def summary(tour: Tour, output: str) -> str:
    """What was found, on one screen."""
    from blendlaw.demo.tour import can_report

    errors = [f"{law} {100 * _error(judged):.2f}%" for law, judged in tour.judged.items()]
    fitted = tour.fitted
    rows = [
        [
            language,
            *(
                f"{one.params[n]:.3f} [{one.interval[n][0]:.2f}, {one.interval[n][1]:.2f}]"
                if one.interval
                else f"{one.params[n]:.3f}"
                for n in one.params
            ),
        ]
        for language, one in fitted.languages.items()
    ]
    parameters = list(next(iter(fitted.languages.values())).params)
    helpers = [
        [
            target,
            max(row, key=row.__getitem__),
            f"{max(row.values()):+.2f}%",
            min(row, key=row.__getitem__),
            f"{min(row.values()):+.2f}%",
        ]
        for target, row in tour.transfer.gain_percent.items()
    ]
    report = "report.html, " if can_report() else "no report (pip install 'blendlaw[report]'), "
    size, tokens = tour.plan.run.params, tour.plan.run.tokens
    return "\n".join(
        [
            f"{len(tour.observations)} runs of {len(fitted.languages)} languages; the runs of 64B "
            f"tokens predicted from the shorter ones: {', '.join(errors)}",
            "",
            table(["language", *parameters], rows, title=f"law {fitted.law}, with 90% intervals"),
            table(
                ["language", "most helped by", "", "least by", ""],
                helpers,
                title="transfer, from pairs of 64B + 64B tokens",
            ),
            weights(tour, f"weights for {size / 1e9:g}B parameters and {tokens / 1e9:g}B tokens"),
            losses("own tokens only", tour.alone),
            losses("with transfer", tour.allocation),
            *(f"! {warning}" for warning in tour.allocation.warnings),
            "",
            f"wrote {output}/: blend.json (for --per-split-data-args-path), {report}fit.json, "
            "synergy.json, allocation.json, plan.toml",
        ]
    )


def weights(tour: Tour, title: str) -> str:
    """Our two allocations beside uniform and the paper's."""
    from blendlaw.demo.tour import paper_weights

    paper, count = paper_weights(), len(tour.allocation.weights)
    rows = [
        [
            language,
            f"{100 / count:.1f}%",
            f"{100 * paper[language]:.1f}%",
            _span(tour.alone, language),
            _span(tour.allocation, language),
        ]
        for language in tour.allocation.weights
    ]
    return table(["language", "uniform", "paper", "own tokens only", "with transfer"], rows, title)


def losses(name: str, allocation: Allocation) -> str:
    """The mean predicted loss of each blend, and what ours gains on it."""
    from blendlaw.demo.tour import mean_loss

    lines = [f"mean loss predicted, {name}: {mean_loss(allocation.predicted['allocated']):.4f}"]
    for other, gain in allocation.gain.items():
        if gain is None:
            continue
        span = (
            "" if gain.interval is None else f" [{gain.interval[0]:+.5f}, {gain.interval[1]:+.5f}]"
        )
        lines.append(
            f"  {other}: {mean_loss(allocation.predicted[other]):.4f}, "
            f"gain {gain.mean:+.5f}{span}: {gain.verdict}"
        )
    return "\n".join(lines)


def _span(allocation: Allocation, language: str) -> str:
    weight = f"{100 * allocation.weights[language]:.1f}%"
    if allocation.interval is None:
        return weight
    low, high = allocation.interval[language]
    return f"{weight} [{100 * low:.1f}, {100 * high:.1f}]"
