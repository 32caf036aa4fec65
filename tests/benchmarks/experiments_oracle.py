"""60 of the paper's runs, chosen by design and at random, and how they predict its 64B column.

The 420 losses of arXiv 2512.13472 (``blendlaw/data/code7``) are an oracle: a run is done by looking
it up. Only the 350 runs of at most 32B tokens may be chosen; the 64B column is what is predicted,
70 losses of 7 languages and 10 sizes, and is seen by nobody. The design begins from a belief that
knows nothing of these data (round numbers), and goes in rounds: choose, look up, believe anew. Its
criterion is the mean variance of the log of the predicted losses. Random choices have as many runs,
the same cost within ``--within``, and enough runs of every language to be fitted at all. All sets
are fitted by ``blendlaw.fit`` with the same law.

    python tests/benchmarks/experiments_oracle.py [--law chinchilla]
"""

from __future__ import annotations

import numpy as np
from measure import Array, arguments, report
from scipy.stats import beta

import blendlaw
from blendlaw.data import code7
from blendlaw.experiments.belief import NOISE, Belief, spread, updated
from blendlaw.experiments.candidates import Candidates
from blendlaw.experiments.design import whitened
from blendlaw.experiments.search import choose
from blendlaw.fitted import law_named
from blendlaw.laws.base import Law

COLUMN = 6.4e10
ROUND = {"E": 0.3, "A": 0.1, "alpha": 0.3, "B": 1.0, "beta": 0.3, "C": 1.0}
"""Where every language is believed to be before any loss is seen."""


def main() -> None:
    parser = arguments(__doc__, repeats=400)
    parser.add_argument("--law", default="transient", help="chinchilla or transient")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--within", type=float, default=0.02, help="of the design's cost")
    given = parser.parse_args()
    rows = blendlaw.read_observations(code7("losses"))
    pool = [row for row in rows if row.tokens < COLUMN]
    asked = [row for row in rows if row.tokens >= COLUMN]
    cost = np.array([6 * row.params * row.tokens for row in pool])
    budget = given.runs * cost.mean()
    law = law_named(given.law)
    chosen = designed(law, pool, asked, budget, given.runs, given.rounds)
    least = len(law.parameters(("one",), 0))
    spent = cost[chosen].sum()
    others = randomly(pool, cost, spent, given.within, given.runs, least, given.repeats)
    ours = error(given.law, [pool[i] for i in chosen], asked)
    theirs = np.array([error(given.law, [pool[i] for i in other], asked) for other in others])
    count = int((ours < theirs).sum())
    sure = float(beta.ppf(0.05, count, len(theirs) - count + 1)) if count else 0.0
    report(
        f"{given.runs} of {len(pool)} runs, {given.law}, predicting {len(asked)} losses at 64B",
        {
            "random choices": len(theirs),
            "cost, of what all 350 cost": float(spent / cost.sum()),
            "designed, mean error, %": 100 * ours,
            "random, mean error, %, median": 100 * float(np.median(theirs)),
            "random, the best twentieth is below, %": 100 * float(np.quantile(theirs, 0.05)),
            "designed is better than so many random choices, %": 100 * count / len(theirs),
            "of all there are, with 95% certainty at least, %": 100 * sure,
        },
        given.json,
    )


def designed(
    law: Law,
    pool: list[blendlaw.Observation],
    asked: list[blendlaw.Observation],
    budget: float,
    count: int,
    rounds: int,
) -> list[int]:
    """The chosen runs, as indices into ``pool``."""
    possible, target = as_candidates(pool), as_candidates(asked)
    languages = possible.languages
    parameters = law.parameters(languages, 0)
    start = [np.log(ROUND[p.name]) if p.log else ROUND[p.name] for p in parameters]
    prior = Belief(
        np.tile(start, (len(languages), 1)),
        np.tile(np.diag(spread(law, languages) ** -2.0), (len(languages), 1, 1)),
        NOISE,
        np.zeros(len(languages), np.intp),
    )
    chosen: list[int] = []
    for number in range(1, rounds + 1):
        done = [pool[i] for i in chosen]
        belief = updated(prior, law, languages, done, None if done else prior.noise)
        centre = belief.centre[None]
        slope = predicted(law, target, centre)
        matrices = np.einsum("srti,srtj->stij", slope, slope) / len(asked)
        free = np.setdiff1d(np.arange(len(pool)), chosen)
        part = number / rounds
        spent = possible.flops[chosen].sum()
        found = choose(
            belief.precision[None],
            matrices,
            whitened(law, possible, centre, belief.noise)[:, free],
            possible.flops[free],
            part * budget - spent,
            round(part * count) - len(chosen),
        )
        chosen += free[found.runs].tolist()
    return chosen


def predicted(law: Law, target: Candidates, theta: Array) -> Array:
    """Slopes of the log-losses that are asked for, (1, n, t, p)."""
    found = np.zeros((1, len(target), *theta.shape[1:]))
    for language in range(theta.shape[1]):
        runs = target.runs(language)
        loss = law.loss(theta[:, language], runs)[..., None]
        found[:, target.measured[:, language], language] = (
            law.gradient(theta[:, language], runs) / loss
        )
    return found


def as_candidates(rows: list[blendlaw.Observation]) -> Candidates:
    """Single-language runs as candidates."""
    languages = tuple(dict.fromkeys(row.language for row in rows))
    shares = np.array([[float(row.language == name) for name in languages] for row in rows])
    return Candidates(
        languages,
        np.array([row.params for row in rows]),
        np.array([row.tokens for row in rows]),
        shares,
        shares > 0,
        np.full(len(languages), np.inf),
    )


def randomly(
    pool: list[blendlaw.Observation],
    cost: Array,
    spent: float,
    within: float,
    count: int,
    least: int,
    repeats: int,
) -> list[list[int]]:
    """Random sets of ``count`` runs of that cost, at least ``least`` of every language."""
    generator = np.random.default_rng(0)
    language = np.unique([row.language for row in pool], return_inverse=True)[1]
    found: list[list[int]] = []
    while len(found) < repeats:
        tried = np.argpartition(generator.random((4096, len(pool))), count, axis=1)[:, :count]
        good = np.abs(cost[tried].sum(1) / spent - 1) <= within
        for one in tried[good]:
            if np.bincount(language[one], minlength=language.max() + 1).min() >= least:
                found.append(one.tolist())
    return found[:repeats]


def error(law: str, rows: list[blendlaw.Observation], asked: list[blendlaw.Observation]) -> float:
    """The mean relative error of the predicted column."""
    fit = blendlaw.fit(rows, law)
    # At uniform weights every language has as many tokens as alone if there are so many times more.
    sizes = {row.params for row in asked}
    losses = {size: fit.predict(size, COLUMN * len(fit.sources)) for size in sizes}
    return float(np.mean([abs(losses[row.params][row.language] / row.loss - 1) for row in asked]))


if __name__ == "__main__":
    main()
