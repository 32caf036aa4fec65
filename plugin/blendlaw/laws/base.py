"""What a law is: a loss as a function of parameters, with its gradients.

Inside ``laws/`` parameters and tokens are in billions, and amplitudes are held as logarithms
(``Parameter.log``), which keeps them positive and evens out their scales for the solver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blendlaw.laws.effective import REPETITION as REPETITION
from blendlaw.laws.effective import Array as Array
from blendlaw.laws.effective import effective


@dataclass(frozen=True)
class Runs:
    """What n runs were, as arrays; the losses measured on them are kept apart.

    ``params`` (n,) and ``tokens`` (n,) in billions; ``shares`` (n, k), the share of the tokens that
    each of the k ``languages`` had; ``unique`` (n, k), their unique tokens in billions (infinite
    where nothing was repeated); ``target`` (n,), the language whose loss was measured, as an index.
    ``transfer`` (k, k) says how much a token of the column's language counts for the row's, as far
    as it is known beforehand; ``repetition`` how fast repeated tokens lose their worth, and
    ``substitution`` how far languages replace each other (``laws/effective.py``).
    """

    languages: tuple[str, ...]
    target: NDArray[np.intp]
    params: Array
    tokens: Array
    shares: Array
    unique: Array
    transfer: Array
    repetition: float = REPETITION
    substitution: float = 1.0

    def __len__(self) -> int:
        return len(self.params)

    @cached_property
    def by_language(self) -> Array:
        """Tokens of each language, billions, (n, k)."""
        return self.tokens[:, None] * self.shares

    @cached_property
    def effective(self) -> Array:
        """Effective tokens of the target language, billions, (n,)."""
        return effective(
            self.by_language,
            self.unique,
            self.transfer[self.target],
            self.own,
            self.repetition,
            self.substitution,
        ).tokens

    @cached_property
    def own(self) -> Array:
        """1 where the language is the run's target, (n, k)."""
        return np.eye(len(self.languages))[self.target]

    @cached_property
    def with_others(self) -> NDArray[np.bool_]:
        """Which runs saw another language than their target, (n,)."""
        return np.asarray((self.shares * (1 - self.own)).sum(1) > 0)

    @cached_property
    def log_params(self) -> Array:
        return np.log(self.params)

    @cached_property
    def log_effective(self) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.effective)

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Runs:
        """The runs of ``keep``, a mask or indices."""
        return replace(
            self,
            target=self.target[keep],
            params=self.params[keep],
            tokens=self.tokens[keep],
            shares=self.shares[keep],
            unique=self.unique[keep],
        )


@dataclass(frozen=True)
class Setting:
    """The run for which weights are sought, all in billions: ``params`` and ``tokens`` (numbers),
    ``unique`` and ``consumed`` (k,) per language, ``transfer`` (k, k), and the two numbers of
    effective tokens, ``repetition`` and ``substitution``."""

    params: float
    tokens: float
    unique: Array
    consumed: Array
    transfer: Array
    repetition: float = REPETITION
    substitution: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law. ``lower`` and ``upper`` bound its natural value.

    With ``log`` the solver works on its logarithm.
    """

    name: str
    lower: float
    upper: float
    log: bool = False


@dataclass(frozen=True)
class Prior:
    """½·Σ weight·(θ − centre)², added to the objective; both (p,)."""

    centre: Array
    weight: Array


class Law(ABC):
    """A scaling law. Stateless; every method is vectorised.

    ``theta`` is (..., p) in the solver's coordinates (logarithms where ``Parameter.log``); leading
    dimensions are independent problems (starts, bootstrap draws). Losses are in nats per token.
    """

    name: str
    joint = False
    """One solve for all languages together (else one for each)."""
    convex = True
    """Whether the loss is convex in the weights."""
    by_own_tokens = True
    """Whether the loss answers to how many tokens a language has, rather than to its share."""
    tolerance = 1e-12
    """A fit has converged when a step would lower its objective by less than this part of it."""
    automatic = True
    """Whether ``auto`` considers it."""
    estimates_transfer = False
    """Whether transfer is among what is fitted (else it is taken as known)."""

    def unsuitable(self, runs: Runs) -> str | None:
        """Why the law cannot be fitted to these runs, or None if it can."""
        solved = self.solved_parameters(runs.languages, int(runs.target[0]))
        needed = len({parameter.name for parameter in solved} - {*self.moot(runs)})
        if len(runs) < needed:
            return f"{len(runs)} observations are too few for its {needed} parameters"
        return None

    def emphasis(self, runs: Runs) -> Array:
        """How much each run counts in a fit, (n,) of mean 1."""
        return np.ones(len(runs))

    @abstractmethod
    def parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        """The p parameters of one language; every language has as many, with the same ``log``."""

    def solved_parameters(self, languages: Sequence[str], target: int) -> Sequence[Parameter]:
        """What a fit solves for; a joint law solves for the parameters of all languages."""
        return self.parameters(languages, target)

    def of_language(self, theta: Array, languages: Sequence[str], target: int) -> Array:
        """One language's parameters (..., p) out of the solved ones."""
        return theta

    @abstractmethod
    def loss(self, theta: Array, runs: Runs) -> Array:
        """Loss of each run's target, (..., n)."""

    @abstractmethod
    def gradient(self, theta: Array, runs: Runs) -> Array:
        """Derivative of the loss in the solver's coordinates, (..., n, p)."""

    def curvature(self, theta: Array, runs: Runs, weight: Array) -> Array | None:
        """Σ_i weight_i ∇²L_i, (..., p, p), with ``weight`` (..., n).

        None (the default) leaves the solver to its Gauss–Newton steps, which are safe and slower.
        """
        return None

    def moot(self, runs: Runs) -> tuple[str, ...]:
        """Parameters that such runs cannot tell of: they keep the value of the first start."""
        return ()

    def prior(self, runs: Runs, loss: Array) -> Prior | None:
        """What a fit of ``loss`` (n,) believes beforehand of parameters that data hardly tell."""
        return None

    @abstractmethod
    def starts(self, runs: Runs, loss: Array) -> Array:
        """Points (s, p) from which a fit of ``loss`` (n,) is worth starting."""

    @abstractmethod
    def in_weights(
        self, theta: Array, setting: Setting, weights: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        """A blend's losses and how they answer to its weights.

        ``theta`` (b, t, p) holds b draws of the parameters of the first t of the k languages,
        ``weights`` is (b, k). Returns the losses (b, t), and of Σ_i value_i L_i, with ``value``
        (t,), the gradient (b, k) and the Hessian (b, k, k) in the weights.
        """

    def transfer(
        self, fits: Mapping[str, Mapping[str, float]], sources: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """The transfer matrix in each language's fitted parameters, if the law estimates one."""
        return {}


def no_mixture(runs: Runs) -> str | None:
    """The reason why a law of mixtures cannot be fitted, if no run mixes languages."""
    return None if ((runs.shares > 0).sum(1) > 1).any() else "no run mixes languages"


def trained_shares(setting: Setting, weights: Array) -> tuple[Array, float]:
    """Each language's share of all tokens, those consumed before included, (b, k), and its
    derivative in the weight."""
    total = setting.tokens + setting.consumed.sum()
    return (setting.consumed + setting.tokens * weights) / total, float(setting.tokens / total)
