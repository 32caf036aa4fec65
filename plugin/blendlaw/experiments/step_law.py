"""Learning rate and batch size of a proxy run, where its plan leaves them open: the Step Law.

Li et al. 2025 (arXiv:2503.04715) trained 3,700 models of 60M to 1B parameters on 2B to 100B tokens;
the best peak learning rate was 1.79·N^−0.713·D^0.307 and the best batch 0.58·D^0.571 tokens, N the
parameters without embeddings and D the tokens. Smaller runs are extrapolated to (docs/trainer.md).
"""

from __future__ import annotations

import math

from blendlaw.plan import Plan
from blendlaw.trainer_plan import Trainer, known_vocabulary, shape

HIGHEST, LOWEST = 3.9e-3, 1e-5
"""Bounds of the rate. Below 40M parameters the law would go on to rates that nobody found best."""


def learning_rate(params: float, tokens: float) -> float:
    """The peak rate for ``params`` parameters without embeddings; two digits, within the bounds."""
    best = 1.79 * params**-0.713 * tokens**0.307
    return float(f"{min(max(best, LOWEST), HIGHEST):.2g}")


def batch(tokens: float, length: int, micro_batch: int) -> int:
    """The samples of ``length`` tokens in a step: ``micro_batch`` times the nearest power of two,
    so that it can be split over ranks."""
    best = 0.58 * tokens**0.571 / length
    return int(micro_batch * 2 ** max(0, round(math.log2(best / micro_batch))))


def body(proxy: Trainer, params: float, plan: Plan) -> float:
    """The parameters without embeddings of the model that ``proxy`` shapes after ``params``.

    Where no vocabulary is known yet, all ``params``.
    """
    sources = [source.prefix for each in plan.languages.values() for source in each.sources]
    vocabulary = proxy.vocabulary or known_vocabulary(sources)
    if vocabulary is None:
        return params
    made = shape(proxy, params, vocabulary)
    return made.params - 2 * made.vocabulary * made.hidden
