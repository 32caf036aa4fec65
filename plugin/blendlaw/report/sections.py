"""The sections of the report: figures drawn, with their tables and their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blendlaw.report import (
    directions,
    evidence,
    figures,
    panels,
    run_figures,
    run_words,
    tables,
    translations,
)
from blendlaw.report.outcome import Outcome

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation
    from blendlaw.fitted import Fit
    from blendlaw.observations import Observation
    from blendlaw.pairs.translation import Translation
    from blendlaw.report.training import TrainingRun
    from blendlaw.synergy import Synergy

SCATTERED = "Each point is a measured loss: darker, the larger the model."


@dataclass(frozen=True)
class Figure:
    """A drawn panel: its heading, the SVG, and what stands below."""

    language: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Group:
    """A section of small multiples."""

    title: str
    text: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Chart:
    """Something drawn, its heading and what it says.

    ``legend`` names the languages, if needed, and ``key`` what else has a colour.
    """

    title: str
    svg: str
    caption: str
    legend: tuple[str, ...] = ()
    key: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Predicted beside measured, for one split."""

    title: str
    chart: Chart | None
    table: tables.Table


@dataclass(frozen=True)
class Directions:
    """Curves of the directions of translation."""

    text: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class RunPart:
    """What the page shows of a training run."""

    notes: tuple[str, ...]
    losses: Group
    directions: Directions | None
    weights: tuple[Chart, ...]
    decisions: tables.Table
    seen: tables.Table
    outcome: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Judged:
    """One checkpoint's translations."""

    name: str
    text: str
    heat: tables.Table
    scores: tables.Table


@dataclass(frozen=True)
class TranslationPart:
    """Checkpoints side by side; colours of the heatmaps go from ``low`` to ``high``."""

    text: str
    notes: tuple[str, ...]
    means: Chart | None
    low: str
    high: str
    hatched: bool
    judged: tuple[Judged, ...]


def run_part(run: TrainingRun, found: Sequence[Outcome] | str) -> RunPart:
    """The sections of a training run, drawn."""
    from blendlaw.report import charts

    by_byte = run_figures.in_bytes(run)
    text = run_words.losses_text(run, by_byte)
    several = run_figures.loss_panels(run)
    total = len({seen.language for seen in run.observations})
    if len(several) < total:
        text += f" {len(several)} of {total} languages are drawn."
    stages = run_figures.stage_bars(run)
    weights = []
    if run.records:
        svg = charts.stage_bars(stages, "stages")
        caption = "The numbers are in the table of decisions."
        weights.append(Chart("Weights", svg, caption, stages.languages))
    epochs = run_figures.epoch_bars(run)
    if epochs is not None:
        caption = "Tokens seen ÷ unique tokens, where these are known."
        weights.append(Chart("Epochs", charts.value_bars(epochs, "epochs"), caption))
    comparisons = []
    for one in () if isinstance(found, str) else found:
        errors = run_figures.error_bars(one)
        title = run_words.outcome_title(one)
        drawn = None
        if errors is not None:
            caption = (
                "Whiskers: the 90% interval of the prediction." if any(errors.interval) else ""
            )
            drawn = Chart(title, charts.value_bars(errors, f"errors {title}"), caption)
        comparisons.append(Comparison(title, drawn, tables.outcome_table(one)))
    return RunPart(
        tuple(run_words.run_notes(run)),
        Group("Loss while training", text, _drawn("Loss while training", several)),
        directions_part(run) if run.directions else None,
        tuple(weights),
        tables.decision_table(run),
        tables.seen_table(run, by_byte),
        run_words.outcome_text(run, found),
        tuple(comparisons),
    )


def directions_part(run: TrainingRun) -> Directions:
    """How the losses of directions of translation went, drawn."""
    from blendlaw.report import drawing

    charts = []
    for panel in directions.direction_panels(run):
        there = {curve.hue for curve in panel.curves}
        key = tuple((group, hue) for group, hue in directions.HUES.items() if hue in there)
        svg = drawing.panel(panel, f"directions {panel.language}")
        charts.append(Chart(panel.language, svg, _caption(panel), key=key))
    return Directions(directions.directions_text(run), tuple(charts))


def translation_part(judged: Mapping[str, Translation]) -> TranslationPart:
    """What checkpoints translate, by direction, and their means beside each other."""
    from blendlaw.report import charts

    low, high = reach = translations.reach(judged)
    dots = translations.means(judged)
    compared = None
    if dots is not None:
        svg = charts.dots(dots, directions.HUES, "translations")
        caption = f"{dots.alt}. Whiskers: 90% intervals."
        there = {group for group, _ in dots.rows}
        key = tuple((group, hue) for group, hue in directions.HUES.items() if group in there)
        compared = Chart("Means over all tokens", svg, caption, key=key)
    return TranslationPart(
        translations.translations_text(judged),
        tuple(translations.unlike(judged)),
        compared,
        f"{low:.2f}",
        f"{high:.2f}",
        any(not direction.trained for one in judged.values() for direction in one.directions),
        tuple(
            Judged(
                name,
                translations.translation_text(one),
                translations.heat_table(one, reach),
                translations.score_table(one),
            )
            for name, one in judged.items()
        ),
    )


def groups(
    observations: Sequence[Observation], fit: Fit | None, allocation: Allocation | None
) -> list[Group]:
    """The sections of small multiples that the input calls for, drawn."""
    if not observations:
        return []
    order = (
        []
        if allocation is None
        else sorted(allocation.weights, key=lambda name: -allocation.weights[name])
    )
    shown = evidence.chosen(fit, observations, order)
    total = len({seen.language for seen in observations})
    found = evidence.evidence(fit, observations, shown)
    told = [] if fit is None else evidence.known_evidence(fit, found)
    note = "" if total <= len(shown) else f" {len(shown)} of {total} languages are drawn."
    parts: list[tuple[str, str, list[figures.Panel]]] = []
    curves = fit is None or not fit.functions().joint
    if curves and all(evidence.plain(seen) for own in found for seen in own.observations):
        several = panels.token_panels(fit, found)
        text = "A curve for each model size, the smallest and the largest labelled"
        if any(curve.low for panel in several for curve in panel.curves):
            text += ", those two with their 90% band"
        text += "." if fit is None else ". " + _legend(found)
        parts.append(("Loss against tokens", text, several))
        text = "At the most tokens that each language was trained on."
        parts.append(("Loss against parameters", text, panels.size_panels(fit, found)))
    elif told and fit is not None:
        text = f"On the line, the law is exact. {SCATTERED} {_legend(told)}"
        parts.append(("Predicted and measured loss", text, panels.measured_panels(fit, told)))
    else:
        parts.append(("Loss and the share of a language", SCATTERED, panels.share_panels(found)))
    if told and fit is not None:
        text = "How far measurements lie above the law, in percent, on one scale. " + _legend(told)
        parts.append(("Residuals", text, panels.residual_panels(fit, told)))
    return [
        Group(title, text + note, _drawn(title, several))
        for title, text, several in parts
        if several
    ]


def matrices(fit: Fit | None, synergy: Synergy | None) -> list[tuple[str, str, tables.Table]]:
    """(title, text, table) of each matrix between languages."""
    found = []
    how = "Row: the language whose loss is meant. Column: the language that is added."
    if synergy is not None:
        text = f"{how} Percent that the loss falls by; positive, it helps."
        found.append(("Gains from pair runs", text, tables.gain_matrix(synergy)))
        text = f"{how} What one of its tokens counts; colour begins where the gain is 0."
        table = tables.transfer_matrix(synergy.transfer, synergy)
        found.append(("Transfer from pair runs", text, table))
    if fit is not None and fit.transfer and (synergy is None or synergy.transfer != fit.transfer):
        text = f"{how} What one of its tokens counts beside one of the language's own."
        found.append(("Transfer in the fit", text, tables.transfer_matrix(fit.transfer)))
    return found


def _drawn(title: str, several: Sequence[figures.Panel]) -> tuple[Figure, ...]:
    from blendlaw.report import drawing

    return tuple(
        Figure(
            panel.language,
            drawing.panel(panel, f"{title} {number}"),
            _caption(panel),
        )
        for number, panel in enumerate(several)
    )


def _caption(panel: figures.Panel) -> str:
    return panel.alt + (f" ({panel.note})" if panel.note else "") + "."


def _legend(found: Sequence[evidence.Evidence]) -> str:
    kinds = {kind for own in found for kind in own.kinds}
    text = "Dots were fitted"
    if figures.HELD_OUT in kinds:
        text += ", diamonds held out"
    if figures.NOT_USED in kinds:
        text += ", crosses left out"
    return text + "."
