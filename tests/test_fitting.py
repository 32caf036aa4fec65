"""Fits against the paper's plotted surfaces, known truths, and what must be refused or said."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from blendlaw.data import code7
from blendlaw.errors import InputError
from blendlaw.estimate import resampled
from blendlaw.fitting import Fit, fit
from blendlaw.laws.effective import REPETITION, SUBSTITUTION
from blendlaw.observations import Observation
from blendlaw.plugins import laws
from blendlaw.problems import BILLION, Worth, problem

TRUE = {"E": 0.4, "A": 0.2, "alpha": 0.4, "B": 1.5, "beta": 0.7}


def chinchilla(params: float, tokens: float, true: Mapping[str, float] = TRUE) -> float:
    """Loss at counts, by the formula written out once more."""
    size = true["A"] * (params / BILLION) ** -true["alpha"]
    return float(true["E"] + size + true["B"] * (tokens / BILLION) ** -true["beta"])


def grid(language: str = "Go", noise: float = 0.0, seed: int = 0) -> list[Observation]:
    generator = np.random.default_rng(seed)
    return [
        Observation(language, n, d, chinchilla(n, d) * np.exp(noise * generator.normal()))
        for n in np.geomspace(1e8, 3e9, 6)
        for d in np.geomspace(2e9, 64e9, 6)
    ]


def beyond(seen: Observation) -> bool:
    return seen.tokens >= 6.4e10


def of(observations: Sequence[Observation], *languages: str) -> list[Observation]:
    return [seen for seen in observations if seen.language in languages]


# The paper


def test_plain_least_squares_gives_the_papers_plotted_surfaces(
    paper_losses: list[Observation],
) -> None:
    found = fit(paper_losses, "chinchilla", loss="squares", space="linear")
    with open(code7("printed_parameters"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["language"] for row in rows] == list(found.languages)
    columns = {
        "E": "plotted_irreducible",
        "A": "plotted_a",
        "alpha": "plotted_alpha_n",
        "B": "plotted_b",
        "beta": "plotted_alpha_d",
    }
    for row in rows:
        fitted = found.languages[row["language"]]
        assert fitted.n_observations == 60
        for parameter, column in columns.items():
            assert fitted.params[parameter] == pytest.approx(float(row[column]), abs=5e-4)


@pytest.fixture(scope="module")
def extrapolated(paper_losses: list[Observation]) -> Fit:
    return fit(paper_losses, holdout=beyond)


def holdout_error(found: Fit) -> float:
    errors = [f.holdout.mean_abs_rel_error for f in found.languages.values() if f.holdout]
    assert len(errors) == len(found.languages)
    return float(np.mean(errors))


def test_auto_predicts_the_largest_budget_from_the_smaller_ones(
    extrapolated: Fit, paper_losses: list[Observation]
) -> None:
    assert holdout_error(extrapolated) <= 0.02
    assert {f.holdout.n for f in extrapolated.languages.values() if f.holdout} == {10}
    assert set(laws()) == {candidate.law for candidate in extrapolated.selection}
    assert all(candidate.reason for candidate in extrapolated.selection)
    chosen = [c for c in extrapolated.selection if c.reason.startswith("chosen")]
    assert [c.law for c in chosen] == [extrapolated.law]
    plain = fit(paper_losses, "chinchilla", holdout=beyond)
    assert holdout_error(plain) == pytest.approx(0.0715, abs=0.002)


def test_the_holdout_error_is_that_of_the_predictions(
    extrapolated: Fit, paper_losses: list[Observation]
) -> None:
    held = [seen for seen in of(paper_losses, "Rust") if beyond(seen)]
    errors = [
        abs(extrapolated.predict(o.params, o.tokens, {"Rust": 1.0})["Rust"] / o.loss - 1)
        for o in held
    ]
    found = extrapolated.languages["Rust"].holdout
    assert found is not None
    assert found.mean_abs_rel_error == pytest.approx(np.mean(errors), rel=1e-9)


def test_what_is_held_out_is_not_looked_at(paper_losses: list[Observation]) -> None:
    """Other losses there change neither the chosen law nor a bit of its parameters."""
    some = of(paper_losses, "Go")
    spoilt = [replace(o, loss=o.loss * 1.7) if beyond(o) else o for o in some]
    honest, blind = fit(some, holdout=beyond), fit(spoilt, holdout=beyond)
    assert honest.law == blind.law
    assert honest.selection == blind.selection
    assert honest.languages["Go"].params == blind.languages["Go"].params
    assert honest.languages["Go"].holdout != blind.languages["Go"].holdout
    absent = fit([o for o in some if not beyond(o)], honest.law)
    assert absent.languages["Go"].params == honest.languages["Go"].params


# Known truths


@pytest.mark.parametrize("space", ["log", "linear"])
@pytest.mark.parametrize("loss", ["huber", "squares"])
def test_noiseless_losses_give_the_parameters_back(loss: str, space: str) -> None:
    found = fit(grid(), "chinchilla", loss=loss, space=space).languages["Go"]
    assert found.params == pytest.approx(TRUE, rel=1e-5)
    assert found.rms_log_error < 1e-7
    assert not found.warnings
    assert found.interval == {}


def test_huber_is_not_moved_by_a_few_wild_losses() -> None:
    seen = grid(noise=1e-4)
    for number in (3, 17):
        seen[number] = replace(seen[number], loss=2 * seen[number].loss)
    robust, plain = (fit(seen, "chinchilla", loss=loss) for loss in ("huber", "squares"))
    assert robust.languages["Go"].params == pytest.approx(TRUE, rel=0.02)
    assert plain.languages["Go"].params != pytest.approx(TRUE, rel=0.2)


TAU = {"Java": 0.5, "Go": 0.2, "Rust": -0.05}
LANGUAGES = ("Python", *TAU)


def mixtures(count: int, noise: float, seed: int) -> list[Observation]:
    """Python's loss in single runs and in mixtures with the others, by the sum of ATLAS."""
    generator = np.random.default_rng(seed)
    single = [(n, d, np.eye(4)[0]) for n in (2e8, 6e8, 2e9) for d in np.geomspace(2e9, 64e9, 6)]
    mixed = [
        (generator.choice([2e8, 6e8, 2e9]), 32e9, generator.dirichlet(np.full(4, 0.7)))
        for _ in range(count)
    ]
    observations = []
    for params, tokens, shares in single + mixed:
        worth = tokens * (shares @ [1.0, *TAU.values()])
        if worth > 1e9:
            loss = chinchilla(params, worth) * np.exp(noise * generator.normal())
            weights = dict(zip(LANGUAGES, shares.tolist(), strict=True))
            observations.append(Observation("Python", params, tokens, loss, weights))
    return observations


def test_the_transfer_law_finds_the_transfer_of_mixtures() -> None:
    found = fit(mixtures(36, 0.002, 0), "transfer")
    assert list(found.languages) == ["Python"]
    assert found.sources == LANGUAGES
    assert found.transfer["Python"] == pytest.approx(TAU, abs=0.05)
    assert found.languages["Python"].params["gamma"] == pytest.approx(1.0, abs=0.05)
    # Seen the same way, Chinchilla with that transfer given is the same curve.
    known = fit(mixtures(36, 0.002, 0), "chinchilla", transfer={"Python": TAU})
    assert known.languages["Python"].params["beta"] == pytest.approx(0.7, abs=0.05)


def test_the_saturating_law_finds_where_help_saturates() -> None:
    limit, generator, seen = 3e9, np.random.default_rng(5), mixtures(0, 0.001, 0)
    for _ in range(60):
        tokens = 10 ** generator.uniform(9.3, 11)
        shares = generator.dirichlet(np.full(4, 0.7))
        helped = tokens * float(shares[1:] @ [0.5, 0.2, 0.1])
        worth = tokens * shares[0] + limit * np.log1p(helped / limit)
        loss = chinchilla(6e8, worth) * np.exp(0.001 * generator.normal())
        weights = dict(zip(LANGUAGES, shares.tolist(), strict=True))
        seen.append(Observation("Python", 6e8, tokens, loss, weights))
    found = fit(seen, "saturating").languages["Python"].params
    assert found["M"] == pytest.approx(limit / 1e9, rel=0.25)
    assert found["tau.Java"] == pytest.approx(0.5, abs=0.1)


def test_what_pairs_cannot_tell_is_said() -> None:
    seen = mixtures(0, 0.002, 0)
    for tokens in (16e9, 32e9):
        for other, tau in TAU.items():
            loss = chinchilla(6e8, tokens / 2 * (1 + tau))
            seen.append(Observation("Python", 6e8, tokens, loss, {"Python": 0.5, other: 0.5}))
    found = fit(seen, "transfer").languages["Python"]
    assert found.params["gamma"] == SUBSTITUTION
    assert any("cannot tell" in w and "gamma" in w for w in found.warnings)
    # Where help does not saturate, M is far above all tokens that were seen.
    assert fit(seen, "saturating").languages["Python"].params["M"] > 100
    with pytest.raises(InputError, match=r"Python.*one token budget"):
        fit(mixtures(36, 0.002, 0), "saturating")


def repeated(lam: float, noise: float = 0.002) -> list[Observation]:
    generator = np.random.default_rng(4)
    observations = []
    for params in (2e8, 6e8, 2e9):
        for unique in (1e9, 4e9, 16e9, 64e9):
            for tokens in np.geomspace(2e9, 64e9, 6):
                over = max(tokens / unique - 1, 0.0)
                worth = min(tokens, unique) + unique * (1 - np.exp(-lam * over)) / lam
                loss = chinchilla(params, worth) * np.exp(noise * generator.normal())
                observations.append(
                    Observation("Go", params, tokens, loss, unique_tokens={"Go": unique})
                )
    return observations


def test_the_transfer_law_finds_how_fast_repeated_tokens_tire() -> None:
    alone = fit(repeated(lam=0.2), "transfer").languages["Go"]
    assert not any("cannot tell" in warning for warning in alone.warnings)  # of other languages
    found = alone.params
    assert found["lam"] == pytest.approx(0.2, rel=0.1)
    assert found["nu"] == pytest.approx(0.0, abs=0.1)
    assert found["beta"] == pytest.approx(0.7, rel=0.1)


# What is refused


@pytest.mark.parametrize(
    ("observations", "options", "message"),
    [
        ([], {}, "no observations"),
        (grid(), {"holdout": lambda _: True}, "no observations"),
        (grid()[:2], {"law": "chinchilla"}, "Go.*2 observations are too few for its 3 parameters"),
        (grid()[:2], {}, "Go"),
        ([replace(o, loss=1.5) for o in grid("Rust")], {"law": "chinchilla"}, "Rust.*1.5"),
        (grid("Java") + grid()[:2], {"law": "chinchilla"}, "Go.*2 observations"),
        (grid(), {"law": "chinchila"}, "no law named 'chinchila'.*chinchilla"),
        (grid(), {"loss": "absolute"}, "huber, squares"),
        (grid(), {"space": "cubic"}, "log, linear"),
        (grid(), {"delta": 0.0}, "delta"),
        (grid(), {"bootstrap": -1}, "negative"),
        (grid(), {"law": "exponential"}, "Go.*same parameters"),
        (grid(), {"law": "transfer"}, "Go"),
        (grid(), {"law": "chinchilla", "transfer": {"Go": {"Perl": 0.1}}}, "Perl"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(
    observations: list[Observation], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit(observations, **options)  # type: ignore[arg-type]


# What is said


def test_a_parameter_at_its_bound_is_said() -> None:
    floorless = {**TRUE, "E": 1e-9}
    seen = [replace(o, loss=chinchilla(o.params, o.tokens, floorless)) for o in grid()]
    found = fit(seen, "chinchilla")
    assert any("E is at its lower bound 0.0001" in w for w in found.languages["Go"].warnings)
    assert "beware of Go" in found.message


def test_what_a_single_model_size_cannot_tell_is_said() -> None:
    seen = [
        Observation("Go", 1e9, d, chinchilla(1e9, d) * (1 + 1e-3 * np.sin(d)))
        for d in np.geomspace(2e9, 64e9, 12)
    ]
    (warning,) = fit(seen, "chinchilla").languages["Go"].warnings
    assert warning == "not fitted, since these runs cannot tell: A, alpha"


# The bootstrap


def test_the_bootstrap_is_drawn_by_its_seed_alone() -> None:
    seen = grid(noise=0.01)
    one, same, other = (
        fit(seen, "chinchilla", bootstrap=20, seed=seed).languages["Go"] for seed in (1, 1, 2)
    )
    assert one == same
    assert one.draws != other.draws
    assert len(one.draws) == 20
    assert one.params == fit(seen, "chinchilla").languages["Go"].params
    assert all(low < high for low, high in one.interval.values())
    assert all(low <= one.params[p] <= high for p, (low, high) in one.interval.items())


def test_losses_of_one_run_are_resampled_together() -> None:
    seen = [replace(o, run=f"r{number // 4}") for number, o in enumerate(grid())]
    drawn = resampled(problem(seen, ("Go",), Worth(), "Go"), 200, 0)
    assert drawn.shape == (200, 36)
    by_run = drawn.reshape(200, 9, 4)
    assert (by_run == by_run[:, :, :1]).all()
    alone = resampled(problem(grid(), ("Go",), Worth(), "Go"), 200, 0)
    assert not (alone.reshape(200, 9, 4) == alone.reshape(200, 9, 4)[:, :, :1]).all()
    # Each run counts once on average, with the scatter of drawing with replacement.
    assert drawn.mean() == pytest.approx(1.0, abs=0.05)
    assert drawn.var(0).mean() == pytest.approx(1.0, abs=0.25)


def test_progress_runs_to_its_end() -> None:
    calls: list[tuple[int, int]] = []
    seen = grid(noise=0.01) + grid("Java", noise=0.01, seed=1)
    fit(seen, "chinchilla", bootstrap=10, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (20, 20)
    assert calls == sorted(calls)


# fit.json and predictions


def test_a_fit_reads_back_as_it_was_written(extrapolated: Fit) -> None:
    drawn = fit(grid(noise=0.01), "chinchilla", bootstrap=5, transfer={"Go": {}})
    for one in (drawn, extrapolated):
        assert Fit.from_json(one.to_json()) == one
    assert "Go" in str(drawn)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "languages": 3}']
)
def test_what_is_not_a_fit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"fit\.json"):
        Fit.from_json(text)


def test_a_fit_with_impossible_parameters_is_refused() -> None:
    text = fit(grid(), "chinchilla").to_json()
    for spoilt in ("-0.4", '"much"', "null", "NaN"):
        start = text.index('"E": ') + len('"E": ')
        with pytest.raises(InputError, match=r"fit\.json"):
            Fit.from_json(text[:start] + spoilt + text[text.index(",", start) :])


def test_parameters_are_read_by_name_and_not_by_place() -> None:
    found = fit(grid(), "chinchilla")
    backwards = dict(reversed(found.languages["Go"].params.items()))
    shuffled = replace(found, languages={"Go": replace(found.languages["Go"], params=backwards)})
    assert Fit.from_json(shuffled.to_json()).predict(1e9, 1e10) == found.predict(1e9, 1e10)


@pytest.fixture(scope="module")
def both() -> Fit:
    return fit(grid() + grid("Java"), "chinchilla")


def test_predictions_are_the_law_at_a_languages_own_tokens(both: Fit) -> None:
    uniform = both.predict(1e9, 40e9)
    assert uniform == pytest.approx(dict.fromkeys(("Go", "Java"), chinchilla(1e9, 20e9)), rel=1e-5)
    assert uniform == both.predict(1e9, 40e9, {"Go": 0.5, "Java": 0.5})
    alone = both.predict(1e9, 40e9, {"Go": 1.0})
    assert alone["Go"] == pytest.approx(chinchilla(1e9, 40e9), rel=1e-5)
    assert alone["Java"] == np.inf


def test_repeated_tokens_are_worth_less(both: Fit) -> None:
    fresh = both.predict(1e9, 40e9)
    scarce = both.predict(1e9, 40e9, unique_tokens={"Go": 2e9})
    assert scarce["Go"] > fresh["Go"]
    assert scarce["Java"] == fresh["Java"]
    over = (1 - np.exp(-REPETITION * 9)) / REPETITION
    assert scarce["Go"] == pytest.approx(chinchilla(1e9, 2e9 * (1 + over)), rel=1e-5)


@pytest.mark.parametrize(
    ("params", "tokens", "weights", "message"),
    [
        (0.0, 1e9, None, "params"),
        (1e9, -1.0, None, "tokens"),
        (np.nan, 1e9, None, "params"),
        (1e9, np.inf, None, "tokens"),
        (1e9, 1e9, {"Go": 0.5, "Perl": 0.5}, "Perl"),
        (1e9, 1e9, {"Go": 0.5}, "sum to 1"),
        (1e9, 1e9, {"Go": 1.5, "Java": -0.5}, "negative"),
        (1e9, 1e9, {"Go": np.nan, "Java": 1.0}, "sum to 1"),
    ],
)
def test_impossible_predictions_are_refused(
    both: Fit, params: float, tokens: float, weights: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        both.predict(params, tokens, weights)


def test_an_unknown_language_with_unique_tokens_is_refused(both: Fit) -> None:
    with pytest.raises(InputError, match="Jaav"):
        both.predict(1e9, 1e10, unique_tokens={"Jaav": 1e9})
