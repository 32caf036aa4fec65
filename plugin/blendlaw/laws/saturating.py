"""``transfer`` in which the help of other languages saturates: what they share is learnt once.

D_eff = S_t + M·ln(1 + H/M) + harm, H the help of ``laws/effective.py``; docs/laws.md has why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blendlaw.laws.base import Array, Parameter, Runs, no_mixture
from blendlaw.laws.transfer import GAMMA, SAME, Transfer

SATURATION = GAMMA + 1
UNLIMITED = 1e8
"""An M that no run is long enough to come near, in billions of tokens."""


class Saturating(Transfer):
    """Parameters E, A, alpha, B, beta, lam, nu, gamma, M and a tau for every other language."""

    name = "saturating"
    tau = SATURATION + 1

    def unsuitable(self, runs: Runs) -> str | None:
        if (reason := no_mixture(runs)) is not None:
            return reason
        mixed = runs.with_others
        # At one budget, what M takes from all help a smaller tau does as well.
        if not mixed.any() or np.ptp(np.log(runs.tokens[mixed])) < SAME:
            return "its runs with other languages have one token budget: it needs several"
        return super().unsuitable(runs)

    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        plain = super().parameters(languages, target)
        limit = Parameter("M", 1e-6, UNLIMITED, log=True)
        return (*plain[:SATURATION], limit, *plain[SATURATION:])

    def starts(self, runs: Runs, loss: Array) -> Array:
        """Those of ``transfer``, without a limit and with one as long as the runs are."""
        middle = float(np.exp(np.mean(np.log(runs.tokens))))
        plain = super().starts(runs, loss)
        return np.concatenate(
            [np.insert(plain, SATURATION, np.log(limit), axis=1) for limit in (UNLIMITED, middle)]
        )

    def saturation(self, theta: Array) -> Array:
        return np.asarray(np.exp(theta[..., SATURATION]))
