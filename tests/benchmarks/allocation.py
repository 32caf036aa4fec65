"""Allocations of 7, 50 and 500 languages with a dense transfer matrix, against scipy's SLSQP.

SLSQP gets the same objective with its analytic gradient, ftol 1e-15, and 1,000 iterations; both
start from uniform weights. blendlaw.allocate also compares with two other blends, says what holds
each weight back, and so on: all that is in its time. The residual of the Karush–Kuhn–Tucker
conditions of both is computed here, not taken from blendlaw.

    python tests/benchmarks/allocation.py
"""

from __future__ import annotations

import numpy as np
from measure import BILLION, Array, arguments, in_turn, report
from scipy.optimize import minimize

import blendlaw
from blendlaw.fitted import LanguageFit

PARAMS, TOKENS = 1.5e9, 350e9


def synthetic(languages: int, seed: int = 0) -> blendlaw.Fit:
    """A fit of Chinchilla laws with help and harm of a few percent between all languages."""
    generator = np.random.default_rng(seed)
    names = [f"language{number}" for number in range(languages)]
    fitted = {
        name: LanguageFit(
            params={
                "E": 0.3,
                "A": 0.1 * generator.lognormal(),
                "alpha": 0.3,
                "B": generator.lognormal(),
                "beta": generator.uniform(0.1, 1.2),
            },
            n_observations=60,
            objective=1.0,
            rms_log_error=0.01,
        )
        for name in names
    }
    transfer = {a: {b: float(generator.normal(0.02, 0.05)) for b in names if b != a} for a in names}
    return blendlaw.Fit("chinchilla", fitted, tuple(names), transfer)


class Sum:
    """The sum of the losses as a function of the weights, written out once more."""

    def __init__(self, fit: blendlaw.Fit):
        columns = ("E", "A", "alpha", "B", "beta")
        rows = [[one.params[c] for c in columns] for one in fit.languages.values()]
        self.floor, a, alpha, self.b, self.beta = np.array(rows).T
        self.floor = self.floor + a * (PARAMS / BILLION) ** -alpha
        self.worth = np.eye(len(fit.sources))
        for row, target in enumerate(fit.sources):
            for column, source in enumerate(fit.sources):
                self.worth[row, column] += fit.transfer[target].get(source, 0.0)

    def with_gradient(self, weights: Array) -> tuple[float, Array]:
        tokens = TOKENS / BILLION * np.maximum(self.worth @ weights, 1e-12)
        data = self.b * tokens**-self.beta
        slope = -self.beta * data / tokens * TOKENS / BILLION
        return float((self.floor + data).sum()), slope @ self.worth


def residual(gradient: Array, weights: Array) -> float:
    """How far apart the slopes are: above every other where weight is given, of the largest."""
    excess = gradient[weights > 1e-9].max() - gradient.min()
    return float(excess / 2 / np.abs(gradient).max())


def main() -> None:
    parser = arguments(__doc__, repeats=21)
    parser.add_argument("--languages", type=int, nargs="+", default=[7, 50, 500])
    parser.add_argument(
        "--slsqp-up-to", type=int, default=50, help="languages; it is cubic and slow"
    )
    parser.add_argument("--fits", type=int, default=5, help="how many fits of each size")
    given = parser.parse_args()
    figures: dict[str, float | str] = {}
    for count in given.languages:
        rows = []
        for seed in range(given.fits if count <= given.slsqp_up_to else 1):
            rows.append(_compare(count, seed, given.repeats, count <= given.slsqp_up_to))
        figures |= {
            f"{count} languages: {what}": max(row[what] for row in rows)
            if "residual" in what or "excess" in what
            else float(np.median([row[what] for row in rows]))
            for what in rows[0]
        }
    report("allocations with a dense transfer matrix", figures, given.json)


def _compare(count: int, seed: int, repeats: int, with_slsqp: bool) -> dict[str, float]:
    fit = synthetic(count, seed)
    total = Sum(fit)

    def ours() -> blendlaw.Allocation:
        return blendlaw.allocate(fit, params=PARAMS, tokens=TOKENS)

    def slsqp() -> Array:
        uniform = np.full(count, 1 / count)
        constraint = {
            "type": "eq",
            "fun": lambda w: w.sum() - 1,
            "jac": lambda w: np.ones_like(w),
        }
        return minimize(
            total.with_gradient,
            uniform,
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * count,
            constraints=[constraint],
            options={"ftol": 1e-15, "maxiter": 1000},
        ).x

    weights = np.array(list(ours().weights.values()))
    value, gradient = total.with_gradient(weights)
    found = {"blendlaw, residual": residual(gradient, weights)}
    if not with_slsqp:
        return {"blendlaw, CPU s": in_turn(repeats, ours)[0]} | found
    other = slsqp()
    other /= other.sum()
    other_value, other_gradient = total.with_gradient(other)
    times = in_turn(repeats, ours, slsqp)
    return (
        {"blendlaw, CPU s": times[0]}
        | found
        | {
            "SLSQP, CPU s": times[1],
            "times faster than SLSQP": times[1] / times[0],
            "SLSQP, residual": residual(other_gradient, other),
            "excess of blendlaw's sum of losses": value - other_value,
            "excess of SLSQP's sum of losses": other_value - value,
        }
    )


if __name__ == "__main__":
    main()
