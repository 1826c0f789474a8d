"""The search by predicted noise, on made-up scores: what it finds beside all choices, and how little it asks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcal.precision.additive import ALL_ALIKE, BY_PREDICTION, DOUBT, ROOM, search_by_noise
from trtcal.precision.search import BY_ITSELF, search


class Model:
    """Groups with noises by part of the outputs; counts what is asked.

    Args:
        noises: By group, by level, of each part.
        costs: By group, by level.
        allowed: Noise of each part; None has a target of another kind.
        whole: From the noise by part that adds up, and the levels, to what the model really has.
        reaches: What the target says instead.
        unlike: How many times as noisy the first images are as the few.
    """

    def __init__(self, noises, costs, *, allowed=None, whole=None, reaches=None, unlike=1.0):
        self.noises = [{level: np.atleast_1d(np.array(each, float)) for level, each in by.items()} for by in noises]
        self.costs, self.allowed, self.unlike = costs, allowed, unlike
        self.whole = whole or (lambda noise, levels: noise)
        self.told = reaches or (lambda levels: bool(np.all(self.first(levels) <= allowed)))
        self.asked, self.tried, self.alone_asked, self.phases = [], [], [], []

    def base(self):
        return np.zeros_like(self.noises[0][min(self.noises[0])])

    def alone(self, group, level):
        self.alone_asked.append((group, level))
        return self.noises[group][level]

    def few(self, levels):
        self.tried.append(levels)
        added = np.sum([self.noises[group][level] for group, level in enumerate(levels)], axis=0)
        return np.atleast_1d(self.whole(added, levels))

    def first(self, levels):
        added = np.sum([self.noises[group][level] for group, level in enumerate(levels)], axis=0)
        return np.atleast_1d(self.whole(added, levels)) * self.unlike

    def holds(self, levels):
        return self.told(levels)

    def reaches(self, levels):
        self.asked.append(levels)
        return self.told(levels)

    def cost(self, group, level):
        return self.costs[group][level]

    def total(self, levels):
        return math.fsum(self.costs[group][level] for group, level in enumerate(levels))

    def search(self):
        ladders = [sorted(costs) for costs in self.costs]
        return search_by_noise(
            ladders, self, self.cost, phase=lambda name, most: self.phases.append((name, most, len(self.asked)))
        )

    def exhaustive(self):
        ladders = [sorted(costs) for costs in self.costs]
        return search(ladders, self.told, lambda levels: float(self.first(levels).sum()), self.cost)

    def least(self):
        """The cost of the cheapest of all choices that reach the target."""
        every = itertools.product(*(sorted(costs) for costs in self.costs))
        return min((self.total(levels) for levels in every if self.told(levels)), default=None)


@st.composite
def models(draw):
    """Groups with two to four levels each, noises and a target of any kind: they need not go together at all."""
    noises, costs = [], []
    for _ in range(draw(st.integers(1, 5))):
        levels = sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=4)))
        steps = draw(st.lists(st.floats(0, 10), min_size=len(levels), max_size=len(levels)))
        costs.append({level: 1 + sum(steps[: place + 1]) for place, level in enumerate(levels)})
        noises.append({level: draw(st.floats(0, 1)) for level in levels})
    seed = draw(st.integers(0, 2**32))
    chance = draw(st.sampled_from([None, lambda levels: hash((seed, levels)) % 3 == 0]))
    bounds = st.floats(0.01, 3) | st.none() if chance else st.floats(0.01, 3)
    return Model(noises, costs, allowed=draw(bounds), reaches=chance)


@settings(max_examples=60)
@given(models())
def test_whatever_the_scores(model):
    found = model.search()
    assert len(set(model.asked)) == len(model.asked)
    reaching = [levels for levels in model.asked if model.told(levels)]
    assert {levels for levels, reached in found.points.items() if reached} == set(reaching)
    assert set(found.points) >= set(model.asked)
    assert (found.best is None) == (not reaching)
    if found.best is not None:
        least = min(map(model.total, reaching))
        assert least <= model.total(found.best) <= least * (1 + ROOM)
    else:
        highest = tuple(max(costs) for costs in model.costs)
        assert highest in model.asked  # that there is no answer was not guessed


def networks(groups, seed, parts=1):
    """Noises and costs as networks have them: INT8, FP16 and FP32."""
    random = np.random.default_rng(seed)
    loud = random.lognormal(-6, 1.5, (groups, parts))
    noises = [{0: each, 2: each * 1e-3, 3: 0 * each} for each in loud]
    return noises, [{0: 8 * macs, 2: 16 * macs, 3: 32 * macs} for macs in random.uniform(1, 10, groups)]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_where_noise_adds_up_it_is_the_cheapest_within_a_hundredth(seed, parts):
    noises, costs = networks(6, seed, parts)
    loud = sum(each[0] for each in noises)
    model = Model(noises, costs, allowed=float(loud.max()) / 4)
    found = model.search()
    assert model.told(found.best)
    assert model.total(found.best) <= model.least() * (1 + ROOM) ** 2
    assert len(model.asked) <= 6


def test_it_asks_for_few_whole_choices():
    """Of 60 groups, where the exhaustive search takes over a hundred, and its choice costs no less."""
    noises, costs = networks(60, 1)
    model = Model(noises, costs, allowed=sum(each[0] for each in noises) / 5)
    found, exhaustive = model.search(), model.exhaustive()
    assert exhaustive.evaluations > 120
    assert len(model.asked) < 8
    assert model.total(found.best) <= model.total(exhaustive.best) * (1 + ROOM)


def test_a_level_that_adds_next_to_nothing_is_not_measured_group_by_group():
    noises, costs = networks(20, 2)
    model = Model(noises, costs, allowed=sum(each[0] for each in noises) / 5)
    model.search()
    assert {level for _, level in model.alone_asked} == {0}


def test_a_group_that_overflows_in_fp16_goes_to_fp32():
    noises = [{0: 0.5, 2: 0.01, 3: 0.0}, {0: 0.6, 2: 1e30, 3: 0.0}, {0: 0.5, 2: 0.01, 3: 0.0}]
    found = Model(noises, [{0: 8.0, 2: 16.0, 3: 32.0}] * 3, allowed=0.05).search()
    assert (found.top, found.best) == ((3, 3, 3), (2, 3, 2))


def test_branches_that_cancel_each_other():
    """Two groups whose errors are each other's opposite: together they add nothing, one without the other much."""

    def whole(noise, levels):
        return noise - (2.0 if levels[0] == levels[1] == 0 else 0.0)

    noises = [{0: 1.0, 2: 0.0}, {0: 1.0, 2: 0.0}, {0: 0.3, 2: 0.0}, {0: 0.2, 2: 0.0}]
    model = Model(noises, [{0: 10.0, 2: 20.0}] * 4, allowed=0.25, whole=whole)
    found = model.search()
    assert model.told(found.best)
    assert model.total(found.best) <= model.total(model.exhaustive().best)


@pytest.mark.parametrize("allowed", [0.05, 0.2, 0.5])
def test_a_layer_that_saturates(allowed):
    """Noise is cut off, as by a sigmoid: far less than the sum where there is much, the sum where there is little."""
    noises, costs = networks(6, 4)
    scale = 4 / float(sum(each[0] for each in noises)[0])
    noises = [{level: each * scale for level, each in by.items()} for by in noises]
    model = Model(noises, costs, allowed=allowed, whole=lambda noise, levels: np.tanh(noise))
    found = model.search()
    assert model.told(found.best)
    assert model.total(found.best) <= model.least() * 1.03


@pytest.mark.parametrize("times", [0.5, 0.8, 1.3, 2.0])
def test_of_few_images_that_are_not_like_the_others(times):
    noises, costs = networks(6, 5)
    model = Model(noises, costs, allowed=float(sum(each[0] for each in noises)[0]) / 4, unlike=times)
    found = model.search()
    assert model.told(found.best)
    assert model.total(found.best) <= model.least() * 1.03


def test_where_the_target_is_another_one_the_noise_that_it_allows_is_found():
    noises, costs = networks(8, 6)
    model = Model(noises, costs)
    bound = float(sum(each[0] for each in noises)[0]) / 7
    model.told = lambda levels: float(model.few(levels)[0]) <= bound
    found = model.search()
    assert model.told(found.best)
    assert model.total(found.best) <= model.least() * 1.03
    assert len(model.asked) <= 14


def test_the_lowest_levels_are_the_answer_where_they_do():
    model = Model([{0: 0.1, 1: 0.0}] * 3, [{0: 1.0, 1: 2.0}] * 3, allowed=0.5)
    found = model.search()
    assert (found.best, found.evaluations, found.top, found.order) == ((0, 0, 0), 1, None, ())
    assert model.alone_asked == []


def test_there_is_no_answer_where_no_level_does():
    model = Model([{0: 1.0, 1: 0.5, 2: 0.4}] * 3, [{0: 1.0, 1: 2.0, 2: 4.0}] * 3, allowed=0.1)
    found = model.search()
    assert found.best is None
    assert list(found.points) == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert not any(found.points.values())


def test_what_the_few_images_promise_and_the_first_do_not_keep_is_looked_for_higher():
    """All at level 1 do on the few, by a hair; on the first images it takes level 2."""
    noises = [{0: 1.0, 1: 0.1, 2: 0.0}] * 3
    model = Model(noises, [{0: 1.0, 1: 2.0, 2: 4.0}] * 3, allowed=0.29, unlike=1.2)
    found = model.search()
    assert found.top == (2, 2, 2)
    assert sorted(found.best) == [1, 1, 2]


def test_phases_come_in_order():
    noises, costs = networks(6, 0)
    model = Model(noises, costs, allowed=float(sum(each[0] for each in noises)[0]) / 4)
    model.search()
    assert [name for name, _, _ in model.phases] == [ALL_ALIKE, BY_ITSELF, BY_PREDICTION]
    assert DOUBT > 1
