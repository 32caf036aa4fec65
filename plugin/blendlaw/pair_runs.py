"""Pair runs: the loss of a target language after training on it and one auxiliary language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.rows import read_rows, require_columns
from blendlaw.values import name, positive, text

COLUMNS = ("target", "auxiliary", "loss")


@dataclass(frozen=True)
class PairLoss:
    """Loss of ``target`` (nats/token) after equal tokens of ``target`` and ``auxiliary``.

    ``auxiliary`` equal to ``target`` is the baseline: the same tokens seen twice.
    ``extra`` holds all other columns as text. Raises InputError naming the column.
    """

    target: str
    auxiliary: str
    loss: float
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name(self.target, "target")
        name(self.auxiliary, "auxiliary")
        object.__setattr__(self, "loss", positive(self.loss, "loss"))
        object.__setattr__(self, "extra", dict(self.extra))


def read_pairs_table(path: str | Path) -> list[PairLoss]:
    """The pair table, columns ``target, auxiliary, loss``, in CSV or JSONL (``-`` is stdin).

    A pair may be measured again where a ``seed`` or ``run`` column tells the rows apart. Every
    target needs its baseline. Raises InputError (file, line, column, value), OSError.
    """
    label = "<stdin>" if str(path) == "-" else str(path)
    pairs: list[PairLoss] = []
    first_line: dict[tuple[str | None, ...], int] = {}
    for line, cells in read_rows(path, lambda columns: require_columns(columns, COLUMNS)):
        try:
            for column in COLUMNS:
                if column not in cells:
                    raise InputError("is empty", column=column)
            extra = {c: text(cell, c) for c, cell in cells.items() if c not in COLUMNS}
            pair = PairLoss(cells["target"], cells["auxiliary"], cells["loss"], extra)
            key = (pair.target, pair.auxiliary, extra.get("seed"), extra.get("run"))
            if first_line.setdefault(key, line) != line:
                raise InputError(
                    f"the pair {pair.target}, {pair.auxiliary} is also on line {first_line[key]}; "
                    "repeated runs need a 'seed' or 'run' column"
                )
        except InputError as error:
            error.file, error.line = label, line
            raise
        pairs.append(pair)
    if not pairs:
        raise InputError("no pair to read", file=label)
    with_baseline = {pair.target for pair in pairs if pair.auxiliary == pair.target}
    for pair in pairs:
        if pair.target not in with_baseline:
            raise InputError(
                f"no baseline for {pair.target}: a row whose auxiliary is {pair.target} itself",
                file=label,
            )
    return pairs


def is_pairs_table(path: str | Path) -> bool:
    """Whether a file is the pair table rather than observations: it has an ``auxiliary`` column.

    Raises InputError for stdin and pipes, which could not be read again afterwards.
    """
    if str(path) == "-" or Path(path).is_fifo():
        raise InputError("must be a file, which can be read twice", file=path)
    columns: list[str] = []
    next(read_rows(path, columns.extend), None)
    return "auxiliary" in columns
