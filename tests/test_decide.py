"""Decisions: what they follow from, what they fall back on, and the limits they never break."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blendlaw
from blendlaw.decide import Decision, decide, seen, usable
from blendlaw.errors import InputError
from blendlaw.layout import Layout, lay_out
from blendlaw.observations import Observation
from blendlaw.plan import LanguagePlan, Plan, Refit, Run, Source, Stage
from blendlaw.schedule import Schedule, StageRecord

LENGTH = 100
KNOWN = {"Go": (1.0, 3.0), "Rust": (1.5, 1.0), "Zig": (0.5, 2.0)}  # E, and B of B·D^(−0.5)


def plan_of(*weights: object, refit: Refit | None = None, **limits: Mapping[str, float]) -> Plan:
    """Stages of 1,000 samples each, with these weights."""
    languages = {
        name: LanguagePlan(sources=(Source(name),), unique_tokens=1e6, **limits.get(name, {}))
        for name in KNOWN
    }
    tokens = 1000.0 * LENGTH
    stages = tuple(Stage(str(n), tokens, each) for n, each in enumerate(weights))  # type: ignore[arg-type]
    run = Run(1e6, tokens * len(stages), LENGTH)
    return Plan(run, languages, stages, refit or Refit())


def measured(plan: Plan, upto: float, split: str = "train", every: int = 50) -> list[Observation]:
    """Losses of the known law at uniform weights, until ``upto`` tokens."""
    found = []
    for step in range(every, int(upto / LENGTH) + 1, every):
        tokens = float(step * LENGTH)
        shares = dict.fromkeys(KNOWN, tokens / 3)
        for name, (floor, slope) in KNOWN.items():
            loss = floor + slope * (tokens / 3e5) ** -0.5
            found.append(
                Observation(
                    language=name, params=1e6, tokens=tokens, loss=loss, split=split, step=step,
                    tokens_by_language=shares,
                )
            )  # fmt: skip
    return found


def first(plan: Plan, weights: Mapping[str, float] | None = None) -> tuple[Layout, Schedule]:
    laid = lay_out(plan, round(plan.run.tokens / LENGTH))
    shares = dict(weights or dict.fromkeys(KNOWN, 1 / 3))
    return laid, Schedule((StageRecord("0", 0, shares, 0, "test"),))


def second(plan: Plan, history: list[Observation]) -> Decision:
    laid, schedule = first(plan)
    return decide(plan, laid, schedule, history, 900)


def test_the_law_finds_where_a_token_is_worth_most() -> None:
    """Own tokens alone count, so marginal losses are equal at the optimum: w ∝ B^(2/3)."""
    plan = plan_of("uniform", "law")
    made = second(plan, measured(plan, 9e4))
    assert made.fit is not None
    assert made.record.reason == "law: chinchilla fitted to 54 observations"
    assert made.record.fit == "fits/2-1.json"
    assert (made.record.start_sample, made.record.decided_at_sample) == (1000, 900)
    assert not made.kept
    total = {name: slope ** (2 / 3) for name, (_, slope) in KNOWN.items()}
    for name, part in total.items():
        spent = 1 / 3 + made.record.weights[name]  # of two stages' tokens
        assert spent / 2 == pytest.approx(part / sum(total.values()), abs=2e-3)


def test_a_policy_without_a_fit_asks_for_none() -> None:
    plan = plan_of("uniform", "proportional")
    made = second(plan, [])
    assert made.fit is None
    assert made.record.reason == "proportional"
    assert made.record.weights == pytest.approx(dict.fromkeys(KNOWN, 1 / 3))
    table = {"Go": 0.2, "Rust": 0.8}
    made = second(plan_of("uniform", table), [])
    assert made.record.reason == "the plan's table"
    assert made.record.weights == {"Go": 0.2, "Rust": 0.8, "Zig": 0.0}


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (lambda plan: [], "there are no observations to fit"),
        (lambda plan: measured(plan, 1e4), "2 observations are too few for its 3 parameters"),
        (
            lambda plan: [o for o in measured(plan, 9e4) if o.language != "Zig"],
            "no train loss of Zig to fit",
        ),
    ],
)
def test_what_cannot_be_fitted_leaves_the_weights(history: object, reason: str) -> None:
    plan = plan_of("uniform", "law")
    made = second(plan, history(plan))  # type: ignore[operator]
    assert made.kept
    assert made.fit is None
    assert made.record.fit is None
    assert made.record.reason.startswith("kept the weights of 0: ")
    assert reason in made.record.reason
    assert made.record.weights == pytest.approx(dict.fromkeys(KNOWN, 1 / 3))


def test_a_language_of_no_worth_needs_no_loss() -> None:
    plan = plan_of("uniform", "law", Zig={"value": 0.0, "floor": 0.1})
    made = second(plan, [o for o in measured(plan, 9e4) if o.language != "Zig"])
    assert not made.kept, made.record.reason
    assert made.record.weights["Zig"] == pytest.approx(0.1)


def test_the_first_stage_has_none_to_fall_back_on() -> None:
    plan = plan_of("law")
    with pytest.raises(InputError, match="stage '0' is the first, so no weights can stand for it"):
        decide(plan, lay_out(plan, 1000), Schedule(), [], 0)
    made = decide(plan, lay_out(plan, 1000), Schedule(), measured(plan, 9e4), 0)
    assert made.record.start_sample == 0


def test_weights_that_stand_keep_to_the_limits_too() -> None:
    """The epochs left are those after what the stages before consume."""
    plan = plan_of("uniform", "law", "law", Go={"max_epochs": 0.05})
    laid, schedule = first(plan)
    third = [*schedule.records, StageRecord("1", 1000, dict.fromkeys(KNOWN, 1 / 3), 900, "test")]
    made = decide(plan, laid, Schedule(tuple(third)), [], 1900)
    assert made.kept
    left = 0.05 * 1e6 - 2 * 1e5 / 3
    assert left < 0
    assert made.record.weights["Go"] == 0.0
    assert sum(made.record.weights.values()) == pytest.approx(1)


@pytest.fixture
def plugin() -> Iterator[list[object]]:
    """The answers of a plugin's policy, one a call; an exception is raised."""
    answers: list[object] = []

    class Policy:
        @blendlaw.hookimpl
        def propose_weights(self, stage: Stage) -> Mapping[str, float] | None:
            answer = answers.pop(0) if answers else None
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

    made = Policy()
    blendlaw.plugin_manager().register(made)
    yield answers
    blendlaw.plugin_manager().unregister(made)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (KeyError("gone"), "KeyError: 'gone'"),
        ({"Go": 0.7}, "weights must sum to 1 (got 0.7)"),
        ({"Go": math.nan, "Rust": 1.0}, "(got nan)"),
        ({"Go": -0.5, "Rust": 1.5}, "Go"),
        ({"Cobol": 1.0}, "the plan has no language 'Cobol'"),
    ],
)
def test_a_policy_that_answers_badly(plugin: list[object], answer: object, reason: str) -> None:
    plan = plan_of("uniform", "uniform")
    plugin.append(answer)
    made = second(plan, [])
    assert made.kept
    assert reason in made.record.reason
    assert "\n" not in made.record.reason


@given(
    parts=st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.1),
    floor=st.floats(0, 0.3),
    cap=st.floats(0.4, 1),
)
def test_no_proposal_breaks_a_limit(parts: list[float], floor: float, cap: float) -> None:
    weights = {name: part / sum(parts) for name, part in zip(KNOWN, parts, strict=True)}
    limits = {name: {"floor": floor, "cap": cap} for name in KNOWN}
    plan = plan_of("uniform", weights, **limits)
    made = second(plan, [])
    assert sum(made.record.weights.values()) == pytest.approx(1, abs=1e-9)
    for name, weight in made.record.weights.items():
        assert floor - 1e-9 <= weight <= cap + 1e-9
        moved = abs(weight - weights[name]) > 1e-6
        assert (f"{name} {weights[name]:.4g} to {weight:.4g}" in made.record.reason) == moved


def test_what_may_be_fitted() -> None:
    plan = plan_of("uniform", refit=Refit(where="tokens >= 1e4 and language != Zig"))
    own = measured(plan, 5e4) + measured(plan, 5e4, "valid")
    proxies = [replace(o, split=None, run="proxy", tokens=9e9) for o in own[:6]]
    found = usable(plan, own, proxies, 3e4)
    assert all(o.split in ("train", None) and o.language != "Zig" for o in found)
    assert sum(o.run == "proxy" for o in found) == 4
    assert {o.tokens for o in found if o.run is None} == {1e4, 1.5e4, 2e4, 2.5e4, 3e4}
    valid = replace(plan, refit=Refit(split="valid"))
    assert {o.split for o in usable(valid, own, [], 3e4)} == {"valid"}


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=5),
    st.integers(0, 5000),
)
def test_tokens_seen_are_those_of_the_stages(shares: list[float], samples: int) -> None:
    """Against a sum over samples, one at a time."""
    weights = [{"Go": w, "Rust": 1 - w, "Zig": 0.0} for w in shares]
    plan = plan_of(*weights, Go={"consumed": 7.0})
    laid, _ = first(plan)
    schedule = Schedule(
        tuple(StageRecord(str(n), 1000 * n, w, 0, "") for n, w in enumerate(weights))
    )
    expected = {"Go": 7.0, "Rust": 0.0, "Zig": 0.0}
    for sample in range(min(samples, 1000 * len(weights))):
        for name, weight in weights[sample // 1000].items():
            expected[name] += weight * LENGTH
    assert seen(plan, laid, schedule, samples) == pytest.approx(expected)
