"""L(N, D) = E + A·N^(−α) + B·D^(−β), a language by itself.

Hoffmann et al., arXiv 2203.15556, eq. 10; arXiv 2512.13472, eq. 1, in the form of its Figure 2.
"""

from __future__ import annotations

from blendlaw.laws.base import Parameter
from blendlaw.laws.power import PowerSum, Term

LOSS_FLOOR = Parameter("E", 1e-4, 20.0, log=True)
SIZE = (Parameter("A", 1e-5, 1e3, log=True), Parameter("alpha", 0.0, 3.0))
DATA = (Parameter("B", 1e-4, 1e5, log=True), Parameter("beta", 0.0, 3.0))


class Chinchilla(PowerSum):
    """E + A·N^(−alpha) + B·D^(−beta); D in effective tokens of the language."""

    name = "chinchilla"
    law_parameters = (LOSS_FLOOR, *SIZE, *DATA)
    terms = (Term(0), Term(1, size=(2,)), Term(3, data=(4,)))
    exponents = ((0.1, 0.3, 0.6, 1.2), (0.1, 0.3, 0.6, 1.2))
