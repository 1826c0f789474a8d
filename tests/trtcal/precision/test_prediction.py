"""The cheapest choice under bounds on predicted noise, beside every choice there is."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcal.precision.prediction import Prediction, cheapest


class Instance:
    """Groups with costs and noises by level, and bounds by part."""

    def __init__(self, costs, noises, base, bounds):
        self.costs, self.bounds = costs, np.array(bounds)
        self.ladders = [tuple(range(len(each))) for each in costs]
        self.prediction = Prediction(np.array(base), {place: np.array(noise) for place, noise in noises.items()})

    def cost(self, group, level):
        return self.costs[group][level]

    def total(self, levels):
        return math.fsum(self.costs[group][level] for group, level in enumerate(levels))

    def within(self, levels):
        return bool(np.all(self.prediction.of(levels) <= self.bounds * (1 + 1e-12)))

    def cheapest(self, **options):
        return cheapest(self.ladders, self.prediction, self.cost, self.bounds, **options)

    def least(self):
        """The least cost of all choices within the bounds; None where there is none."""
        return min((self.total(each) for each in itertools.product(*self.ladders) if self.within(each)), default=None)


@st.composite
def instances(draw, *, parts, most_groups=5):
    """Costs that rise with the level; noises that need not fall."""
    count = draw(st.integers(1, most_groups))
    costs, noises = [], {}
    for group in range(count):
        steps = draw(st.lists(st.floats(0, 10), min_size=1, max_size=4))
        costs.append([1 + sum(steps[: place + 1]) for place in range(len(steps))])
        for level in range(len(steps)):
            noises[group, level] = draw(st.lists(st.floats(0, 1), min_size=parts, max_size=parts))
    base = draw(st.lists(st.floats(0, 0.1), min_size=parts, max_size=parts))
    bounds = draw(st.lists(st.floats(0.01, 3), min_size=parts, max_size=parts))
    return Instance(costs, noises, base, bounds)


@settings(max_examples=40)
@given(instances(parts=1))
def test_with_one_part_no_choice_within_the_bound_is_cheaper(instance):
    found, least = instance.cheapest(), instance.least()
    if least is None:
        assert found is None or not instance.within(found)  # by rounding alone
        return
    assert found is not None
    assert np.all(instance.prediction.of(found) <= instance.bounds * (1 + 1e-8))
    assert instance.total(found) <= least * (1 + 1e-8)


@settings(max_examples=40)
@given(st.integers(2, 4).flatmap(lambda parts: instances(parts=parts)))
def test_with_several_parts_it_is_the_cheapest_within_all_bounds(instance):
    found, least = instance.cheapest(), instance.least()
    if least is None:
        return
    assert found is not None
    assert np.all(instance.prediction.of(found) <= instance.bounds * (1 + 1e-8))
    assert instance.total(found) <= least * (1 + 1e-8)  # so few that all are kept


def made(groups, parts, seed):
    """Groups as networks have them: noise far from even, 1000 times less at the next level, none at the last."""
    random = np.random.default_rng(seed)
    costs = [random.uniform(1, 10) * np.array([8.0, 16.0, 32.0]) for _ in range(groups)]
    loud = random.lognormal(0, 1.5, (groups, parts))
    noises = {(g, level): loud[g] * factor for g in range(groups) for level, factor in enumerate((1, 1e-3, 0))}
    bounds = loud.sum(axis=0) * random.uniform(0.05, 0.9, parts)
    return Instance(costs, noises, np.zeros(parts), bounds)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_of_what_networks_have_it_is_the_cheapest(parts, seed):
    instance = made(7, parts, seed)
    assert instance.total(instance.cheapest()) == pytest.approx(instance.least(), rel=1e-12)


@pytest.mark.parametrize("parts", [1, 4])
def test_thinned_out_it_stays_near(parts):
    instance = made(60, parts, 0)
    whole, thin = instance.cheapest(most=30_000), instance.cheapest(most=1500)
    assert instance.within(thin)
    assert instance.total(thin) <= 1.02 * instance.total(whole)


@settings(max_examples=40)
@given(instances(parts=2), st.floats(0, 0.2))
def test_what_costs_hardly_more_may_be_quieter(instance, room):
    strict, roomy = instance.cheapest(), instance.cheapest(room=room)
    assert (strict is None) == (roomy is None)
    if strict is not None:
        assert instance.total(roomy) <= instance.total(strict) * (1 + room) * (1 + 1e-6)
        worst = [float(np.max(instance.prediction.of(each) / instance.bounds)) for each in (roomy, strict)]
        assert worst[0] <= worst[1] * (1 + 1e-9)


def test_there_is_none_where_the_quietest_is_too_loud():
    assert Instance([[1.0, 2.0]], {(0, 0): [1.0], (0, 1): [0.5]}, [0.1], [0.55]).cheapest() is None


def test_each_part_has_a_bound_of_its_own():
    """The first group spoils the boxes, the second the scores, and only the scores' bound is tight."""
    costs = [[1.0, 2.0], [1.0, 2.0]]
    noises = {(0, 0): [1.0, 0.0], (0, 1): [0.0, 0.0], (1, 0): [0.0, 1.0], (1, 1): [0.0, 0.0]}
    assert Instance(costs, noises, [0.0, 0.0], [2.0, 0.5]).cheapest() == (0, 1)
    assert Instance(costs, noises, [0.0, 0.0], [0.5, 2.0]).cheapest() == (1, 0)
