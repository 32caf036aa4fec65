"""Limits and clamp against a plain bisection, and the messages of what cannot be met."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blendlaw.errors import InputError
from blendlaw.limits import Limits, clamp, limits

LANGUAGES = ("Go", "Java", "Python")


def bisected(weights: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """clip(c·w, lower, upper) with Σ = 1, by halving an interval of log c."""
    low, high = -800.0, 800.0
    for _ in range(300):
        middle = (low + high) / 2
        if np.clip(np.exp(middle) * weights, lower, upper).sum() < 1:
            low = middle
        else:
            high = middle
    return np.clip(np.exp(high) * weights, lower, upper)


@st.composite
def problems(draw: st.DrawFn, zeros: bool = False) -> tuple[np.ndarray, Limits]:
    n = draw(st.integers(1, 6))
    unit = st.floats(0, 1)
    lower = np.array(draw(st.lists(unit, min_size=n, max_size=n)))
    lower *= draw(unit) / max(1.0, lower.sum())
    upper = lower + (1 - lower) * np.array(draw(st.lists(unit, min_size=n, max_size=n)))
    assume(upper.sum() >= 1)
    share = st.floats(1e-9, 1) if not zeros else st.one_of(st.just(0.0), st.floats(1e-9, 1))
    weights = np.array(draw(st.lists(share, min_size=n, max_size=n)))
    names = tuple(f"L{i}" for i in range(n))
    return weights, Limits(names, lower, upper, ("",) * n)


@given(problems())
def test_clamp_is_what_bisection_finds(problem: tuple[np.ndarray, Limits]) -> None:
    weights, bounds = problem
    found = clamp(weights, bounds)
    assert abs(found.sum() - 1) < 1e-12
    np.testing.assert_allclose(found, bisected(weights, bounds.lower, bounds.upper), atol=1e-9)


@given(problems(zeros=True))
def test_clamp_keeps_the_limits_and_stays_where_it_is(problem: tuple[np.ndarray, Limits]) -> None:
    weights, bounds = problem
    found = clamp(weights, bounds)
    assert abs(found.sum() - 1) < 1e-12
    assert (found >= bounds.lower - 1e-12).all()
    assert (found <= bounds.upper + 1e-12).all()
    np.testing.assert_allclose(clamp(found, bounds), found, atol=1e-12)
    others_full = (found >= bounds.upper - 1e-12)[weights > 0].all()
    raised = found > bounds.lower + 1e-12
    assert others_full or not raised[weights == 0].any()


def test_clamp_leaves_good_weights_untouched() -> None:
    weights = [0.1, 0.2, 0.7]
    assert clamp(weights, limits(LANGUAGES, 1e9, floor=0.05, cap=0.8)).tolist() == weights


def test_free_languages_keep_their_proportions() -> None:
    bounds = limits(("A", "B", "C", "D"), 1.0, floor={"A": 0.3}, cap={"D": 0.25})
    found = clamp([0.1, 0.2, 0.3, 0.4], bounds)
    np.testing.assert_allclose(found, [0.3, 0.18, 0.27, 0.25])


def test_weight_zero_gets_its_floor_and_takes_over_only_when_the_rest_are_full() -> None:
    free = limits(LANGUAGES, 1.0, floor={"Go": 0.1})
    np.testing.assert_allclose(clamp([0, 0, 1], free), [0.1, 0.0, 0.9])
    full = limits(LANGUAGES, 1.0, cap={"Python": 0.4})
    np.testing.assert_allclose(clamp([0, 0, 1], full), [0.3, 0.3, 0.4])


def test_extreme_proportions_do_not_overflow() -> None:
    bounds = limits(LANGUAGES, 1.0, cap={"Python": 0.4})
    np.testing.assert_allclose(clamp([1e-300, 1e-90, 1], bounds), [0, 0.6, 0.4], atol=1e-80)
    assert clamp([1e300, 1e300, 0], limits(LANGUAGES, 1.0)).tolist() == [0.5, 0.5, 0]


def test_upper_bound_is_the_tightest_of_cap_and_epochs() -> None:
    bounds = limits(
        LANGUAGES,
        100e9,
        cap={"Go": 0.5, "Java": 0.1},
        max_epochs=4,
        unique_tokens={"Go": 10e9, "Java": 90e9, "Python": 300e9},
        consumed={"Go": 15e9},
    )
    np.testing.assert_allclose(bounds.upper, [0.25, 0.1, 1.0])
    assert bounds.reason == ("max_epochs", "cap", "")
    spent = limits(("Go", "C"), 1.0, max_epochs={"Go": 1}, unique_tokens={"Go": 5}, consumed=9)
    assert spent.upper.tolist() == [0.0, 1.0]


def test_rounding_of_floors_that_fill_everything_is_forgiven() -> None:
    names = [f"L{i}" for i in range(10)]
    for per_language in (0.1, 0.1 + 1e-12, 0.1 - 1e-12):
        full = limits(names, 1.0, floor=per_language, cap=0.1 + 1e-12)
        assert abs(clamp(np.arange(10.0), full).sum() - 1) < 1e-12


def refused(**given: object) -> str:
    with pytest.raises(InputError) as caught:
        limits(LANGUAGES, 100e9, **given)  # type: ignore[arg-type]
    return str(caught.value)


def test_infeasible_limits_say_by_how_much_and_what_helps() -> None:
    message = refused(floor={"Python": 0.6, "Java": 0.6})
    assert message == "floors sum to 1.2: 0.2 too much (Java 0.6, Python 0.6)"
    message = refused(floor={"Go": 0.3}, max_epochs={"Go": 3}, unique_tokens={"Go": 7e9})
    assert message == "floor 0.3 of Go is above its max_epochs limit 0.21"
    assert refused(cap=0.3) == (
        "caps allow only 0.9 of the tokens, 0.1 too little: raise the cap of Go, Java, Python"
    )
    message = refused(cap={"Go": 0.5}, max_epochs=1, unique_tokens=20e9)
    assert message.startswith(
        "caps allow only 0.6 of the tokens, 0.4 too little: raise max_epochs of Go"
    )
    assert "lower tokens from 1e+11 to " in message


@given(
    st.lists(st.floats(0.05, 1), min_size=3, max_size=3),
    st.lists(st.floats(1e9, 5e10), min_size=3, max_size=3),
)
def test_the_tokens_suggested_are_the_most_that_work(
    caps: list[float], unique: list[float]
) -> None:
    given = {
        "cap": dict(zip(LANGUAGES, caps, strict=True)),
        "unique_tokens": dict(zip(LANGUAGES, unique, strict=True)),
        "max_epochs": 1.0,
    }
    assume(sum(caps) > 1.001 and sum(unique) < 99e9)
    message = refused(**given)
    tokens = float(message.rsplit(" ", 1)[1])
    limits(LANGUAGES, tokens, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        limits(LANGUAGES, tokens * 1.002, **given)  # type: ignore[arg-type]


def test_unknown_languages_and_missing_unique_tokens_are_named() -> None:
    assert "did you mean 'Python'?" in refused(floor={"Pyton": 0.1})
    assert refused(max_epochs=4, unique_tokens={"Go": 1e9}) == (
        "max_epochs needs the unique tokens of Java, Python"
    )
    assert "cap of Go must be" in refused(cap={"Go": float("nan")})
    with pytest.raises(InputError, match="positive"):
        limits(LANGUAGES, 0)
    with pytest.raises(InputError, match="not negative"):
        clamp([1, -1, 0], limits(LANGUAGES, 1))
