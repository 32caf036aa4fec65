"""What a run may draw of each source: Megatron's own request, and enough for any later decision."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blendlaw.errors import InputError
from blendlaw.layout import Layout, lay_out, most_drawn, requests
from blendlaw.limits import clamp, plan_limits
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage
from blendlaw.schedule import Schedule, StageRecord, boundaries

LENGTH = 64


def plan(stages: list[tuple[int, object]], **languages: LanguagePlan) -> Plan:
    """A plan whose stages have (samples, weights)."""
    made = tuple(
        Stage(str(number), float(samples * LENGTH), weights)  # type: ignore[arg-type]
        for number, (samples, weights) in enumerate(stages)
    )
    total = float(sum(samples for samples, _ in stages) * LENGTH)
    return Plan(Run(1e9, total, LENGTH), languages, made)


def language(*prefixes: str, **wanted: object) -> LanguagePlan:
    return LanguagePlan(tuple(Source(p, 1 / len(prefixes)) for p in prefixes), **wanted)  # type: ignore[arg-type]


def megatrons(samples: int, weights: list[float], surplus: float) -> list[int]:
    """_get_size_per_split_per_dataset of blended_megatron_dataset_builder.py, core_v0.16.1."""
    normal = (np.array(weights) / np.sum(np.array(weights))).tolist()
    return [math.ceil(math.ceil(samples * w) * (1 + surplus)) for w in normal]


@given(
    st.lists(st.floats(1e-3, 1), min_size=1, max_size=12),
    st.integers(1, 10**7),
    st.sampled_from([0.0, 0.005, 0.1]),
)
def test_one_static_stage_asks_for_what_megatron_would(
    parts: list[float], samples: int, surplus: float
) -> None:
    weights = {f"L{n}": part / sum(parts) for n, part in enumerate(parts)}
    static = plan([(samples, weights)], **{name: language(name) for name in weights})
    found = requests(static, (0, samples), surplus)
    total = sum(weights.values())
    assert list(found.values()) == megatrons(
        samples, [w / total for w in weights.values()], surplus
    )


def test_static_stages_add_up_and_what_is_never_drawn_is_left_out() -> None:
    of_all = {"Go": language("go"), "C": language("c1", "c2"), "Zig": language("zig", cap=0.0)}
    two = plan([(100, {"Go": 0.5, "C": 0.5}), (300, {"C": 1.0})], **of_all)
    assert requests(two, (0, 100, 400), 0.0) == {"go": 50, "c1": 25 + 150, "c2": 25 + 150, "zig": 0}
    found = lay_out(two, 400)
    assert [source.prefix for source in found.sources] == ["go", "c1", "c2"]
    assert [source.share for source in found.sources] == [1.0, 0.5, 0.5]
    assert found.boundaries == (0, 100, 400)


def test_an_undecided_stage_counts_with_the_most_that_limits_allow() -> None:
    law = plan(
        [(100, {"Go": 0.5, "C": 0.5}), (1000, "law"), (1000, "law")],
        Go=language("go", cap=0.8),
        C=language("c", floor=0.3, unique_tokens=200.0 * LENGTH, max_epochs=4.0),
    )
    found = requests(law, (0, 100, 1100, 2100), 0.0)
    assert found["go"] == 50 + 2 * 700  # the floor of C leaves .7
    assert found["c"] == 50 + 750 + 2  # four epochs are 800; a sample a stage for rounding


def test_a_stage_leaves_what_the_floors_of_later_ones_need() -> None:
    """Else a run would stop in the middle: C has 400 samples, and floors take 100, 100 and 150."""
    made = plan(
        [(1000, "law"), (1000, "law"), (1500, "law")],
        Go=language("go"),
        C=language("c", floor=0.1, unique_tokens=100.0 * LENGTH, max_epochs=4.0),
    )
    first, second, third = made.stages
    assert plan_limits(made, first).upper.tolist() == pytest.approx([1, 0.15])
    ahead = made.after(first, {"Go": 0.85, "C": 0.15})
    assert plan_limits(ahead, second).upper.tolist() == pytest.approx([1, 0.1])
    ahead = ahead.after(second, {"Go": 0.9, "C": 0.1})
    assert plan_limits(ahead, third).upper.tolist() == pytest.approx([1, 0.1])


@st.composite
def runs(draw: st.DrawFn) -> tuple[Plan, list[dict[str, float]]]:
    """A plan with undecided stages, and weights that its limits allow for each stage."""
    n = draw(st.integers(1, 5))
    unit = st.floats(0, 1)
    languages = {}
    for number in range(n):
        floor = draw(st.one_of(st.just(0.0), st.floats(0, 1 / n)))
        epochs = draw(st.one_of(st.none(), st.floats(0.5, 8)))
        unique = draw(st.floats(50, 1e5)) * LENGTH if epochs else None
        cap = max(floor, draw(st.one_of(st.just(1.0), unit)))
        prefixes = [f"{number}-{k}" for k in range(draw(st.integers(1, 3)))]
        wanted = language(*prefixes, floor=floor, cap=cap, max_epochs=epochs, unique_tokens=unique)
        languages[f"L{number}"] = wanted
    stages = []
    for _ in range(draw(st.integers(1, 5))):
        policy = draw(st.sampled_from(["law", "law", "uniform"]))
        stages.append((draw(st.integers(1, 3000)), policy))
    made = plan(stages, **languages)  # type: ignore[arg-type]
    ahead, decided = made, []
    for stage in made.stages:
        proposed = [1.0] * n
        if stage.weights == "law":
            proposed = [draw(st.one_of(st.just(0.0), unit)) for _ in range(n)]
        try:
            found = clamp(proposed, plan_limits(ahead, stage)).tolist()
        except InputError as error:
            if decided and "above its max_epochs" in error.problem:
                raise  # what floors need was kept for them
            assume(False)
        weights = dict(zip(made.languages, found, strict=True))
        decided.append(weights)
        ahead = ahead.after(stage, weights)
    return made, decided


@given(runs())
def test_whatever_the_limits_allow_there_is_enough(
    run: tuple[Plan, list[dict[str, float]]],
) -> None:
    made, decided = run
    samples = round(made.run.tokens / LENGTH)
    laid = lay_out(made, samples, 0.0)
    schedule = Schedule()
    for stage, start, weights in zip(made.stages, laid.boundaries, decided, strict=False):
        record = StageRecord(stage.name, start, weights, start, "")
        laid.check_capacity(schedule, record)
        schedule = schedule.then(record)
    for source in laid.sources:
        wanted = made.languages[source.language]
        if wanted.max_epochs is not None and wanted.unique_tokens is not None:
            allowed = wanted.max_epochs * wanted.unique_tokens * source.share / LENGTH
            assert source.samples <= allowed + len(made.stages) + 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 500))
def test_no_dataset_gives_more_than_the_bound(parts: list[float], size: int) -> None:
    """Against Megatron's rule, written out: the largest weight · max(i, 1) − count is next."""
    assume(sum(parts) > 0)
    weights = np.array([part / sum(parts) for part in parts])
    assume((weights[weights > 0] > 1e-9).all())
    weights = weights[weights > 0]
    counts = np.zeros(len(weights))
    for i in range(size):
        counts[np.argmax(weights * max(i, 1) - counts)] += 1
    assert all(count <= most_drawn(size, w) for count, w in zip(counts, weights, strict=True))


def record(stage: str, start: int, **weights: float) -> StageRecord:
    return StageRecord(stage, start, weights, start, "")


LAID = lay_out(
    plan(
        [(100, {"Go": 0.5, "C": 0.5}), (100, "law")],
        Go=language("go", cap=0.6),
        C=language("c1", "c2"),
    ),
    200,
)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([record("1", 0, Go=0.5, C=0.5)], "s:1: stage '1' from sample 0 on, where the run has '0'"),
        ([record("0", 0, Go=0.5, C=0.5), record("1", 90, Go=1.0, C=0.0)], "s:2: stage '1' from"),
        ([record("0", 0, Go=1.0)], "s:1: no weight of 'C', which has sources"),
        ([record("0", 0, Go=0.5, C=0.0, Rust=0.5)], "s:1, weights.Rust: weight 0.5, but no source"),
        (
            [record(str(n), 100 * n, Go=0.5, C=0.5) for n in range(3)],
            "s:3, stage: a stage more than the 2 of the plan (got '2')",
        ),
    ],
)
def test_a_schedule_of_another_run(records: list[StageRecord], told: str) -> None:
    with pytest.raises(InputError) as error:
        LAID.check(Schedule(tuple(records)), "s")
    assert told in str(error.value)


def test_a_stage_that_would_draw_too_much_is_refused_beforehand() -> None:
    first = Schedule((record("0", 0, Go=0.5, C=0.5),))
    LAID.check_capacity(first, record("1", 100, Go=0.6, C=0.4))
    with pytest.raises(InputError, match=r"stage '1' would bring go \(Go\) to 150 samples, but"):
        LAID.check_capacity(first, record("1", 100, Go=1.0, C=0.0))


def test_a_run_goes_on_only_as_it_was_started(tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    LAID.keep(path)
    LAID.keep(path)
    assert Layout.from_json(path.read_text()) == LAID
    go, c1, c2 = LAID.sources
    for change, told in (
        ({"sources": (go, c2)}, r"source c1 \(C\) is gone"),
        ({"sources": (*LAID.sources, replace(go, prefix="zig"))}, r"source zig \(Go\) is new"),
        ({"sources": (go, c2, c1)}, "prefix of source c1 was 'c1', is 'c2'"),
        ({"sources": (go, replace(c1, share=0.4), c2)}, "share of source c1 was 0.5, is 0.4"),
        ({"stages": ("0", "end")}, "stages were 0, 1, are 0, end"),
        ({"boundaries": (0, 90, 200)}, r"stages began at samples \(0, 100, 200\), begin at"),
    ):
        with pytest.raises(InputError, match=f"layout.json: the run was started .*: {told}"):
            replace(LAID, **change).keep(path)  # type: ignore[arg-type]
    path.write_text("{}")
    with pytest.raises(InputError, match=r"layout\.json: not a layout\.json: it has no version"):
        LAID.keep(path)


def test_the_keys_are_documented() -> None:
    documented = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    section = documented.partition("## layout.json")[2].partition("\n## ")[0]
    for key in ("version", "sources", "stages", "boundaries"):
        assert f"| `{key}` |" in section
    for key in ("prefix", "language", "share", "samples"):
        assert f"| `sources[].{key}` |" in section


def test_boundaries_are_those_of_the_plan() -> None:
    two = plan([(70, "uniform"), (30, "uniform")], Go=language("go"))
    assert lay_out(two, 100).boundaries == boundaries(two, 100) == (0, 70, 100)
