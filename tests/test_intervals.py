"""Do 90% intervals cover 90%? Fits of a known law, many times over, with other noise each time.

Whole studies are slow, so the fit itself starts from the truth rather than from everywhere.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from blendlaw.estimate import Options, bounds, refit
from blendlaw.fitting import INTERVAL, fit
from blendlaw.laws.chinchilla import Chinchilla
from blendlaw.laws.effective import Array
from blendlaw.observations import Observation
from blendlaw.problems import BILLION, Problem, Worth, problem
from blendlaw.solver import minimise

LAW = Chinchilla()
LOWER, UPPER = bounds(LAW.law_parameters)
TRUE = np.array([np.log(0.4), np.log(0.2), 0.4, np.log(1.5), 0.7])
REPEATS, DRAWS = 200, 200


def design() -> Problem:
    """The paper's ten sizes and its budgets from 4 to 64 billion tokens, without noise."""
    sizes = np.geomspace(0.094, 3.06, 10)
    seen = [
        Observation("Go", n * BILLION, d * BILLION, 1.0)
        for n in sizes
        for d in (4.0, 8.0, 16.0, 32.0, 64.0)
    ]
    empty = problem(seen, ("Go",), Worth(), "Go")
    return replace(empty, measured=LAW.loss(TRUE, empty.runs))


DESIGN = design()


def with_forecast(theta: Array) -> Array:
    """Parameters (…, 5), and log-loss of 7 billion parameters and 300 billion tokens."""
    e, a, alpha, b, beta = np.moveaxis(theta, -1, 0)
    loss: Array = np.exp(e) + np.exp(a) * 7.0**-alpha + np.exp(b) * 300.0**-beta
    return np.concatenate([theta, np.log(loss)[..., None]], -1)


def noise(kind: str, generator: np.random.Generator) -> Array:
    """Of the log-loss, about 1%."""
    n = len(DESIGN.measured)
    if kind == "normal":
        return generator.normal(0.0, 0.01, n)
    assert kind == "student"  # three degrees of freedom: one in fifty beyond 4.5 standard errors
    return np.asarray(0.01 / np.sqrt(3) * generator.standard_t(3, n))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "kind"),
    [("huber", "normal"), ("huber", "student"), ("squares", "normal")],
)
def test_ninety_percent_intervals_cover_about_that(loss: str, kind: str) -> None:
    generator = np.random.default_rng(0)
    options, truth = Options(loss), with_forecast(TRUE)
    tail = (1 - INTERVAL) / 2
    hits = []
    for repeat in range(REPEATS):
        seen = replace(DESIGN, measured=DESIGN.measured * np.exp(noise(kind, generator)))
        found = minimise(
            LAW, seen.runs, seen.measured, options.objective(), TRUE[None], LOWER, UPPER
        )
        draws = with_forecast(refit(LAW, seen, options, found.theta[0], DRAWS, repeat))
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
        hits.append((low <= truth) & (truth <= high))
    names = ["E", "A", "alpha", "B", "beta", "forecast"]
    coverage = dict(zip(names, np.mean(hits, 0).tolist(), strict=True))
    assert min(coverage.values()) >= 0.84, coverage
    assert max(coverage.values()) <= 0.96, coverage


def observed(seed: int, runs: int = 1) -> list[Observation]:
    """Noisy losses; with ``runs`` above 1 so many losses share a run and its noise."""
    generator = np.random.default_rng(seed)
    rows = zip(DESIGN.runs.params, DESIGN.runs.tokens, DESIGN.measured, strict=True)
    found, shared = [], 0.0
    for number, (params, tokens, loss) in enumerate(rows):
        if number % runs == 0:
            shared = 0.01 * generator.normal()
        measured = float(loss * np.exp(shared + 0.001 * generator.normal()))
        run = f"run {number // runs}" if runs > 1 else None
        found.append(Observation("Go", params * BILLION, tokens * BILLION, measured, run=run))
    return found


def test_intervals_are_the_quantiles_of_the_draws_around_the_fit() -> None:
    found = fit(observed(0), "chinchilla", bootstrap=100).languages["Go"]
    draws = np.array(found.draws)
    for column, (name, value) in enumerate(found.params.items()):
        expected = np.quantile(draws[:, column], [0.05, 0.95])
        assert found.interval[name] == pytest.approx(expected.tolist())
        assert found.interval[name][0] < value < found.interval[name][1]


def test_losses_that_share_a_run_tell_less() -> None:
    """Five losses of one run, off by the same amount, are nearly one observation."""
    together = observed(1, runs=5)
    apart = [replace(seen, run=None) for seen in together]
    wide, narrow = (
        fit(seen, "chinchilla", bootstrap=200).languages["Go"].interval
        for seen in (together, apart)
    )
    widths = [span[1] - span[0] for span in (wide["alpha"], narrow["alpha"])]
    assert widths[0] > 1.2 * widths[1]


def test_more_noise_makes_wider_intervals() -> None:
    calm = fit(observed(2), "chinchilla", bootstrap=100).languages["Go"].interval
    loud = [
        replace(seen, loss=seen.loss * (1 + 0.03 * (-1) ** number))
        for number, seen in enumerate(observed(2))
    ]
    shaken = fit(loud, "chinchilla", bootstrap=100).languages["Go"].interval
    for name in calm:
        assert np.ptp(shaken[name]) > 1.5 * np.ptp(calm[name])


def test_refits_are_quick() -> None:
    """4,000 refits of 50 observations: 0.4 s of one core when this was written."""
    begin = time.process_time()
    fitted = minimise(
        LAW,
        DESIGN.runs,
        DESIGN.measured * np.exp(noise("normal", np.random.default_rng(0))),
        Options().objective(),
        TRUE[None],
        LOWER,
        UPPER,
    )
    refit(LAW, DESIGN, Options(), fitted.theta[0], 4000, 0)
    assert time.process_time() - begin < 10
