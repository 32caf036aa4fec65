"""The report: one page of HTML that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.languages import colour
from blendlaw.report import evidence, figures, panels, run_figures, run_words, tables, words
from blendlaw.report.outcome import Outcome, outcomes

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation
    from blendlaw.fitted import Fit
    from blendlaw.observations import Observation
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
    """Drawn bars, their heading and what they say; ``legend`` names the languages, if needed."""

    title: str
    svg: str
    caption: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Predicted beside measured, for one split."""

    title: str
    chart: Chart | None
    table: tables.Table


@dataclass(frozen=True)
class RunPart:
    """What the page shows of a training run."""

    notes: tuple[str, ...]
    losses: Group
    weights: tuple[Chart, ...]
    decisions: tables.Table
    seen: tables.Table
    outcome: str
    comparisons: tuple[Comparison, ...]


def render(
    *,
    run: TrainingRun | None = None,
    observations: Sequence[Observation] = (),
    fit: Fit | None = None,
    synergy: Synergy | None = None,
    allocation: Allocation | None = None,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """The page, from whatever is given; ``weights`` are further blends, by name, to show beside
    the allocation's. The same input gives the same text.

    What a ``run`` measured is drawn as its curves, and with the other observations only where
    there are any or a fit of them. Raises InputError if nothing is given, or if matplotlib or
    jinja2 is not installed.
    """
    given = bool(observations) or not (fit is None and synergy is None and allocation is None)
    if not given and run is None:
        raise InputError("a report needs observations, a fit, a synergy, an allocation or a run")
    if run is not None and (observations or fit is not None):
        observations = [*observations, *run.observations]
    try:
        from jinja2 import Environment, StrictUndefined

        from blendlaw.report import charts
    except ImportError as error:
        raise InputError(
            f"the report needs matplotlib and jinja2: pip install 'blendlaw[report]' ({error})"
        ) from error
    extra = dict(weights or {})
    found = () if run is None else outcomes(run)
    headline = [] if run is None else run_words.run_headline(run, found)
    if given:
        headline += words.headline(observations, fit, synergy, allocation)
    bars = None if allocation is None else figures.weight_bars(allocation, fit, extra)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["colour"] = colour
    template = environment.from_string(
        (files("blendlaw.report") / "page.html.j2").read_text(encoding="utf-8")
    )
    page = template.render(
        headline=headline,
        facts=([] if run is None else run_words.run_facts(run, found))
        + words.facts(observations, fit, allocation),
        run=None if run is None else run_part(run, found),
        allocation=allocation,
        bars=bars,
        bars_svg="" if bars is None else charts.bars(bars, "weights"),
        marks=[] if bars is None else charts.legend(bars),
        weight_table=None if allocation is None else tables.weight_table(allocation, extra),
        gains=[] if allocation is None else words.gain_lines(allocation),
        groups=groups(observations, fit, allocation),
        matrices=matrices(fit, synergy),
        fit=fit,
        fit_table=None if fit is None else tables.fit_table(fit),
        fit_warnings=[] if fit is None else words.fit_warnings(fit),
        provenance=None if fit is None else words.provenance(fit),
    )
    return page.encode(errors="replace").decode()  # lone surrogates, which JSON may hold


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
        tuple(weights),
        tables.decision_table(run),
        tables.seen_table(run, by_byte),
        run_words.outcome_text(run, found),
        tuple(comparisons),
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
            panel.alt + (f" ({panel.note})" if panel.note else "") + ".",
        )
        for number, panel in enumerate(several)
    )


def _legend(found: Sequence[evidence.Evidence]) -> str:
    kinds = {kind for own in found for kind in own.kinds}
    text = "Dots were fitted"
    if figures.HELD_OUT in kinds:
        text += ", diamonds held out"
    if figures.NOT_USED in kinds:
        text += ", crosses left out"
    return text + "."
