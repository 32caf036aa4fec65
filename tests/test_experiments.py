"""Which proxy runs to do: the criterion, the search, the belief, and what is written."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from blendlaw import InputError, Observation, cli, read_plan
from blendlaw.experiments import Experiments, ProxyRun, experiments
from blendlaw.experiments.belief import (
    EARLY,
    Belief,
    believed,
    inefficiency,
    slopes,
    spread,
    updated,
)
from blendlaw.experiments.candidates import Candidates, candidates
from blendlaw.experiments.criterion import regret_matrices, regrets, tangent_inverse
from blendlaw.experiments.design import allocation_problem
from blendlaw.experiments.folders import designs, plan_of, stated, write_runs
from blendlaw.experiments.search import choose, covariance, gains
from blendlaw.experiments.step_law import batch, learning_rate
from blendlaw.fitted import law_named
from blendlaw.plan import LanguagePlan, Plan, Run, Stage
from blendlaw.plan_sources import Source

NAMES = ("Go", "Rust", "C#")
LAWS = ("chinchilla", "transient", "transfer", "mixing")


def plan(**changes: float) -> Plan:
    """1.5B parameters and 100B tokens of three languages."""
    languages = {
        name: LanguagePlan(sources=(Source(f"data/{name}"),), **changes)  # type: ignore[arg-type]
        for name in NAMES
    }
    return Plan(Run(1.5e9, 100e9), languages, (Stage("main", 100e9),))


def small(law: str, **options: object) -> Experiments:
    chosen = {"flops": 5e18, "sizes": (2e7, 6e7), "levels": (5e8, 2e9, 8e9)} | options
    return experiments(plan(), law=law, **chosen)  # type: ignore[arg-type]


# The criterion


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_the_matrix_is_the_second_order_of_the_regret(law: str, floor: float) -> None:
    rules, given = law_named(law), plan(floor=floor)
    possible = candidates(given, rules)
    belief = believed(rules, possible, (), None)
    problem = allocation_problem(rules, given, possible, belief)
    truth = belief.centre
    (matrices,) = regret_matrices(problem, truth[None])
    generator = np.random.default_rng(0)
    for target, matrix in enumerate(matrices):
        # An error along which there is regret at all, the largest or a random one.
        for way in (np.linalg.eigh(matrix)[1][:, -1], generator.normal(size=len(matrix))):
            moved = truth.copy()
            moved[target] += 1e-3 * way
            weights = problem.solve(moved[None]).weights[0]
            (exact,), _ = regrets(problem, weights, truth[None])
            assert exact == pytest.approx(1e-6 * way @ matrix @ way, rel=0.03, abs=1e-15)


def test_weights_at_a_limit_do_not_move() -> None:
    hessian = np.diag([1.0, 2.0, 3.0])[None]
    (across,) = tangent_inverse(hessian, np.array([[True, True, False]]))
    # One direction, (1, −1, 0), of curvature 3.
    np.testing.assert_allclose(across, np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 0]]) / 3, rtol=1e-6)
    assert not tangent_inverse(hessian, np.array([[True, False, False]])).any()


def test_a_narrow_corner_costs_what_a_median_costs() -> None:
    assert inefficiency(1.0, delta=1e-4) == pytest.approx(np.sqrt(np.pi / 2), rel=1e-3)
    assert inefficiency(1.0, delta=8.0) == pytest.approx(1.0, rel=1e-6)
    assert inefficiency(1.0, delta=1.345) ** -2 == pytest.approx(0.95, abs=1e-3)  # Huber's own


# The search


def tiny(seed: int, runs: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(2, 2, 3, 3))
    slopes = generator.normal(0, 2, size=(2, runs, 2, 3))
    slopes[:, ::2, 1] = 0.0  # not every run measures every language
    precision = np.tile(np.eye(3), (2, 2, 1, 1))
    return precision, root @ np.swapaxes(root, -1, -2), slopes, generator.uniform(1, 3, runs)


def criterion(precision: np.ndarray, matrices: np.ndarray, slopes: np.ndarray) -> float:
    after = covariance(precision, slopes)
    return float(np.einsum("stij,stji->s", matrices, after).mean())


@pytest.mark.parametrize("seed", range(20))
def test_the_search_is_close_to_the_best_of_all(seed: int) -> None:
    precision, matrices, slopes, cost = tiny(seed)
    budget, most = 7.0, 4
    found = choose(precision, matrices, slopes, cost, budget, most)
    assert cost[found.runs].sum() <= budget
    assert len(set(found.runs)) == len(found.runs) <= most
    best = min(
        criterion(precision, matrices, slopes[:, list(some)])
        for count in range(1, most + 1)
        for some in combinations(range(len(cost)), count)
        if cost[list(some)].sum() <= budget
    )
    start = found.values[0]
    # At least nine tenths of all that can be gained, and mostly all of it.
    assert start - found.values[-1] >= 0.9 * (start - best)
    assert np.all(np.diff(found.values) < 0)


def test_exchanges_find_what_greed_does_not() -> None:
    precision = np.eye(1)[None, None]
    slopes = np.sqrt(np.array([1.0, 10.0])).reshape(1, 2, 1, 1)
    # The cheap run is worth more for its price; but one run is to be chosen, and both can be paid.
    found = choose(precision, precision, slopes, np.array([1.0, 9.5]), 10.0, 1)
    assert found.runs == [1]


def test_gains_are_what_the_criterion_loses() -> None:
    precision, matrices, slopes, _ = tiny(3)
    known = np.linalg.inv(precision)
    before = criterion(precision, matrices, slopes[:, :0])
    for run, gain in enumerate(gains(known, matrices, slopes)):
        assert before - criterion(precision, matrices, slopes[:, [run]]) == pytest.approx(gain)


# The belief


def asked(rules: str, possible: Candidates, theta: np.ndarray, noise: float) -> list[Observation]:
    """Losses of the candidates by a truth."""
    generator = np.random.default_rng(1)
    law, found = law_named(rules), []
    for target, name in enumerate(possible.languages):
        runs = possible.runs(target)
        loss = law.loss(theta[target], runs) * np.exp(generator.normal(0, noise, len(runs)))
        for n, d, p, x in zip(runs.params, runs.tokens, runs.shares, loss, strict=True):
            weights = dict(zip(possible.languages, p.tolist(), strict=True))
            found.append(Observation(name, 1e9 * n, 1e9 * d, x, weights=weights))
    return found


def test_observations_move_the_centre_and_the_noise() -> None:
    law = law_named("chinchilla")
    possible = candidates(plan(), law)
    prior = believed(law, possible, (), None)
    truth = prior.centre + 0.2
    seen = asked("chinchilla", possible, truth, 0.02)
    after = updated(prior, law, possible.languages, seen, None)
    assert after.noise == pytest.approx(0.02, rel=0.15)
    error = np.linalg.inv(after.precision)
    away = after.centre - truth
    # Squared errors in units of the covariance have a mean of 5 a language.
    assert np.einsum("ti,tij,tj->", away, np.linalg.inv(error), away) < 15 * 2.5
    assert (np.linalg.eigvalsh(after.precision - prior.precision) > -1e-6).all()


def test_few_observations_leave_the_rest_as_it_was() -> None:
    law = law_named("chinchilla")
    possible = candidates(plan(), law)
    prior = believed(law, possible, (), None)
    seen = asked("chinchilla", possible, prior.centre, 0.0)[-1:]
    after = believed(law, possible, seen, None)
    assert after.noise == prior.noise
    assert after.observations.sum() == 1
    np.testing.assert_allclose(after.centre, prior.centre, atol=1e-4)
    (moved,) = [t for t in range(3) if (after.precision[t] != prior.precision[t]).any()]
    assert possible.languages[moved] == seen[0].language


@pytest.mark.parametrize("law", LAWS)
def test_where_nothing_is_measured_the_losses_are_sensible(law: str) -> None:
    rules = law_named(law)
    possible = candidates(plan(), rules)
    centre = believed(rules, possible, (), None).centre
    for target in range(len(NAMES)):
        runs = possible.runs(target)
        alone = (runs.shares[:, target] == 1) & (runs.tokens >= 1)
        loss = rules.loss(centre[target], runs)[alone]
        assert ((loss > 0.2) & (loss < 5)).all()


def test_a_run_above_the_losses_of_the_law_tells_nothing() -> None:
    law = law_named("chinchilla")
    possible = candidates(plan(), law, [2e7], [1e6, 4e9])
    centre = believed(law, possible, (), None).centre
    runs = possible.runs(0)
    told = slopes(law, centre[0], runs, 0.01).any(1)
    assert (told == (law.loss(centre[0], runs) < EARLY)).all()
    assert 0 < told.sum() < len(runs)


def test_draws_keep_to_the_bounds_and_begin_with_the_centre() -> None:
    law = law_named("transfer")
    width = spread(law, NAMES) ** -2.0
    belief = Belief(
        np.zeros((3, len(width))), np.tile(np.diag(width), (3, 1, 1)), 0.01, np.zeros(3, int)
    )
    drawn = belief.draws(law, NAMES, 50)
    gamma = drawn[:, :, 7]
    assert gamma.min() >= 0.1
    assert gamma.max() <= 1
    assert (drawn == belief.draws(law, NAMES, 50)).all()


# The runs that could be done


def test_candidates_keep_to_the_data_that_there_is() -> None:
    found = candidates(plan(unique_tokens=1e9, max_epochs=2.0), law_named("transfer"))
    assert (found.tokens[:, None] * found.shares).max() <= 2e9
    assert {found.kind(run) for run in range(len(found))} == {"alone", "pair", "mixture"}
    np.testing.assert_allclose(found.shares.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(found.flops, 6 * found.params * found.tokens)


def test_a_law_of_shares_is_measured_on_every_language() -> None:
    assert candidates(plan(), law_named("mixing")).measured.all()
    own = candidates(plan(), law_named("transfer"))
    assert (own.measured == (own.shares > 0)).all()


# All of it


@pytest.mark.parametrize("law", LAWS)
def test_the_runs_are_the_same_each_time_and_make_the_weights_surer(law: str) -> None:
    found = small(law)
    assert found.to_json() == small(law).to_json()
    assert Experiments.from_json(found.to_json()) == found
    assert found.runs
    assert found.flops <= found.budget == 5e18
    assert found.flops == pytest.approx(sum(run.flops for run in found.runs))
    assert found.runs[-1].regret < found.regret
    for name, (low, high) in found.interval_after.items():
        before = found.interval_before[name]
        assert high - low < before[1] - before[0]
        assert low <= found.weights[name] <= high
    if found.enough is not None:  # 28 parameters are more than so few runs can fit
        assert 0 < found.enough <= found.worth_doing <= len(found.runs)
    assert str(found).count("FLOPs") == len(found.runs) + 1


def test_one_model_size_and_budget_are_what_exponential_asks_for() -> None:
    found = experiments(plan(), flops=1e18, law="exponential", sizes=[2e7], levels=[1e9])
    assert {(run.params, run.tokens) for run in found.runs} == {(2e7, 1e9)}
    with pytest.raises(InputError, match="must all have the same"):
        experiments(plan(), flops=1e18, law="exponential")


def test_what_is_measured_counts() -> None:
    first = small("chinchilla", noise=0.01)
    law = law_named("chinchilla")
    possible = candidates(plan(), law, (2e7, 6e7), (6e8, 2.4e9, 9e9))
    truth = believed(law, possible, (), None).centre
    then = small("chinchilla", noise=0.01, observations=asked("chinchilla", possible, truth, 0.01))
    assert then.observations == possible.measured.sum()
    assert then.regret < first.regret / 2
    assert then.runs[-1].regret < first.runs[-1].regret


def test_languages_are_told_by_the_names_that_they_go_by() -> None:
    seen = [Observation("golang", 2e7, 1e9, 1.2), Observation("Perl", 2e7, 1e9, 1.2)]
    assert small("chinchilla", observations=seen).observations == 1


def test_runs_that_cost_more_than_they_bring_are_not_worth_doing() -> None:
    short = replace(plan(), run=Run(1.5e9, 1e9), stages=(Stage("main", 1e9),))
    # A run of the model itself is hardly dearer than these proxies.
    found = experiments(short, flops=1e20, law="chinchilla", sizes=[1.5e9], levels=[1e9])
    assert found.worth_doing < len(found.runs)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"flops": 1e10}, "below the cheapest run"),
        ({"sizes": [1e5], "levels": [1e5]}, "no candidate run tells anything of chinchilla"),
        ({"flops": -1.0}, "must be a positive number"),
        ({"flops": float("nan")}, "must be a positive number"),
        ({"noise": 0.0}, "the noise must be"),
        ({"most": 0}, "at least 1"),
        ({"law": "chinchila"}, "did you mean"),
        ({"law": "auto"}, "name the law"),
        ({"law": "proportion"}, "no design for the law proportion"),
        ({"sizes": [-1.0]}, "must be a count"),
        ({"levels": [float("inf")]}, "must be a count"),
        ({"observations": [Observation("Perl", 1e8, 1e9, 1.0)]}, "no observation is of the plan's"),
    ],
)
def test_what_cannot_be_designed_is_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        experiments(plan(), **({"flops": 1e18, "law": "chinchilla"} | options))  # type: ignore[arg-type]


def test_a_plan_that_leaves_no_choice_is_told() -> None:
    for given, told in (
        (replace(plan(), languages={"Go": LanguagePlan()}), "one language"),
        (plan(floor=1 / 3), "leave no choice"),
        (plan(unique_tokens=4e10, max_epochs=1e-4), "caps allow only|no candidate run"),
    ):
        with pytest.raises(InputError, match=told):
            experiments(given, flops=1e18, law="chinchilla")


# What is written


def test_every_key_of_the_file_has_its_place() -> None:
    page = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    section = page.partition("\n## experiments.json\n")[2].partition("\n## ")[0]
    written = {
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell)
    }
    runs = {f"runs[].{field.name}" for field in fields(ProxyRun)}
    assert written == {"version", *(field.name for field in fields(Experiments)), *runs}


def test_a_run_is_a_plan_for_the_trainer(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        """
[run]
params = 1e9
tokens = 5e10
sequence_length = 512
[languages.Go]
sources = [{ prefix = "data/go", tokens = 1e9 }, { prefix = 'data/"more" go', tokens = 5e9 }]
valid_sources = ["data/go_valid"]
bytes_per_token = 3.5
floor = 0.2
[languages."C#"]
sources = ["data/c#"]
unique_tokens = 2e10
max_epochs = 4
[trainer]
layers = 24
hidden = 2048
learning_rate = 2e-3
precision = "bf16"
tensor_parallel = 2
"""
    )
    large = read_plan(path)
    found = experiments(large, flops=3e18, law="transfer")
    write_runs(found, large, tmp_path)
    assert Experiments.from_json((tmp_path / "experiments.json").read_text()) == found
    for run in found.runs:
        made = read_plan(tmp_path / run.name / "plan.toml")
        assert (made.run.params, made.run.tokens) == (run.params, run.tokens)
        assert made.run.sequence_length == 512
        assert made.stages[0].weights == run.weights
        for name, language in made.languages.items():
            assert language.sources == large.languages[name].sources
            assert language.valid_sources == large.languages[name].valid_sources
            assert language.bytes_per_token == large.languages[name].bytes_per_token
            assert (language.floor, language.max_epochs) == (0.0, None)
        assert (made.trainer.schedule, made.trainer.precision) == ("wsd", "bf16")
        assert (made.trainer.layers, made.trainer.tensor_parallel) == (None, 1)
        assert "blendlaw_hooks.trainer" in (tmp_path / run.name / "run.sh").read_text()


def test_rates_and_batches_are_the_step_laws() -> None:
    """Against what others found best (Lingle's repetition, within one step of his grids)."""
    for params, tokens, rate, size in (
        (46e6, 128e6, 1.95e-3, 32768),
        (109e6, 128e6, 0.98e-3, 32768),
        (46e6, 512e6, 2.76e-3, 65536),
        (109e6, 1024e6, 1.95e-3, 131072),
        (368e6, 1024e6, 0.98e-3, 131072),
    ):
        assert abs(np.log2(learning_rate(params, tokens) / rate)) < 0.5
        assert abs(np.log2(batch(tokens, 1024, 4) * 1024 / size)) <= 1
    assert learning_rate(1e5, 1e8) == 3.9e-3
    assert learning_rate(1e13, 1e6) == 1e-5
    assert batch(1e6, 4096, 4) == 4, "a micro-batch at least"
    assert batch(1e9, 512, 6) % 6 == 0


@pytest.mark.parametrize("given", ["", "learning_rate = 1e-3", "global_batch = 16"])
def test_what_the_plan_states_stays(tmp_path: Path, given: str) -> None:
    """Be it the trainer's own default."""
    path = tmp_path / "plan.toml"
    path.write_text(
        "[run]\nparams = 1e9\ntokens = 1e10\nsequence_length = 512\n"
        "[languages.Go]\nsources = ['go']\n[languages.Rust]\nsources = ['rust']\n"
        f"[trainer]\nvocabulary = 32000\n{given}\n"
    )
    large = read_plan(path)
    found = experiments(large, flops=1e18, law="chinchilla", sizes=[2e7], levels=[1e9], most=1)
    write_runs(found, large, tmp_path, stated(path))
    made = read_plan(tmp_path / found.runs[0].name / "plan.toml").trainer
    # Of 20M parameters with these embeddings 9.8M are left, by the shape that the trainer takes.
    body = 2e7 - 2 * 32000 * 160
    rate = 1e-3 if "rate" in given else min(3.9e-3, learning_rate(body, 1e9))
    assert made.learning_rate == pytest.approx(rate, rel=0.02)
    assert made.global_batch == (16 if "batch" in given else 128)


def test_names_tell_runs_of_two_designs_apart() -> None:
    options = {"sizes": (2e7,), "levels": (5e8, 2e9)}
    first, other = small("chinchilla", **options), small("chinchilla", sizes=(6e7,), flops=1e19)
    names = [run.name for run in (*first.runs, *other.runs)]
    assert len(set(names)) == len(names)
    assert [run.name for run in small("chinchilla", **options).runs] == names[: len(first.runs)]
    later = small("chinchilla", **options, first=10)
    assert [run.name[8:] for run in later.runs] == [run.name[8:] for run in first.runs]
    assert later.runs[0].name.startswith("run-010-")


def test_no_run_is_measured_twice() -> None:
    options = {"flops": 5e17, "sizes": (2e7,), "levels": (5e8, 2e9), "noise": 0.01}
    first = small("chinchilla", **options)
    law = law_named("chinchilla")
    every = candidates(plan(), law, (2e7,), (5e8, 2e9))
    done = {(run.params, run.tokens, *run.weights.items()) for run in first.runs}
    seen = [
        replace(loss, tokens=0.995 * loss.tokens)  # whole steps: a little less than was asked for
        for loss in asked("chinchilla", every, believed(law, every, (), None).centre, 0.01)
        if (loss.params, loss.tokens, *((k, v) for k, v in loss.shares().items() if v)) in done
    ]
    assert seen
    then = small("chinchilla", **options, observations=seen)
    assert then.runs
    assert not done & {(run.params, run.tokens, *run.weights.items()) for run in then.runs}
    losses = asked("chinchilla", every, believed(law, every, (), None).centre, 0.01)
    with pytest.raises(InputError, match="measured already"):
        small("chinchilla", **options, observations=losses)


def test_a_language_without_sources_cannot_be_trained_on(tmp_path: Path) -> None:
    bare = replace(plan(), languages={name: LanguagePlan() for name in NAMES})
    found = experiments(bare, flops=2e18, law="chinchilla")
    with pytest.raises(InputError, match="no sources of"):
        write_runs(found, bare, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "[stages]" in plan_of(found.runs[0], bare)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(
        '[run]\nparams = 1e9\ntokens = 1e10\n[languages.Go]\nsources = ["go"]\n'
        '[languages.Rust]\nsources = ["rust"]\n'
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["experiments", "plan.toml", *arguments])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    small = ("--params", "2e7", "--tokens", "1e9", "--tokens", "3e9", "--runs", "3")
    status, out, _ = run("--flops", "3e18", *small, "--json")
    assert status == 0
    assert len(json.loads(out)["runs"]) == 3
    status, hours, _ = run("--gpu-hours", "2", "--tflops", "100", *small)
    assert status == 0
    assert "of 2 GPU hours" in hours
    status, out, table = run("--flops", "3e18", *small, "-o", "runs")
    assert (status, out) == (0, "")
    first = sorted(path.parent.name for path in Path("runs").glob("*/run.sh"))
    assert [name[:7] for name in first] == ["run-001", "run-002", "run-003"]
    assert first[2] in table
    # A further design goes on after it.
    kept = Path("runs/experiments.json").read_text()
    assert run("--flops", "3e18", *small, "-o", "runs")[0] == 0
    every = sorted(path.parent.name for path in Path("runs").glob("*/run.sh"))
    assert every[:3] == first
    assert [name[:7] for name in every[3:]] == ["run-004", "run-005", "run-006"]
    assert Path("runs/experiments-1.json").read_text() == kept
    assert [len(design.runs) for design in designs("runs")] == [3, 3]
    for usage in (
        (),
        ("--flops", "1", "--gpu-hours", "1"),
        ("--gpu-hours", "1"),
        ("--tflops", "1"),
    ):
        assert run(*usage)[0] == 2
