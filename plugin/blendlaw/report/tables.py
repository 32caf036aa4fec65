"""What the report says in words and tables; its matrices are tables with coloured cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blendlaw.allocation import Allocation
from blendlaw.fitted import Fit
from blendlaw.observations import Observation
from blendlaw.report.figures import count
from blendlaw.synergy import Synergy

MAX_MATRIX = 40  # languages on a side of a matrix
MAX_PARAMETERS = 12
MAX_NOTES = 60
SAME = 0.01  # marginal losses that differ by less, of the largest, are one
STRONGEST = 70  # percent of colour in the strongest cell


@dataclass(frozen=True)
class Cell:
    """``text``, a quieter ``note`` after it, and for a matrix its ``tone`` from −1 to 1."""

    text: str
    note: str = ""
    tone: float = 0.0

    @property
    def mix(self) -> int:
        return round(STRONGEST * min(abs(self.tone), 1.0))


@dataclass(frozen=True)
class Row:
    """A language and what is said of it."""

    language: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """``columns`` are heads of the cells, the language's own not among them."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""


def headline(
    observations: Sequence[Observation],
    fit: Fit | None,
    synergy: Synergy | None,
    allocation: Allocation | None,
) -> list[str]:
    """The finding in one or two plain sentences."""
    said = []
    if allocation is not None:
        said.append(_decided(allocation))
        gain = allocation.gain.get("uniform")
        if gain is not None:
            law = "The fit" if fit is None else f"The law {fit.law}"
            span = ""
            if gain.interval is not None:
                low, high = gain.interval
                span = f" (90% interval {low:.4f} to {high:.4f})"
            said.append(
                f"{law} predicts a gain of {gain.mean:.4f} nats per token over uniform weights"
                f"{span}. {gain.verdict[:1].upper()}{gain.verdict[1:]}."
            )
    if not said and synergy is not None:
        gains = {(t, a): g for t, row in synergy.gain_percent.items() for a, g in row.items()}
        if gains:
            target, auxiliary = max(gains, key=lambda pair: gains[pair])
            said.append(
                f"{auxiliary} helps {target} most: its loss falls by "
                f"{gains[target, auxiliary]:.2f}%."
            )
    if not said and fit is not None:
        said.append(f"The law {fit.law} is fitted to {len(fit.languages)} languages.")
    if not said:
        languages = {seen.language for seen in observations}
        said.append(f"{len(observations):,} observations of {len(languages)} languages.")
    return said


def _decided(allocation: Allocation) -> str:
    """Where the next tokens count most; at an optimum within no limits, that is everywhere."""
    slopes = {n: m for n, m in allocation.marginal.items() if m is not None}
    best = min(slopes, key=lambda name: slopes[name], default=None)
    if best is not None and max(slopes.values()) - slopes[best] > SAME * abs(slopes[best]):
        return f"The next billion tokens are worth most in {best}."
    most = max(allocation.weights, key=lambda name: allocation.weights[name])
    said = f"The best blend gives most to {most}, {allocation.weights[most]:.1%}"
    if best is None or len(slopes) < 2:
        return f"{said}."
    return f"{said}; from there the next billion tokens are worth as much in every language."


def facts(
    observations: Sequence[Observation], fit: Fit | None, allocation: Allocation | None
) -> list[tuple[str, str, str]]:
    """The few numbers to know, each (what, number, note)."""
    found = []
    if fit is not None:
        picked = [c for c in fit.selection if c.law == fit.law]
        note = f"of {len(fit.selection)} considered" if picked else "as asked for"
        found.append(("law", fit.law, note))
        held = [f.holdout for f in fit.languages.values() if f.holdout is not None]
        if held:
            error = sum(h.mean_abs_rel_error for h in held) / len(held)
            runs = sum(h.n for h in held)
            found.append(("held-out error", f"{error:.2%}", f"mean over {runs:,} runs"))
    if allocation is not None:
        size = f"{count(allocation.tokens)} tokens"
        found.append(("for a run of", size, f"{count(allocation.params)} parameters"))
        gain = allocation.gain.get("uniform")
        if gain is not None:
            note = "no interval: no bootstrap"
            if gain.interval is not None:
                base = gain.percent / gain.mean if gain.mean else 0.0
                low, high = (base * end for end in gain.interval)
                note = f"90%: {low:+.2f}% to {high:+.2f}%"
            found.append(("gain over uniform", f"{gain.percent:+.2f}%", note))
    if observations:
        tokens = [seen.tokens for seen in observations]
        sizes = [seen.params for seen in observations]
        note = f"{count(min(sizes))}–{count(max(sizes))} parameters, "
        note += f"{count(min(tokens))}–{count(max(tokens))} tokens"
        found.append(("observations", f"{len(observations):,}", note))
    return found


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
            cells.append(Cell(text, _span((spans.get(other) or {}).get(name), ".4f")))
        cells.append(Cell("–" if marginal is None else f"{1e3 * marginal:+.4f}"))
        rows.append(Row(name, tuple(cells)))
    columns = ["weight", *extra, "tokens, 10⁹", "epochs"]
    columns += [f"loss, {name}" for name in compared] + ["worth of 10⁹ more"]
    caption = (
        "Losses in nats per token. The last column: how the sum of losses, each times its value, "
        "changes with a further billion tokens of the language, in 10⁻³ nats."
    )
    return Table(tuple(columns), tuple(rows), caption)


def gain_lines(allocation: Allocation) -> list[tuple[str, str, str]]:
    """(compared with, numbers, verdict) for each blend compared with."""
    lines = []
    for name, gain in allocation.gain.items():
        if gain is None:
            lines.append((name, "", "not compared: its loss or its weights are not known"))
            continue
        numbers = f"{gain.mean:+.4f} nats"
        if gain.interval is not None:
            numbers += f" {_span(gain.interval, '+.4f')}"
        lines.append((name, numbers, gain.verdict))
    return lines


def fit_table(fit: Fit) -> Table:
    """The parameters that every language has, with their intervals, and the errors."""
    fits = list(fit.languages.values())
    names = [n for n in fits[0].params if all(n in f.params for f in fits)] if fits else []
    dropped = len({n for f in fits for n in f.params}) - min(len(names), MAX_PARAMETERS)
    names = names[:MAX_PARAMETERS]
    rows = []
    for language, one in fit.languages.items():
        cells = [Cell(f"{one.params[n]:.4g}", _span(one.interval.get(n), ".3g")) for n in names]
        held = one.holdout
        cells += [
            Cell(f"{100 * one.rms_log_error:.2f}%"),
            Cell("–" if held is None else f"{held.mean_abs_rel_error:.2%}", f"{held.n}" if held else ""),
            Cell(f"{one.n_observations:,}"),
        ]
        rows.append(Row(language, tuple(cells)))
    caption = f"{dropped} further parameters are in fit.json." if dropped > 0 else ""
    return Table((*names, "rms error", "held-out error", "runs"), tuple(rows), caption)


def fit_warnings(fit: Fit) -> list[tuple[str, str]]:
    """(language, warning); the last says how many more there are."""
    found = [(name, w) for name, one in fit.languages.items() for w in one.warnings]
    if len(found) > MAX_NOTES:
        found = [*found[:MAX_NOTES], ("", f"and {len(found) - MAX_NOTES} more warnings")]
    return found


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


def provenance(fit: Fit) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(file, its hash) and (option, value), as text of bounded length."""
    files = fit.provenance.get("files", {})
    hashes = list(files.items())[:MAX_NOTES] if isinstance(files, dict) else []
    options = [(k, v) for k, v in fit.provenance.items() if k != "files" and v is not None]
    return (
        [(_brief(name), _brief(digest)) for name, digest in hashes],
        [(_brief(key), _value(value)) for key, value in options[:MAX_NOTES]],
    )


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
            cells.append(Cell(format(value, style), _span(span, style), tone))
        rows.append(Row(target, tuple(cells)))
    caption = ""
    if len(sources) > MAX_MATRIX or len(values) > MAX_MATRIX:
        caption = f"The first {MAX_MATRIX} of {len(sources)} languages; the file has all."
    return Table(tuple(shown), tuple(rows), caption)


def _percent(weight: float, span: tuple[float, float] | None) -> Cell:
    if span is None:
        return Cell(f"{weight:.1%}")
    return Cell(f"{weight:.1%}", f"[{100 * span[0]:.1f}, {100 * span[1]:.1f}]")


def _span(span: tuple[float, float] | None, style: str) -> str:
    return "" if span is None else f"[{format(span[0], style)}, {format(span[1], style)}]"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _brief(", ".join(f"{key} {_value(part)}" for key, part in value.items()))
    if isinstance(value, list | tuple):
        return _brief(" to ".join(map(_value, value)) if len(value) == 2 else str(list(value)))
    return _brief(count(value) if isinstance(value, float) and value >= 1e4 else value)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 300 else text[:299] + "…"
