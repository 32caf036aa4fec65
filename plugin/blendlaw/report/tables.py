"""The report's tables; its matrices are tables with coloured cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from blendlaw.allocation import Allocation
from blendlaw.fitted import Fit
from blendlaw.report.figures import count
from blendlaw.report.outcome import Outcome
from blendlaw.report.training import TrainingRun, last_of
from blendlaw.report.words import percent, signed, span_of
from blendlaw.synergy import Synergy

MAX_MATRIX = 40  # languages on a side of a matrix
MAX_PARAMETERS = 12
STRONGEST = 70  # percent of colour in the strongest cell


@dataclass(frozen=True)
class Cell:
    """``text``, a quieter ``note`` after it, and for a matrix its ``tone`` from −1 to 1.

    ``prose`` is a sentence: it wraps. ``hatched`` cells of a matrix stand apart from the others.
    """

    text: str
    note: str = ""
    tone: float = 0.0
    prose: bool = False
    hatched: bool = False

    @property
    def mix(self) -> int:
        return round(STRONGEST * min(abs(self.tone), 1.0))

    @property
    def style(self) -> str:
        """The classes that the page gives it."""
        tone = ("helps" if self.tone > 0 else "hurts") if self.mix else ""
        return " ".join(filter(None, ("prose" * self.prose, tone, "hatched" * self.hatched)))


@dataclass(frozen=True)
class Row:
    """A language, or what else ``Table.head`` says, and what is said of it."""

    language: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """``columns`` are heads of the cells, the language's own not among them: that is ``head``."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    head: str = "language"


def weight_table(allocation: Allocation, extra: Mapping[str, Mapping[str, float]]) -> Table:
    """Weights, what they make of the tokens, and the losses predicted."""
    compared = [name for name, losses in allocation.predicted.items() if losses is not None]
    spans = allocation.predicted_interval or {}
    rows = []
    for name in sorted(allocation.weights, key=lambda n: -allocation.weights[n]):
        epochs, marginal = allocation.epochs.get(name), allocation.marginal.get(name)
        cells = [_percent(allocation.weights[name], (allocation.interval or {}).get(name))]
        cells += [
            Cell(f"{weights[name]:.1%}" if name in weights else "–") for weights in extra.values()
        ]
        cells += [
            Cell(f"{allocation.tokens_by_language[name] / 1e9:.2f}"),
            Cell("–" if epochs is None else f"{epochs:.2f}"),
        ]
        for other in compared:
            losses = allocation.predicted[other] or {}
            loss = losses.get(name)
            text = "–" if name not in losses else "∞" if loss is None else f"{loss:.4f}"
            cells.append(Cell(text, span_of((spans.get(other) or {}).get(name), ".4f")))
        cells.append(Cell("–" if marginal is None else signed(1e3 * marginal, "+.4g")))
        rows.append(Row(name, tuple(cells)))
    columns = ["weight", *extra, "tokens, 10⁹", "epochs"]
    columns += [f"loss, {name}" for name in compared] + ["worth of 10⁹ more"]
    caption = (
        "Losses in nats per token. The last column: how the sum of losses, each times its value, "
        "changes with a further billion tokens of the language, in 10⁻³ nats."
    )
    return Table(tuple(columns), tuple(rows), caption)


def fit_table(fit: Fit) -> Table:
    """The parameters that every language has, with their intervals, and the errors."""
    fits = list(fit.languages.values())
    names = [n for n in fits[0].params if all(n in f.params for f in fits)] if fits else []
    dropped = len({n for f in fits for n in f.params}) - min(len(names), MAX_PARAMETERS)
    names = names[:MAX_PARAMETERS]
    rows = []
    for language, one in fit.languages.items():
        cells = [Cell(f"{one.params[n]:.4g}", span_of(one.interval.get(n), ".3g")) for n in names]
        held = one.holdout
        cells += [
            Cell(f"{100 * one.rms_log_error:.2f}%"),
            Cell(
                "–" if held is None else f"{held.mean_abs_rel_error:.2%}",
                f"{held.n:,} runs" if held else "",
            ),
            Cell(f"{one.n_observations:,}"),
        ]
        rows.append(Row(language, tuple(cells)))
    caption = f"{dropped} further parameters are in fit.json." if dropped > 0 else ""
    return Table((*names, "rms error", "held-out error", "runs"), tuple(rows), caption)


def gain_matrix(synergy: Synergy) -> Table:
    """Gains in percent, coloured by their sign."""
    spans = synergy.gain_interval
    return _matrix(synergy.gain_percent, spans, "+.2f", {})


def transfer_matrix(
    transfer: Mapping[str, Mapping[str, float]], synergy: Synergy | None = None
) -> Table:
    """What a token of the source counts for the target.

    From pair runs, colour starts at the transfer of a gain of 0 (``Synergy.neutral``), so that it
    says the same as in the gains; as fitted, at 0.
    """
    neutral = {} if synergy is None else synergy.neutral
    spans = {} if synergy is None else synergy.transfer_interval
    return _matrix(transfer, spans, ".2f", neutral)


def decision_table(run: TrainingRun) -> Table:
    """What was decided of each stage, and why."""
    decided = {record.stage: record for record in run.records}
    rows = []
    for stage, start in zip(run.layout.stages, run.layout.boundaries, strict=False):
        tokens, record = run.starts.get(stage), decided.get(stage)
        at, weights, why, fit = "–", "–", "not decided yet", None
        if record is not None:
            at, why, fit = f"{record.decided_at_sample:,}", record.reason, record.fit
            weights = ", ".join(f"{name} {_share(w)}" for name, w in record.weights.items())
        cells = (
            Cell(f"{start:,}", "" if tokens is None else f"{count(tokens)} tokens"),
            Cell(at),
            Cell(weights, prose=True),
            Cell(why, prose=True),
            Cell(fit or "–"),
        )
        rows.append(Row(stage, cells))
    columns = ("starts at sample", "decided at sample", "weights", "why", "fit")
    return Table(columns, tuple(rows), head="stage")


def seen_table(run: TrainingRun, in_bytes: bool) -> Table:
    """What the run has seen of each language, and the last loss of each split."""
    total = sum(run.consumed.values())
    unique = (None if run.last is None else run.last.unique_tokens) or {}
    rows = []
    for name in run.languages:
        tokens, epochs = run.consumed.get(name), run.epochs.get(name)
        cells = [
            Cell("–" if tokens is None else count(tokens)),
            Cell("–" if tokens is None else f"{tokens / total:.1%}"),
            Cell(count(unique[name]) if name in unique else "–"),
            Cell("–" if epochs is None else f"{epochs:.2f}"),
        ]
        for split in run.splits:
            last = last_of([seen for seen in run.observations if seen.split == split], name)
            loss = None if last is None else last.bpb if in_bytes else last.loss
            cells.append(Cell("–" if loss is None else f"{loss:.4f}"))
        rows.append(Row(name, tuple(cells)))
    columns = ["tokens seen", "share", "unique tokens", "epochs"]
    columns += [f"last {split or 'loss'}" + " loss" * (split is not None) for split in run.splits]
    unit = "bits per byte" if in_bytes else "nats per token"
    return Table(tuple(columns), tuple(rows), f"Losses in {unit}." if run.splits else "")


def outcome_table(outcome: Outcome) -> Table:
    """Predicted beside measured, language by language."""
    after = [count(one.tokens) for one in outcome.results]
    apart = len(set(after)) > 1  # languages were last measured at different times
    rows = []
    for one, tokens in zip(outcome.results, after, strict=True):
        error, span = one.error, one.error_interval
        span = None if span is None else (100 * span[0], 100 * span[1])
        cells = (
            *((Cell(tokens),) if apart else ()),
            Cell("–", one.why)
            if one.predicted is None
            else Cell(_loss(one.predicted), span_of(one.interval, ".4f")),
            Cell("–", "not since") if one.measured is None else Cell(f"{one.measured:.4f}"),
            Cell("–") if error is None else Cell(percent(error, "+.2f"), span_of(span, "+.2f")),
        )
        rows.append(Row(one.language, cells))
    columns = (*(("after tokens",) if apart else ()), "predicted", "measured", "error")
    when = "" if apart or not after else f", after {after[0]} tokens"
    caption = f"Losses in nats per token{when}. Error: predicted ÷ measured − 1."
    return Table(columns, tuple(rows), caption)


def _matrix(
    values: Mapping[str, Mapping[str, float]],
    spans: Mapping[str, Mapping[str, tuple[float, float]]],
    style: str,
    centre: Mapping[str, float],
) -> Table:
    sources = list(dict.fromkeys([*values, *(s for row in values.values() for s in row)]))
    targets, shown = list(values)[:MAX_MATRIX], sources[:MAX_MATRIX]
    reach = max(
        (abs(v - centre.get(t, 0.0)) for t in targets for s, v in values[t].items() if s != t),
        default=1.0,
    )
    rows = []
    for target in targets:
        cells = []
        for source in shown:
            if source not in values[target] or source == target:
                cells.append(Cell("·"))
                continue
            value = values[target][source]
            tone = (value - centre.get(target, 0.0)) / reach if reach else 0.0
            span = spans.get(target, {}).get(source)
            cells.append(Cell(signed(value, style), span_of(span, style), tone))
        rows.append(Row(target, tuple(cells)))
    caption = ""
    if len(sources) > MAX_MATRIX or len(values) > MAX_MATRIX:
        caption = f"The first {MAX_MATRIX} of {len(sources)} languages; the file has all."
    return Table(tuple(shown), tuple(rows), caption)


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "∞"


def _share(weight: float) -> str:
    if 0 < weight < 5e-5:
        return "<0.01%"
    return f"{100 * weight:.2f}".rstrip("0").rstrip(".") + "%"


def _percent(weight: float, span: tuple[float, float] | None) -> Cell:
    if span is None:
        return Cell(f"{weight:.1%}")
    return Cell(f"{weight:.1%}", f"[{100 * span[0]:.1f}, {100 * span[1]:.1f}]")
