"""Blends and their files, read back by Megatron's rules (and by Megatron, where it is installed).

Megatron's rules are written out below from its documentation of the two kinds of list, apart
from the reader under test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlaw import blend as blend_module
from blendlaw import hookspecs, plugins
from blendlaw.blend import Blend, BlendFormat, blend, read_blend, render, write_blend
from blendlaw.errors import InputError
from blendlaw.megatron import read_data_args, read_per_split
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage

FORMATS: dict[str, BlendFormat] = {}
blend_module.register_blend_formats(lambda f: FORMATS.__setitem__(f.name, f))


@pytest.fixture(autouse=True)
def _formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "blend_formats", lambda: FORMATS)


def plan_of(**languages: dict[str, Any]) -> Plan:
    return Plan(
        run=Run(params=1e9, tokens=1000.0, sequence_length=10),
        languages={name: LanguagePlan(**keys) for name, keys in languages.items()},
        stages=(Stage("main", 1000.0, "uniform"),),
    )


PLAN = plan_of(
    Python={
        "sources": (Source("py/a", share=0.75), Source("py/b", share=0.25)),
        "unique_tokens": 500.0,
        "valid_sources": (Source("py/v"),),
    },
    Go={"sources": (Source("go"),), "unique_tokens": 100.0},
    C={
        "sources": (Source("c/a", tokens=30.0), Source("c/b", tokens=10.0)),
        "valid_sources": (Source("c/v", tokens=3.0), Source("c/w", tokens=1.0)),
    },
)
WEIGHTS = {"Python": 0.5, "Go": 0.1, "C": 0.4}


def megatron_blend(items: list[Any]) -> tuple[list[str], list[float] | None]:
    """What Megatron makes of a list, pairs or prefixes."""
    try:
        from megatron.core.datasets.utils import get_blend_from_list
    except ImportError:
        if len(items) % 2 == 0 and all(_is_number(item) for item in items[::2]):
            return [item.strip() for item in items[1::2]], [float(item) for item in items[::2]]
        return [item.strip() for item in items], None
    return get_blend_from_list(items)


def _is_number(item: Any) -> bool:
    try:
        float(item)
    except ValueError:
        return False
    return True


def test_weights_tokens_samples_and_epochs() -> None:
    made = blend(PLAN, WEIGHTS, 1000.0)
    rows = [(s.prefix, s.language, s.weight, s.tokens, s.samples, s.epochs) for s in made.sources]
    assert rows == [
        ("py/a", "Python", 0.375, 375.0, 37.5, None),
        ("py/b", "Python", 0.125, 125.0, 12.5, None),
        ("go", "Go", 0.1, 100.0, 10.0, 1.0),
        ("c/a", "C", *(pytest.approx(x) for x in (0.3, 300.0, 30.0, 10.0))),
        ("c/b", "C", 0.1, 100.0, 10.0, 10.0),
    ]
    assert made.by_language() == pytest.approx(WEIGHTS)
    assert made.valid == (("py/v", 0.5), ("c/v", 0.375), ("c/w", 0.125))
    assert made.test == ()


def test_zero_weights_are_dropped_and_said() -> None:
    made = blend(PLAN, {"Python": 1.0, "Go": 0.0}, 1000.0)
    assert [source.prefix for source in made.sources] == ["py/a", "py/b"]
    assert made.dropped == ("go", "c/a", "c/b")
    assert json.loads(render(made, FORMATS["per-split-json"]))["train"] == [
        0.75,
        "py/a",
        0.25,
        "py/b",
    ]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"Pyton": 1.0}, "no language 'Pyton' .did you mean 'Python'"),
        ({"Python": 0.5}, "sum to 1 .got 0.5"),
        ({"Python": 1.5, "Go": -0.5}, "must not be negative"),
        ({"Python": float("nan")}, "sum to 1 .got nan"),
        ({}, "sum to 1 .got 0"),
    ],
)
def test_weights_that_are_none(weights: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        blend(PLAN, weights, 1000.0)


def test_a_split_that_is_not_known_is_asked_for() -> None:
    unknown = plan_of(C={"sources": (Source("c/a", tokens=30.0), Source("c/b"))})
    with pytest.raises(InputError, match="weight of C split over its 2 sources"):
        blend(unknown, {"C": 1.0}, 10.0)
    with pytest.raises(InputError, match="C has weight 1 but no sources"):
        blend(plan_of(C={}), {"C": 1.0}, 10.0)


@st.composite
def blends(draw: st.DrawFn) -> Blend:
    n = draw(st.integers(1, 8))
    prefixes = draw(
        st.lists(
            st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1).map(
                lambda t: f"x{t}_"  # no number, and no ending that is refused
            ),
            min_size=n,
            max_size=n,
            unique=True,
        )
    )
    parts = draw(st.lists(st.floats(1e-12, 1), min_size=n, max_size=n))
    keys = {
        f"L{i}": {"sources": (Source(p),), "valid_sources": (Source(p + "v"),)}
        for i, p in enumerate(prefixes)
    }
    weights = {f"L{i}": part / sum(parts) for i, part in enumerate(parts)}
    return blend(plan_of(**keys), weights, 1e9)


@settings(deadline=None)  # the first example imports Megatron
@given(blends())
def test_megatron_reads_what_was_meant(made: Blend) -> None:
    meant = [source.prefix for source in made.sources]
    weights = [source.weight for source in made.sources]
    assert abs(sum(weights) - 1) < 1e-12
    per_split = json.loads(render(made, FORMATS["per-split-json"]))
    assert set(per_split) == {"train", "valid", "test"}
    assert megatron_blend(per_split["train"]) == (meant, weights)
    assert megatron_blend(per_split["valid"])[0] == [prefix for prefix, _ in made.valid]
    assert per_split["test"] is None
    text = render(made, FORMATS["data-args"])
    assert megatron_blend(text.split()) == (meant, weights)
    sets = json.loads(render(made, FORMATS["per-split-sets"]))
    assert sets["train"] == per_split["train"]
    assert megatron_blend(sets["valid"]) == ([prefix for prefix, _ in made.valid], None)


def test_against_megatron_itself() -> None:
    reason = "megatron-core is not installed: its rules are restated in this file"
    utils = pytest.importorskip("megatron.core.datasets.utils", reason=reason)
    for items in (["0.5", "a", "0.5", "b"], ["a"], ["a", "b"], ["a", "b", "c"]):
        prefixes, weights = utils.get_blend_from_list(items)
        found = read_data_args(" ".join(items))["train"]
        assert found is not None
        assert [prefix for prefix, _ in found] == prefixes
        assert [weight for _, weight in found] == (weights or [None] * len(prefixes))


def test_files_round_trip(tmp_path: Path) -> None:
    made = blend(PLAN, WEIGHTS, 1000.0)
    path = tmp_path / "blend.json"
    write_blend(made, path, FORMATS["per-split-json"])
    assert read_blend(path) == made.splits()
    assert list(tmp_path.iterdir()) == [path]
    path = tmp_path / "blend.txt"
    write_blend(made, path, FORMATS["data-args"])
    assert read_blend(path) == {**made.splits(), "valid": None}
    path.rename(tmp_path / "blend.x")
    assert read_blend(tmp_path / "blend.x", FORMATS["data-args"])["train"]
    with pytest.raises(InputError, match=r"not a blend file by its suffix \(known: .args, .json"):
        read_blend(tmp_path / "blend.x")


def test_data_args_refuses_a_prefix_with_a_space_and_leaves_the_old_file(tmp_path: Path) -> None:
    made = blend(plan_of(C={"sources": (Source("my data/c"),)}), {"C": 1.0}, 10.0)
    assert json.loads(render(made, FORMATS["per-split-json"]))["train"] == [1.0, "my data/c"]
    path = tmp_path / "blend.txt"
    path.write_text("1.0 old\n")
    with pytest.raises(InputError, match="cannot hold a prefix with a space"):
        write_blend(made, path, FORMATS["data-args"])
    assert path.read_text() == "1.0 old\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("spoil", ["0.4 py/a\n", "0.375 py/b\n", "py/a\n"])
def test_a_format_that_does_not_read_back_writes_nothing(tmp_path: Path, spoil: str) -> None:
    bad = replace(FORMATS["data-args"], name="bad", write=lambda made: spoil)
    with pytest.raises(InputError, match="format bad does not read back what it wrote as train"):
        write_blend(blend(PLAN, WEIGHTS, 1000.0), tmp_path / "blend.txt", bad)
    assert not list(tmp_path.iterdir())


def test_per_split_lists_as_megatron_takes_them() -> None:
    text = '{"train": "1 a 3 b", "valid": ["c", "d"], "test": null}'
    assert read_per_split(text) == {
        "train": (("a", 1.0), ("b", 3.0)),
        "valid": (("c", None), ("d", None)),
        "test": None,
    }
    assert read_data_args(" a\n b c ")["train"] == (("a", None), ("b", None), ("c", None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object with train"),
        ('{"train": ["a"], "valid": null}', "no test"),
        ('{"train": 3, "valid": null, "test": null}', "train must be a list"),
        ('{"train": [], "valid": null, "test": null}', "train has no entries"),
        ('{"train": ["0.5", "a", "b", "c"], "valid": null, "test": null}', "mixes weighted"),
        ('{"train": [1, "2"], "valid": null, "test": null}', "number in the place of a prefix"),
        ('{"train": [1, "a", 2], "valid": null, "test": null}', "number in the place of a pre"),
        ('{"train": [0, "a"], "valid": null, "test": null}', "not a positive number"),
        ('{"train": [NaN, "a"], "valid": null, "test": null}', "not a positive number"),
        ('{"train": ["a", null], "valid": null, "test": null}', "only weights and prefixes"),
        ('{"train": [1%s, "a"], "valid": null, "test": null}' % ("0" * 400), "not a positive"),
    ],
)
def test_lists_that_megatron_would_misread_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.json: .*{message}"):
        read_blend(path)


def test_hooks_register_formats() -> None:
    manager = pluggy.PluginManager("blendlaw")
    manager.add_hookspecs(hookspecs)
    manager.register(blend_module)
    names: list[str] = []
    manager.hook.register_blend_formats(register=lambda f: names.append(f.name))
    assert names == ["per-split-json", "per-split-sets", "data-args"]
