"""Observations: one measured loss each; read from and written to CSV and JSONL.

Columns: ``language, params, tokens, loss`` required; ``weights.<language>``,
``tokens.<language>``, ``unique_tokens.<language>``, ``bpb, loss_tokens, run, stage, step, split,
seed`` optional. JSONL may nest instead: ``"weights": {"Python": 0.5, …}``, ``"unique_tokens"``,
``"tokens_by_language"``. Any other column is kept, as text, in ``extra``.

Two rows equal in everything but their loss (and bpb, loss_tokens) contradict each other and are
refused: runs repeated with other seeds say so in ``seed`` or ``run``. The very same row again is
the same measurement, and is kept once: counted twice it would make a fit look surer than it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.files import write_atomically
from blendlaw.rows import JSONL_SUFFIXES, OnBad, read_rows, refuse, require_columns
from blendlaw.values import ROUNDED, name, number, positive, text, whole
from blendlaw.values import weights as check_weights

REQUIRED = ("language", "params", "tokens", "loss")
OPTIONAL = ("bpb", "loss_tokens", "run", "stage", "step", "split", "seed")
MAPPINGS = {  # column prefix -> field
    "weights.": "weights",
    "tokens.": "tokens_by_language",
    "unique_tokens.": "unique_tokens",
}
_KNOWN = {*REQUIRED, *OPTIONAL, *MAPPINGS.values()}


@dataclass(frozen=True)
class Observation:
    """One measured loss of one language, and what the run that measured it had trained on.

    ``params`` and all tokens are counts; ``loss`` is in nats/token, ``bpb`` in bits/byte;
    ``tokens`` are training tokens of the whole run so far, ``loss_tokens`` those the loss was
    averaged over. ``weights`` are shares of training tokens and sum to 1 within 1e-3.
    Raises InputError naming the column and its value.
    """

    language: str
    params: float
    tokens: float
    loss: float
    weights: Mapping[str, float] | None = None
    tokens_by_language: Mapping[str, float] | None = None
    unique_tokens: Mapping[str, float] | None = None
    bpb: float | None = None
    loss_tokens: float | None = None
    run: str | None = None
    stage: str | None = None
    step: int | None = None
    split: str | None = None
    seed: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(column: str, value: Any) -> None:
            object.__setattr__(self, column, value)

        name(self.language, "language")
        for column in ("params", "tokens", "loss"):
            put(column, positive(getattr(self, column), column))
        for column in ("bpb", "loss_tokens"):
            if getattr(self, column) is not None:
                put(column, positive(getattr(self, column), column))
        for column in ("step", "seed"):
            if getattr(self, column) is not None:
                put(column, whole(getattr(self, column), column))
        for column in ("run", "stage", "split"):
            if getattr(self, column) is not None:
                put(column, name(text(getattr(self, column), column), column))
        for prefix, mapping in MAPPINGS.items():
            if getattr(self, mapping) is not None:
                put(mapping, _by_language(getattr(self, mapping), prefix))
        for column in self.extra:
            name(column, "a column")
            if column in _KNOWN or column.startswith(tuple(MAPPINGS)):
                raise InputError("a known column given as extra", column=column)
        put("extra", {column: text(value, column) for column, value in self.extra.items()})
        if self.weights is not None:
            check_weights(self.weights, "weights", ROUNDED)
        if self.tokens_by_language is not None and not any(self.tokens_by_language.values()):
            raise InputError(
                "the run has seen no tokens of any language", column="tokens_by_language"
            )
        if self.tokens_by_language is not None:
            total = sum(self.tokens_by_language.values())
            if total > self.tokens * (1 + ROUNDED):
                raise InputError(
                    f"they sum to {total:g}, more than the run's tokens {self.tokens:g}",
                    column="tokens_by_language",
                )

    def shares(self) -> dict[str, float]:
        """The share of its training tokens that each language had, by what is known of the run.

        ``weights`` as measured (they may miss 1 by their rounding), else ``tokens_by_language``
        over their sum, else 1 for the observation's own language. A language not in it had none.
        """
        if self.weights is not None:
            return dict(self.weights)
        if self.tokens_by_language is not None:
            total = sum(self.tokens_by_language.values())
            return {language: seen / total for language, seen in self.tokens_by_language.items()}
        return {self.language: 1.0}


def _by_language(values: Any, prefix: str) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise InputError("not a table by language", column=prefix.rstrip("."), value=values)
    result = {}
    for language, value in values.items():
        column = f"{prefix}{language}"
        name(language, column)
        result[language] = number(value, column)
        if result[language] < 0:
            raise InputError("must not be negative", column=column, value=value)
        if prefix == "unique_tokens." and not result[language]:
            raise InputError("must be above 0", column=column, value=value)
    return result


def read_observations(
    *paths: str | Path, skip_bad: bool = False, on_bad: OnBad | None = None
) -> list[Observation]:
    """The observations in CSV or JSONL files (``-`` is stdin), in order; see the module's text.

    Raises InputError (file, line, column, value) at the first bad row, after giving it to
    ``on_bad``; with ``skip_bad``, ``on_bad`` gets each bad row and the others are returned. A bad
    header, or a file without a good row, is refused in either case. Raises OSError.
    """

    def skip(error: InputError) -> None:
        if on_bad is not None:
            on_bad(error)
        if not skip_bad:
            refuse(error)

    seen = _Seen()
    for path in paths:
        label = "<stdin>" if str(path) == "-" else str(path)
        good = False
        for line, cells in read_rows(path, _check_columns, skip):
            try:
                observation = _from_cells(cells)
                seen.add(observation, label, line)
            except InputError as error:
                error.file, error.line = label, line
                skip(error)
            else:
                good = True
        if not good:
            raise InputError("no observation to read", file=label)
    return seen.observations


def distinct(observations: Iterable[Observation]) -> list[Observation]:
    """The observations with exact repetitions left out; InputError if two contradict each other."""
    seen = _Seen()
    for number_, observation in enumerate(observations, 1):
        seen.add(observation, "observation", number_)
    return seen.observations


class _Seen:
    """Distinct observations, and where each was first seen."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self._first: dict[object, tuple[float, str, int]] = {}

    def add(self, observation: Observation, label: str, line: int) -> None:
        first = self._first.setdefault(_identity(observation), (observation.loss, label, line))
        if first[1:] == (label, line):
            self.observations.append(observation)
        elif first[0] != observation.loss:
            raise InputError(
                f"the same measurement as {first[1]}:{first[2]} with another loss "
                f"({first[0]:g}); repeated runs need a 'seed' or 'run' column",
                column="loss",
                value=observation.loss,
            )


def _identity(observation: Observation) -> tuple[object, ...]:
    values = (getattr(observation, column) for column in _IDENTITY)
    return tuple(frozenset(v.items()) if isinstance(v, dict) else v for v in values)


_IDENTITY = tuple(
    f.name for f in fields(Observation) if f.name not in ("loss", "bpb", "loss_tokens")
)


def _check_columns(columns: list[str]) -> None:
    require_columns(columns, REQUIRED)
    for column in columns:
        if column in MAPPINGS:
            raise InputError("no language after the dot", column=column)


def _from_cells(cells: Mapping[str, Any]) -> Observation:
    known: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for column, cell in cells.items():
        prefix, dot, language = column.partition(".")
        if (mapping := MAPPINGS.get(prefix + dot)) is not None:
            _put(known, mapping, {language: cell}, column)
        elif column in MAPPINGS.values():
            if not isinstance(cell, dict):
                raise InputError("must be a table by language", column=column, value=cell)
            _put(known, column, {k: v for k, v in cell.items() if v is not None}, column)
        elif column in _KNOWN:
            known[column] = cell
        else:
            extra[column] = text(cell, column)
    for column in REQUIRED:
        if column not in known:
            raise InputError("is empty", column=column)
    return Observation(**known, extra=extra)


def _put(known: dict[str, Any], mapping: str, values: dict[str, Any], column: str) -> None:
    table = known.setdefault(mapping, {})
    if not table.keys().isdisjoint(values):
        raise InputError("a language given twice", column=column)
    table.update(values)


def format_observations(observations: Sequence[Observation], kind: str = "csv") -> str:
    """The text of a file that reads back as exactly these observations; ``kind`` csv or jsonl."""
    rows = [_to_cells(observation) for observation in observations]
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    columns = list(dict.fromkeys([*REQUIRED, *(column for row in rows for column in row)]))
    lines = [[_quoted(column) for column in columns]]
    lines += [[_quoted(row.get(column, "")) for column in columns] for row in rows]
    return "".join(",".join(line) + "\n" for line in lines)


def write_observations(path: str | Path, observations: Sequence[Observation]) -> None:
    """Write JSONL or, by any other suffix, CSV: the whole file or nothing. Raises OSError."""
    kind = "jsonl" if Path(path).suffix.lower() in JSONL_SUFFIXES else "csv"
    write_atomically(path, format_observations(observations, kind))


def _to_cells(observation: Observation) -> dict[str, str | float]:
    cells: dict[str, str | float] = {}
    for column in (*REQUIRED, *OPTIONAL):
        value = getattr(observation, column)
        if value is not None:
            cells[column] = _short(value) if isinstance(value, float) else value
    for prefix, mapping in MAPPINGS.items():
        for language, value in (getattr(observation, mapping) or {}).items():
            cells[prefix + language] = _short(value)
    return cells | dict(observation.extra)


def _quoted(cell: str | float) -> str:
    # Not csv.writer: with lines ending in \n it leaves a \r unquoted, which no reader accepts.
    text = str(cell)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text


def _short(value: float) -> float:
    """The same number; counts as integers, which read better (2000000000, not 2000000000.0)."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
