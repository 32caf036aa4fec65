"""What a fit says of single observations and along curves, with its bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blendlaw.allocation_problem import TAILS
from blendlaw.fitted import Fit
from blendlaw.laws.effective import Array
from blendlaw.observations import Observation
from blendlaw.problems import Worth, problem


def losses(fit: Fit, language: str, observations: Sequence[Observation]) -> Array:
    """The loss of ``language`` in each of the ``observations``, all ``known``: (n,)."""
    index = list(fit.languages).index(language)
    if fit.functions().joint:
        return np.array([_in_blend(fit, index, seen) for seen in observations])
    return _along(fit, observations, fit.theta()[index])


def band(
    fit: Fit, language: str, observations: Sequence[Observation]
) -> tuple[Array, Array] | None:
    """The 90% interval of ``losses`` over the bootstrap, or None: no draws, or a joint law."""
    draws = fit.theta_draws()
    if not len(draws) or fit.functions().joint:
        return None
    spread = _along(fit, observations, draws[:, list(fit.languages).index(language)])
    low, high = np.quantile(spread, TAILS, axis=0)
    return low, high


def _along(fit: Fit, observations: Sequence[Observation], theta: Array) -> Array:
    """Losses (..., n) of one language with parameters ``theta`` (..., p)."""
    worth = Worth(fit.transfer, fit.repetition, fit.substitution)
    runs = problem(observations, fit.sources, worth, "report").runs
    return fit.functions().loss(theta, runs)


def _in_blend(fit: Fit, index: int, seen: Observation) -> float:
    shares = seen.shares()
    total = sum(shares.values())  # measured weights are rounded
    loss, _, _ = fit.functions().in_weights(
        fit.theta()[None],
        fit.setting(seen.params, seen.tokens, seen.unique_tokens or {}),
        fit.shares({language: share / total for language, share in shares.items()})[None],
        np.zeros(len(fit.languages)),
    )
    return float(loss[0, index])
