"""Sampling: shares by largest remainder, and a choice that is the same everywhere."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.data.sampling import chosen, shares

NAMES = [f"image {index}" for index in range(1000)]


@given(st.data(), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_shares_are_proportional_and_none_is_left_out(data: st.DataObject, sizes: list[int]) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    given_ = shares(sizes, count, order=range(len(sizes)))
    assert sum(given_) == count
    assert all(0 <= got <= size for got, size in zip(given_, sizes, strict=True))
    if count >= len(sizes):
        assert min(given_) >= 1
    quotas = [Fraction(count * size, sum(sizes)) for size in sizes]
    if min(quotas) >= 1 or count < len(sizes):  # Where no class needed its one for free, largest remainder is within 1.
        assert all(abs(got - quota) < 1 for got, quota in zip(given_, quotas, strict=True))


def test_the_largest_remainder_wins_and_the_order_breaks_ties() -> None:
    assert shares([50, 30, 20], 11, order=[0, 1, 2]) == [6, 3, 2]
    assert shares([10, 10, 10], 4, order=[2, 0, 1]) == [1, 1, 2]
    assert shares([97, 1, 1, 1], 10, order=[0, 1, 2, 3]) == [7, 1, 1, 1]
    assert shares([10, 10, 10], 2, order=[1, 2, 0]) == [0, 1, 1]


def test_the_choice_depends_on_the_seed_alone() -> None:
    first = chosen(NAMES, count=10, seed=0)
    assert first == chosen(NAMES, count=10, seed=0)
    assert first != chosen(NAMES, count=10, seed=1)
    assert list(first) == sorted(first)
    # Written down once: the same on every machine, Python and NumPy.
    assert first == (120, 184, 187, 573, 768, 802, 854, 921, 926, 986)


def test_a_smaller_choice_is_part_of_a_larger_one() -> None:
    assert set(chosen(NAMES, count=50, seed=3)) < set(chosen(NAMES, count=200, seed=3))


@pytest.mark.parametrize("count", [None, 1000, 5000])
def test_all_are_taken_where_there_are_no_more(count: int | None) -> None:
    assert chosen(NAMES, count=count, seed=0) == tuple(range(1000))


def test_each_class_gets_its_share() -> None:
    labels = np.repeat(np.arange(10), [500, 200, 100, 50, 50, 40, 30, 20, 9, 1]).astype(np.int64)
    taken = labels[list(chosen(NAMES, count=100, seed=0, labels=labels))]
    counts = np.bincount(taken, minlength=10)
    assert counts.sum() == 100
    assert counts.min() == 1
    # The last class has a tenth of a share and gets a whole one; some other class gives it up.
    assert np.abs(counts - [50, 20, 10, 5, 5, 4, 3, 2, 0.9, 0.1]).max() <= 1


def test_fewer_than_classes_are_not_always_the_first_classes() -> None:
    labels = np.repeat(np.arange(100), 10).astype(np.int64)
    taken = [set(labels[list(chosen(NAMES, count=5, seed=seed, labels=labels))].tolist()) for seed in range(4)]
    assert all(len(classes) == 5 for classes in taken)
    assert len(set.union(*taken)) > 10
