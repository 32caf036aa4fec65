"""The batched Newton method against scipy's solvers, and against itself one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from blendlaw.estimate import bounds
from blendlaw.laws import Runs
from blendlaw.laws.chinchilla import Chinchilla
from blendlaw.laws.effective import Array
from blendlaw.solver import Objective, Solution, derivatives, minimise, value

LAW = Chinchilla()
LOWER, UPPER = bounds(LAW.law_parameters)
TRUE = np.array([np.log(0.4), np.log(0.2), 0.4, np.log(1.5), 0.7])


def grid(sizes: int = 6, budgets: int = 5) -> Runs:
    params, tokens = np.meshgrid(np.geomspace(0.1, 3, sizes), np.geomspace(2, 64, budgets))
    n = params.size
    return Runs(
        languages=("Go",),
        target=np.zeros(n, np.intp),
        params=params.ravel(),
        tokens=tokens.ravel(),
        shares=np.ones((n, 1)),
        unique=np.full((n, 1), np.inf),
        transfer=np.zeros((1, 1)),
    )


RUNS = grid()


def measured(seed: int, noise: float = 0.01) -> Array:
    generator = np.random.default_rng(seed)
    theta = TRUE + generator.uniform(-0.2, 0.2, len(TRUE))
    return LAW.loss(theta, RUNS) * np.exp(noise * generator.standard_t(4, len(RUNS)))


def fitted(losses: Array, objective: Objective, weight: Array | None = None) -> Solution:
    """The best of the law's starts, as a batch of one."""
    starts = LAW.starts(RUNS, losses)
    found = minimise(LAW, RUNS, losses, objective, starts, LOWER, UPPER, weight)
    best = slice(int(np.argmin(found.value)), int(np.argmin(found.value)) + 1)
    return Solution(found.theta[best], found.value[best], found.converged[best])


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("delta", [1e-3, 0.02, np.inf])
@pytest.mark.parametrize("seed", range(2))
def test_never_above_scipys_best_of_many_starts(seed: int, delta: float, log: bool) -> None:
    losses, objective = measured(seed), Objective(delta, log)
    found = fitted(losses, objective)
    generator = np.random.default_rng(seed)
    costs = []

    def residual(theta: Array) -> Array:
        return objective.residual(LAW.loss(theta, RUNS), losses)

    def slope(theta: Array) -> Array:
        return LAW.gradient(theta, RUNS) / (LAW.loss(theta, RUNS)[:, None] if log else 1.0)

    for _ in range(3):
        reference = least_squares(
            residual,
            np.clip(TRUE + generator.normal(0, 0.5, len(TRUE)), LOWER + 1e-6, UPPER - 1e-6),
            jac=slope,
            bounds=(LOWER, UPPER),
            loss="linear" if np.isinf(delta) else "huber",
            f_scale=1.0 if np.isinf(delta) else delta,
            x_scale="jac",
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
            max_nfev=150,
        )
        costs.append(reference.cost)
    assert found.converged.all()
    assert found.value[0] <= min(costs) * (1 + 1e-9)
    # scipy creeps along Huber's corners; where it can arrive, it arrives at the same.
    assert found.value[0] == pytest.approx(min(costs), rel=1e-9 if np.isinf(delta) else 1e-2)


def test_the_value_is_the_sum_that_is_documented() -> None:
    losses = measured(0)
    theta = TRUE[None]
    residual = np.log(LAW.loss(TRUE, RUNS) / losses)
    size = np.abs(residual)
    huber = np.where(size <= 0.01, residual**2 / 2, 0.01 * (size - 0.005)).sum()
    weight = np.ones(len(RUNS))
    assert value(LAW, RUNS, losses, Objective(0.01), theta, weight) == pytest.approx(huber)
    squares = 0.5 * ((LAW.loss(TRUE, RUNS) - losses) ** 2).sum()
    plain = Objective(np.inf, log=False)
    assert value(LAW, RUNS, losses, plain, theta, weight) == pytest.approx(squares)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("delta", [0.02, np.inf])
def test_derivatives_are_the_differences(delta: float, log: bool) -> None:
    generator = np.random.default_rng(5)
    losses, objective = measured(1), Objective(delta, log)
    theta, weight = TRUE + generator.uniform(-0.1, 0.1, 5), generator.uniform(0, 2, len(RUNS))

    def at(point: Array) -> tuple[float, Array]:
        total, gradient, _, _ = derivatives(LAW, RUNS, losses, objective, point[None], weight[None])
        return float(total[0]), gradient[0]

    _, gradient, hessian, _ = derivatives(LAW, RUNS, losses, objective, theta[None], weight[None])
    for column, shift in enumerate(1e-6 * np.eye(5)):
        (ahead, after), (behind, before) = at(theta + shift), at(theta - shift)
        assert gradient[0, column] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
        np.testing.assert_allclose(hessian[0, column], (after - before) / 2e-6, rtol=1e-4)


def test_bounds_are_kept_and_a_bound_can_be_the_answer() -> None:
    losses = measured(2)
    lower, upper = LOWER.copy(), UPPER.copy()
    lower[2], upper[4] = 0.9, 0.3  # both forbid the true exponents
    starts = LAW.starts(RUNS, losses)
    found = minimise(LAW, RUNS, losses, Objective(), starts, lower, upper)
    assert ((found.theta >= lower) & (found.theta <= upper)).all()
    best = found.theta[np.argmin(found.value)]
    assert best[2] == lower[2]
    assert best[4] == upper[4]

    def residual(theta: Array) -> Array:
        return Objective().residual(LAW.loss(theta, RUNS), losses)

    reference = least_squares(
        residual,
        np.clip(best, lower + 1e-9, upper - 1e-9),
        bounds=(lower, upper),
        loss="huber",
        f_scale=1e-3,
    )
    assert found.value.min() <= reference.cost * (1 + 1e-9)


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_a_weight_is_a_repeated_row(delta: float) -> None:
    generator = np.random.default_rng(7)
    losses, objective = measured(3), Objective(delta)
    counts = generator.multinomial(len(RUNS), np.full(len(RUNS), 1 / len(RUNS)))
    weighted = fitted(losses, objective, counts.astype(float))
    rows = np.repeat(np.arange(len(RUNS)), counts)
    repeated = minimise(LAW, RUNS.rows(rows), losses[rows], objective, weighted.theta, LOWER, UPPER)
    np.testing.assert_allclose(repeated.value, weighted.value, rtol=1e-9)
    np.testing.assert_allclose(repeated.theta, weighted.theta, atol=1e-4)


def test_a_batch_is_its_problems_one_by_one() -> None:
    """What one problem does must not depend on its neighbours, nor on when they finish."""
    generator = np.random.default_rng(8)
    losses = measured(4)
    weight = generator.multinomial(len(RUNS), np.full(len(RUNS), 1 / len(RUNS)), 20).astype(float)
    starts = fitted(losses, Objective()).theta + generator.normal(0, 0.05, (20, 5))
    together = minimise(LAW, RUNS, losses, Objective(), starts, LOWER, UPPER, weight)
    for number in range(20):
        one = slice(number, number + 1)
        alone = minimise(LAW, RUNS, losses, Objective(), starts[one], LOWER, UPPER, weight[one])
        np.testing.assert_allclose(alone.value, together.value[one], rtol=1e-9)
        np.testing.assert_allclose(alone.theta, together.theta[one], atol=1e-6)
        assert alone.converged == together.converged[one]


def test_noiseless_losses_give_the_parameters_back() -> None:
    found = fitted(LAW.loss(TRUE, RUNS), Objective(np.inf))
    assert found.converged.all()
    np.testing.assert_allclose(found.theta[0], TRUE, atol=1e-6)


def test_convergence_is_said_only_when_it_is_so() -> None:
    losses = measured(5)
    starts = LAW.starts(RUNS, losses)
    cut = minimise(LAW, RUNS, losses, Objective(), starts, LOWER, UPPER, iterations=2)
    assert not cut.converged.any()
    done = minimise(LAW, RUNS, losses, Objective(), starts, LOWER, UPPER)
    assert done.converged.sum() >= len(starts) / 2
    # Those that say so lie at a minimum: no small step within the bounds goes lower.
    generator = np.random.default_rng(9)
    best = int(np.argmin(done.value))
    assert done.converged[best]
    steps = np.clip(done.theta[best] + generator.normal(0, 1e-5, (500, 5)), LOWER, UPPER)
    around = value(LAW, RUNS, losses, Objective(), steps, np.ones(len(RUNS)))
    assert around.min() >= done.value[best] * (1 - 1e-9)


def test_a_start_without_a_finite_loss_does_not_count_as_converged() -> None:
    losses = measured(6)
    start = np.vstack([TRUE, np.full(5, np.nan)])
    found = minimise(LAW, RUNS, losses, Objective(), start, LOWER, UPPER)
    assert found.converged.tolist() == [True, False]
