"""Layers to leave in float under a budget: as good as the best of all sets, within it, and none for nothing."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.choice.knapsack import Noise, chosen_within


def noise(costs, alone, rest=0.0):
    """Of layers whose noise adds up to the whole's, but for what other layers add."""
    alone = np.asarray(alone, float).reshape(len(costs), -1)
    names = tuple(f"layer{place}" for place in range(len(costs)))
    return Noise(names, np.asarray(costs, float), alone, alone.sum(axis=0) + rest)


def best_of_all(found, budget):
    places = range(len(found.names))
    sets = (each for size in range(len(places) + 1) for each in combinations(places, size))
    return max(found.gain(each) for each in sets if found.costs[[*each]].sum() <= budget)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 3))
def test_is_nearly_the_best_of_all_sets(seed, layers, groups):
    rng = np.random.default_rng(seed)
    found = noise(rng.uniform(0.1, 4, layers), rng.lognormal(0, 1.5, (layers, groups)), rng.uniform(0, 1, groups))
    chosen = chosen_within(found, 5.0, worth=0.0)
    assert found.costs[[*chosen]].sum() <= 5
    assert found.gain(chosen) >= 0.8 * best_of_all(found, 5.0) - 1e-9


def test_many_small_ones_go_before_a_large_one():
    found = noise([5, 1, 1, 1, 1, 1], [6, 2, 2, 2, 2, 2])
    assert chosen_within(found, 5.0, worth=0.1) == (1, 2, 3, 4, 5)


def test_two_groups_that_are_as_bad_are_both_mended():
    found = noise([1, 1, 1], [[8, 0], [0, 8], [1, 1]])
    assert chosen_within(found, 2.0, worth=0.1) == (0, 1)


@pytest.mark.parametrize("worth, chosen", [(0.1, (0, 1)), (0.5, (0,))])
def test_what_brings_too_little_is_not_taken(worth, chosen):
    assert chosen_within(noise([1, 1, 9], [10, 1, 10]), 5.0, worth=worth) == chosen


def test_nothing_fits_or_nothing_helps():
    assert chosen_within(noise([6, 7], [1, 1]), 5.0, worth=0.1) == ()
    assert chosen_within(noise([1, 1], [0, 0], rest=1.0), 5.0, worth=0.1) == ()
    assert chosen_within(noise([1, 1], [0, 0]), 5.0, worth=0.1) == ()


def test_no_layer_is_credited_with_more_than_its_part():
    """Alone they make twice the noise of the whole, as where errors cancel: without one of four, 3/4 are left."""
    found = Noise(("a", "b", "c", "d"), np.ones(4), np.full((4, 1), 0.5), np.ones(1))
    assert found.left((0,)) == pytest.approx([0.75])
    assert found.gain((0, 1)) == pytest.approx(10 * np.log10(2))
