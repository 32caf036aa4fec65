"""L(N, D) = E + A·N^(−α) + B·D^(−β) + C·D^(−β−δ): Chinchilla with an early-training transient.

The first billions of tokens lower the loss faster than any later ones. In the 420 runs of arXiv
2512.13472 the column at 2B tokens alone moves Chinchilla's β from 0.75 to 1.2; a second, faster
power of D takes that up and leaves the slow one to extrapolate.
"""

from __future__ import annotations

from blendlaw.laws.base import Parameter
from blendlaw.laws.chinchilla import DATA, LOSS_FLOOR, SIZE
from blendlaw.laws.power import PowerSum, Term


class Transient(PowerSum):
    """Chinchilla plus C·D^(−beta−delta)."""

    name = "transient"
    law_parameters = (
        LOSS_FLOOR,
        *SIZE,
        *DATA,
        Parameter("C", 1e-6, 1e5, log=True),
        Parameter("delta", 0.5, 5.0),
    )
    terms = (Term(0), Term(1, size=(2,)), Term(3, data=(4,)), Term(5, data=(4, 6)))
    exponents = ((0.2, 0.6), (0.1, 0.3, 0.6), (1.0, 2.0))
