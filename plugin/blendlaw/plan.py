"""The plan of a run: languages and their sources, the budget, the limits, the stages.

A plan is written in TOML (docs/files.md lists the keys); tokens are counts. Prefixes of sources
are passed on as they are written: a relative one is relative to the working directory, as
Megatron takes it, not to the folder of the plan.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.limits import SUM_TOLERANCE
from blendlaw.nearest import nearest
from blendlaw.pairs.options import Build
from blendlaw.pairs.plan import PAIRS, Pairs, measured
from blendlaw.plan_sources import Source, Sources, sized, tokens_in
from blendlaw.plan_values import STRICT, Count, Name, Natural, Positive, Share
from blendlaw.trainer_plan import Trainer

MAX_BYTES = 1 << 20


@dataclass(frozen=True, config=STRICT)
class LanguagePlan:
    """What the plan says of one language; ``floor`` and ``cap`` bound its weight.

    ``value`` is what a nat of its loss is worth beside the others, ``consumed`` the tokens of it
    that were trained on before. ``unique_tokens`` is None when neither the plan nor an ``.idx``
    file says; ``bytes_per_token`` is that of the tokenizer on it, for bits per byte.
    """

    sources: Sources = ()
    valid_sources: Sources = ()
    test_sources: Sources = ()
    unique_tokens: Positive | None = None
    bytes_per_token: Positive | None = None
    max_epochs: Positive | None = None
    floor: Share = 0.0
    cap: Share = 1.0
    value: Natural = 1.0
    consumed: Natural = 0.0


def _weights(given: object) -> str | Mapping[str, float]:
    if isinstance(given, str) and given:
        return given
    if not isinstance(given, Mapping) or not given:
        raise ValueError("weights are the name of a policy or a table of language = weight")
    for language, weight in given.items():
        good = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (good and 0 <= weight <= 1 + SUM_TOLERANCE):
            raise ValueError(f"the weight of {language} must be from 0 to 1, not {weight!r}")
    if abs(sum(given.values()) - 1) > SUM_TOLERANCE:
        raise ValueError(f"the weights sum to {sum(given.values()):.7g}, not 1")
    return {language: float(weight) for language, weight in given.items()}


@dataclass(frozen=True, config=STRICT)
class Stage:
    """An interval of ``tokens`` trained with one blend.

    ``weights`` names a policy or gives the weights themselves; ``temperature`` is the exponent
    of the policy of that name. ``pairs`` is the weight of translation pairs, where it is another
    than that of the plan; the languages share the rest.
    """

    name: Name
    tokens: Positive
    weights: Annotated[str | Mapping[str, float], PlainValidator(_weights)] = "law"
    temperature: Positive | None = None
    pairs: Share | None = None


@dataclass(frozen=True, config=STRICT)
class Run:
    """The model and its budget: parameters, training tokens, tokens in a sample."""

    params: Positive
    tokens: Positive
    sequence_length: Count = 4096


@dataclass(frozen=True, config=STRICT)
class Refit:
    """What is fitted before a stage by law, while the run trains.

    ``law`` as for ``blendlaw.fit``; ``observations`` are files of earlier runs (proxies) that are
    fitted together with what this run measured; ``split`` says which losses, and ``where`` leaves
    rows out, of both. The default law needs no other runs: what a mixture law fits cannot be told
    from one run at constant weights.
    """

    law: Name = "chinchilla"
    observations: tuple[str, ...] = ()
    split: Literal["train", "valid"] = "train"
    where: Name | None = None


@dataclass(frozen=True, config=STRICT)
class Plan:
    """A run, its languages and its stages, in the order of the file; consistent once made.

    Built from Python it raises ValueError where ``read_plan`` raises InputError.
    """

    run: Run
    languages: Annotated[Mapping[Name, LanguagePlan], Field(min_length=1)]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    refit: Refit = Refit()
    trainer: Trainer = Trainer()
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        total = sum(stage.tokens for stage in self.stages)
        if abs(total - self.run.tokens) > SUM_TOLERANCE * self.run.tokens:
            raise InputError(
                f"the stages have {total:.7g} tokens, the run {self.run.tokens:.7g}",
                column="run.tokens",
            )
        seen: set[str] = set()
        for number, stage in enumerate(self.stages):
            key = f"stages[{number}]"
            if stage.name in seen:
                raise InputError("two stages of one name", column=f"{key}.name", value=stage.name)
            seen.add(stage.name)
            if stage.temperature is not None and stage.weights != "temperature":
                raise InputError(
                    'temperature is for weights = "temperature"', column=f"{key}.temperature"
                )
            if stage.pairs and (self.pairs is None or not self.pairs.sources):
                raise InputError("the plan has no [pairs] sources", column=f"{key}.pairs")
            if stage.pairs == 1:
                raise InputError("must be below 1", column=f"{key}.pairs", value=stage.pairs)
            for language in stage.weights if isinstance(stage.weights, Mapping) else ():
                if language not in self.languages:
                    hint = nearest(language, self.languages)
                    raise InputError(
                        f"no such language in the plan{hint}", column=f"{key}.weights.{language}"
                    )
        if PAIRS in self.languages and self.pairs is not None:
            problem = f"a language cannot be called {PAIRS} beside [pairs]"
            raise InputError(problem, column=f"languages.{PAIRS}")
        owner: dict[str, str] = {}
        for name, wanted in self.mixture.items():
            key = f"languages.{name}" if name in self.languages else name
            if wanted.floor > wanted.cap:
                problem = f"floor {wanted.floor:g} is above cap {wanted.cap:g}"
                raise InputError(problem, column=key)
            for source in wanted.sources:
                path = os.path.normpath(source.prefix)
                if path in owner:
                    problem = f"a prefix that {owner[path]} has already"
                    raise InputError(problem, column=f"{key}.sources", value=source.prefix)
                owner[path] = name

    @property
    def _reads_pairs(self) -> bool:
        return self.pairs is not None and self.pairs.in_run

    @property
    def mixture(self) -> dict[str, LanguagePlan]:
        """All that has sources and a weight: the languages and, as ``pairs``, translation pairs."""
        if not self._reads_pairs:
            return dict(self.languages)
        assert self.pairs is not None
        sources = self.pairs.sources
        unique = tokens_in(sources)
        pairs = LanguagePlan(sources, self.pairs.valid_sources, unique_tokens=unique)
        return {**self.languages, PAIRS: pairs}

    @property
    def samples(self) -> int:
        """The whole samples of the run."""
        return round(self.run.tokens / self.run.sequence_length)

    @property
    def steps(self) -> int:
        """The whole steps that the small trainer takes. Raises InputError where there is none."""
        batch, length = self.trainer.global_batch, self.run.sequence_length
        if self.samples < batch:
            problem = f"not one step of {batch} samples of {length} tokens"
            raise InputError(problem, column="run.tokens", value=self.run.tokens)
        return self.samples // batch

    def pairs_weight(self, stage: Stage) -> float:
        """The share of the samples of ``stage`` that are translation pairs."""
        if self.pairs is None or not self.pairs.sources:
            return 0.0
        return self.pairs.weight if stage.pairs is None else stage.pairs

    def language_tokens(self, stage: Stage) -> float:
        """The tokens of ``stage`` that the languages share: all but translation pairs."""
        return stage.tokens * (1 - self.pairs_weight(stage))

    def mixed(self, stage: Stage, weights: Mapping[str, float]) -> dict[str, float]:
        """``weights`` of the languages, which sum to 1, as shares of all samples, pairs among them.

        Without pairs they stay to the last bit what they are.
        """
        if not self._reads_pairs:
            return dict(weights)
        pairs = self.pairs_weight(stage)
        return {name: weight * (1 - pairs) for name, weight in weights.items()} | {PAIRS: pairs}

    def unmixed(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The weights of the languages in ``weights`` of ``mixed``; they sum to 1."""
        if not self._reads_pairs:
            return dict(weights)
        languages = {name: weight for name, weight in weights.items() if name != PAIRS}
        total = sum(languages.values())
        return {name: weight / total for name, weight in languages.items()}

    def stage(self, name: str) -> Stage:
        """The stage of that name; raises InputError with the nearest one."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise InputError(f"no stage {name!r}{nearest(name, [s.name for s in self.stages])}")

    def start(self, stage: Stage) -> float:
        """Tokens trained on before ``stage``."""
        return sum(before.tokens for before in self.stages[: self.stages.index(stage)])

    def after(self, stage: Stage, weights: Mapping[str, float]) -> Plan:
        """The plan once ``stage`` has trained with ``weights``: its tokens count as consumed.

        ``weights`` are shares of all samples (see ``mixed``). Pairs count for no limit.
        """
        return self._consuming({name: weights[name] * stage.tokens for name in self.languages})

    def with_floors(self, tokens: float) -> Plan:
        """The plan as if of ``tokens`` more each language had had its floor: that much is kept."""
        return self._consuming({name: k.floor * tokens for name, k in self.languages.items()})

    def _consuming(self, tokens: Mapping[str, float]) -> Plan:
        languages = {
            name: replace(language, consumed=language.consumed + tokens[name])
            for name, language in self.languages.items()
        }
        return replace(self, languages=languages)

    def later(self, stage: Stage) -> tuple[Stage, ...]:
        """The stages after the one of that name."""
        names = [each.name for each in self.stages]
        return self.stages[names.index(stage.name) + 1 :]

    def with_trainer(self, changes: Mapping[str, Any]) -> Plan:
        """The plan with other values of [trainer] keys; InputError where they are bad."""
        for key in changes:
            if key not in (known := [field.name for field in fields(Trainer)]):
                raise InputError(f"unknown key{nearest(key, known)}", column=f"trainer.{key}")
        try:
            return replace(self, trainer=replace(self.trainer, **changes))
        except ValidationError as error:
            raise _told(error, None, "trainer") from None


_PLAN = TypeAdapter(Plan)


def read_plan(path: str | Path) -> Plan:
    """The plan in the TOML file ``path``.

    Tokens of a source that the plan leaves out are read from its ``.idx`` file where there is
    one, and a language's ``unique_tokens`` default to their sum. Without ``[[stages]]`` there is
    one, ``main``, by the law; ``run.tokens`` defaults to the sum of the stages. Raises InputError
    with file, key and value; OSError if it cannot be read.
    """
    try:
        raw = tomllib.loads(read_text(path, MAX_BYTES))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # malformed, nested too deep, too many digits
        raise InputError(f"not TOML: {error}", file=path) from None
    try:
        plan = _PLAN.validate_python(_with_defaults(raw))
    except ValidationError as error:
        raise _told(error, path) from None
    languages = {name: _measured(language) for name, language in plan.languages.items()}
    try:
        pairs = None if plan.pairs is None else measured(plan.pairs)
    except InputError as error:
        raise replace(error, problem=f"[pairs]: {error.problem}") from None
    return replace(plan, languages=languages, pairs=pairs)


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """Stages from the run, or the run's tokens from the stages; the rest is for validation."""
    run, stages = raw.get("run"), raw.get("stages")
    if not isinstance(run, dict):
        return raw
    if stages is None and "tokens" in run:
        return {**raw, "stages": [{"name": "main", "tokens": run["tokens"]}]}
    if isinstance(stages, list) and "tokens" not in run:
        tokens = [stage.get("tokens") for stage in stages if isinstance(stage, dict)]
        counts = [n for n in tokens if isinstance(n, int | float) and 0 < n < 1e300]
        if counts and len(counts) == len(stages):
            return {**raw, "run": {**run, "tokens": float(sum(counts))}}
    return raw


def _measured(language: LanguagePlan) -> LanguagePlan:
    """The language with the tokens that its ``.idx`` files tell."""
    sources, unique = sized(language.sources), language.unique_tokens
    return replace(
        language,
        sources=sources,
        valid_sources=sized(language.valid_sources),
        test_sources=sized(language.test_sources),
        unique_tokens=tokens_in(sources) if unique is None else unique,
    )


def _told(error: ValidationError, path: str | Path | None, *table: str) -> InputError:
    """The first thing that is wrong, in one line; an unknown key explains a missing one.

    ``table`` is where in the plan the validated values are.
    """
    details = error.errors(include_url=False)
    detail = next((d for d in details if d["type"] == "unexpected_keyword_argument"), details[0])
    place = (*table, *detail["loc"])
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return replace(cause, file=path)
    if detail["type"] == "unexpected_keyword_argument":
        known = [field.name for field in fields(_table(place[:-1]))]
        return InputError(f"unknown key{nearest(str(place[-1]), known)}", path, column=key)
    if detail["type"] in ("missing", "missing_argument"):
        return InputError("this key is required", path, column=key)
    told = {"tuple_type": "must be a list", "dataclass_type": "must be a table"}
    message = str(cause) if cause is not None else told.get(detail["type"], detail["msg"])
    return InputError(message, path, column=key, value=detail["input"])


def _table(place: tuple[str | int, ...]) -> type[Any]:
    """The class of the table at ``place``, such as ("languages", "Go", "sources", 0)."""
    if not place:
        return Plan
    if place[0] == "languages":
        return LanguagePlan if len(place) == 2 else Source
    if place[0] == "pairs":
        return Pairs if len(place) == 1 else Build if place[1] == "build" else Source
    return {"run": Run, "refit": Refit, "trainer": Trainer}.get(str(place[0]), Stage)
