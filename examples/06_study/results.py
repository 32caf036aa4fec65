"""What the record says: the CSVs of the runs to results.json.

    python results.py ../../docs/study

Differences between policies are paired by seed: runs of one seed begin with the same weights.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policies import POLICIES
from scipy import stats

import blendlaw
from blendlaw.data import code7
from blendlaw.observations import Observation, read_observations
from blendlaw.pair_runs import read_pairs_table

Array = NDArray[np.float64]
LAWS = ("chinchilla", "transient")
APART = 0.1
"""Logarithm of two shares that are far enough apart to tell a slope."""


def last(observations: Sequence[Observation]) -> list[Observation]:
    """The losses at the end of each run."""
    ends: dict[str | None, float] = {}
    for seen in observations:
        ends[seen.run] = max(seen.tokens, ends.get(seen.run, 0.0))
    return [seen for seen in observations if seen.tokens == ends[seen.run]]


def predicted(fit: blendlaw.Fit, seen: Observation) -> float:
    """The loss that ``fit`` expects where ``seen`` was measured."""
    losses = fit.predict(seen.params, seen.tokens, seen.shares(), seen.unique_tokens)
    return losses[seen.language]


def laws(record: Path) -> dict[str, Any]:
    """(a) Laws of the grid, asked for the larger runs: relative errors of the final losses."""
    grid = read_observations(record / "grid.csv")
    larger = last(read_observations(record / "larger.csv"))
    found: dict[str, Any] = {"measured": {seen.language: seen.loss for seen in larger}}
    for law in LAWS:
        fit = blendlaw.fit(grid, law)
        errors = {}
        for seen in larger:
            errors[seen.language] = predicted(fit, seen) / seen.loss - 1
        found[law] = errors
    ends = last(grid)
    for seen in larger:
        nearest = [o for o in ends if o.language == seen.language]
        best = max(nearest, key=lambda o: o.params)
        found.setdefault("unchanged", {})[seen.language] = best.loss / seen.loss - 1
    return found


def blends(record: Path) -> dict[str, Any]:
    """(b) Losses of the rationed blends, which no law here has seen: mean relative errors.

    ``saturating`` is the law of the policies. ``own tokens`` is that of the grid alone, to which
    tokens of other languages are nothing.
    """
    rationed = last(read_observations(record / "rationed.csv"))
    found: dict[str, Any] = {}
    for law, fit in {
        "own tokens": blendlaw.fit(read_observations(record / "grid.csv"), "chinchilla"),
        "saturating": _law(record),
    }.items():
        errors: dict[str, list[float]] = {}
        for seen in rationed:
            errors.setdefault(seen.language, []).append(predicted(fit, seen) / seen.loss - 1)
        found[law] = {name: float(np.abs(each).mean()) for name, each in errors.items()}
    return found


def _law(record: Path, name: str = "fit") -> blendlaw.Fit:
    """That of the small runs, by which the policies decided, or another."""
    return blendlaw.Fit.from_json((record / f"{name}.json").read_text(encoding="utf-8"))


def transfer(record: Path) -> dict[str, Any]:
    """(b) Gains of the pair runs in percent, and how they agree with the paper's.

    ``second_half``: by how much tokens of another language (the mean over them), and the own ones
    again, lower the loss after half a run, as a part of what as many new ones do.
    """
    runs = last(read_observations(record / "pairs.csv"))
    ours = blendlaw.measure_synergy(runs)
    paper = blendlaw.measure_synergy(read_pairs_table(code7("synergy")))
    cells = [(a, b) for a, row in ours.gain_percent.items() for b in row if a != b]
    mine = np.array([ours.gain_percent[a][b] for a, b in cells])
    theirs = np.array([paper.gain_percent[a][b] for a, b in cells])
    random = np.random.default_rng(0)
    draws = random.integers(0, len(cells), (2000, len(cells)))
    varied = [draw for draw in draws if np.ptp(mine[draw]) and np.ptp(theirs[draw])]
    ranks = [stats.spearmanr(mine[draw], theirs[draw]).statistic for draw in varied]
    new = {
        (seen.language, seen.tokens): seen.loss
        for seen in read_observations(record / "grid.csv")
        if seen.params == runs[0].params
    }
    second: dict[str, dict[str, float]] = {}
    for name in ours.gain_percent:
        own = [seen for seen in runs if seen.language == name]
        whole = own[0].tokens
        half = new[name, whole / 2]
        for what, alone in (("another", False), ("again", True)):
            losses = [seen.loss for seen in own if (seen.shares()[name] == 1) is alone]
            drop = (half - float(np.mean(losses))) / (half - new[name, whole])
            second.setdefault(name, {})[what] = drop
    return {
        "second_half": second,
        "gain_percent": ours.gain_percent,
        "paper": paper.gain_percent,
        "rank_correlation": float(stats.spearmanr(mine, theirs).statistic),
        "rank_correlation_interval": np.quantile(ranks, [0.05, 0.95]).tolist(),
        "helping": int((mine > 0).sum()),
        "helping_in_the_paper": int((theirs > 0).sum()),
    }


def directions(record: Path) -> dict[str, Any]:
    """(d) Translation on real programs: pairs less the same documents shuffled, nats per token.

    Means over the tokens of a group's targets, paired by seed; the shuffled run is asked without
    words (``direct``) and, in ``less_by_prompt``, by the prompt. ``each``: by direction.
    """
    with (record / "directions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {(r["direction"], r["strategy"], r["asked"], r["seed"]): r for r in rows}
    seeds = sorted({row["seed"] for row in rows})
    groups = {row["direction"]: row["group"] for row in rows}

    def mean(chosen: Sequence[str], strategy: str, asked: str) -> Array:
        """Their loss by seed."""
        found = [[losses[name, strategy, asked, seed] for name in chosen] for seed in seeds]
        weights = [[float(row["tokens"]) for row in each] for each in found]
        return np.average([[float(r["loss"]) for r in each] for each in found], 1, weights)

    def less(chosen: Sequence[str], asked: str = "direct") -> dict[str, Any]:
        return interval(mean(chosen, "prompt", "prompt") - mean(chosen, "shuffled", asked))

    found: dict[str, Any] = {"each": {name: less([name]) for name in groups}}
    for group in ("trained", "untrained"):
        chosen = [name for name in groups if groups[name] == group]
        found[group] = {
            "shuffled": interval(mean(chosen, "shuffled", "direct")),
            "pairs": interval(mean(chosen, "prompt", "prompt")),
            "less": less(chosen),
            "less_by_prompt": less(chosen, "prompt"),
        }
    return found


def compare(record: Path) -> dict[str, Any]:
    """(c) Held-out bits per byte of each policy, against those that ask no law.

    ``weights`` are the shares trained on, and ``predicted`` is what the law of the small runs says
    of them: a mean over seeds, as the shares of ``refit`` differ.
    """
    fit = _law(record)
    rows = last(read_observations(record / "policies.csv"))
    seeds = sorted({_policy(seen)[1] for seen in rows})
    languages = list(dict.fromkeys(seen.language for seen in rows))

    def table(value: Callable[[Observation], float]) -> Array:
        """``value`` of every row, [policies, seeds, languages]."""
        found = np.full((len(POLICIES), len(seeds), len(languages)), np.nan)
        for seen in rows:
            policy, seed = _policy(seen)
            at = POLICIES.index(policy), seeds.index(seed), languages.index(seen.language)
            found[at] = value(seen)
        return found

    shares = table(lambda seen: seen.shares().get(seen.language, 0.0))
    bpb = table(_bpb)
    told = table(partial(_told, fit))
    found: dict[str, Any] = {"seeds": seeds, "weights": {}, "mean": {}, "against": {}}
    for index, policy in enumerate(POLICIES):
        means = dict(zip(languages, shares[index].mean(0).tolist(), strict=True))
        found["weights"][policy] = means
        found["mean"][policy] = interval(bpb[index].mean(1)) | {"predicted": told[index].mean()}
    for base in ("uniform", "proportional", "unimax"):
        against = found["against"][base] = {}
        for index, policy in enumerate(POLICIES):
            if policy != base:
                of = POLICIES.index(base)
                against[policy] = {
                    **_gains(bpb[[index, of]].mean(2), told[[index, of]].mean(2)),
                    "languages": {
                        name: _gains(bpb[[index, of], :, place], told[[index, of], :, place])
                        for place, name in enumerate(languages)
                    },
                }
    return found


def before(record: Path) -> dict[str, Any]:
    """(c) What the policies gain on those by the law ``transfer``, in ``unlimited.csv``."""
    means: list[dict[str | None, list[float]]] = [{}, {}]
    for mean, name in zip(means, ("policies", "unlimited"), strict=True):
        for seen in last(read_observations(record / f"{name}.csv")):
            mean.setdefault(seen.run, []).append(_bpb(seen))
    found = {}
    for policy in ("law", "refit"):
        runs = [run for run in means[1] if run and run.startswith(policy)]
        ours, theirs = ([float(np.mean(mean[run])) for run in runs] for mean in means)
        found[policy] = gain(100 * (1 - np.array(ours) / np.array(theirs)))
    return found


def shares(record: Path) -> dict[str, Any]:
    """(c) What a share is worth, measured and told by either law, at the small and large size.

    ``slope``: by how many bits per byte a language is better for e times its share, between
    uniform and proportional weights; told by a law of the rationed blends, too. ``error``: by how
    much each law tells the longer runs' losses too low or high, on average, at their first
    measurement and at their end.
    """
    found: dict[str, Any] = {"error": {}, "slope": {}}
    fits = {"saturating": _law(record), "transfer": _law(record, "transfer")}
    longer = read_observations(record / "longer.csv")
    first = min(seen.tokens for seen in longer)
    for when, rows in (
        ("first", [seen for seen in longer if seen.tokens == first]),
        ("last", last(longer)),
    ):
        found["error"][when] = {
            name: float(np.mean([predicted(fit, seen) / seen.loss - 1 for seen in rows]))
            for name, fit in fits.items()
        }
    fits["with_rationed"] = _law(record, "rationed")
    for name, size in (("longer", "small"), ("policies", "large")):
        rows = last(read_observations(record / f"{name}.csv"))
        found["slope"][size] = {
            "measured": slopes(rows, _bpb),
            **{name: slopes(rows, partial(_told, fit)) for name, fit in fits.items()},
        }
    return found


def slopes(rows: Sequence[Observation], value: Callable[[Observation], float]) -> dict[str, float]:
    """The fall of ``value`` for e times a language's share, from uniform to proportional runs.

    Of the languages whose shares there are far enough apart.
    """
    found = {}
    for name in dict.fromkeys(seen.language for seen in rows):
        shares, values = np.array(
            [
                np.mean(
                    [
                        (seen.shares()[name], value(seen))
                        for seen in rows
                        if seen.language == name and policy in str(seen.run)
                    ],
                    axis=0,
                )
                for policy in ("uniform", "proportional")
            ]
        ).T
        apart = float(np.diff(np.log(shares))[0])
        if abs(apart) > APART:
            found[name] = -float(np.diff(values)[0]) / apart
    return found


def _told(fit: blendlaw.Fit, seen: Observation) -> float:
    """Bits per byte that ``fit`` expects where ``seen`` was measured."""
    return predicted(fit, seen) * _bpb(seen) / seen.loss


def _bpb(seen: Observation) -> float:
    assert seen.bpb is not None
    return seen.bpb


def _policy(seen: Observation) -> tuple[str, int]:
    """The policy and the seed of its run."""
    assert seen.run is not None
    policy, seed = seen.run.rsplit("-", 1)
    return policy, int(seed)


def _gains(bpb: Array, told: Array) -> dict[str, Any]:
    """The gain of a policy on another, each a row by seed; ``predicted``: by ``told``."""
    ours, base = told.mean(1)
    return gain(100 * (1 - bpb[0] / bpb[1])) | {"predicted": float(100 * (1 - ours / base))}


def gain(gains: Array) -> dict[str, Any]:
    """Gains in percent, one a seed: their mean with its 90% interval.

    ``seeds_needed``: so many, with this mean and this spread, for the interval to leave out 0.
    """
    found = interval(gains)
    spread = float(np.std(gains, ddof=1))
    needed = None
    for count in range(2, 1001):
        if stats.t.ppf(0.95, count - 1) * spread / np.sqrt(count) < abs(found["mean"]):
            needed = count
            break
    return found | {"seeds_needed": needed}


def interval(values: Array) -> dict[str, Any]:
    """Mean and 90% interval (Student's t)."""
    mean = float(np.mean(values))
    half = float(stats.sem(values) * stats.t.ppf(0.95, len(values) - 1))
    return {"mean": mean, "interval": [mean - half, mean + half]}


def main() -> None:
    record = Path(sys.argv[1])
    found: dict[str, Any] = {}
    for name, made, files in (
        ("laws", laws, ("grid", "larger")),
        ("transfer", transfer, ("grid", "pairs")),
        ("blends", blends, ("grid", "rationed", "policies")),
        ("policies", compare, ("policies",)),
        ("shares", shares, ("policies", "longer", "rationed")),
        ("before", before, ("policies", "unlimited")),
        ("directions", directions, ("directions",)),
    ):
        if all((record / f"{file}.csv").exists() for file in files):
            found[name] = made(record)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (record / "results.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
