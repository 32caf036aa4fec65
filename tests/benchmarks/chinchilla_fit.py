"""One Chinchilla fit of 240 points against the published procedure, 4,500 starts of L-BFGS-B.

Also whether the optimum is found at all: on resampled data sets (rows drawn with replacement)
against the lowest of many starts of L-BFGS-B with analytic gradients, polished.

    python tests/benchmarks/chinchilla_fit.py [--data FILE.csv]

FILE.csv has columns "Model Size", "Training FLOP" and "loss", as published with arXiv 2404.10102;
tokens are FLOP/6/N, and the five highest losses are left out, as there.
"""

from __future__ import annotations

import csv
from pathlib import Path

import hoffmann
import numpy as np
from measure import Array, arguments, cpu, in_ones, in_turn, observations, points, report

import blendlaw
from blendlaw.estimate import Options, solve
from blendlaw.plugins import laws
from blendlaw.problems import Worth, problems

Points = tuple[Array, Array, Array]
OUTLIERS = 5


def read(path: Path) -> Points:
    with path.open() as lines:
        columns = ("Model Size", "Training FLOP", "loss")
        rows = [[float(row[column]) for column in columns] for row in csv.DictReader(lines)]
    size, flop, loss = np.array(sorted(rows, key=lambda row: row[2])[:-OUTLIERS]).T
    return size, flop / 6 / size, loss


def resample(data: Points, seed: int) -> Points:
    rows = np.random.default_rng([seed, 1]).integers(len(data[0]), size=len(data[0]))
    params, tokens, loss = (column[rows] for column in data)
    return params, tokens, loss


def ours(data: Points) -> float:
    """The published objective at blendlaw's fit."""
    fitted = blendlaw.fit(observations(*data), "chinchilla").languages["text"]
    return hoffmann.Objective(*data).value(in_ones(fitted.params))


def main() -> None:
    parser = arguments(__doc__, repeats=21)
    parser.add_argument("--data", type=Path, help="the published points, instead of synthetic ones")
    parser.add_argument("--points", type=int, default=240, help="how many synthetic points")
    parser.add_argument("--stride", type=int, default=1, help="every how many of the 4,500 starts")
    parser.add_argument("--reference-fits", type=int, default=2, help="times 4,500 starts are run")
    parser.add_argument("--resamples", type=int, default=100, help="data sets to be right on")
    parser.add_argument("--resample-stride", type=int, default=9, help="as stride, for these")
    given = parser.parse_args()
    data = points(given.points) if given.data is None else read(given.data)
    starts = hoffmann.GRID[:: given.stride]
    objective = hoffmann.Objective(*data)
    rows = observations(*data)
    problem = problems(rows, Worth(), joint=False)[0]

    times, reached = [], [np.nan] * 3
    for _ in range(given.reference_fits):
        mine = in_turn(
            given.repeats,
            lambda: blendlaw.fit(rows, "chinchilla"),
            lambda: solve(laws()["chinchilla"], problem, Options()),
        )
        slow, (_, reached[0]) = cpu(lambda: hoffmann.fit(objective, starts, analytic=False))
        fast, (best, reached[1]) = cpu(lambda: hoffmann.fit(objective, starts, analytic=True))
        reached[2] = hoffmann.polish(objective, best)
        times.append([*mine, slow, fast])
    fit_s, solve_s, differences_s, gradients_s = np.median(times, axis=0).tolist()
    value = ours(data)

    excess = []
    for seed in range(given.resamples):
        drawn = resample(data, seed)
        some = hoffmann.GRID[seed % given.resample_stride :: given.resample_stride]
        excess.append(ours(drawn) - hoffmann.lowest(hoffmann.Objective(*drawn), some))
    report(
        f"Chinchilla fit of {len(data[0])} points",
        {
            "blendlaw.fit, CPU s": fit_s,
            "of which solve, CPU s": solve_s,
            f"L-BFGS-B, differences, {len(starts)} starts, CPU s": differences_s,
            f"L-BFGS-B, gradients, {len(starts)} starts, CPU s": gradients_s,
            "times faster than differences": differences_s / fit_s,
            "times faster than gradients": gradients_s / fit_s,
            "objective": f"{value:.11e}",
            "objective less that of differences": value - reached[0],
            "objective less that of gradients": value - reached[1],
            "objective less that of gradients, polished": value - reached[2],
            "resamples": len(excess),
            "worst excess over the lowest known": max(excess, default=0.0),
            "resamples more than 1e-9 above it": sum(x > 1e-9 for x in excess),
            "resamples more than 1e-9 below it": sum(x < -1e-9 for x in excess),
        },
        given.json,
    )


if __name__ == "__main__":
    main()
