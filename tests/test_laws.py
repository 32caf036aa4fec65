"""Every registered law against finite differences, and against what it claims of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlaw.estimate import bounds
from blendlaw.laws import Law, Runs, Setting
from blendlaw.laws.effective import Array, effective, saturate
from blendlaw.plugins import laws

LANGUAGES = ("Python", "Java", "Go")
SEEDS = st.integers(0, 2**32 - 1)
every_law = pytest.mark.parametrize("law", laws().values(), ids=list(laws()))


def some_runs(law: Law, generator: np.random.Generator, n: int = 12) -> Runs:
    """Mixtures, some read twice, at least half of each its target: harm never outweighs it."""
    size = len(LANGUAGES)
    target = generator.integers(0, size, n) if law.joint else np.full(n, 1)
    shares = 0.5 * generator.dirichlet(np.ones(size), n) + 0.5 * np.eye(size)[target]
    tokens = 10 ** generator.uniform(0.3, 2, n)
    return Runs(
        languages=LANGUAGES,
        target=target,
        params=10 ** generator.uniform(-1, 0.5, n),
        tokens=tokens,
        shares=shares,
        unique=np.where(generator.random((n, size)) < 0.5, tokens[:, None] * shares / 2, np.inf),
        transfer=some_transfer(generator),
        substitution=generator.choice([1.0, 0.57]),
    )


def some_transfer(generator: np.random.Generator) -> Array:
    return generator.uniform(-0.2, 0.9, (len(LANGUAGES), len(LANGUAGES)))


def some_theta(law: Law, generator: np.random.Generator, *shape: int) -> Array:
    """Solved parameters within bounds: amplitudes of e^−3 to e^3, others of −0.3 to 3."""
    parameters = law.solved_parameters(LANGUAGES, 1)
    lower, upper = bounds(parameters)
    least = np.array([-3.0 if p.log else -0.3 for p in parameters])
    low, high = np.maximum(lower, least), np.minimum(upper, 3.0)
    return generator.uniform(low, high, (*shape, len(low)))


def slope_by_differences(function: Callable[[Array], Array], at: Array, step: float) -> Array:
    """Derivative of ``function`` (its value of any shape) in the vector ``at``, last axis."""
    columns = [
        (function(at + shift) - function(at - shift)) / (2 * step)
        for shift in step * np.eye(len(at))
    ]
    return np.stack(columns, -1)


def close(found: Array, expected: Array, relative: float, rounding: float = 1e-9) -> bool:
    """Whether differences agree, but for their truncation and the rounding of what they are of."""
    return bool(np.abs(found - expected).max() <= relative * np.abs(expected).max() + rounding)


@every_law
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_gradient_and_curvature_are_the_differences(law: Law, seed: int) -> None:
    generator = np.random.default_rng(seed)
    runs, theta = some_runs(law, generator), some_theta(law, generator)
    expected = slope_by_differences(lambda t: law.loss(t, runs), theta, 1e-6)
    # Each run by itself: a term that only matters in cheap runs must be right too.
    rows = zip(law.loss(theta, runs), law.gradient(theta, runs), expected, strict=True)
    for loss, found, differences in rows:
        assert close(found, differences, 1e-5, 1e-9 * loss)
    weight = generator.normal(size=len(runs))
    curvature = law.curvature(theta, runs, weight)
    if curvature is None:
        return
    bent = slope_by_differences(lambda t: weight @ law.gradient(t, runs), theta, 1e-5)
    assert close(curvature, bent, 1e-4)


@every_law
def test_leading_dimensions_are_independent_problems(law: Law) -> None:
    generator = np.random.default_rng(1)
    runs, theta = some_runs(law, generator), some_theta(law, generator, 2, 3)
    weight = generator.normal(size=(2, 3, len(runs)))
    loss, gradient = law.loss(theta, runs), law.gradient(theta, runs)
    curvature = law.curvature(theta, runs, weight)
    assert gradient.shape == (*loss.shape, theta.shape[-1])
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(loss[index], law.loss(theta[index], runs), rtol=1e-9)
        alone = law.gradient(theta[index], runs)
        np.testing.assert_allclose(gradient[index], alone, rtol=1e-9, atol=1e-12)
        if curvature is not None:
            bent = law.curvature(theta[index], runs, weight[index])
            assert bent is not None
            np.testing.assert_allclose(curvature[index], bent, rtol=1e-9, atol=1e-9)


@every_law
def test_parameters_agree_with_what_is_solved_for(law: Law) -> None:
    generator = np.random.default_rng(2)
    theta = some_theta(law, generator, 4)
    for target in range(len(LANGUAGES)):
        parameters = law.parameters(LANGUAGES, target)
        assert len({p.name for p in parameters}) == len(parameters)
        assert all(p.lower <= p.upper and (p.lower > 0 or not p.log) for p in parameters)
        assert law.of_language(theta, LANGUAGES, target).shape == (4, len(parameters))
        logs = [p.log for p in law.parameters(LANGUAGES, 0)]
        assert [p.log for p in parameters] == logs
    runs = some_runs(law, generator)
    starts = law.starts(runs, generator.uniform(0.5, 1.0, len(runs)))
    assert np.isfinite(starts).all()
    assert starts.shape[1] == len(law.solved_parameters(LANGUAGES, 1))


@dataclass(frozen=True)
class Case:
    """A blend to be weighed: of the three languages the first two are predicted."""

    setting: Setting
    solved: list[Array]
    theta: Array
    weights: Array
    value: Array

    @classmethod
    def of(cls, law: Law, generator: np.random.Generator) -> Case:
        targets = 3 if law.joint else 2
        setting = Setting(
            params=10 ** generator.uniform(-1, 0.5),
            tokens=10 ** generator.uniform(0.5, 2.5),
            unique=np.where(generator.random(3) < 0.5, 5.0, np.inf),
            consumed=generator.choice([0.0, 20.0], 3),
            transfer=some_transfer(generator),
            repetition=10 ** generator.uniform(-1.5, 0.5),
            substitution=generator.choice([1.0, 0.57]),
        )
        common = some_theta(law, generator)
        solved = [common if law.joint else some_theta(law, generator) for _ in range(targets)]
        theta = np.stack([law.of_language(s, LANGUAGES, i) for i, s in enumerate(solved)])
        weights = 0.8 * generator.dirichlet(np.ones(3)) + 0.2 / 3
        return cls(setting, solved, theta, weights, generator.uniform(0, 2, targets))

    def evaluate(self, law: Law, weights: Array) -> tuple[Array, Array, Array]:
        found = law.in_weights(self.theta[None], self.setting, weights[None], self.value)
        return found[0][0], found[1][0], found[2][0]

    def objective(self, law: Law, weights: Array) -> Array:
        return np.asarray(self.value @ self.evaluate(law, weights)[0])

    def runs(self, target: int) -> Runs:
        """The run after this blend, as one that was measured."""
        at = self.setting
        seen = at.consumed + at.tokens * self.weights
        return Runs(
            languages=LANGUAGES,
            target=np.array([target]),
            params=np.array([at.params]),
            tokens=np.array([seen.sum()]),
            shares=(seen / seen.sum())[None],
            unique=at.unique[None],
            transfer=at.transfer,
            repetition=at.repetition,
            substitution=at.substitution,
        )


@every_law
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_in_weights_is_the_loss_of_the_mixture_with_its_derivatives(law: Law, seed: int) -> None:
    case = Case.of(law, np.random.default_rng(seed))
    loss, gradient, hessian = case.evaluate(law, case.weights)
    for target, solved in enumerate(case.solved):
        expected = law.loss(solved, case.runs(target))[0]
        # Harm can outweigh all that was learned: no effective token is left, and no finite loss.
        assert loss[target] == pytest.approx(expected, rel=1e-9) or not np.isfinite(loss[target])
    if not np.isfinite(loss).all() or loss.max() > 1e6:
        return
    # Close to that edge the loss bends within a millionth of the weights.
    step = 1e-6 * min(1.0, 1e2 * np.abs(gradient).max() / max(np.abs(hessian).max(), 1e-300))
    slope = slope_by_differences(lambda w: case.objective(law, w), case.weights, step)
    assert close(gradient, slope, 1e-5, 1e-9 * np.abs(loss).max())
    bent = slope_by_differences(lambda w: case.evaluate(law, w)[1], case.weights, step)
    assert close(hessian, bent, 1e-4, 1e-9 * np.abs(gradient).max())
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * np.abs(hessian).max())


@every_law
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_in_weights_takes_draws_one_by_one(law: Law, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = Case.of(law, generator), Case.of(law, generator)
    together = law.in_weights(
        np.stack([one.theta, other.theta]),
        one.setting,
        np.stack([one.weights, other.weights]),
        one.value,
    )
    other = replace(other, setting=one.setting, value=one.value)
    for index, case in enumerate((one, other)):
        for whole, part in zip(together, case.evaluate(law, case.weights), strict=True):
            np.testing.assert_allclose(whole[index], part, rtol=1e-9)


def excess(law: Law, seed: int, sign: float = 1.0) -> float:
    """How far the middle of a random segment of weights lies above its ends' mean, relatively.

    With ``sign`` −1 the languages harm each other as far as they help otherwise.
    """
    generator = np.random.default_rng(seed)
    case = Case.of(law, generator)
    case = replace(case, setting=replace(case.setting, transfer=sign * case.setting.transfer))
    ends = generator.dirichlet(np.full(3, 0.5), 2)
    at_ends = [case.objective(law, end) for end in ends]
    middle = case.objective(law, ends.mean(0))
    if not np.isfinite(at_ends).all():
        return -np.inf
    return float((middle - np.mean(at_ends)) / np.mean(np.abs(at_ends)))


@pytest.mark.parametrize("name", [name for name, law in laws().items() if law.convex])
@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_a_law_that_says_convex_is(name: str, seed: int) -> None:
    assert max(excess(laws()[name], seed), excess(laws()[name], seed, -0.2)) <= 1e-12


@pytest.mark.parametrize("name", [name for name, law in laws().items() if not law.convex])
def test_a_law_that_says_not_convex_is_not(name: str) -> None:
    assert max(excess(laws()[name], seed, -1.0) for seed in range(100)) > 1e-3


@pytest.mark.parametrize("name", ["chinchilla", "transient", "transfer", "saturating"])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_loss_falls_in_tokens(name: str, seed: int) -> None:
    """Never rises with more of the language's own tokens, repeated or not."""
    law, generator = laws()[name], np.random.default_rng(seed)
    case = Case.of(law, generator)
    own = np.array([1.0, 0.0, 0.0])
    losses = [
        law.in_weights(
            case.theta[None],
            replace(case.setting, tokens=tokens, consumed=np.zeros(3)),
            own[None],
            np.array([1.0, 0.0]),
        )[0][0, 0]
        for tokens in np.geomspace(0.1, 1e4, 30)
    ]
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()


@pytest.mark.parametrize("name", ["chinchilla", "transient", "transfer", "saturating"])
def test_without_own_tokens_or_transfer_the_loss_is_infinite(name: str) -> None:
    law = laws()[name]
    case = Case.of(law, np.random.default_rng(3))
    setting = replace(case.setting, consumed=np.zeros(3), transfer=np.zeros((3, 3)))
    theta = case.theta.copy()
    for index, parameter in enumerate(law.parameters(LANGUAGES, 0)):
        if parameter.name.startswith("tau"):
            theta[:, index] = 0.0
    weights, value = np.array([[0.0, 0.5, 0.5]]), np.array([0.0, 1.0])
    loss, _, _ = law.in_weights(theta[None], setting, weights, value)
    assert loss[0, 0] == np.inf
    assert np.isfinite(loss[0, 1])
    beta = [p.name for p in law.parameters(LANGUAGES, 0)].index("beta")
    theta[:, beta] = 0.0  # its lower bound: tokens do not matter, and 0^0 is 1, not nan
    loss, _, _ = law.in_weights(theta[None], setting, weights, value)
    assert np.isfinite(loss).all() or name == "transient"  # whose other term still matters
    assert not np.isnan(loss).any()


# Effective tokens


def worth_of(
    tokens: Array,
    unique: Array,
    transfer: Array,
    lam: float = 0.1,
    gamma: float = 1.0,
    limit: float | None = None,
) -> float:
    """Effective tokens of the first language."""
    own = np.eye(1, len(tokens))
    saturation = None if limit is None else np.array([[limit]])
    found = effective(tokens[None], unique, transfer[None], own, lam, gamma, saturation)
    return float(found.tokens[0])


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, gamma=st.sampled_from([1.0, 0.57, 0.2]))
def test_without_transfer_or_repetition_tokens_count_as_they_are(seed: int, gamma: float) -> None:
    tokens = np.random.default_rng(seed).uniform(0, 50, 3)
    found = worth_of(tokens, np.full(3, np.inf), np.zeros(3), gamma=gamma)
    assert found == pytest.approx(tokens[0], rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    unique=st.floats(0.1, 100),
    lam=st.floats(1e-3, 10),
    factors=st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)),
)
def test_repeated_tokens_are_worth_less_and_less(
    unique: float, lam: float, factors: tuple[float, float]
) -> None:
    def worth(tokens: float) -> tuple[float, float]:
        value, slope, _ = saturate(np.array([tokens]), np.array([unique]), lam)
        return float(value[0]), float(slope[0])

    assert worth(unique) == (unique, 1.0)
    after, slope = worth(unique * (1 + 1e-9))
    assert after == pytest.approx(unique, rel=1e-8)  # continuous, and so is the slope
    assert slope == pytest.approx(1.0, rel=1e-6)
    low, high = sorted(unique * f for f in factors)
    middle = worth((low + high) / 2)[0]
    assert middle >= (worth(low)[0] + worth(high)[0]) / 2 * (1 - 1e-12)
    assert worth(low)[0] <= worth(high)[0] <= min(high, unique * (1 + 1 / lam)) * (1 + 1e-12)
    by_quadrature = unique
    if high > unique:  # the integral of exp(−λ·(D/U − 1)) from U to D
        at = np.linspace(unique, high, 4001)
        by_quadrature += float(np.trapezoid(np.exp(-lam * (at / unique - 1)), at))
        assert worth(high)[0] == pytest.approx(by_quadrature, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    tau=st.floats(0, 5),
    gamma=st.floats(0.1, 1),
    tokens=st.floats(0.1, 100),
    unique=st.sampled_from([np.inf, 2.0]),
)
def test_in_equal_parts_transfer_counts_what_it_says(
    tau: float, gamma: float, tokens: float, unique: float
) -> None:
    each = saturate(np.array([tokens]), np.array([unique]), 0.1)[0][0]
    found = worth_of(
        np.array([tokens, tokens]), np.full(2, unique), np.array([0.0, tau]), gamma=gamma
    )
    assert found == pytest.approx((1 + tau) * each, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0.1, 1), limit=st.none() | st.floats(0.1, 100))
def test_effective_tokens_are_concave_in_the_tokens(
    seed: int, gamma: float, limit: float | None
) -> None:
    generator = np.random.default_rng(seed)
    transfer, unique = generator.uniform(-0.05, 2, 3), generator.choice([1.0, 10.0, np.inf], 3)
    ends = generator.uniform(0, 40, (2, 3))

    def worth(tokens: Array) -> float:
        return worth_of(tokens, unique, transfer, gamma=gamma, limit=limit)

    assert worth(ends.mean(0)) >= (worth(ends[0]) + worth(ends[1])) / 2 - 1e-9


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, gamma=st.floats(0.1, 1), limit=st.floats(0.1, 100))
def test_help_saturates(seed: int, gamma: float, limit: float) -> None:
    generator = np.random.default_rng(seed)
    tokens, endless = generator.uniform(0.1, 40, 3), np.full(3, np.inf)
    transfer = generator.uniform(0, 2, 3)

    def worth(limit: float | None) -> float:
        return worth_of(tokens, endless, transfer, gamma=gamma, limit=limit)

    plain = worth(None) - tokens[0]
    assert worth(limit) - tokens[0] == pytest.approx(limit * np.log1p(plain / limit), rel=1e-9)
    assert worth(1e12) - tokens[0] == pytest.approx(plain, rel=1e-6)
    # A token of help is worth 1 / (1 + H/M) of what it was: in the direction of the others, whose
    # help grows in proportion with gamma 1.
    more = tokens * [1.0, 1 + 1e-6, 1 + 1e-6]
    slope = worth_of(more, endless, transfer, limit=limit) - worth_of(
        tokens, endless, transfer, limit=limit
    )
    helped = float(transfer[1:] @ tokens[1:])
    assert slope == pytest.approx(1e-6 * helped / (1 + helped / limit), rel=1e-3)
