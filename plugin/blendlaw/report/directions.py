"""Directions of translation in a training run: the data of their curves, and the words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from blendlaw.observations import Observation
from blendlaw.pairs.plan import of_languages, split_of_pairs
from blendlaw.report.figures import Axis, Curve, Panel, count
from blendlaw.report.run_figures import PALE, thinned
from blendlaw.report.run_words import kind_of
from blendlaw.report.training import TrainingRun

TRAINED, UNTRAINED = "trained", "untrained"
HUES = {TRAINED: "#0072b2", UNTRAINED: "#d55e00"}  # told apart by those who see few colours, too
MAX_LINES = 60  # directions drawn by themselves
TRAINING = split_of_pairs("train")


def trained_directions(run: TrainingRun) -> frozenset[str]:
    """The directions that the run has trained on so far."""
    return frozenset(seen.language for seen in run.directions if seen.split == TRAINING)


def direction_panels(run: TrainingRun) -> list[Panel]:
    """The losses of directions over training tokens, validation first: a panel for each split.

    A thin line for each direction, and strong ones for the means over all tokens of the trained
    and of the untrained.
    """
    splits = sorted({seen.split or "" for seen in run.directions})
    splits.sort(key=lambda split: split == TRAINING)
    return [_panel(run, split) for split in splits]


def _panel(run: TrainingRun, split: str) -> Panel:
    trained = trained_directions(run)
    here = [seen for seen in run.directions if seen.split == split]
    names = list(dict.fromkeys(seen.language for seen in here))
    single, means, said = [], [], []
    for group, hue in HUES.items():
        own = [seen for seen in here if (seen.language in trained) == (group == TRAINED)]
        if not own:
            continue
        dashed = group == UNTRAINED
        for name in names[:MAX_LINES]:
            points = [(seen.tokens, seen.loss) for seen in own if seen.language == name]
            if points:
                single.append(_curve(points, hue, False, dashed))
        mean = list(_means(own))
        means.append(_curve(mean, hue, True, dashed))
        number = len({seen.language for seen in own})
        (first, before), (last, after) = mean[0], mean[-1]
        change = f"{before:.3f} to {after:.3f}" if last > first else f"{after:.3f}"
        said.append(f"mean of {number} {group} {change}")
    kind = kind_of(of_languages(split))
    more = len(names) - MAX_LINES
    return Panel(
        f"{kind.capitalize()} losses",
        Axis("training tokens", "count", "log"),
        Axis("loss, nats per token", "loss", "log"),
        (*single, *means),
        (),
        f"Loss by direction, {kind}: {', '.join(said)} nats per token, to "
        f"{count(here[-1].tokens)} tokens",
        note=f"{more} more directions are in the means only" if more > 0 else "",
        marks=tuple((tokens, stage) for stage, tokens in run.starts.items()),
    )


def _means(own: Sequence[Observation]) -> Iterable[tuple[float, float]]:
    """(tokens, mean loss) over the tokens of all targets; ``own`` are by tokens."""
    for tokens, group in groupby(own, key=lambda seen: seen.tokens):
        found = list(group)
        sizes = [seen.loss_tokens or 1.0 for seen in found]
        yield tokens, float(np.average([seen.loss for seen in found], weights=sizes))


def _curve(points: list[tuple[float, float]], hue: str, strong: bool, dashed: bool) -> Curve:
    x, y = zip(*thinned(points), strict=True)
    return Curve(x, y, 1.0 if strong else PALE, hue=hue, strong=strong, dashed=dashed)


def directions_text(run: TrainingRun) -> str:
    """What the curves of directions are."""
    trained = trained_directions(run)
    others = {seen.language for seen in run.directions} - trained
    text = (
        "Mean −log P(translation | program) per token of the translation. Thin lines are "
        "directions, strong ones their means over all tokens. "
        f"Trained so far: {len(trained)} of {len(trained | others)} directions."
    )
    if trained and others:
        text += f" {NOT_BESIDE}"
    return text


NOT_BESIDE = (
    "Trained and untrained directions end in other languages: compare each mean with that of "
    "another run, not with each other."
)
