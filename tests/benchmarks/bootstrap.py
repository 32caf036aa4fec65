"""4,000 bootstrap refits of a Chinchilla law to 240 points, and whether their intervals agree.

The comparison is what one would write with scipy: BFGS from the fit's optimum with analytic
gradients, once per resample. It is run on ``--subset`` resamples and its time is extrapolated. It
is given blendlaw's first resamples and the published corner of Huber's function, 1e-3, and compared
with blendlaw's solver on just that; ``refit`` itself moves the corner out (docs/laws.md).

    python tests/benchmarks/bootstrap.py
"""

from __future__ import annotations

import hoffmann
import numpy as np
from measure import Array, arguments, cpu, in_ones, observations, points, report
from scipy.optimize import minimize

from blendlaw.estimate import CHUNK, Options, bounds, natural, refit, resampled, solve
from blendlaw.fitting import INTERVAL
from blendlaw.plugins import laws
from blendlaw.problems import Worth, problems
from blendlaw.solver import minimise


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--draws", type=int, default=4000, help="bootstrap refits")
    parser.add_argument("--subset", type=int, default=400, help="how many of them scipy does")
    parser.add_argument("--points", type=int, default=240, help="how many synthetic points")
    given = parser.parse_args()
    data = points(given.points)
    law = laws()["chinchilla"]
    problem = problems(observations(*data), Worth(), joint=False)[0]
    theta, _, _ = solve(law, problem, Options())
    parameters = law.parameters(problem.runs.languages, 0)
    names = [parameter.name for parameter in parameters]
    weight = resampled(problem, given.draws, seed=0)
    size = CHUNK // given.points

    def by_solver() -> Array:
        lower, upper = bounds(parameters)
        parts = [weight[begin : begin + size] for begin in range(0, given.draws, size)]
        starts = [np.tile(theta, (len(part), 1)) for part in parts]
        fixed = (law, problem.runs, problem.measured, Options().objective())
        found = [
            minimise(*fixed, start, lower, upper, part).theta
            for start, part in zip(starts, parts, strict=True)
        ]
        return np.concatenate(found)

    def by_scipy() -> Array:
        start = in_ones(dict(zip(names, natural(parameters, theta), strict=True)))
        found = []
        for row in weight[: given.subset]:
            objective = hoffmann.Objective(*data, row)
            found.append(minimize(objective.with_gradient, start, jac=True, method="BFGS").x)
        return np.array(found)

    refit(law, problem, Options(), theta, 10, seed=0)
    times = []
    for _ in range(given.repeats):
        whole, _ = cpu(lambda: refit(law, problem, Options(), theta, given.draws, seed=0))
        mine, draws = cpu(by_solver)
        scipys, others = cpu(by_scipy)
        times.append((whole, mine, scipys * given.draws / len(others)))
    whole, mine, scipys = np.median(times, axis=0).tolist()
    params = natural(parameters, draws)
    ours = np.array([in_ones(dict(zip(names, row, strict=True))) for row in params])
    tails = [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
    span, other = (np.quantile(x[: len(others)], tails, axis=0) for x in (ours, others))
    values = np.array(
        [
            [hoffmann.Objective(*data, row).value(x) for x in pair]
            for row, *pair in zip(weight, ours, others, strict=False)
        ]
    )
    report(
        f"{given.draws} bootstrap refits of a Chinchilla law to {given.points} points",
        {
            "blendlaw.estimate.refit, CPU s": whole,
            "blendlaw's solver on what scipy is given, CPU s": mine,
            f"scipy BFGS, CPU s, extrapolated from {len(others)}": scipys,
            "times faster": scipys / mine,
            "ends of the 90% intervals apart, at most, of their width": float(
                (np.abs(span - other) / (other[1] - other[0])).max()
            ),
            "refits where blendlaw's objective is more than 1e-9 above": int(
                (values[:, 0] > values[:, 1] + 1e-9).sum()
            ),
            "refits where scipy's objective is more than 1e-9 above": int(
                (values[:, 1] > values[:, 0] + 1e-9).sum()
            ),
            "worst excess of blendlaw's objective": float((values[:, 0] - values[:, 1]).max()),
        },
        given.json,
    )


if __name__ == "__main__":
    main()
