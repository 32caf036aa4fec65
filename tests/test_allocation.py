"""Allocations against brute force and scipy, their limits, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

import blendlaw
from blendlaw.allocation import Allocation, allocate
from blendlaw.errors import InputError
from blendlaw.fitted import Fit, LanguageFit
from blendlaw.laws.effective import Array
from blendlaw.observations import Observation
from blendlaw.plan import LanguagePlan, Plan, Run, Stage
from blendlaw.plugins import laws
from blendlaw.policies import propose

NAMES = ("Python", "Java", "JavaScript", "TypeScript", "C#", "Go", "Rust", "C++")
SEEDS = st.integers(0, 2**32 - 1)
PARAMS, TOKENS = 1.5e9, 100e9


def some_params(generator: np.random.Generator) -> dict[str, float]:
    return {
        "E": generator.uniform(0.2, 0.6),
        "A": generator.uniform(0.1, 0.3),
        "alpha": generator.uniform(0.2, 0.6),
        "B": generator.uniform(0.3, 4.0),
        "beta": generator.uniform(0.3, 1.2),
    }


def some_fit(
    seed: int,
    size: int = 3,
    help_: float = 0.0,
    substitution: float = 1.0,
    draws: int = 0,
    spread: float = 0.0,
) -> Fit:
    """A Chinchilla fit of ``size`` languages with transfer from −0.05·help_ to help_."""
    generator = np.random.default_rng(seed)
    names = NAMES[:size]
    languages = {}
    for name in names:
        params = some_params(generator)
        rows = generator.normal(1.0, spread, (draws, 5)) * list(params.values())
        languages[name] = LanguageFit(
            params, 60, 0.0, 0.0, draws=tuple(map(tuple, np.abs(rows).tolist()))
        )
    tau = help_ * generator.uniform(-0.05, 1.0, (size, size))
    transfer = {
        a: {b: tau[i, j] for j, b in enumerate(names) if i != j} for i, a in enumerate(names)
    }
    return Fit("chinchilla", languages, names, transfer if help_ else {}, substitution=substitution)


def mean_loss(
    fit: Fit, weights: Array, value: Mapping[str, float] | None = None, **setting: Any
) -> float:
    """What an allocation minimises, through ``Fit.predict``."""
    by_name = dict(zip(fit.sources, (weights / weights.sum()).tolist(), strict=True))
    losses = fit.predict(PARAMS, TOKENS, by_name, **setting)
    worth = {name: (value or {}).get(name, 1.0) for name in losses}
    return sum(worth[n] * x for n, x in losses.items() if worth[n]) / sum(worth.values())


def array(allocation: Allocation) -> Array:
    return np.array(list(allocation.weights.values()))


# The optimum


@st.composite
def limits(draw: st.DrawFn, size: int) -> dict[str, Any]:
    """Limits that some weights meet: floors below and caps above 1/size."""
    given: dict[str, Any] = {}
    share = 1 / size
    names = NAMES[:size]
    if draw(st.booleans()):
        given["floor"] = {n: draw(st.floats(0, 0.9 * share)) for n in names}
    if draw(st.booleans()):
        given["cap"] = {n: draw(st.floats(share, 1)) for n in names}
    if draw(st.booleans()):
        given["max_epochs"] = draw(st.floats(1, 4))
        given["unique_tokens"] = {n: draw(st.floats(share, 2)) * TOKENS for n in names}
    elif draw(st.booleans()):
        given["unique_tokens"] = {n: draw(st.floats(0.05, 0.5)) * TOKENS for n in names}
    return given


@settings(max_examples=80, deadline=None)
@given(
    seed=SEEDS,
    size=st.integers(2, 8),
    help_=st.sampled_from([0.0, 0.3, 1.0]),
    substitution=st.sampled_from([1.0, 0.57]),
    data=st.data(),
)
def test_always_the_optimum_within_the_limits(
    seed: int, size: int, help_: float, substitution: float, data: st.DataObject
) -> None:
    fit = some_fit(seed, size, help_, substitution)
    bounds = data.draw(limits(size))
    if data.draw(st.booleans()):
        bounds["consumed"] = {n: 0.1 * TOKENS * (i % 3) for i, n in enumerate(fit.sources)}
        bounds.pop("max_epochs", None)  # what was consumed may already be above them
    found = allocate(fit, params=PARAMS, tokens=TOKENS, **bounds)
    weights = array(found)
    assert found.kkt_residual <= 1e-8
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert (weights >= 0).all()
    for name, weight in found.weights.items():
        assert weight >= bounds.get("floor", {}).get(name, 0.0) - 1e-12
        assert weight <= bounds.get("cap", {}).get(name, 1.0) + 1e-12
        if "max_epochs" in bounds:
            unique = bounds["unique_tokens"][name]
            assert weight * TOKENS <= bounds["max_epochs"] * unique * (1 + 1e-9)
            assert found.epochs[name] == pytest.approx(weight * TOKENS / unique)
    # The marginals say so too: where nothing binds, the next billion is worth the same.
    held = {limit["language"] for limit in found.binding}
    free = [m for n, m in found.marginal.items() if n not in held and found.weights[n] > 0]
    if len(free) > 1:
        assert free == pytest.approx([free[0]] * len(free), rel=1e-6)


def losses_written_out(fit: Fit, weights: Array, unique: Array) -> Array:
    """Losses (m, languages) of blends (m, languages), from the formulas alone; γ as in the fit."""
    tokens = TOKENS / 1e9 * weights
    over = np.maximum(tokens / unique - 1, 0.0)
    worth = np.minimum(tokens, unique)
    worth += np.where(over > 0, unique, 0.0) * -np.expm1(-fit.repetition * over) / fit.repetition
    power, columns = fit.substitution, []
    for i, (target, fitted) in enumerate(fit.languages.items()):
        total, harm = worth[:, i] ** power, np.zeros(len(weights))
        for j, source in enumerate(fit.sources):
            tau = fit.transfer.get(target, {}).get(source, 0.0)
            if tau < 0:
                harm = harm + tau * tokens[:, j]
            else:
                total = total + ((1 + tau) ** power - 1) * worth[:, j] ** power
        p, effective = fitted.params, np.maximum(total ** (1 / power) + harm, 0.0)
        size = p["A"] * (PARAMS / 1e9) ** -p["alpha"]
        with np.errstate(divide="ignore"):
            columns.append(p["E"] + size + p["B"] * effective ** -p["beta"])
    return np.stack(columns, -1)


@pytest.mark.parametrize("substitution", [1.0, 0.57])
@pytest.mark.parametrize("help_", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_blend_of_a_fine_grid_is_better(seed: int, help_: float, substitution: float) -> None:
    fit = some_fit(seed, 3, help_, substitution)
    unique = {"Python": 20e9, "Java": 50e9}
    value = {"Java": 2.0}
    found = allocate(fit, params=PARAMS, tokens=TOKENS, unique_tokens=unique, value=value)
    parts = np.arange(0.0, 1.0 + 1e-9, 0.005)
    first, second = (axis.ravel() for axis in np.meshgrid(parts, parts))
    grid = np.column_stack([first, second, 1 - first - second])
    grid = np.maximum(grid[grid[:, 2] > -1e-9], 0.0)
    scarce = np.array([20.0, 50.0, np.inf])
    of_grid = losses_written_out(fit, grid, scarce) @ [1.0, 2.0, 1.0]
    ours = losses_written_out(fit, array(found)[None], scarce)[0] @ [1.0, 2.0, 1.0]
    least = int(np.argmin(of_grid))
    assert ours <= of_grid[least] * (1 + 1e-12)
    assert of_grid[least] - ours < 1e-3
    assert np.abs(array(found) - grid[least]).max() <= 0.02


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 7), substitution=st.sampled_from([1.0, 0.57]))
def test_never_above_scipys_slsqp(seed: int, size: int, substitution: float) -> None:
    fit = some_fit(seed, size, 0.5, substitution)
    found = allocate(fit, params=PARAMS, tokens=TOKENS, floor=0.01, cap=0.6)

    def objective(weights: Array) -> float:
        return mean_loss(fit, weights)

    reference: Any = minimize(
        objective,
        np.full(size, 1 / size),
        method="SLSQP",
        bounds=[(0.01, 0.6) for _ in range(size)],
        constraints=LinearConstraint(np.ones((1, size)), 1.0, 1.0),
        options={"ftol": 1e-12, "maxiter": 200},
    )
    best = mean_loss(fit, array(found))
    assert best <= mean_loss(fit, reference.x) * (1 + 1e-9)
    if reference.success:
        assert best == pytest.approx(reference.fun, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 6), help_=st.sampled_from([0.0, 0.4]))
def test_the_order_of_languages_does_not_matter(seed: int, size: int, help_: float) -> None:
    fit = some_fit(seed, size, help_, 0.57)
    names = list(reversed(fit.sources))
    turned = replace(fit, languages={n: fit.languages[n] for n in names}, sources=tuple(names))
    one, other = (allocate(f, params=PARAMS, tokens=TOKENS, cap=0.7) for f in (fit, turned))
    assert list(other.weights) == names
    assert other.weights == pytest.approx(one.weights, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 6), factor=st.floats(1.0, 10.0))
def test_a_language_that_is_worth_more_never_gets_less(seed: int, size: int, factor: float) -> None:
    fit = some_fit(seed, size)
    plain = allocate(fit, params=PARAMS, tokens=TOKENS)
    raised = allocate(fit, params=PARAMS, tokens=TOKENS, value={"Java": factor})
    assert raised.weights["Java"] >= plain.weights["Java"] - 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, consumed=st.floats(0.01, 0.5))
def test_what_was_consumed_counts(seed: int, consumed: float) -> None:
    """Without transfer, a whole run in two parts ends where a run in one would."""
    fit = some_fit(seed)
    whole = allocate(fit, params=PARAMS, tokens=TOKENS)
    least = min(whole.weights.values())
    seen = {"Python": consumed * least * TOKENS}
    rest = allocate(fit, params=PARAMS, tokens=TOKENS - seen["Python"], consumed=seen)
    total = {n: t + seen.get(n, 0.0) for n, t in rest.tokens_by_language.items()}
    assert total == pytest.approx(whole.tokens_by_language, rel=1e-5)
    again = allocate(fit, params=PARAMS, tokens=TOKENS, consumed={"Python": 1.2e9})
    assert again.weights["Python"] < whole.weights["Python"]


def test_the_marginal_is_what_a_further_billion_brings() -> None:
    fit = some_fit(4)
    found = allocate(fit, params=PARAMS, tokens=TOKENS)
    for name in fit.sources:

        def loss(extra: float, name: str = name) -> float:
            tokens = dict(found.tokens_by_language)
            tokens[name] += extra
            total = sum(tokens.values())
            shares = {n: t / total for n, t in tokens.items()}
            return sum(fit.predict(PARAMS, total, shares).values())

        slope = (loss(1e7) - loss(-1e7)) / 2e7 * 1e9
        assert found.marginal[name] == pytest.approx(slope, rel=1e-4)


# Limits that cannot be met, and other mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": 0.4}, r"floors sum to 1\.2: 0\.2 too much"),
        ({"cap": 0.3}, r"caps allow only 0\.9"),
        ({"max_epochs": 2, "unique_tokens": 10e9}, r"only 0\.6 .* lower tokens from 1e\+11"),
        ({"max_epochs": 2}, "unique tokens of Python, Java, JavaScript"),
        ({"floor": {"Java": 0.3}, "cap": {"Java": 0.2}}, "floor 0.3 of Java is above"),
        ({"cap": {"Jaav": 0.2}}, "Jaav"),
        ({"value": {"Jaav": 2.0}}, "Jaav"),
        ({"value": 0.0}, "some language must have a value above 0"),
        ({"value": {"Java": -1.0}}, "the value of Java"),
        ({"value": {"Java": np.nan}}, "the value of Java"),
        ({"tokens": 0.0}, "tokens"),
        ({"params": -1.0}, "params"),
    ],
)
def test_what_cannot_be_met_is_refused_with_its_numbers(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        allocate(some_fit(0), **{"params": PARAMS, "tokens": TOKENS, **options})


def test_limits_that_bind_are_named() -> None:
    found = allocate(
        some_fit(0, 4),
        params=PARAMS,
        tokens=TOKENS,
        floor={"Python": 0.5},
        cap={"Java": 0.01},
        max_epochs={"JavaScript": 1},
        unique_tokens={"JavaScript": 1e9},
    )
    assert {limit["language"]: limit["limit"] for limit in found.binding} == {
        "Python": "floor",
        "Java": "cap",
        "JavaScript": "max_epochs",
    }
    assert found.weights["Python"] == 0.5


# Plans


def plan_of(**languages: LanguagePlan) -> Plan:
    stages = (Stage("main", TOKENS, "law"),)
    return Plan(run=Run(params=PARAMS, tokens=TOKENS), languages=languages, stages=stages)


def test_a_plan_gives_limits_which_arguments_override() -> None:
    plan = plan_of(Python=LanguagePlan(floor=0.6), Java=LanguagePlan(), JavaScript=LanguagePlan())
    fit = some_fit(0)
    assert allocate(fit, params=PARAMS, tokens=TOKENS, plan=plan).weights["Python"] >= 0.6
    found = allocate(fit, params=PARAMS, tokens=TOKENS, plan=plan, floor={"Python": 0.0})
    assert found.weights == pytest.approx(allocate(fit, params=PARAMS, tokens=TOKENS).weights)


def test_languages_that_the_plan_does_not_have_get_nothing() -> None:
    plan = plan_of(Python=LanguagePlan(), Java=LanguagePlan())
    fit = some_fit(0, 4, draws=5, spread=0.05)
    found = allocate(fit, params=PARAMS, tokens=TOKENS, plan=plan)
    assert found.weights["JavaScript"] == found.weights["TypeScript"] == 0.0
    two = replace(
        fit,
        languages={n: fit.languages[n] for n in plan.languages},
        sources=tuple(plan.languages),
        transfer={},
    )
    alone = allocate(two, params=PARAMS, tokens=TOKENS)
    assert {n: found.weights[n] for n in plan.languages} == pytest.approx(alone.weights, abs=1e-7)
    assert found.predicted["uniform"] == pytest.approx(alone.predicted["uniform"])
    ours, theirs = found.gain["uniform"], alone.gain["uniform"]
    assert ours is not None
    assert theirs is not None
    assert ours.mean == pytest.approx(theirs.mean, abs=1e-9)
    assert ours.verdict == theirs.verdict


def test_the_plans_names_are_kept_and_matched_by_their_canonical_ones() -> None:
    plan = plan_of(python=LanguagePlan(cap=0.2), js=LanguagePlan(), Java=LanguagePlan())
    found = allocate(some_fit(0), params=PARAMS, tokens=TOKENS, plan=plan)
    assert set(found.weights) == {"python", "js", "Java"}
    assert found.weights["python"] <= 0.2


def test_a_plans_unknown_language_is_refused() -> None:
    plan = plan_of(Python=LanguagePlan(), Haskell=LanguagePlan())
    with pytest.raises(InputError, match=r"Haskell.*not in the fit"):
        allocate(some_fit(0), params=PARAMS, tokens=TOKENS, plan=plan)


# What is compared and said


def test_predictions_are_those_of_the_fit() -> None:
    fit = some_fit(1, 4, 0.3)
    unique = {name: 10e9 * (1 + i) for i, name in enumerate(fit.sources)}
    found = allocate(fit, params=PARAMS, tokens=TOKENS, unique_tokens=unique)
    expected = fit.predict(PARAMS, TOKENS, unique_tokens=unique)
    assert found.predicted["uniform"] == pytest.approx(expected)
    expected = fit.predict(PARAMS, TOKENS, found.weights, unique)
    assert found.predicted["allocated"] == pytest.approx(expected)
    shares = {name: amount / 100e9 for name, amount in unique.items()}
    expected = fit.predict(PARAMS, TOKENS, shares, unique)
    assert found.predicted["proportional"] == pytest.approx(expected)
    for name in ("uniform", "proportional"):
        gain, theirs, ours = found.gain[name], found.predicted[name], found.predicted["allocated"]
        assert gain is not None
        assert theirs is not None
        assert ours is not None
        means = [np.mean([x for x in losses.values() if x]) for losses in (theirs, ours)]
        assert gain.mean == pytest.approx(means[0] - means[1])
        assert gain.percent == pytest.approx(100 * (1 - means[1] / means[0]))
        assert gain.mean >= 0
        assert gain.interval is None
        assert "unknown without a bootstrap" in gain.verdict


def test_proportional_needs_all_unique_tokens() -> None:
    fit = some_fit(0)
    known = {"Python": 50e9, "Java": 70e9}
    found = allocate(fit, params=PARAMS, tokens=TOKENS, unique_tokens=known)
    assert found.predicted["proportional"] is None
    assert found.gain["proportional"] is None
    assert found.epochs["JavaScript"] is None


def test_the_verdict_says_what_the_interval_does() -> None:
    sure = allocate(some_fit(0, draws=40, spread=1e-4), params=PARAMS, tokens=TOKENS)
    noisy = allocate(some_fit(0, draws=40, spread=0.5), params=PARAMS, tokens=TOKENS)
    for found in (sure, noisy):
        gain = found.gain["uniform"]
        assert gain is not None
        assert gain.interval is not None
        assert gain.verdict.startswith("within the noise") == (gain.interval[0] <= 0)
        assert ("small" in gain.verdict) <= (gain.percent < 0.5)
        assert f"{gain.percent:.2f}%" in gain.verdict
    assert sure.gain["uniform"] is not None
    assert not sure.gain["uniform"].verdict.startswith("within the noise")
    assert noisy.gain["uniform"] is not None
    assert noisy.gain["uniform"].verdict.startswith("within the noise")


def test_intervals_hold_the_weights_and_are_those_of_single_draws() -> None:
    fit = some_fit(5, draws=30, spread=0.05)
    found = allocate(fit, params=PARAMS, tokens=TOKENS)
    assert found.interval is not None
    one_by_one = []
    for number in range(30):
        languages = {
            name: replace(f, params=dict(zip(f.params, f.draws[number], strict=True)), draws=())
            for name, f in fit.languages.items()
        }
        drawn = allocate(replace(fit, languages=languages), params=PARAMS, tokens=TOKENS)
        assert drawn.interval is None
        one_by_one.append(array(drawn))
    low, high = np.quantile(one_by_one, [0.05, 0.95], axis=0)
    spans = np.array(list(found.interval.values()))
    np.testing.assert_allclose(spans, np.column_stack([low, high]), atol=1e-7)


def test_an_allocation_reads_back_as_it_was_written() -> None:
    for draws in (0, 6):
        fit = some_fit(2, draws=draws, spread=0.05)
        found = allocate(fit, params=PARAMS, tokens=TOKENS, cap=0.5, unique_tokens={"Java": 1e10})
        assert Allocation.from_json(found.to_json()) == found
        assert "Java" in str(found)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_what_is_not_an_allocation_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"allocation\.json"):
        Allocation.from_json(text)


def test_a_language_without_value_or_help_gets_nothing_and_is_predicted_without_a_number() -> None:
    found = allocate(some_fit(0), params=PARAMS, tokens=TOKENS, value={"Java": 0.0})
    assert found.weights["Java"] == pytest.approx(0.0, abs=1e-9)
    allocated = found.predicted["allocated"]
    assert allocated is not None
    assert allocated["Java"] is None
    assert found.gain["uniform"] is not None
    assert Allocation.from_json(found.to_json()) == found


def harmful(tau: float) -> Fit:
    fit = some_fit(0, 3)
    transfer = {a: {b: tau for b in fit.sources if b != a} for a in fit.sources}
    return replace(fit, transfer={**transfer, "Python": {"Java": 0.5, "JavaScript": 0.5}})


def test_harm_that_leaves_no_finite_loss_is_told_and_not_returned_as_no_number() -> None:
    with pytest.raises(InputError, match="harm each other"):
        allocate(harmful(-0.9), params=PARAMS, tokens=TOKENS)
    found = allocate(harmful(-0.4), params=PARAMS, tokens=TOKENS)
    assert found.kkt_residual <= 1e-8
    # At uniform weights two of the three have no effective tokens; elsewhere all have some.
    tilted = allocate(harmful(-0.55), params=PARAMS, tokens=TOKENS, value={"JavaScript": 0.0})
    assert tilted.kkt_residual <= 1e-8
    assert sum(tilted.weights.values()) == pytest.approx(1.0, abs=1e-9)


def test_a_law_that_is_not_convex_says_so() -> None:
    common = {"A": 0.2, "alpha": 0.3, "B": 2.0, "beta": 0.7, "gamma": 1.0}
    languages = {
        name: LanguageFit({"E": floor, **common}, 60, 0.0, 0.0)
        for name, floor in zip(NAMES[:3], (0.3, 0.5, 0.4), strict=True)
    }
    fit = Fit("proportion", languages, NAMES[:3])
    found = allocate(fit, params=PARAMS, tokens=TOKENS)
    assert any("not convex" in warning for warning in found.warnings)
    # As the paper prints it, the law puts all weight where the floor is lowest.
    assert found.weights["Python"] == pytest.approx(1.0, abs=1e-6)
    assert found.kkt_residual <= 1e-8


def test_beyond_what_was_measured_is_said() -> None:
    seen = {"range": {"parameters": [1e8, 3e9], "tokens": [2e9, 64e9]}}
    fit = replace(some_fit(0), provenance=seen)
    (small,) = allocate(fit, params=5e7, tokens=TOKENS).warnings
    assert "5e+07 parameters is outside" in small
    assert "1e+08 to 3e+09" in small
    # Of tokens, those of the language with the most: a language alone had up to 64e9.
    (long,) = allocate(fit, params=PARAMS, tokens=400e9).warnings
    assert "tokens is outside of what was measured, 2e+09 to 6.4e+10" in long
    assert allocate(fit, params=PARAMS, tokens=TOKENS).warnings == ()


MIXED = [
    Observation(
        language=language,
        params=size,
        tokens=tokens,
        loss=1 + size**-0.1 + (tokens * (share + 0.2)) ** -0.2 + number / 10,
        weights={language: share, ("Go", "Python")[number]: 1 - share},
        run=f"{size} {tokens} {share}",
    )
    for number, language in enumerate(("Python", "Go"))
    for size in (1e8, 1e9)
    for tokens in (1e9, 4e9, 2e10)
    for share in (0.2, 0.5, 0.9, 1.0)
]


@pytest.mark.parametrize("bootstrap", [0, 3])
@pytest.mark.parametrize("name", sorted(laws()))
def test_every_law_can_be_allocated_by(name: str, bootstrap: int) -> None:
    runs = [run for run in MIXED if name != "exponential" or (run.params, run.tokens) == (1e9, 4e9)]
    fitted = blendlaw.fit(runs, name, bootstrap=bootstrap)
    found = blendlaw.allocate(fitted, params=1e9, tokens=4e9)
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-9)
    assert found.kkt_residual <= 1e-8
    assert (found.interval is None) == (bootstrap == 0)


# By law, stage by stage


def staged(stages: Sequence[Stage], **languages: dict[str, Any]) -> Plan:
    tokens = sum(stage.tokens for stage in stages)
    known = {name: LanguagePlan(**keys) for name, keys in languages.items()}
    return Plan(Run(1e9, tokens), known, tuple(stages))


SCARCE: Mapping[str, dict[str, Any]] = {
    "Go": {"unique_tokens": 2e8},
    "Java": {"unique_tokens": 9e9},
    "Python": {"unique_tokens": 90e9},
}
ALIKE = Fit(
    "chinchilla",
    {name: LanguageFit(some_params(np.random.default_rng(0)), 60, 0.0, 0.0) for name in SCARCE},
    tuple(SCARCE),
)


def test_by_law_the_run_s_end_counts_however_it_is_staged() -> None:
    """Stages by one fit add up to what is best for the whole, and each has the same weights."""
    whole = allocate(ALIKE, params=1e9, tokens=90e9, plan=staged([Stage("all", 90e9)], **SCARCE))
    plan = staged([Stage("a", 10e9), Stage("b", 50e9), Stage("c", 30e9)], **SCARCE)
    ahead = plan
    for stage in plan.stages:
        weights = propose(ahead, stage, ALIKE)
        assert dict(weights) == pytest.approx(whole.weights, abs=1e-4)
        ahead = ahead.after(stage, weights)
    soon = allocate(ALIKE, params=1e9, tokens=10e9, plan=plan)  # as if the run ended with a
    assert soon.weights["Go"] > 1.5 * whole.weights["Go"]


def test_by_law_what_later_stages_get_anyway_counts() -> None:
    """A table at the end is seen beforehand: the sum is the optimum with that much consumed."""
    last = {"Go": 0.5, "Java": 0.3, "Python": 0.2}
    plan = staged([Stage("a", 30e9), Stage("b", 30e9, "uniform"), Stage("c", 6e9, last)], **SCARCE)
    consumed = {name: 10e9 + 6e9 * share for name, share in last.items()}
    best = allocate(ALIKE, params=1e9, tokens=30e9, plan=plan, consumed=consumed)
    weights = propose(plan, plan.stages[0], ALIKE)
    assert dict(weights) == pytest.approx(best.weights, abs=1e-6)
    ignored = allocate(ALIKE, params=1e9, tokens=30e9, plan=plan)
    assert abs(weights["Go"] - ignored.weights["Go"]) > 0.02


def test_by_law_later_stages_leave_what_its_floors_need() -> None:
    """The table would use up Go, were it not that the law's stage before has a floor of it."""
    go = {"unique_tokens": 30.0, "max_epochs": 1.0, "floor": 0.2}
    stages = [Stage("a", 50.0), Stage("b", 50.0, {"Go": 0.6, "Java": 0.4})]
    plan = staged(stages, Go=go, Java={})
    first = propose(plan, plan.stages[0], ALIKE)
    assert first["Go"] == pytest.approx(0.2)
    second = propose(plan.after(plan.stages[0], first), plan.stages[1])
    assert second["Go"] == pytest.approx(0.4)
