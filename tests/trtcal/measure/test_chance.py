"""What may be chance: intervals of differences, ties, and the order that they leave to SQNR."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.measure.chance import better, beyond_chance, drop_interval, in_tiers, tied
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share


def scored(losses=0, gains=0, sqnr=30.0, total=500):
    """A model beside a float one that gets 90 % of the images right."""
    noise = 10 ** (-sqnr / 10) if sqnr is not None else math.nan
    return Score(
        samples=total,
        classes=10,
        top1=Share(total * 9 // 10 - losses + gains, total),
        agreement=Share(total - losses - gains, total),
        lost=losses,
        gained=gains,
        distortions={"y": Distortion(1.0, noise)},
    )


class TestIntervals:
    @given(st.integers(0, 60), st.integers(0, 60), st.integers(120, 5000))
    def test_the_interval_of_a_drop(self, losses, gains, total):
        low, high = drop_interval(scored(losses, gains, total=total))
        assert -100 <= low < high <= 100
        assert (
            low <= 100 * (losses - gains) / total + 1e-9 if losses >= gains else high >= 100 * (losses - gains) / total
        )
        other_low, other_high = drop_interval(scored(gains, losses, total=total))
        assert (other_low, other_high) == pytest.approx((-high, -low))

    def test_the_interval_holds_the_drop_as_often_as_it_says(self):
        random = np.random.default_rng(0)
        chances, total, held = (0.02, 0.01), 500, 0
        draws = random.multinomial(total, [*chances, 1 - sum(chances)], size=4000)
        for losses, gains, _ in draws.tolist():
            low, high = drop_interval(scored(losses, gains, total=total))
            held += low <= 100 * (chances[0] - chances[1]) <= high
        assert 0.93 < held / len(draws) < 0.97

    @pytest.mark.parametrize(
        ("losses", "gains", "sure"), [(0, 0, 0), (1, 0, 0), (3, 0, 0), (6, 0, 1), (40, 35, 0), (60, 20, 1)]
    )
    def test_what_is_beyond_chance(self, losses, gains, sure):
        assert beyond_chance(scored(losses, gains)) == bool(sure)
        assert beyond_chance(scored(gains, losses)) == bool(sure)

    def test_two_models_that_are_told_apart_hardly_ever_are_the_same(self):
        """Models that lose images of the same share, each others: at most 5 % are said to differ."""
        random, told, runs = np.random.default_rng(1), 0, 2000
        for losses in random.binomial(500, 0.02, size=(runs, 2)).tolist():
            told += not tied(*(scored(each) for each in losses), "top-1")
        assert told / runs < 0.05

    def test_a_real_difference_is_found(self):
        assert not tied(scored(0), scored(8), "top-1")
        assert not tied(scored(2), scored(15), "top-1")
        assert not tied(scored(2), scored(15), "agreement")
        assert tied(scored(2), scored(4), "top-1")
        assert tied(scored(20, 18), scored(30, 20), "top-1")  # few images lost, but many changed

    def test_what_agrees_less_than_by_chance(self):
        assert [beyond_chance(scored(losses), "agreement") for losses in (0, 1, 4, 9)] == [False, False, False, True]
        assert not beyond_chance(scored(100), "SQNR")


class TestOrder:
    def test_ties_go_to_the_higher_sqnr(self):
        scores = {"noisy": scored(0, 1, sqnr=20), "fine": scored(1, 0, sqnr=35), "poor": scored(40, 0, sqnr=50)}
        for criterion in ("top-1", "agreement"):
            assert in_tiers(scores, criterion) == [["fine", "noisy"], ["poor"]]
        assert in_tiers(scores, "SQNR") == [["poor"], ["fine"], ["noisy"]]
        assert better(scores["fine"], scores["noisy"], "top-1")
        assert not better(scores["poor"], scores["noisy"], "top-1")
        assert better(scores["poor"], scores["noisy"], "SQNR")

    def test_what_is_beaten_is_not_above_what_beats_it(self):
        """The third is tied with the first, as it changes many images; the second, between them, is not."""
        scores = {"first": scored(0, 0, sqnr=20), "second": scored(10, 0, sqnr=21), "third": scored(40, 25, sqnr=30)}
        assert tied(scores["first"], scores["third"], "top-1")
        assert not tied(scores["first"], scores["second"], "top-1")
        assert in_tiers(scores, "top-1") == [["first"], ["third", "second"]]

    def test_broken_outputs_come_last_among_equals(self):
        scores = {"nan": scored(sqnr=None), "low": scored(sqnr=1), "exact": scored(sqnr=math.inf)}
        for criterion in ("top-1", "agreement", "SQNR"):
            assert [name for tier in in_tiers(scores, criterion) for name in tier] == ["exact", "low", "nan"]
        assert not better(scores["nan"], scores["nan"], "SQNR")

    def test_equals_keep_their_order(self):
        assert in_tiers({"b": scored(), "a": scored()}, "SQNR") == [["b", "a"]]
        assert in_tiers({}, "top-1") == []

    @pytest.mark.parametrize("criterion", ["top-1", "agreement", "SQNR"])
    @given(losses=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 60)), max_size=8))
    def test_no_tier_is_better_than_one_above(self, criterion, losses):
        scores = {place: scored(lost, gained, sqnr) for place, (lost, gained, sqnr) in enumerate(losses)}
        tiers = in_tiers(scores, criterion)
        assert sorted(name for tier in tiers for name in tier) == list(scores)
        for upper, lower in pairwise(tiers):
            if criterion == "SQNR":
                worth = {name: each.distortion.sqnr for name, each in scores.items()}
            else:
                shares = {name: each.top1 if criterion == "top-1" else each.agreement for name, each in scores.items()}
                worth = {name: share.hits for name, share in shares.items()}
            assert min(worth[name] for name in upper) >= max(worth[name] for name in lower)
