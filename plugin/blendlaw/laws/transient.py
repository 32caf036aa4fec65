"""L(N, D) = E + A·N^(−α) + B·D^(−β) + C·D^(−2): Chinchilla with an early-training transient.

The first billions of tokens lower the loss faster than any later ones: in the 420 runs of arXiv
2512.13472 the column at 2B tokens alone moves Chinchilla's β from 0.75 to 1.2. A second, faster
power of D takes that up and leaves the slow one to extrapolate. The exponent 2 was chosen among
1.5, 2, 2.5 and free by predicting the 32B column from those below it; docs/laws.md has the figures.
"""

from __future__ import annotations

import numpy as np

from blendlaw.laws.base import Array, Parameter, Runs
from blendlaw.laws.chinchilla import LOSS_FLOOR, SIZE
from blendlaw.laws.power import PowerSum, Term


class Transient(PowerSum):
    """Chinchilla plus C·D^(−2), the slow exponent beta kept below 1.2.

    Runs count in proportion to their effective tokens: short ones scatter more, about as D^(−0.8),
    and what is asked of the law lies beyond the long ones.
    """

    name = "transient"
    law_parameters = (
        LOSS_FLOOR,
        *SIZE,
        Parameter("B", 1e-4, 1e3, log=True),
        Parameter("beta", 0.0, 1.2),
        Parameter("C", 1e-12, 1e6, log=True),
    )
    terms = (Term(0), Term(1, size=(2,)), Term(3, data=(4,)), Term(5, power=2.0))
    exponents = ((0.2, 0.6), (0.2, 0.5, 0.9))

    def emphasis(self, runs: Runs) -> Array:
        return np.asarray(runs.effective / runs.effective.mean())
