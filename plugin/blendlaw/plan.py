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
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.indexed import count_tokens
from blendlaw.limits import SUM_TOLERANCE
from blendlaw.nearest import nearest
from blendlaw.plan_values import STRICT, Count, Name, Natural, Positive, Share
from blendlaw.trainer_plan import Trainer

MAX_BYTES = 1 << 20


def _prefix(prefix: str) -> str:
    """Refuse a prefix that Megatron would not read back as it is written."""
    if not prefix.strip():
        raise ValueError("an empty prefix")
    if any(ord(letter) < 32 for letter in prefix):
        raise ValueError("a prefix cannot contain control characters")
    if prefix != prefix.strip():
        raise ValueError("a prefix cannot begin or end with a space: Megatron strips it")
    if prefix.endswith((".bin", ".idx")):
        raise ValueError(f"Megatron takes the prefix without its ending: {prefix[:-4]!r}")
    try:
        float(prefix)
    except ValueError:
        return prefix
    raise ValueError("Megatron would read this prefix as a weight; write it as ./" + prefix)


@dataclass(frozen=True, config=STRICT)
class Source:
    """One Megatron prefix of a language; ``share`` of the language's samples, ``tokens`` in it."""

    prefix: Annotated[str, AfterValidator(_prefix)]
    share: Share | None = None
    tokens: Positive | None = None


def _sources(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    shares = [source.share for source in sources if source.share is not None]
    if shares and len(shares) < len(sources):
        raise ValueError("give the share of every source or of none")
    if shares and abs(sum(shares) - 1) > SUM_TOLERANCE:
        raise ValueError(f"the shares sum to {sum(shares):.7g}, not 1")
    return sources


_OneSource = Annotated[
    Source, BeforeValidator(lambda given: {"prefix": given} if isinstance(given, str) else given)
]
_Sources = Annotated[tuple[_OneSource, ...], AfterValidator(_sources)]


@dataclass(frozen=True, config=STRICT)
class LanguagePlan:
    """What the plan says of one language; ``floor`` and ``cap`` bound its weight.

    ``value`` is what a nat of its loss is worth beside the others, ``consumed`` the tokens of it
    that were trained on before. ``unique_tokens`` is None when neither the plan nor an ``.idx``
    file says; ``bytes_per_token`` is that of the tokenizer on it, for bits per byte.
    """

    sources: _Sources = ()
    valid_sources: _Sources = ()
    test_sources: _Sources = ()
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
    of the policy of that name.
    """

    name: Name
    tokens: Positive
    weights: Annotated[str | Mapping[str, float], PlainValidator(_weights)] = "law"
    temperature: Positive | None = None


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
            for language in stage.weights if isinstance(stage.weights, Mapping) else ():
                if language not in self.languages:
                    hint = nearest(language, self.languages)
                    raise InputError(
                        f"no such language in the plan{hint}", column=f"{key}.weights.{language}"
                    )
        owner: dict[str, str] = {}
        for name, wanted in self.languages.items():
            key = f"languages.{name}"
            if wanted.floor > wanted.cap:
                problem = f"floor {wanted.floor:g} is above cap {wanted.cap:g}"
                raise InputError(problem, column=key)
            for source in wanted.sources:
                path = os.path.normpath(source.prefix)
                if path in owner:
                    problem = f"a prefix that {owner[path]} has already"
                    raise InputError(problem, column=f"{key}.sources", value=source.prefix)
                owner[path] = name

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
        """The plan once ``stage`` has trained with ``weights``: its tokens count as consumed."""
        languages = {
            name: replace(language, consumed=language.consumed + weights[name] * stage.tokens)
            for name, language in self.languages.items()
        }
        return replace(self, languages=languages)

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
    return replace(plan, languages=languages)


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

    def known(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(
            replace(s, tokens=count_tokens(s.prefix)) if s.tokens is None else s for s in sources
        )

    sources = known(language.sources)
    counts = [source.tokens for source in sources if source.tokens is not None]
    unique = language.unique_tokens
    if unique is None and sources and len(counts) == len(sources):
        unique = sum(counts)
    return replace(
        language,
        sources=sources,
        valid_sources=known(language.valid_sources),
        test_sources=known(language.test_sources),
        unique_tokens=unique,
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
    return {"run": Run, "refit": Refit, "trainer": Trainer}.get(str(place[0]), Stage)
