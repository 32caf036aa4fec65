"""What the report says in words: the finding, the numbers to know, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from blendlaw.allocation import Allocation
from blendlaw.fitted import Fit
from blendlaw.observations import Observation
from blendlaw.report.figures import count
from blendlaw.synergy import Synergy

MAX_NOTES = 60
SAME = 0.01  # marginal losses that differ by less, of the largest, are one


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
            law = "The fit" if fit is None else f"The {fit.law} law"
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
        said.append(f"The {fit.law} law is fitted to {len(fit.languages)} languages.")
    if not said:
        languages = {seen.language for seen in observations}
        said.append(f"{len(observations):,} observations of {len(languages)} languages.")
    return said


def _decided(allocation: Allocation) -> str:
    """Where the next tokens count most; at an optimum, that is wherever no limit holds."""
    slopes = {n: m for n, m in allocation.marginal.items() if m is not None}
    steepest = min(slopes.values(), default=0.0)
    best = [n for n, m in slopes.items() if m - steepest <= SAME * abs(steepest)]
    if len(best) == 1:
        return f"The next billion tokens are worth most in {best[0]}."
    most = max(allocation.weights, key=lambda name: allocation.weights[name])
    said = f"The best blend gives most to {most}, {allocation.weights[most]:.1%}"
    if not best:
        return f"{said}."
    where = "every language" if len(best) == len(slopes) else f"each of {len(best)} languages"
    return f"{said}; from there the next billion tokens are worth as much in {where}."


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
        if gain is not None and gain.percent is not None:
            note = "no interval: no bootstrap"
            if gain.interval is not None:
                base = gain.percent / gain.mean if gain.mean else 0.0
                low, high = (base * end for end in gain.interval)
                note = f"90%: {signed(low, '+.2f')}% to {signed(high, '+.2f')}%"
            found.append(("gain over uniform", f"{signed(gain.percent, '+.2f')}%", note))
    if observations:
        tokens = [seen.tokens for seen in observations]
        sizes = [seen.params for seen in observations]
        note = f"{_range(sizes)} parameters, {_range(tokens)} tokens"
        found.append(("observations", f"{len(observations):,}", note))
    return found


def _range(counts: Sequence[float]) -> str:
    low, high = count(min(counts)), count(max(counts))
    return low if low == high else f"{low}–{high}"


def gain_lines(allocation: Allocation) -> list[tuple[str, str, str]]:
    """(compared with, numbers, verdict) for each blend compared with."""
    lines = []
    for name, gain in allocation.gain.items():
        if gain is None:
            lines.append((name, "", "not compared: its loss or its weights are not known"))
            continue
        numbers = f"{signed(gain.mean, '+.4f')} nats"
        if gain.interval is not None:
            numbers += f" {span_of(gain.interval, '+.4f')}"
        lines.append((name, numbers, gain.verdict))
    return lines


def fit_warnings(fit: Fit) -> list[tuple[str, str]]:
    """(language, warning); the last says how many more there are."""
    found = [(name, w) for name, one in fit.languages.items() for w in one.warnings]
    if len(found) > MAX_NOTES:
        found = [*found[:MAX_NOTES], ("", f"and {len(found) - MAX_NOTES} more warnings")]
    return found


def provenance(fit: Fit) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(file, its hash) and (option, value), as text of bounded length."""
    files = fit.provenance.get("files", {})
    hashes = list(files.items())[:MAX_NOTES] if isinstance(files, dict) else []
    options = [(k, v) for k, v in fit.provenance.items() if k != "files" and v is not None]
    return (
        [(_brief(name), _brief(digest)) for name, digest in hashes],
        [(_brief(key), _value(value)) for key, value in options[:MAX_NOTES]],
    )


def span_of(span: tuple[float, float] | None, style: str) -> str:
    """An interval in brackets; nothing for None."""
    return "" if span is None else f"[{signed(span[0], style)}, {signed(span[1], style)}]"


def signed(number: float, style: str) -> str:
    """A number with a true minus sign."""
    return format(number, style).replace("-", "−")


def percent(part: float, style: str = ".2f") -> str:
    """A part in percent; it may be infinite."""
    return f"{signed(100 * part, style)}%" if math.isfinite(part) else "∞"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _brief(", ".join(f"{key} {_value(part)}" for key, part in value.items()))
    if isinstance(value, list | tuple):
        return _brief(" to ".join(map(_value, value)) if len(value) == 2 else str(list(value)))
    return _brief(count(value) if isinstance(value, float) and value >= 1e4 else value)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 300 else text[:299] + "…"
