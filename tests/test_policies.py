"""The built-in policies against hand-made answers, and the limits on anybody's proposal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendlaw import hookspecs, plugins, policies
from blendlaw.errors import InputError
from blendlaw.plan import LanguagePlan, Plan, Run, Stage
from blendlaw.policies import propose, within_limits


def plan_of(weights: object, tokens: float = 100.0, **languages: dict[str, Any]) -> Plan:
    temperature = 0.5 if weights == "temperature" else None
    return Plan(
        run=Run(params=1e9, tokens=tokens),
        languages={name: LanguagePlan(**keys) for name, keys in languages.items()},
        stages=(Stage("main", tokens, weights, temperature),),  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def manager(monkeypatch: pytest.MonkeyPatch) -> pluggy.PluginManager:
    """A plugin manager with the policies alone, so that each test can add its own plugins."""
    made = pluggy.PluginManager("blendlaw")
    made.add_hookspecs(hookspecs)
    made.register(policies)
    monkeypatch.setattr(plugins, "plugin_manager", lambda: made)
    return made


def proposed(plan: Plan) -> dict[str, float]:
    return dict(propose(plan, plan.stages[0]))


THREE: Mapping[str, dict[str, Any]] = {
    "Go": {"unique_tokens": 1.0},
    "Java": {"unique_tokens": 9.0},
    "Python": {"unique_tokens": 90.0},
}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("proportional", [0.01, 0.09, 0.9]),
        ("temperature", [1 / (4 + 90**0.5), 3 / (4 + 90**0.5), 90**0.5 / (4 + 90**0.5)]),
        ({"Python": 0.75, "Go": 0.25}, [0.25, 0.0, 0.75]),
    ],
)
def test_policies_by_hand(policy: object, expected: list[float]) -> None:
    found = proposed(plan_of(policy, **THREE))
    assert list(found) == ["Go", "Java", "Python"]
    assert list(found.values()) == pytest.approx(expected, abs=1e-15)


def test_unimax_gives_the_published_example() -> None:
    """The worked example of the unimax_sampling package: five languages, four epochs."""
    unique = {
        "swe": 179955884499,
        "fas": 184595788282,
        "ekk": 42541080893,
        "isl": 10027573389,
        "fao": 549707867,
    }
    keys = {name: {"unique_tokens": float(n), "max_epochs": 4.0} for name, n in unique.items()}
    found = proposed(plan_of("unimax", 250e9, **keys))
    assert found == pytest.approx(
        {
            "fao": 0.008795325872,
            "isl": 0.160441174224,
            "ekk": 0.2769211666346667,
            "swe": 0.27692116663466665,
            "fas": 0.27692116663466665,
        },
        abs=1e-12,
    )


@given(
    st.lists(st.floats(1.0, 1e12), min_size=1, max_size=6),
    st.floats(0.5, 5),
    st.floats(0.01, 0.999),
)
def test_unimax_is_its_sorted_loop(unique: list[float], epochs: float, part: float) -> None:
    tokens = part * epochs * sum(unique)
    keys = {f"L{i}": {"unique_tokens": n, "max_epochs": epochs} for i, n in enumerate(unique)}
    plan = plan_of("unimax", tokens, **keys)
    found = policies.unimax(plan.stages[0], None, plan)
    remaining, expected = tokens, {}
    in_order = sorted(range(len(unique)), key=lambda i: unique[i])
    for turn, i in enumerate(in_order):
        budget = min(remaining / (len(unique) - turn), epochs * unique[i])
        expected[f"L{i}"] = budget / tokens
        remaining -= budget
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_law_asks_the_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Allocation:
        weights: dict[str, float]

    asked: dict[str, object] = {}

    def allocate(fit: object, **options: object) -> Allocation:
        asked.update(options, fit=fit)
        return Allocation({"Go": 0.2, "Java": 0.3, "Python": 0.5})

    fake = ModuleType("blendlaw.allocation")
    fake.allocate = allocate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "blendlaw.allocation", fake)
    plan = plan_of("law", **THREE)
    fit: Any = object()
    assert dict(propose(plan, plan.stages[0], fit)) == {"Go": 0.2, "Java": 0.3, "Python": 0.5}
    assert asked == {"fit": fit, "params": 1e9, "tokens": 100.0, "plan": plan}
    with pytest.raises(InputError, match="stage main wants weights by law, but there is no fit"):
        propose(plan, plan.stages[0])


class Greedy:
    @hookspecs.hookimpl
    def propose_weights(self, stage: Stage) -> dict[str, float] | None:
        return {"Python": 1.0} if stage.weights == "greedy" else None


def test_a_plugin_answers_first_and_keeps_the_limits(manager: pluggy.PluginManager) -> None:
    manager.register(Greedy())
    plan = plan_of("greedy", Go={"floor": 0.1}, Java={}, Python={"cap": 0.7})
    found = propose(plan, plan.stages[0])
    assert found == pytest.approx({"Go": 0.15, "Java": 0.15, "Python": 0.7})
    assert found.requested == {"Go": 0.0, "Java": 0.0, "Python": 1.0}
    assert proposed(plan_of("uniform", Go={}, Python={})) == {"Go": 0.5, "Python": 0.5}


def test_a_wrapper_of_a_plugin_keeps_the_limits_too(manager: pluggy.PluginManager) -> None:
    class Push:
        @hookspecs.hookimpl(wrapper=True, tryfirst=False)
        def propose_weights(self) -> Any:
            yield
            return {"Go": 1.0}

    manager.register(Push())
    assert proposed(plan_of("uniform", Go={"cap": 0.6}, C={})) == {"Go": 0.6, "C": 0.4}


def test_consumed_tokens_count_against_max_epochs() -> None:
    plan = plan_of("uniform", Go={"unique_tokens": 30.0, "max_epochs": 2.0}, C={})
    assert proposed(plan) == {"Go": 0.5, "C": 0.5}
    later = plan.after(plan.stages[0], proposed(plan))
    assert proposed(later) == pytest.approx({"Go": 0.1, "C": 0.9})


def test_what_cannot_be_answered_says_why() -> None:
    cases = [
        (plan_of("unifrom", **THREE), "no plugin knows the policy 'unifrom' .did you mean 'unif"),
        (plan_of("zzz", **THREE), "built in are law, static, uniform"),
        (plan_of("static", **THREE), "static weights are given as a table"),
        (plan_of("proportional", Go={}, C={}), "proportional needs the unique_tokens of Go, C"),
        (plan_of("unimax", **THREE), "unimax needs the max_epochs"),
        (plan_of("uniform", Go={"cap": 0.2}, C={"cap": 0.3}), "limits of stage main: caps allow"),
    ]
    for plan, message in cases:
        with pytest.raises(InputError, match=message):
            propose(plan, plan.stages[0])
    plan = plan_of("temperature", **THREE)
    with pytest.raises(InputError, match="needs a temperature"):
        propose(plan, replace(plan.stages[0], temperature=None))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"Pyton": 1.0}, "the plan has no language 'Pyton' .did you mean 'Python'"),
        ({"Python": float("nan"), "Go": 1.0}, "of stage main: weights must sum to 1 .got nan"),
        ({"Python": 1.5, "Go": -0.5}, "the weight of Go must not be negative"),
        ({"Python": 0.5}, "weights of stage main: weights must sum to 1 .got 0.5"),
    ],
)
def test_proposals_that_are_no_weights(weights: dict[str, float], message: str) -> None:
    plan = plan_of("uniform", **THREE)
    with pytest.raises(InputError, match=message):
        within_limits(plan, plan.stages[0], weights)
