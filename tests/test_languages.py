"""Languages: names found by alias and extension, colours that can be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendlaw.languages import LANGUAGES, by_extension, canonical, colour

# Linear RGB to XYZ, and what dichromats see (Machado et al. 2009, severity 1).
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
VISION = {
    "normal": np.eye(3),
    "protan": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deutan": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritan": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9309, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def linear(hexadecimal: str) -> np.ndarray:
    channels = np.array([int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast_with_white(hexadecimal: str) -> float:
    return 1.05 / (float(XYZ[1] @ linear(hexadecimal)) + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = XYZ @ rgb / XYZ.sum(axis=1)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_paper_s_seven_come_first():
    names = [language.name for language in LANGUAGES]
    assert names[:7] == ["Python", "Java", "JavaScript", "TypeScript", "C#", "Go", "Rust"]
    assert len(names) >= 25


def test_no_alias_or_extension_belongs_to_two():
    names = [n.casefold() for x in LANGUAGES for n in (x.name, *x.aliases)]
    extensions = [e for x in LANGUAGES for e in x.extensions]
    assert len(set(names)) == len(names)
    assert len(set(extensions)) == len(extensions)
    assert all(e.startswith(".") and e == e.lower() for e in extensions)


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("csharp", "C#"), ("CS", "C#"), ("js", "JavaScript"), ("GoLang", "Go"), ("cpp", "C++"),
        ("rust", "Rust"), (" Python ", "Python"), ("c", "C"), ("English", "English"),
        (" Brainf ", " Brainf "), ("", ""),
    ],
)  # fmt: skip
def test_canonical_names(given_name, expected):
    assert canonical(given_name) == expected


@given(st.text())
def test_canonical_is_idempotent(name):
    assert canonical(canonical(name)) == canonical(name)


def test_by_extension():
    assert by_extension("src/Main.java").name == "Java"
    assert by_extension("a.b/X.CS").name == "C#"
    assert by_extension("types.d.ts").name == "TypeScript"
    assert by_extension("Makefile") is None
    assert by_extension(".py") is None


@given(st.text(st.characters(), max_size=20))
def test_every_name_has_one_colour_readable_on_white(name):
    assert colour(name) == colour(name)
    assert contrast_with_white(colour(name)) >= 3


def test_known_colours_are_readable_and_the_seven_tell_apart():
    assert all(contrast_with_white(language.colour) >= 3 for language in LANGUAGES)
    assert colour("csharp") == colour("C#")
    assert colour("English") == "#30175d"  # the same in every process
    for matrix in VISION.values():
        seen = [lab(np.clip(matrix @ linear(x.colour), 0, 1)) for x in LANGUAGES[:7]]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 30
