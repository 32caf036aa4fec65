"""Which runs to do: each adds information, each has its price.

The knowledge of a language's parameters is a covariance C. A run with the whitened slope u (the
derivative of the log-loss over its noise) makes it C − C·u·uᵀ·C / (1 + uᵀ·C·u), so what the run
takes off tr(M·C) is uᵀ·C·M·C·u / (1 + uᵀ·C·u): exact, without an inverse.

Everything is held at s points of the parameters at once, and for the t languages, whose parameters
are fitted apart: covariances and matrices are (s, t, p, p), slopes (s, n, t, p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendlaw.laws.base import Array
from blendlaw.threads import single_threaded

PASSES = 4  # of exchanges; most searches end in two or three
BETTER = 1e-3  # an exchange must lower the criterion by this part, else passes would not end


@dataclass(frozen=True, eq=False)
class Choice:
    """The runs chosen, in the order in which they are worth doing, and the criterion after each.

    ``values`` has one number more than ``runs``: the criterion before any.
    """

    runs: list[int]
    values: list[float]


@single_threaded
def choose(
    precision: Array, matrices: Array, slopes: Array, cost: Array, budget: float, most: int
) -> Choice:
    """At most ``most`` runs of at most ``budget`` in all that make mean tr(M·C) small.

    ``precision`` (s, t, p, p) is what is known, ``matrices`` M, ``slopes`` (s, n, t, p) of the
    candidates, 0 where a run does not measure a language; ``cost`` (n,). Greedy by the gain for
    the price, then exchanges: a chosen run for another, as long as one is better within the
    budget. No run is chosen twice. Deterministic; equal gains go to the first.
    """
    start = covariance(precision, slopes[:, :0])
    chosen = _greedy(start, matrices, slopes, cost, budget, most)
    for _ in range(PASSES):
        before = list(chosen)
        for run in before:
            chosen = _exchanged(run, chosen, precision, matrices, slopes, cost, budget)
        left = budget - cost[chosen].sum()
        with_these = covariance(precision, slopes[:, chosen])
        chosen += _greedy(
            with_these, matrices, slopes, cost, left, most - len(chosen), taken=chosen
        )
        if chosen == before:
            break
    order = np.array(chosen, dtype=np.intp)
    within = _greedy(start, matrices, slopes[:, order], cost[order], np.inf, len(order))
    runs = order[within].tolist()
    values = [
        float(
            np.einsum("stij,stji->s", matrices, covariance(precision, slopes[:, runs[:n]])).mean()
        )
        for n in range(len(runs) + 1)
    ]
    return Choice(runs, values)


def covariance(precision: Array, slopes: Array) -> Array:
    """The covariance (s, t, p, p) once runs with ``slopes`` (s, r, t, p) are measured."""
    return np.asarray(np.linalg.inv(precision + np.einsum("srti,srtj->stij", slopes, slopes)))


def gains(known: Array, matrices: Array, slopes: Array) -> Array:
    """What each candidate takes off the mean tr(M·C) of the covariances ``known``, (n,)."""
    by_language = np.swapaxes(slopes, 1, 2)  # (s, t, n, p)
    moved = by_language @ known
    weighed = ((moved @ matrices) * moved).sum(-1)
    return np.asarray((weighed / (1 + (moved * by_language).sum(-1))).sum(1).mean(0))


def _greedy(
    known: Array,
    matrices: Array,
    slopes: Array,
    cost: Array,
    budget: float,
    most: int,
    taken: list[int] | None = None,
) -> list[int]:
    """Runs by the gain for their price, until none can be paid for or none gains."""
    chosen: list[int] = []
    free = np.ones(len(cost), bool)
    free[taken or []] = False
    while len(chosen) < most:
        open_ = np.flatnonzero(free & (cost <= budget))
        if not len(open_):
            break
        worth = gains(known, matrices, slopes[:, open_]) / cost[open_]
        if not worth.max() > 0:
            break
        best = int(open_[np.argmax(worth)])
        chosen.append(best)
        free[best] = False
        budget -= cost[best]
        known = _measured(known, slopes[:, best])
    return chosen


def _measured(known: Array, slope: Array) -> Array:
    """``known`` (s, t, p, p) after one run of ``slope`` (s, t, p)."""
    moved = (known @ slope[..., None])[..., 0]
    size = 1 + (moved * slope).sum(-1)
    return np.asarray(known - moved[..., :, None] * moved[..., None, :] / size[..., None, None])


def _exchanged(
    run: int,
    chosen: list[int],
    precision: Array,
    matrices: Array,
    slopes: Array,
    cost: Array,
    budget: float,
) -> list[int]:
    """``chosen`` with another run in the place of ``run`` if that is better."""
    others = [other for other in chosen if other != run]
    without = covariance(precision, slopes[:, others])
    left = budget - cost[others].sum()
    free: NDArray[np.bool_] = cost <= left
    free[others] = False
    open_ = np.flatnonzero(free)
    worth = gains(without, matrices, slopes[:, open_])
    at_most = np.einsum("stij,stji->s", matrices, without).mean()
    best = int(np.argmax(worth))
    now = at_most - worth[np.flatnonzero(open_ == run)[0]]
    if at_most - worth[best] < (1 - BETTER) * now:
        return [*others, int(open_[best])]
    return chosen
