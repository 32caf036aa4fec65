"""Designed proxy runs beside a grid, random mixtures and one factor at a time, on known truths.

Each repeat draws a truth: every language has the curve of one of the paper's seven languages, each
coordinate moved by a normal of 0.2; the law ``transfer`` adds transfers from −0.1 to 0.8 and a
substitution from 0.4 to 1. A run is done by asking the truth and adding noise; a loss above that of
an untrained model is left out, whoever did the run. The design does not know the truth, only its
own default belief; it is asked again at every budget for what comes next, given what it has
measured. The others lay out as many runs as are named below and stretch them, in the logarithm of
N and D, from the cheapest corner of the same range until the budget is spent; a random set is cut
short where even that is too dear.

All sets are fitted by ``blendlaw.fit`` with the same law and default options and allocated by
``blendlaw.allocate``; where no fit is possible the weights are uniform. The regret is the truth's
mean loss at these weights less that at its best weights. What is compared is the FLOPs at which
the mean regret over the repeats first falls below a part of that of uniform weights, by
interpolation between budgets in logarithms; intervals resample the repeats. What never gets there
counts with the largest budget, and is marked >.

    python tests/benchmarks/experiments.py --law transfer
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from measure import Array, arguments, report

import blendlaw
from blendlaw.data import code7
from blendlaw.errors import InputError
from blendlaw.estimate import bounds
from blendlaw.experiments.belief import NOISE, believed
from blendlaw.experiments.candidates import SIZE_RANGE, TOKEN_RANGE, candidates
from blendlaw.experiments.criterion import finite, regrets
from blendlaw.experiments.design import allocation_problem, chosen
from blendlaw.fitted import law_named
from blendlaw.laws.base import REPETITION, Law, Runs
from blendlaw.plan import LanguagePlan, Plan, Run, Stage

PARAMS, TOKENS = 1.5e9, 100e9
CHEAPEST = 3e18
UNTRAINED = 11.0  # nats, ln of a vocabulary of 60,000
RESAMPLES = 2000
OTHERS = ("grid", "random Dirichlet", "one at a time")
THRESHOLDS = (0.1, 0.03, 0.01)
FLOOR = 0.02  # of every weight, as in the paper's plan: no fit can starve a language


@dataclass
class Rows:
    """Runs as arrays: counts ``params`` (n,), ``tokens`` (n,), and ``shares`` (n, k)."""

    params: Array
    tokens: Array
    shares: Array

    @property
    def flops(self) -> float:
        return float(6 * (self.params * self.tokens).sum())


def main() -> None:
    parser = arguments(__doc__, repeats=50)
    parser.add_argument("--law", default="chinchilla", help="chinchilla, transient or transfer")
    parser.add_argument("--languages", type=int, default=3)
    parser.add_argument("--budgets", type=int, default=4, help="each four times the one before")
    given = parser.parse_args()
    law = law_named(given.law)
    budgets = CHEAPEST * 4.0 ** np.arange(given.budgets)
    spent: dict[str, list[list[float]]] = {}
    regret: dict[str, list[list[float]]] = {}
    uniform: list[float] = []
    for seed in range(given.repeats):
        trial = Trial(law, given.languages, seed)
        uniform.append(trial.regret(np.full(given.languages, 1 / given.languages)))
        for name, found in trial.compare(budgets).items():
            spent.setdefault(name, []).append([flops for flops, _ in found])
            regret.setdefault(name, []).append([value for _, value in found])
    figures = summary(spent, regret, np.array(uniform))
    report(
        f"{law.name}, {given.repeats} truths of {given.languages} languages", figures, given.json
    )


def summary(
    spent: dict[str, list[list[float]]], regret: dict[str, list[list[float]]], base: Array
) -> dict[str, float | str]:
    """Mean regrets at each budget, and what it takes to come below each threshold."""
    cost = {name: np.array(all_).mean(0) for name, all_ in spent.items()}
    values = {name: np.array(all_) for name, all_ in regret.items()}
    figures: dict[str, float | str] = {"regret of uniform weights, nats": float(base.mean())}
    for name, value in values.items():
        for flops, mean, middle in zip(cost[name], value.mean(0), np.median(value, 0), strict=True):
            figures[f"{name}, {flops:.2g} FLOPs: mean, median regret"] = f"{mean:.2e} {middle:.2e}"
    draws = np.random.default_rng(0).integers(len(base), size=(RESAMPLES, len(base)))
    every = np.vstack([np.arange(len(base)), draws])
    for part in THRESHOLDS:
        goal = part * base[every].mean(1)
        needed = {
            name: np.array(
                [reached(cost[name], m, g) for m, g in zip(value[every].mean(1), goal, strict=True)]
            )
            for name, value in values.items()
        }
        for name in ("designed", *OTHERS):
            ratio = needed[name] / needed["designed"]
            low, high = np.quantile(ratio[1:], [0.05, 0.95])
            never = ">" if values[name].mean(0).min() > goal[0] else ""
            told = f"{never}{needed[name][0]:.2g} FLOPs"
            if name != "designed":
                told += f", {never}{ratio[0]:.3g} times the designed [{low:.3g}, {high:.3g}]"
            figures[f"to {100 * part:g}% of uniform's regret: {name}"] = told
    return figures


class Trial:
    """One truth, and what each way of choosing runs makes of it."""

    def __init__(self, law: Law, languages: int, seed: int):
        self.law, self.generator = law, np.random.default_rng(seed)
        self.names = tuple(f"language{number}" for number in range(languages))
        stages = (Stage("main", TOKENS),)
        self.plan = Plan(
            Run(PARAMS, TOKENS), {n: LanguagePlan(floor=FLOOR) for n in self.names}, stages
        )
        self.possible = candidates(self.plan, law)
        belief = believed(law, self.possible, (), None)
        self.problem = allocation_problem(law, self.plan, self.possible, belief)
        while True:
            self.truth = truth(law, self.names, self.generator)
            if finite(self.problem, self.truth[None])[0]:
                break

    def regret(self, weights: Array) -> float:
        return float(regrets(self.problem, weights, self.truth[None])[0][0])

    def compare(self, budgets: Array) -> dict[str, list[tuple[float, float]]]:
        """(FLOPs spent, regret) at each budget, by the way that runs are chosen."""
        found = {"designed": self.in_sequence(budgets)}
        for name in OTHERS:
            size, level, shares = self.laid_out(name)
            rows = [stretched(size, level, shares, budget) for budget in budgets]
            if name == "random Dirichlet":
                rows = [affordable(r, b) for r, b in zip(rows, budgets, strict=True)]
            found[name] = [(one.flops, self.outcome(self.measured(one, ""))) for one in rows]
        return found

    def in_sequence(self, budgets: Array) -> list[tuple[float, float]]:
        found, spent = [], 0.0
        seen: list[blendlaw.Observation] = []
        for number, budget in enumerate(budgets):
            belief = believed(self.law, self.possible, seen, None)
            choice = chosen(self.law, self.possible, belief, self.problem, budget - spent, 64)
            one = self.possible.rows(np.array(choice.runs, int))
            rows = Rows(one.params, one.tokens, one.shares)
            seen += self.measured(rows, f"{number}-")
            spent += rows.flops
            found.append((spent, self.outcome(seen)))
        return found

    def laid_out(self, name: str) -> tuple[Array, Array, Array]:
        """Sizes and token budgets from 0 to 1 in their ranges, and blends, run by run."""
        count = len(self.names)
        eye, uniform = np.eye(count), np.full((1, count), 1 / count)
        mixed = self.law.name == "transfer"
        pairs = np.array([(eye[a] + eye[b]) / 2 for a, b in combinations(range(count), 2)])
        blends = np.concatenate([eye, pairs, uniform]) if mixed else eye
        sizes, levels = (2, 3) if mixed else (3, 4)
        if name == "random Dirichlet":
            shares = self.generator.dirichlet(np.ones(count), sizes * levels * len(blends))
            return *self.generator.random((2, len(shares))), shares
        if name == "one at a time":
            around = np.array([0.0, 0.25, 0.75, 1.0])
            size = np.concatenate([[0.5], around, np.full(4, 0.5)])
            level = np.concatenate([[0.5], np.full(4, 0.5), around])
            if not mixed:
                size, level = np.tile(size, count), np.tile(level, count)
                return size, level, np.repeat(eye, 9, axis=0)
            without = (1 - eye) / (count - 1)
            varied = np.concatenate([without, eye, 0.5 * eye + 0.5 * without])
            middle = np.full(len(varied), 0.5)
            shares = np.concatenate([np.tile(uniform, (9, 1)), varied])
            return np.append(size, middle), np.append(level, middle), shares
        size, level, blend = np.indices((sizes, levels, len(blends))).reshape(3, -1)
        return size / (sizes - 1), level / (levels - 1), blends[blend]

    def measured(self, rows: Rows, prefix: str) -> list[blendlaw.Observation]:
        """What the runs would tell: a loss of every language that is in them."""
        found = []
        for target, name in enumerate(self.names):
            seen = np.flatnonzero(rows.shares[:, target] > 0)
            if not len(seen):
                continue
            runs = Runs(
                self.names,
                np.full(len(seen), target),
                rows.params[seen] / 1e9,
                rows.tokens[seen] / 1e9,
                rows.shares[seen],
                np.full((len(seen), len(self.names)), np.inf),
                np.zeros((len(self.names), len(self.names))),
            )
            noise = self.generator.normal(0, NOISE, len(seen))
            loss = self.law.loss(self.truth[target], runs) * np.exp(noise)
            found += [
                blendlaw.Observation(
                    language=name,
                    params=rows.params[run],
                    tokens=rows.tokens[run],
                    loss=value,
                    weights=dict(zip(self.names, rows.shares[run].tolist(), strict=True)),
                    run=f"{prefix}{run}",
                )
                for run, value in zip(seen.tolist(), loss.tolist(), strict=True)
                if value < UNTRAINED
            ]
        return found

    def outcome(self, seen: list[blendlaw.Observation]) -> float:
        """The regret of what is fitted to ``seen`` and allocated."""
        weights = np.full(len(self.names), 1 / len(self.names))
        try:
            fit = blendlaw.fit(seen, self.law.name)
            found = blendlaw.allocate(fit, params=PARAMS, tokens=TOKENS, plan=self.plan).weights
            weights = np.array([found.get(name, 0.0) for name in self.names])
        except InputError:
            pass
        return self.regret(weights)


def truth(law: Law, names: tuple[str, ...], generator: np.random.Generator) -> Array:
    """The parameters (t, p) of a truth."""
    published = curves("transient" if law.name == "transient" else "chinchilla")
    drawn = published[generator.integers(len(published), size=len(names))]
    drawn = drawn + generator.normal(0, 0.2, drawn.shape)
    if law.name == "transfer":
        count = len(names)
        gamma = generator.uniform(0.4, 1.0, (count, 1))
        tau = generator.uniform(-0.1, 0.8, (count, count - 1))
        repetition = np.tile([np.log(REPETITION), 0.5], (count, 1))
        drawn = np.hstack([drawn, repetition, gamma, tau])
    return np.clip(drawn, *bounds(law.parameters(names, 0)))


@cache
def curves(law: str) -> Array:
    """The paper's seven languages, (7, p)."""
    return blendlaw.fit(blendlaw.read_observations(code7("losses")), law).theta()


def stretched(size: Array, level: Array, shares: Array, budget: float) -> Rows:
    """The runs, stretched from the cheapest corner of the range until they cost ``budget``."""

    def rows(part: float) -> Rows:
        params, tokens = (
            whole * low * (high / low) ** (part * at)
            for whole, (low, high), at in ((PARAMS, SIZE_RANGE, size), (TOKENS, TOKEN_RANGE, level))
        )
        return Rows(params, tokens, shares)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rows(middle).flops < budget else (low, middle)
    return rows(high if rows(1.0).flops < budget else low)


def affordable(rows: Rows, budget: float) -> Rows:
    """The first of the runs that the budget pays for, at least one."""
    count = max(1, int((np.cumsum(6 * rows.params * rows.tokens) <= budget * (1 + 1e-6)).sum()))
    return Rows(rows.params[:count], rows.tokens[:count], rows.shares[:count])


def reached(cost: Array, value: Array, threshold: float) -> float:
    """The FLOPs at which ``value`` falls below ``threshold``; the last ones if it never does."""
    lowest = np.minimum.accumulate(value)
    after = np.flatnonzero(lowest <= threshold)
    if not len(after):
        return float(cost[-1])
    last = int(after[0])
    if last == 0:
        return float(cost[0])
    logs = np.log([lowest[last], lowest[last - 1]])
    flops = np.log([cost[last], cost[last - 1]])
    return float(np.exp(np.interp(np.log(threshold), logs, flops)))


if __name__ == "__main__":
    main()
