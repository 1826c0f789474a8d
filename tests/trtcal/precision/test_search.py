"""The search for precisions, on made-up scores: what it finds, what it costs, and that nothing is asked twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.precision.search import LEAST_SAVING, WORST, Step, ordered, prefixes, search


class Model:
    """Groups whose noise adds up, or any other noise and target; counts what is asked."""

    def __init__(self, noises, costs, *, bound=math.inf, reaches=None):
        self.noises, self.costs, self.bound = noises, costs, bound
        self.told = reaches or (lambda levels: self.total_noise(levels) <= bound)
        self.asked, self.measured, self.phases = [], [], []

    def total_noise(self, levels):
        return math.fsum(self.noises[group][level] for group, level in enumerate(levels))

    def total(self, levels):
        return math.fsum(self.costs[group][level] for group, level in enumerate(levels))

    def reaches(self, levels):
        self.asked.append(levels)
        return self.told(levels)

    def noise(self, levels):
        self.measured.append(levels)
        return self.total_noise(levels)

    def search(self):
        ladders = [sorted(costs) for costs in self.costs]
        return search(
            ladders,
            self.reaches,
            self.noise,
            lambda group, level: self.costs[group][level],
            phase=lambda name, most: self.phases.append((name, most, len({*self.asked, *self.measured}))),
        )


@st.composite
def models(draw):
    """Groups with two to four levels each, noises and a target of any kind: it need not go with the noise at all."""
    count = draw(st.integers(1, 6))
    noises, costs = [], []
    for _ in range(count):
        levels = sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=4)))
        steps = draw(st.lists(st.floats(0, 10), min_size=len(levels), max_size=len(levels)))
        costs.append({level: 1 + sum(steps[: place + 1]) for place, level in enumerate(levels)})
        noises.append({level: draw(st.floats(0, 1) | st.just(math.nan) | st.just(math.inf)) for level in levels})
    if draw(st.booleans()):
        return Model(noises, costs, bound=draw(st.floats(0, 3)))
    seed = draw(st.integers(0, 2**32))
    return Model(noises, costs, reaches=lambda levels: hash((seed, levels)) % 3 == 0)


@given(models())
def test_whatever_the_scores(model):
    found = model.search()
    assert len(set(model.asked)) == len(model.asked)
    assert len(set(model.measured)) == len(model.measured)
    assert {*model.asked, *model.measured} == set(found.points)
    assert found.evaluations == len(found.points)
    reaching = [levels for levels in model.asked if model.told(levels)]
    assert {levels for levels, reached in found.points.items() if reached} == set(reaching)
    assert (found.best is None) == (not reaching)
    if found.best is not None:
        assert found.best in reaching
        least = min(map(model.total, reaching))
        assert least <= model.total(found.best) <= least * (1 + LEAST_SAVING)
        # No choice that was measured and costs less would have done.
        cheaper = [levels for levels in found.points if model.total(levels) < least]
        assert not any(map(model.told, cheaper))


@given(models())
def test_phases_say_how_much_there_is_to_do_at_most(model):
    model.search()
    ends = [*(begun for _, _, begun in model.phases[1:]), len({*model.asked, *model.measured})]
    for (name, most, begun), end in zip(model.phases, ends, strict=True):
        assert end - begun <= most, name


def test_the_lowest_levels_are_the_answer_where_they_do():
    model = Model([{0: 0.1, 1: 0.0}] * 3, [{0: 1.0, 1: 2.0}] * 3, bound=0.5)
    found = model.search()
    assert (found.best, found.evaluations, found.top, found.order) == ((0, 0, 0), 1, None, ())


def test_there_is_no_answer_where_no_level_does():
    model = Model([{0: 1.0, 1: 0.5, 2: 0.4}] * 3, [{0: 1.0, 1: 2.0, 2: 4.0}] * 3, bound=0.1)
    found = model.search()
    assert found.best is None
    assert list(found.points) == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]


def test_the_noisiest_for_their_cost_are_lifted_and_no_more():
    noises = [{0: noise, 1: 0.0} for noise in (0.1, 5.0, 0.2, 3.0, 0.1, 0.3, 0.1, 0.1)]
    model = Model(noises, [{0: 10.0, 1: 20.0}] * 8, bound=1.0)
    found = model.search()
    assert found.best == (0, 1, 0, 1, 0, 0, 0, 0)
    assert [step.group for step in found.order[:3]] == [1, 3, 5]
    assert found.prefix == 2


def test_the_cheapest_way_is_found_where_noise_adds_up():
    """A noisy group that costs much is left alone for two quieter ones that cost little."""
    model = Model(
        [{0: 3.0, 1: 0.0}, {0: 2.0, 1: 0.0}, {0: 2.0, 1: 0.0}],
        [{0: 100.0, 1: 200.0}, {0: 10.0, 1: 20.0}, {0: 10.0, 1: 20.0}],
        bound=3.5,
    )
    assert model.search().best == (0, 1, 1)


def test_a_group_that_overflows_at_one_level_goes_to_the_next():
    """As FP16 does: all at level 1 fail by one group, all at 2 do, and only that group needs it."""
    noises = [{0: 0.5, 1: 0.01, 2: 0.0}, {0: 0.6, 1: math.nan, 2: 0.0}, {0: 0.5, 1: 0.01, 2: 0.0}]
    model = Model(noises, [{0: 8.0, 1: 16.0, 2: 32.0}] * 3, bound=0.05)
    found = model.search()
    assert (found.top, found.best) == ((2, 2, 2), (1, 2, 1))


def test_shorter_prefixes_are_looked_at_as_scores_are_not_monotone():
    """Five steps do, and so do three: the binary search alone, for which four do not, would not see it."""
    lengths = {levels: length for length, levels in enumerate(prefixes((0,) * 8, steps(8)))}
    model = Model(
        [{0: 8.0 - group, 1: 0.0} for group in range(8)],
        [{0: 1.0, 1: 2.0}] * 8,
        reaches=lambda levels: lengths.get(levels) in (3, 5, 6, 7, 8),
    )
    found = model.search()
    assert found.prefix == 3
    assert found.best == (1, 1, 1, 0, 0, 0, 0, 0)


def test_groups_go_back_down_those_that_save_most_first():
    """The target holds with any two of the three that the prefix lifted."""
    model = Model(
        [{0: 4.0, 1: 0.0}, {0: 9.0, 1: 0.0}, {0: 2.0, 1: 0.0}, {0: 1.0, 1: 0.0}],
        [{0: 10.0, 1: 20.0}, {0: 20.0, 1: 40.0}, {0: 8.0, 1: 16.0}, {0: 10.0, 1: 20.0}],
        reaches=lambda levels: sum(levels) >= 2 and levels[0] == 1 and (levels[1] == 0 or sum(levels) > 2),
    )
    assert model.search().best == (1, 0, 1, 0)


def test_next_to_nothing_is_not_worth_any_noise():
    """A tiny last layer stays lifted, though the target holds without."""
    noises = [{0: 5.0, 1: 0.0}, {0: 0.1, 1: 0.0}]
    found = Model(noises, [{0: 1e6, 1: 2e6}, {0: 10.0, 1: 20.0}], bound=1.0).search()
    assert found.best == (1, 1)


def test_a_level_above_the_hull_is_never_worth_its_price():
    ladders = [(0, 1, 2)]
    costs = {0: 8.0, 1: 16.0, 2: 32.0}
    noises = {(0, 0): 1.0, (0, 1): 0.9, (0, 2): 0.0}
    assert ordered(ladders, noises, lambda group, level: costs[level]) == (Step(0, 0, 2, 1.0, 24.0),)
    convex = {(0, 0): 1.0, (0, 1): 0.2, (0, 2): 0.0}
    assert ordered(ladders, convex, lambda group, level: costs[level]) == (
        Step(0, 0, 1, pytest.approx(0.8), 8.0),
        Step(0, 1, 2, pytest.approx(0.2), 16.0),
    )


@given(st.lists(st.lists(st.floats(0, WORST), min_size=3, max_size=3), min_size=1, max_size=5))
def test_steps_lead_from_the_lowest_to_the_highest_levels_and_their_worth_falls(noises):
    ladders = [(0, 1, 3)] * len(noises)
    by_level = {
        (group, level): each[place] for group, each in enumerate(noises) for place, level in enumerate((0, 1, 3))
    }
    order = ordered(ladders, by_level, lambda group, level: (level + 1) * (group + 1.0))
    assert [step.worth for step in order] == sorted((step.worth for step in order), reverse=True)
    choices = prefixes((0,) * len(noises), order)
    assert choices[-1] == (3,) * len(noises)
    for step, before in zip(order, choices, strict=False):
        assert before[step.group] == step.start


def steps(count):
    return [Step(group, 0, 1, 1.0, 1.0) for group in range(count)]
