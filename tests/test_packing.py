"""Packing against best-fit-decreasing one document at a time, and against the fewest bins."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendlaw.errors import InputError
from blendlaw.packing import Packing, pack


def best_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    """The spaces left, one document at a time: longest first, into the fullest bin with room."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        room = [space for space in spaces if space >= length]
        if room:
            spaces.remove(min(room))
        spaces.append((min(room) if room else capacity) - length)
    return sorted(spaces)


def fewest_bins(lengths: list[int], capacity: int) -> int:
    """The optimum: for every subset, the fewest bins and then the least in the last of them."""
    best = {0: (0, capacity)}
    for subset in range(1, 1 << len(lengths)):
        options = []
        for place, length in enumerate(lengths):
            if subset >> place & 1:
                bins, last = best[subset ^ (1 << place)]
                fits = last + length <= capacity
                options.append((bins, last + length) if fits else (bins + 1, length))
        best[subset] = min(options)
    return best[subset][0] if lengths else 0


def spaces(packing: Packing, lengths: list[int]) -> list[int]:
    """The space that each bin has left, ascending."""
    order, offsets = packing.order.tolist(), packing.offsets.tolist()
    bins = [order[a:b] for a, b in itertools.pairwise(offsets)]
    return sorted(packing.capacity - sum(lengths[i] for i in one) for one in bins)


@st.composite
def problems(draw: st.DrawFn, documents: int = 80) -> tuple[list[int], int]:
    """Some with many documents of few lengths, some with short ones only."""
    capacity = draw(st.integers(1, 60))
    kinds = draw(st.lists(st.integers(1, capacity), min_size=1, max_size=12))
    longest = draw(st.sampled_from(sorted(set(kinds))))
    kinds = [kind for kind in kinds if kind <= longest]
    return draw(st.lists(st.sampled_from(kinds), max_size=documents)), capacity


@given(problems())
def test_bins_are_those_of_best_fit_decreasing(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    assert spaces(pack(lengths, capacity), lengths) == best_fit_decreasing(lengths, capacity)


@given(problems())
def test_every_document_is_in_one_bin_that_holds_it(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    packing = pack(lengths, capacity)
    assert sorted(packing.order.tolist()) == list(range(len(lengths)))
    assert packing.offsets[0] == 0
    assert packing.offsets[-1] == len(lengths)
    assert (np.diff(packing.offsets) > 0).all()
    assert all(0 <= space < capacity for space in spaces(packing, lengths))
    assert packing.tokens == sum(lengths)
    assert packing.filled <= packing.fillable <= 1


@given(problems(documents=8))
def test_the_bound_is_not_above_the_fewest_bins(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    packing = pack(lengths, capacity)
    assert -(-sum(lengths) // capacity) <= packing.bound <= fewest_bins(lengths, capacity)


@given(problems())
def test_equal_lengths_are_packed_equally(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    # Another type of the same numbers, too: a small one, since a difference would overflow it.
    one, other = pack(lengths, capacity), pack(np.array(lengths, dtype=np.uint8), capacity)
    assert (one.order == other.order).all()
    assert (one.offsets == other.offsets).all()


@pytest.mark.parametrize(
    ("lengths", "bound"),
    [
        ([6, 6, 6], 3),  # the sum alone says 2
        ([6, 6, 4, 4], 2),
        ([7, 7, 4, 4], 3),  # nothing fits beside a 7
        ([], 0),
    ],
)
def test_the_bound_sees_what_does_not_fit_together(lengths: list[int], bound: int) -> None:
    packing = pack(lengths, 10)
    assert packing.bound == packing.bins == bound


@pytest.mark.parametrize(("median", "spread"), [(300, 1.2), (600, 1.0), (900, 0.8), (1500, 1.0)])
def test_lengths_like_those_of_code_fill_the_bins(median: int, spread: float) -> None:
    drawn = median * np.random.default_rng(0).lognormal(0, spread, 120_000)
    lengths = drawn[(drawn >= 1) & (drawn < 4097)].astype(np.int64)[:100_000]
    packing = pack(lengths, 4096)
    held = np.add.reduceat(lengths[packing.order], packing.offsets[:-1])
    assert held.max() <= 4096
    assert (np.bincount(packing.order) == 1).all()
    assert lengths.sum() / (4096 * len(held)) == packing.filled > 0.995
    assert packing.bins - packing.bound < 0.001 * packing.bound


@pytest.mark.parametrize(
    ("lengths", "capacity", "problem"),
    [
        ([3, 11], 10, r"document 1 must have 1 to 10 tokens to be packed whole \(got 11\)"),
        ([0], 10, r"document 0 must have 1 to 10 tokens .* \(got 0\)"),
        ([5, 5, -2], 10, r"document 2 .* \(got -2\)"),
        (np.array([2**64 - 1], dtype=np.uint64), 10, r"got 18446744073709551615"),
        ([2.0, 3.0], 10, r"whole numbers \(got 'float64'\)"),
        ([1], 0, r"room for a token \(got 0\)"),
    ],
)
def test_what_cannot_be_packed_is_named(lengths: list[int], capacity: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        pack(lengths, capacity)
