"""The mixing law on runs that it did not see, with the exponential law beside it.

Synthetic mixtures of 17 sources unless files are given; the published ones (RegMix, arXiv
2407.01492: 512 and 256 runs as observations) are not shipped.

    python tests/benchmarks/mixing.py [--train FILE --test FILE]
"""

from __future__ import annotations

import numpy as np
from measure import Array, arguments, cpu, report
from scipy.stats import spearmanr

import blendlaw
from blendlaw import Observation

SOURCES = 17


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--train", help="observations to fit")
    parser.add_argument("--test", help="observations to predict")
    parser.add_argument("--runs", type=int, default=512, help="synthetic runs to fit")
    given = parser.parse_args()
    if (given.train is None) != (given.test is None):
        parser.error("--train and --test go together")
    if given.train:
        train = blendlaw.read_observations(given.train)
        test = blendlaw.read_observations(given.test)
    else:
        train, test = synthetic(given.runs, 1), synthetic(256, 2)
    figures: dict[str, float] = {}
    for law in ("mixing", "exponential"):
        seconds, fit = cpu(lambda law=law: blendlaw.fit(train, law))
        figures[f"{law}, CPU s for {len(fit.languages)} targets"] = seconds
        figures[f"{law}, mean rank correlation"] = float(np.mean(rank_correlations(fit, test)))
    report(f"{len(train)} losses fitted, {len(test)} predicted", figures, given.json)


def rank_correlations(fit: blendlaw.Fit, test: list[Observation]) -> Array:
    """Spearman's correlation of predicted and measured losses, for each target."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in test:
        loss = fit.predict(row.params, row.tokens, normalised(row.shares()))[row.language]
        pairs.setdefault(row.language, []).append((loss, row.loss))
    return np.array([spearmanr(np.array(both)).statistic for both in pairs.values()])


def normalised(shares: dict[str, float]) -> dict[str, float]:
    """Published weights are rounded; ``predict`` wants a sum of 1."""
    total = sum(shares.values())
    return {source: share / total for source, share in shares.items()}


def synthetic(runs: int, seed: int) -> list[Observation]:
    """Mixtures with many weights of zero and losses of three targets by an additive law."""
    generator = np.random.default_rng(seed)
    truth = np.random.default_rng(0)
    names = [f"s{number}" for number in range(SOURCES)]
    gains = truth.lognormal(-1.5, 1.2, size=(3, SOURCES))
    gains[np.arange(3), np.arange(3)] = 4.0
    rows = []
    for run in range(runs):
        weights = generator.dirichlet(np.full(SOURCES, 0.15))
        weights = np.where(weights < 0.002, 0.0, weights)
        weights /= weights.sum()
        for target in range(3):
            loss = 2 + 1 / (0.2 + (gains[target] * weights**0.6).sum())
            rows.append(
                Observation(
                    language=names[target],
                    params=1e6,
                    tokens=1e9,
                    loss=loss * np.exp(generator.normal(0, 0.003)),
                    weights=dict(zip(names, weights.tolist(), strict=True)),
                    run=str(run),
                )
            )
    return rows


if __name__ == "__main__":
    main()
