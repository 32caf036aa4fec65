"""Synergy: how much training on one language lowers the loss of another.

The evidence is pair runs: a target with as many tokens of an auxiliary language, beside the
baseline, the target's own tokens seen twice (arXiv 2512.13472, its equation 2 and Table 1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from blendlaw import stored
from blendlaw.errors import InputError
from blendlaw.fitted import Fit
from blendlaw.laws.base import REPETITION
from blendlaw.laws.effective import SUBSTITUTION
from blendlaw.observations import Observation
from blendlaw.pair_runs import PairLoss
from blendlaw.problems import BILLION

VERSION = 1
TAIL = 0.05
ELASTICITY = 0.10
"""−d log L / d log D assumed where no fit says: the slow power of the paper's 420 runs at 128B
tokens gives 0.05 to 0.13 (docs/laws.md)."""

Matrix = dict[str, dict[str, float]]


@dataclass(frozen=True)
class PairRun:
    """One pair run: its loss, and the tokens (counts) of target and auxiliary; for a baseline
    ``auxiliary`` is the target and ``auxiliary_tokens`` are those seen again."""

    target: str
    auxiliary: str
    loss: float
    own_tokens: float
    auxiliary_tokens: float


@dataclass(frozen=True)
class Synergy:
    """What pair runs say of transfer; every matrix is ``[target][auxiliary]``.

    ``gain_percent``: how much lower the loss is than the baseline's, positive helps; its 90%
    ``gain_interval`` where runs were repeated. ``transfer``: what a token of the auxiliary counts
    for the target, 1 being a fresh token of its own; where the pairs would put some auxiliary
    above that, the target's whole row is divided by ``divisor``. ``neutral`` is the transfer of a
    gain of 0: what the repeated tokens of the baseline were worth. ``assumed`` records what the
    losses alone do not tell.
    """

    gain_percent: Matrix
    transfer: Matrix
    neutral: dict[str, float]
    divisor: dict[str, float]
    gain_interval: dict[str, dict[str, tuple[float, float]]]
    transfer_interval: dict[str, dict[str, tuple[float, float]]]
    assumed: dict[str, Any]

    @property
    def substitution(self) -> float:
        return float(self.assumed["substitution"])

    @property
    def repetition(self) -> float:
        return float(self.assumed["repetition"])

    def worth(self) -> dict[str, Any]:
        """What ``fit`` and ``Fit`` take of it: ``transfer``, ``repetition``, ``substitution``."""
        return {
            "transfer": self.transfer,
            "repetition": self.repetition,
            "substitution": self.substitution,
        }

    def __str__(self) -> str:
        rows = [
            f"  {target}: " + ", ".join(f"{aux} {gain:+.2f}%" for aux, gain in row.items())
            for target, row in self.gain_percent.items()
        ]
        return "\n".join(["gain of each target by its auxiliary", *rows])

    def to_json(self) -> str:
        """synergy.json, version 1 (docs/files.md)."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Synergy:
        """The Synergy that ``to_json`` wrote. Raises InputError on anything else."""
        found = stored.from_json(cls, text, VERSION, "synergy.json")
        for name in ("substitution", "repetition"):
            given = found.assumed.get(name)
            if not (isinstance(given, int | float) and 0 < given < np.inf):
                raise InputError(
                    "not a synergy.json: must be above 0", column=f"assumed.{name}", value=given
                )
        return found


def measure_synergy(
    runs: Sequence[PairLoss] | Sequence[Observation],
    *,
    fit: Fit | None = None,
    params: float | None = None,
    repetition: float = REPETITION,
) -> Synergy:
    """Gains of pair runs, and the transfer that they imply.

    ``runs`` are rows of the pair table, or observations that say what each run saw
    (``tokens.<language>`` or weights): runs of one language are baselines, runs of two are pairs.

    With g the gain as a fraction, S_b the worth of the baseline's tokens after repetition, D_t and
    D_j the pair's tokens and ε = −d log L/d log D of the target there,

        transfer = [S_b·(1 + g/ε) − D_t] / D_j,

    the tangent of the ratio L(D_t + transfer·D_j)/L(S_b) = 1 − g: always finite, and for a convex
    curve at most the exact solution, which for large gains does not exist. ε comes from ``fit`` at
    ``params``, else 0.10 is assumed. Raises InputError for a pair without its baseline.
    """
    if not runs:
        raise InputError("there are no pair runs")
    from_table = isinstance(runs[0], PairLoss)
    pairs = [_of_table(run) for run in runs] if from_table else _of_observations(runs)  # type: ignore[arg-type]
    cells: dict[tuple[str, str], list[PairRun]] = {}
    for run in pairs:
        cells.setdefault((run.target, run.auxiliary), []).append(run)
    targets = list(dict.fromkeys(run.target for run in pairs))
    for target in targets:
        if (target, target) not in cells:
            raise InputError(
                f"{target} has no baseline: a run of its own tokens alone, as many as in its pairs"
            )
    spread, freedom = _spread(cells)
    slopes = _elasticities(fit, params, cells, targets, from_table)
    gains: Matrix = {}
    counted: Matrix = {}
    gain_intervals: dict[str, dict[str, tuple[float, float]]] = {}
    count_intervals: dict[str, dict[str, tuple[float, float]]] = {}
    neutral, divisor = {}, {}
    for target in targets:
        base = cells[target, target]
        rows = {aux: cell for (t, aux), cell in cells.items() if t == target and aux != target}
        rho, epsilon = _neutral(base, repetition), slopes[target]
        raw = {}
        for auxiliary, cell in rows.items():
            gain = 1 - np.exp(_mean_log(cell) - _mean_log(base))
            raw[auxiliary] = _tangent(gain, epsilon, base, cell, repetition)
            gains.setdefault(target, {})[auxiliary] = 100 * float(gain)
            if freedom:
                error = spread * np.sqrt(1 / len(cell) + 1 / len(base))
                reach = float(stats.t.ppf(1 - TAIL, freedom) * error)
                ends = [1 - (1 - gain) * np.exp(sign * reach) for sign in (1, -1)]
                gain_intervals.setdefault(target, {})[auxiliary] = (100 * ends[0], 100 * ends[1])
                count_intervals.setdefault(target, {})[auxiliary] = (
                    _tangent(ends[0], epsilon, base, cell, repetition),
                    _tangent(ends[1], epsilon, base, cell, repetition),
                )
        scale = max(1.0, *raw.values()) if raw else 1.0
        counted[target] = {aux: value / scale for aux, value in raw.items()}
        for aux, (low, high) in count_intervals.get(target, {}).items():
            count_intervals[target][aux] = (low / scale, high / scale)
        neutral[target], divisor[target] = rho / scale, scale
    return Synergy(
        gain_percent=gains,
        transfer=counted,
        neutral=neutral,
        divisor=divisor,
        gain_interval=gain_intervals,
        transfer_interval=count_intervals,
        assumed={
            "repetition": repetition,
            "substitution": SUBSTITUTION,
            "elasticity": slopes,
            "curve": "default" if fit is None else fit.law,
            "params": params,
            "baseline": "the same tokens seen twice" if from_table else "as observed",
        },
    )


def _of_table(run: PairLoss) -> PairRun:
    """A row of the pair table; its token counts are equal, and otherwise do not matter."""
    return PairRun(run.target, run.auxiliary, run.loss, BILLION, BILLION)


def _of_observations(observations: Sequence[Observation]) -> list[PairRun]:
    """Two-language runs as pairs, and single-language runs of their size as baselines."""
    baselines: dict[str, list[tuple[Observation, PairRun]]] = {}
    pairs: dict[str, list[tuple[Observation, PairRun]]] = {}
    for seen in observations:
        target = seen.language
        shares = {name: share for name, share in seen.shares().items() if share > 0}
        others = [name for name in shares if name != target]
        own = shares.get(target, 0.0) * seen.tokens
        if not own or len(others) > 1:
            continue
        if others:
            pair = PairRun(target, others[0], seen.loss, own, seen.tokens - own)
            pairs.setdefault(target, []).append((seen, pair))
            continue
        fresh = min((seen.unique_tokens or {}).get(target, own), own)
        alone = PairRun(target, target, seen.loss, fresh, own - fresh)
        baselines.setdefault(target, []).append((seen, alone))
    if not pairs:
        raise InputError(
            "no run saw its language and one other: give tokens.<language> or weights.<language>, "
            "or the table target, auxiliary, loss"
        )
    found = []
    for target, runs in pairs.items():
        first, pair = runs[0]
        # As many tokens as the pair in all, else as many as the pair's own.
        sized = [(o, run) for o, run in baselines.get(target, []) if _near(o.params, first.params)]
        whole = [run for o, run in sized if _near(o.tokens, first.tokens)]
        alike = whole or [run for o, run in sized if _near(o.tokens, pair.own_tokens)]
        _refuse_mixed(target, [run for _, run in runs], [o.params for o, _ in runs])
        _refuse_mixed(target, alike, [first.params])
        found += alike + [run for _, run in runs]
    return found


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 0.01 * other


def _refuse_mixed(target: str, runs: Sequence[PairRun], params: Sequence[float]) -> None:
    """Losses of other sizes, tokens or shares are no repetitions of one measurement."""
    for column in (params, [r.own_tokens for r in runs], [r.auxiliary_tokens for r in runs]):
        if column and not all(_near(number, column[0]) for number in column):
            raise InputError(
                f"the runs of {target} differ in params, tokens, unique tokens or shares: choose "
                "those of one kind (--where)"
            )


def _mean_log(cell: Sequence[PairRun]) -> float:
    return float(np.mean([np.log(run.loss) for run in cell]))


def _spread(cells: Mapping[tuple[str, str], Sequence[PairRun]]) -> tuple[float, int]:
    """The standard deviation of log-loss between repeated runs, pooled, and its freedom."""
    freedom = sum(len(cell) - 1 for cell in cells.values())
    squares = sum(
        (np.log(run.loss) - _mean_log(cell)) ** 2 for cell in cells.values() for run in cell
    )
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else (0.0, 0)


def _worth(run: PairRun, repetition: float) -> float:
    """The baseline's tokens after repetition."""
    repeats = run.auxiliary_tokens / run.own_tokens
    return float(run.own_tokens * (1 - np.expm1(-repetition * repeats) / repetition))


def _neutral(base: Sequence[PairRun], repetition: float) -> float:
    """What a repeated token of the baseline was worth, beside a fresh one."""
    run = base[0]
    if not run.auxiliary_tokens:
        return 1.0
    return float((_worth(run, repetition) - run.own_tokens) / run.auxiliary_tokens)


def _tangent(
    gain: float, epsilon: float, base: Sequence[PairRun], cell: Sequence[PairRun], repetition: float
) -> float:
    worth = _worth(base[0], repetition)
    return float((worth * (1 + gain / epsilon) - cell[0].own_tokens) / cell[0].auxiliary_tokens)


def _elasticities(
    fit: Fit | None,
    params: float | None,
    cells: Mapping[tuple[str, str], Sequence[PairRun]],
    targets: Sequence[str],
    from_table: bool,
) -> dict[str, float]:
    """−d log L/d log D of each target at its baseline, by the fit or by default."""
    if fit is None:
        return dict.fromkeys(targets, ELASTICITY)
    if params is None:
        raise InputError("transfer by a fit needs the params of the pair runs")
    if from_table:
        raise InputError("transfer by a fit needs observations that say their tokens, not a table")
    found = {}
    for target in targets:
        base = cells[target, target][0]
        tokens = base.own_tokens + base.auxiliary_tokens
        if target not in fit.languages:
            raise InputError(f"the fit has no language {target!r}")
        step = 1e-4
        low, high = (
            fit.predict(params, tokens * factor, {target: 1.0})[target]
            for factor in (np.exp(-step), np.exp(step))
        )
        found[target] = float(max(-(np.log(high) - np.log(low)) / (2 * step), 1e-3))
    return found
