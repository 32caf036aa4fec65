"""Fit: a law with its parameters and their uncertainty, as it is kept in fit.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from blendlaw import stored
from blendlaw.errors import InputError
from blendlaw.laws.base import REPETITION, Array, Law, Setting
from blendlaw.nearest import nearest
from blendlaw.observations import Observation
from blendlaw.plugins import laws
from blendlaw.problems import BILLION, matrix
from blendlaw.values import ROUNDED
from blendlaw.values import weights as check_weights

VERSION = 1
MOST = 1e30  # parameters or tokens; powers of more than these need not be finite


@dataclass(frozen=True)
class HoldOut:
    """How a fit predicts observations that it never saw: mean |predicted/measured − 1| of n."""

    mean_abs_rel_error: float
    n: int


@dataclass(frozen=True)
class LanguageFit:
    """One language's parameters (amplitudes with N and D in billions) and what is known of them.

    ``interval`` is empty without a bootstrap; ``draws`` holds its refits, one row each, in the
    order of ``params``. ``objective`` is the minimised sum, ``warnings`` what to beware of.
    """

    params: dict[str, float]
    n_observations: int
    objective: float
    rms_log_error: float
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    holdout: HoldOut | None = None
    warnings: tuple[str, ...] = ()
    draws: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A law that ``auto`` considered: its error beyond the scale it was fitted on, and the why."""

    law: str
    error: float | None
    reason: str


@dataclass(frozen=True)
class Fit:
    """A law fitted to observations.

    ``languages`` are those whose loss is predicted, ``sources`` all that were trained on (these
    first). ``transfer[target][source]`` says how much a token of source counts for target, absent
    is 0; ``repetition`` (1/R_D*) and ``substitution`` are the numbers of ``laws/effective.py``.
    """

    law: str
    languages: dict[str, LanguageFit]
    sources: tuple[str, ...] = ()
    transfer: dict[str, dict[str, float]] = field(default_factory=dict)
    repetition: float = REPETITION
    substitution: float = 1.0
    success: bool = True
    message: str = ""
    selection: tuple[Candidate, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def predict(
        self,
        params: float,
        tokens: float,
        weights: Mapping[str, float] | None = None,
        unique_tokens: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """The loss of each language, nats per token, after ``tokens`` at ``weights``.

        ``params`` and ``tokens`` are counts; ``weights`` default to uniform over ``sources``, and
        a language left out has weight 0. Where ``unique_tokens`` are fewer than a language's
        tokens, the rest are repeats. A language without tokens of worth gets the loss the law
        gives it then, which may be infinite. Raises InputError for numbers that are not positive,
        unknown languages, and weights that do not sum to 1 within 1e-3: those of a run are rounded.
        """
        shares = self.shares(weights)
        loss, _, _ = self.functions().in_weights(
            self.theta()[None],
            self.setting(params, tokens, unique_tokens or {}),
            shares[None],
            np.zeros(len(self.languages)),
        )
        return dict(zip(self.languages, loss[0].tolist(), strict=True))

    def knows(self, seen: Observation) -> bool:
        """Whether it can say anything of ``seen``: of its language and all that the run saw."""
        return seen.language in self.languages and set(self.sources) >= set(seen.shares())

    def functions(self) -> Law:
        """The law itself. Raises InputError if no plugin registers it."""
        return law_named(self.law)

    def theta(self) -> Array:
        """The parameters in the solver's coordinates, (languages, p)."""
        return np.array([self._inside(list(f.params.values())) for f in self.languages.values()])

    def theta_draws(self) -> Array:
        """The bootstrap's refits in the solver's coordinates, (draws, languages, p)."""
        draws = [self._inside(f.draws) for f in self.languages.values() if f.draws]
        if len(draws) < len(self.languages):
            return np.empty((0, *self.theta().shape))
        return np.stack([d[: min(map(len, draws))] for d in draws], 1)

    def setting(
        self,
        params: float,
        tokens: float,
        unique_tokens: Mapping[str, float],
        consumed: Mapping[str, float] | None = None,
    ) -> Setting:
        """A run of this size over ``sources``; all counts.

        Raises InputError for numbers that are not positive and for unknown languages.
        """
        self._refuse_unknown([*unique_tokens, *(consumed or {})])
        for name, count in (("params", params), ("tokens", tokens)):
            if not 0 < count < np.inf:
                raise InputError("must be above 0", column=name, value=count)
            if not 1 <= count <= MOST:
                raise InputError(f"is a count, from 1 to {MOST:g}", column=name, value=count)
        for name, count in unique_tokens.items():
            if not count > 0:
                raise InputError("must be above 0", column=f"unique_tokens.{name}", value=count)
        size = len(self.sources)
        unique = [unique_tokens.get(source, np.inf) / BILLION for source in self.sources]
        seen = [(consumed or {}).get(source, 0.0) / BILLION for source in self.sources]
        return Setting(
            params / BILLION,
            tokens / BILLION,
            np.array(unique),
            np.array(seen),
            matrix(self.transfer, self.sources) if self.transfer else np.zeros((size, size)),
            self.repetition,
            self.substitution,
        )

    def shares(self, weights: Mapping[str, float] | None) -> Array:
        """``weights`` as an array over ``sources``; uniform if None."""
        if weights is None:
            return np.full(len(self.sources), 1 / len(self.sources))
        self._refuse_unknown(weights)
        shares = check_weights(weights, "weights", ROUNDED)
        return np.array([shares.get(source, 0.0) for source in self.sources])

    def __str__(self) -> str:
        lines = [f"{self.law}: {self.message}"]
        for language, fitted in self.languages.items():
            cells = []
            for name, value in fitted.params.items():
                low, high = fitted.interval.get(name, (None, None))
                span = "" if low is None else f" [{low:.3g}, {high:.3g}]"
                cells.append(f"{name}={value:.4g}{span}")
            lines.append(f"  {language} ({fitted.n_observations}): " + ", ".join(cells))
            lines += [f"    ! {warning}" for warning in fitted.warnings]
        return "\n".join(lines)

    def to_json(self) -> str:
        """fit.json, version 1 (docs/files.md)."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Fit:
        """The Fit that ``to_json`` wrote. Raises InputError on anything else."""
        fit = stored.from_json(cls, text, VERSION, "fit.json")
        try:
            return fit._checked()
        except InputError:
            raise
        except (ValueError, IndexError) as error:
            raise InputError(f"not a fit.json: {error}") from error

    def _refuse_unknown(self, languages: Iterable[str]) -> None:
        for language in languages:
            if language not in self.sources:
                raise InputError(
                    f"the fit knows no language {language!r}; it has {', '.join(self.sources)}"
                )

    def _checked(self) -> Fit:
        """The fit with every language's parameters in the law's order. Raises ValueError."""
        if not self.languages:
            raise ValueError("it has no languages")
        if not self.sources:
            return replace(self, sources=tuple(self.languages))._checked()
        if self.sources[: len(self.languages)] != tuple(self.languages):
            raise ValueError("sources do not begin with the languages")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("a source is named twice")
        if not (self.repetition > 0 and self.substitution > 0):
            raise ValueError("repetition and substitution must be above 0")
        matrix(self.transfer, self.sources)  # refuses other languages
        measured = self.provenance.get("range", {})
        stored.typed(measured, dict[str, tuple[float, float]], "provenance.range")
        ordered = {}
        for number, (language, fitted) in enumerate(self.languages.items()):
            names = [p.name for p in self.functions().parameters(self.sources, number)]
            given = list(fitted.params)
            if sorted(names) != sorted(given):
                raise ValueError(
                    f"{language} has parameters {', '.join(given)}, not {', '.join(names)}"
                )
            place = [given.index(name) for name in names]
            ordered[language] = replace(
                fitted,
                params={name: fitted.params[name] for name in names},
                draws=tuple(tuple(draw[i] for i in place) for draw in fitted.draws),
            )
        fit = replace(self, languages=ordered)
        with np.errstate(divide="ignore", invalid="ignore"):
            good = np.isfinite(fit.theta()).all() and np.isfinite(fit.theta_draws()).all()
        if not good:
            raise ValueError("a parameter is out of its range")
        return fit

    def _inside(self, params: Sequence[float] | Sequence[Sequence[float]]) -> Array:
        names = self.functions().parameters(self.sources, 0)
        logs = np.array([parameter.log for parameter in names])
        values = np.array(params, float)
        return np.where(logs, np.log(np.where(logs, values, 1.0)), values)


def law_named(name: str) -> Law:
    """The registered law of this name. Raises InputError, naming those there are."""
    if name not in laws():
        hint = nearest(name, laws()) or f"; there are auto, {', '.join(laws())}"
        raise InputError(f"no law named {name!r}{hint}")
    return laws()[name]
