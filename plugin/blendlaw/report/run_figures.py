"""The data of a training run's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import TypeVar

import numpy as np

from blendlaw.observations import Observation
from blendlaw.pairs.plan import PAIRS
from blendlaw.report.evidence import MAX_PANELS, MAX_POINTS
from blendlaw.report.figures import (
    FITTED,
    MAX_BARS,
    Axis,
    Curve,
    Panel,
    Points,
    StageBars,
    ValueBars,
    count,
)
from blendlaw.report.outcome import Outcome
from blendlaw.report.training import TrainingRun
from blendlaw.report.words import signed

PALE = 0.2  # training losses, where there are others
FEW = 40  # measurements of a curve that are drawn as dots too
T = TypeVar("T")


def in_bytes(run: TrainingRun) -> bool:
    """Whether losses can be shown in bits per byte, the only unit that languages share."""
    return all(seen.bpb is not None for seen in run.observations)


def shown(seen: Observation, in_bytes: bool) -> float:
    """The loss in the unit that is shown."""
    return seen.bpb if in_bytes and seen.bpb is not None else seen.loss


def loss_panels(run: TrainingRun) -> list[Panel]:
    """Loss over training tokens, a curve for each split. Bits per byte are on one scale."""
    by_byte = in_bytes(run)
    unit = "bits per byte" if by_byte else "nats per token"
    panels: list[Panel] = []
    for language in run.languages:
        mine = [seen for seen in run.observations if seen.language == language]
        if not mine or len(panels) == MAX_PANELS:
            continue
        curves, points, said, drawn = [], [], [], 0
        for split in run.splits:
            of = thinned([seen for seen in mine if seen.split == split])
            if not of:
                continue
            drawn += len(of)
            x = tuple(seen.tokens for seen in of)
            y = tuple(shown(seen, by_byte) for seen in of)
            tone = PALE if split == "train" and len(run.splits) > 1 else 1.0
            curves.append(Curve(x, y, tone))
            if len(of) <= FEW and (tone == 1 or len(of) == 1):
                points.append(Points(FITTED, x, y, (tone,) * len(x)))
            said.append(f"{split or 'loss'} {y[0]:.3f} to {y[-1]:.3f}")
        panels.append(
            Panel(
                language,
                Axis("training tokens", "count", "log"),
                Axis(f"loss, {unit}", "loss", "log"),
                tuple(curves),
                tuple(points),
                f"Loss of {language}: {', '.join(said)} {unit} from {count(mine[0].tokens)} to "
                f"{count(mine[-1].tokens)} tokens",
                note="" if drawn == len(mine) else f"{drawn:,} of {len(mine):,} drawn",
                marks=tuple((tokens, stage) for stage, tokens in run.starts.items()),
            )
        )
    return _on_one_scale(panels) if by_byte else panels


def stage_bars(run: TrainingRun) -> StageBars:
    """The weights of each stage, in the order of the plan's languages; translation pairs last."""
    decided = {record.stage: record.weights for record in run.records}
    parts = [
        f"{stage} " + ", ".join(f"{name} {weight:.1%}" for name, weight in weights.items())
        for stage, weights in decided.items()
    ]
    names = dict.fromkeys((*run.languages, PAIRS))
    return StageBars(
        tuple(name for name in names if any(name in w for w in decided.values())),
        run.layout.stages,
        tuple(decided.get(stage) for stage in run.layout.stages),
        "Weights by stage: " + "; ".join(parts),
    )


def epoch_bars(run: TrainingRun) -> ValueBars | None:
    """How often the unique tokens of each language were seen, where these are known."""
    epochs = run.epochs
    if not epochs:
        return None
    names = tuple(epochs)[:MAX_BARS]
    return ValueBars(
        names,
        tuple(epochs[name] for name in names),
        (None,) * len(names),
        "epochs so far",
        "count",
        "Epochs so far: " + ", ".join(f"{name} {epochs[name]:.2f}" for name in names),
    )


def error_bars(outcome: Outcome) -> ValueBars | None:
    """How far predictions are above the measured losses, in percent."""
    errors = {
        one.language: (100 * one.error, one.error_interval)
        for one in outcome.results
        if one.error is not None and isfinite(one.error)
    }
    if not errors:
        return None
    errors = dict(list(errors.items())[:MAX_BARS])
    spans = [span if span and isfinite(sum(span)) else None for _, span in errors.values()]
    return ValueBars(
        tuple(errors),
        tuple(error for error, _ in errors.values()),
        tuple(None if span is None else (100 * span[0], 100 * span[1]) for span in spans),
        "predicted above measured, %",
        "percent",
        "Predicted above measured loss: "
        + ", ".join(f"{name} {signed(error, '+.2f')}%" for name, (error, _) in errors.items()),
    )


def thinned(observations: Sequence[T]) -> list[T]:
    """At most ``MAX_POINTS`` of them, the ends among them."""
    if len(observations) <= MAX_POINTS:
        return list(observations)
    rows = np.linspace(0, len(observations) - 1, MAX_POINTS, dtype=int)
    return [observations[row] for row in rows]


def _on_one_scale(panels: list[Panel]) -> list[Panel]:
    every = [y for panel in panels for curve in panel.curves for y in curve.y]
    if not every:
        return panels
    limits = 0.93 * min(every), 1.05 * max(every)
    return [replace(panel, y=replace(panel.y, limits=limits)) for panel in panels]
