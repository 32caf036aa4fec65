"""A law fitted again as the runs of a sweep end, and in one line what came of it.

More runs tell little once the last ones were predicted within their noise and the weights stay.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blendlaw.allocation import allocate
from blendlaw.errors import InputError
from blendlaw.experiments.folders import designs
from blendlaw.files import write_atomically
from blendlaw.fitted import Fit
from blendlaw.fitting import fit
from blendlaw.observations import Observation
from blendlaw.sweep.gather import Gathered

FIT = "fit.json"


class Refits:
    """Fits of ``law`` to the observations of ``folder``, each kept in its fit.json.

    Weights are told where the folder says of which run, by its experiments.json.
    """

    def __init__(self, folder: Path, law: str) -> None:
        self._folder, self._law = folder, law
        self._target = next(reversed(designs(folder)), None)
        self._fit: Fit | None = None
        self._seen: set[str | None] = set()

    def again(self, found: Gathered) -> str | None:
        """Fit ``found``; how its new runs were predicted before, and the weights now.

        None if no run is new.
        """
        new = [o for o in found.observations if o.run not in self._seen]
        if not new:
            return None
        error = None if self._fit is None else _error(self._fit, new)
        self._seen = {o.run for o in found.observations}
        try:
            self._fit = fit(found.observations, self._law)
        except InputError as problem:
            return f"not fitted after {found.runs} runs: {problem}"
        write_atomically(self._folder / FIT, self._fit.to_json())
        told = f"{found.runs} runs, {self._fit.law}"
        if error is not None:
            told += f"; the last was predicted within {error:.1%} before it was done"
        return told + self._weights(self._fit)

    def _weights(self, fitted: Fit) -> str:
        if self._target is None:
            return ""
        params, tokens = self._target.params, self._target.tokens
        try:
            best = allocate(fitted, params=params, tokens=tokens).weights
        except InputError as problem:
            return f"; no weights yet: {problem}"
        weights = ", ".join(f"{name} {weight:.1%}" for name, weight in best.items())
        return f"; weights at {params:.3g} parameters, {tokens:.3g} tokens: {weights}"


def _error(before: Fit, new: list[Observation]) -> float | None:
    """The mean of |predicted/measured − 1| of ``new``, if ``before`` says anything of them."""
    errors = []
    for each in new:
        if not before.knows(each):
            continue
        unique = {k: v for k, v in (each.unique_tokens or {}).items() if k in before.sources}
        loss = before.predict(each.params, each.tokens, each.shares(), unique)[each.language]
        errors.append(abs(loss / each.loss - 1))
    return float(np.mean(errors)) if errors else None
