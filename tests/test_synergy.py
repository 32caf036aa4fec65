"""Synergy against the paper's table, and against transfer that is known because it was put in."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from blendlaw.data import code7
from blendlaw.errors import InputError
from blendlaw.fitting import Fit, fit
from blendlaw.laws.effective import REPETITION
from blendlaw.observations import Observation
from blendlaw.pair_runs import PairLoss, read_pairs_table
from blendlaw.synergy import ELASTICITY, Synergy, measure_synergy

BILLION = 1e9
TRUE = {"E": 0.4, "A": 0.2, "alpha": 0.4, "B": 1.5, "beta": 0.4}
PARAMS, TOKENS = 1.5e9, 64e9
REPEATED = TOKENS * (1 + (1 - np.exp(-REPETITION)) / REPETITION)
"""What 64 billion tokens seen twice are worth."""


def curve(tokens: float, params: float = PARAMS) -> float:
    size = TRUE["A"] * (params / BILLION) ** -TRUE["alpha"]
    return float(TRUE["E"] + size + TRUE["B"] * (tokens / BILLION) ** -TRUE["beta"])


def pair_runs(tau: dict[str, float], noise: float = 0.0, seed: int = 0) -> list[Observation]:
    """Go's baseline and its pairs with languages that transfer as ``tau`` says."""
    generator = np.random.default_rng(seed)

    def loss(worth: float) -> float:
        return float(curve(worth) * np.exp(noise * generator.normal()))

    both = 2 * TOKENS
    runs = [Observation("Go", PARAMS, both, loss(REPEATED), unique_tokens={"Go": TOKENS})]
    for other, transfer in tau.items():
        seen = {"Go": TOKENS, other: TOKENS}
        worth = TOKENS * (1 + transfer)
        runs.append(Observation("Go", PARAMS, both, loss(worth), tokens_by_language=seen))
    return runs


def known_curve() -> Fit:
    seen = [
        Observation("Go", n, d, curve(d, n))
        for n in np.geomspace(1e8, 3e9, 5)
        for d in np.geomspace(2e9, 256e9, 8)
    ]
    return fit(seen, "chinchilla")


# The paper's table


def test_all_42_gains_are_as_printed() -> None:
    found = measure_synergy(read_pairs_table(code7("synergy"))).gain_percent
    with open(code7("synergy"), newline="") as file:
        printed = [row for row in csv.DictReader(file) if row["gain_percent_as_printed"]]
    assert len(printed) == sum(map(len, found.values())) == 42
    for row in printed:
        gain = found[row["target"]][row["auxiliary"]]
        expected = float(row["gain_percent_as_printed"])
        assert gain == pytest.approx(expected, abs=0.03)
        assert np.sign(gain) == np.sign(expected)


def test_help_need_not_be_mutual() -> None:
    found = measure_synergy(read_pairs_table(code7("synergy")))
    gains, transfer = found.gain_percent, found.transfer
    assert abs(gains["Java"]["Python"] - gains["Python"]["Java"]) > 4
    for target, row in transfer.items():
        assert target not in row
        assert max(row.values()) <= 1 + 1e-12
        assert sorted(row, key=lambda a: row[a]) == sorted(row, key=lambda a: gains[target][a])
        for auxiliary, count in row.items():
            gain = gains[target][auxiliary]
            assert np.sign(count - found.neutral[target]) == np.sign(gain)


def test_the_transfer_is_the_tangents_by_hand() -> None:
    found = measure_synergy([PairLoss("Go", "Go", 1.0), PairLoss("Go", "Rust", 1.004)])
    rho = (1 - np.exp(-REPETITION)) / REPETITION
    assert found.gain_percent["Go"]["Rust"] == pytest.approx(-0.4)
    assert found.transfer["Go"]["Rust"] == pytest.approx(rho - 0.004 / ELASTICITY * (1 + rho))
    assert found.neutral["Go"] == pytest.approx(rho)
    assert found.divisor["Go"] == 1.0
    assert found.gain_interval == {}
    big = measure_synergy([PairLoss("Go", "Go", 1.0), PairLoss("Go", "Rust", 0.9)])
    assert big.transfer["Go"]["Rust"] == 1.0
    assert big.neutral["Go"] == pytest.approx(rho / big.divisor["Go"])


# Observations


def test_observations_say_what_the_table_says() -> None:
    table = read_pairs_table(code7("synergy"))
    seen = []
    for run in table:
        tokens = {run.target: TOKENS, run.auxiliary: TOKENS}
        if run.auxiliary == run.target:
            tokens = {run.target: 2 * TOKENS}
        unique = {run.target: TOKENS}
        seen.append(
            Observation(
                run.target,
                PARAMS,
                2 * TOKENS,
                run.loss,
                tokens_by_language=tokens,
                unique_tokens=unique,
            )
        )
    by_table, by_runs = measure_synergy(table), measure_synergy(seen)
    for target, row in by_table.gain_percent.items():
        assert by_runs.gain_percent[target] == pytest.approx(row)
        assert by_runs.transfer[target] == pytest.approx(by_table.transfer[target])
        assert by_runs.neutral[target] == pytest.approx(by_table.neutral[target])


def test_known_transfer_is_found_from_below() -> None:
    """The tangent never exceeds the exact solution, and is near it where gains are small."""
    tau = {"Java": 1.0, "Rust": 0.9, "C": 0.5, "Perl": 0.0, "SQL": -0.1}
    found = measure_synergy(pair_runs(tau), fit=known_curve(), params=PARAMS)
    divisor = found.divisor["Go"]
    for other, transfer in tau.items():
        tangent = divisor * found.transfer["Go"][other]
        assert tangent <= transfer + 0.02
    assert found.transfer["Go"]["Rust"] == pytest.approx(0.9, abs=0.02)
    order = list(found.transfer["Go"].values())
    assert order == sorted(order, reverse=True)


def test_the_tangent_is_below_the_exact_solution_of_the_ratio() -> None:
    runs = pair_runs({"Java": 0.8})
    (elasticity,) = (
        measure_synergy(runs, fit=known_curve(), params=PARAMS).assumed["elasticity"].values()
    )
    step = 1e-4
    slope = -np.log(curve(2 * TOKENS * np.exp(step)) / curve(2 * TOKENS * np.exp(-step)))
    assert elasticity == pytest.approx(slope / (2 * step), rel=1e-3)
    ratio = runs[1].loss / runs[0].loss
    exact = brentq(lambda t: curve(TOKENS * (1 + t)) / curve(REPEATED) - ratio, 0, 2)
    assert measure_synergy(runs, fit=known_curve(), params=PARAMS).transfer["Go"]["Java"] <= exact


def test_baselines_of_other_sizes_are_not_mixed_in() -> None:
    pairs = pair_runs({"Java": 0.9})
    others = [
        Observation("Go", n, d, curve(d, n), run="small")
        for n in (1e8, PARAMS)
        for d in (2e9, 16e9, 32e9)
    ]
    assert measure_synergy(others + pairs).gain_percent == measure_synergy(pairs).gain_percent
    bigger = replace(pairs[1], params=2 * PARAMS, loss=0.9 * pairs[1].loss)
    with pytest.raises(InputError, match=r"Go differ in params"):
        measure_synergy([*pairs, bigger])
    uneven = replace(pairs[1], tokens_by_language={"Go": 32e9, "Java": 96e9})
    with pytest.raises(InputError, match="shares"):
        measure_synergy([*pairs, uneven])


def test_runs_of_three_languages_or_of_others_alone_are_left_out() -> None:
    three = {"Go": TOKENS, "Java": TOKENS, "Rust": TOKENS}
    without = {"Java": TOKENS}
    extra = [
        Observation("Go", PARAMS, 3 * TOKENS, 0.1, tokens_by_language=three),
        Observation("Go", PARAMS, TOKENS, 9.9, tokens_by_language=without),
    ]
    pairs = pair_runs({"Java": 0.9})
    assert measure_synergy(pairs + extra) == measure_synergy(pairs)


# Repeated runs


def test_intervals_of_repeated_runs_cover() -> None:
    truth = 100 * (1 - curve(TOKENS * 1.9) / curve(REPEATED))
    covered = 0
    for study in range(300):
        seen = [
            replace(run, seed=copy)
            for copy in range(3)
            for run in pair_runs({"Java": 0.9}, noise=0.005, seed=1000 * study + copy)
        ]
        low, high = measure_synergy(seen).gain_interval["Go"]["Java"]
        covered += low <= truth <= high
    assert 0.85 <= covered / 300 <= 0.95


def test_the_interval_is_as_wide_as_its_runs_scatter() -> None:
    seen = [
        replace(run, seed=copy)
        for copy in range(200)
        for run in pair_runs({"Java": 0.9}, noise=0.005, seed=copy)
    ]
    found = measure_synergy(seen)
    low, high = found.gain_interval["Go"]["Java"]
    assert low < found.gain_percent["Go"]["Java"] < high
    assert (high - low) / 2 == pytest.approx(100 * 1.645 * 0.005 * (2 / 200) ** 0.5, rel=0.1)
    low, high = found.transfer_interval["Go"]["Java"]
    assert low < found.transfer["Go"]["Java"] < high


# What is refused


def test_what_cannot_be_compared_is_refused() -> None:
    pairs = pair_runs({"Java": 0.9})
    with pytest.raises(InputError, match="no pair runs"):
        measure_synergy([])
    with pytest.raises(InputError, match="Rust has no baseline"):
        measure_synergy([PairLoss("Go", "Go", 1.0), PairLoss("Rust", "Go", 1.0)])
    with pytest.raises(InputError, match="Go has no baseline"):
        measure_synergy(pairs[1:])
    with pytest.raises(InputError, match="no run saw its language and one other"):
        measure_synergy(pairs[:1])
    with pytest.raises(InputError, match="params of the pair runs"):
        measure_synergy(pairs, fit=known_curve())
    with pytest.raises(InputError, match="not a table"):
        measure_synergy([PairLoss("Go", "Go", 1.0)], fit=known_curve(), params=PARAMS)


def test_a_synergy_reads_back_as_it_was_written() -> None:
    once = measure_synergy(read_pairs_table(code7("synergy")))
    again = measure_synergy(
        [replace(r, seed=s) for s in (1, 2) for r in pair_runs({"Java": 0.9}, 0.01, s)]
    )
    for found in (once, again):
        assert Synergy.from_json(found.to_json()) == found
    assert "Java +" in str(again) or "Java -" in str(again)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_what_is_not_a_synergy_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"synergy\.json"):
        Synergy.from_json(text)
