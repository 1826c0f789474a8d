"""Evidence adds up over images, measures the whole once, and says what of a difference may be chance."""

import gc
import weakref
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from calibrators.errors import DataError
from tests.trtcal.tasks.random_maps import maps
from tests.trtcal.tasks.random_scenes import agreeing, evidence, found, sample, scenes
from trtcal.tasks.found import ClassMap
from trtcal.tasks.measuring import detections
from trtcal.tasks.measuring.chance import FEW
from trtcal.tasks.measuring.evidence import Evidence, difference_interval, tied

MEASURES = ["boxes", "masks", "points", "pixels"]
BOX = (10.0, 10.0, 30.0, 30.0)


def made(measure, images=8, annotated=True) -> Evidence:
    samples = maps(4, images) if measure == "pixels" else scenes(4, images)
    if annotated:
        return evidence(samples, measure)
    if measure == "pixels":
        return evidence([replace(each, known=each.reference) for each in samples], measure, annotated=False)
    return agreeing(samples, measure)


@cache
def measured(measure, annotated) -> Evidence:
    """Kept, as intervals take a while."""
    return made(measure, annotated=annotated)


@cache
def turned(one: Evidence) -> Evidence:
    """The float model, as if the other were what it is compared with."""
    return replace(one, samples=tuple(replace(each, found=each.reference) for each in one.samples))


class TestAddingUp:
    @pytest.mark.parametrize("measure", MEASURES)
    @pytest.mark.parametrize(("annotated", "seed", "cut"), [(True, 0, 0), (True, 1, 3), (False, 2, 7)])
    def test_no_number_depends_on_order_or_splits(self, measure, annotated, seed, cut):
        whole = measured(measure, annotated)
        order = np.random.default_rng(seed).permutation(len(whole.samples))
        samples = [whole.samples[number] for number in order]
        parts = [replace(whole, samples=tuple(some)) for some in (samples[:cut], samples[cut:])]
        added = parts[0] + parts[1]
        assert added.samples == tuple(samples)
        assert added.result == whole.result
        assert added.drop_interval() == whole.drop_interval()
        assert added.changes(5) == whole.changes(5)
        assert difference_interval(added, turned(added)) == difference_interval(whole, turned(whole))

    def test_all_else_is_kept(self):
        one = evidence([], "masks", annotated=False, confidence=0.5, classes=("a",))
        both = one + one
        assert (both.measure, both.annotated, both.confidence, both.classes) == ("masks", False, 0.5, ("a",))


class TestKept:
    @pytest.mark.parametrize("measure", MEASURES)
    def test_each_is_measured_once(self, measure):
        one = made(measure)
        assert one.result is one.result
        assert one.drop_interval() is one.drop_interval()
        assert difference_interval(one, other := turned(one)) is difference_interval(one, other)

    def test_a_result_needs_no_resamples(self, monkeypatch):
        def interval(*_):
            raise AssertionError

        monkeypatch.setattr(detections, "drop_interval", interval)
        made("boxes").result  # noqa: B018

    def test_intervals_keep_no_evidence_alive(self):
        one, other = made("boxes", 6), made("boxes", 6)
        kept = difference_interval(one, other)
        gone = weakref.ref(other)
        del other
        gc.collect()
        assert (gone(), kept) == (None, (0, 0))


class TestFloatModelItself:
    @pytest.mark.parametrize("measure", MEASURES)
    def test_has_nothing_to_be_compared_with(self, measure):
        one = made(measure)
        itself = replace(
            one, samples=tuple(replace(each, found=each.reference, reference=None) for each in one.samples)
        )
        result = itself.result
        assert (result.reference, result.drop, result.reference_by_class) == (None, None, {})
        assert (result.lost, result.extra, result.moved) == (None, None, None)
        assert result.value == one.result.reference
        assert itself.changes(3) == []
        with pytest.raises(DataError, match="the float model itself is measured"):
            itself.drop_interval()


class TestChanges:
    def test_the_most_changed_first_then_by_name(self):
        three = found([BOX, (50, 50, 60, 60), (70, 10, 80, 20)], [0.9] * 3)
        shifted = found([(10, 10, 30, 27)], [0.9])
        seen = {"d": (three, found()), "c": (found([BOX], [0.9]), shifted), "b": (found([BOX], [0.9]), found())}
        seen |= {"a": (found([BOX], [0.9]), found()), "same": (three, three), "e": (found(), three)}
        samples = [sample(name, ours, found([BOX]), theirs) for name, (theirs, ours) in seen.items()]
        changes = evidence(samples).changes(10)
        assert changes == [("d", 3, 0, 0), ("e", 0, 3, 0), ("a", 1, 0, 0), ("b", 1, 0, 0), ("c", 0, 0, 1)]
        assert evidence(samples).changes(2) == changes[:2]

    def test_they_are_what_the_result_counts(self):
        one = made("boxes")
        changes = one.changes(100)
        result = one.result
        assert [sum(column) for column in list(zip(*changes, strict=True))[1:]] == [
            result.lost,
            result.extra,
            result.moved,
        ]

    def test_of_pixels_the_share(self):
        theirs = np.zeros((4, 5), np.int64)
        theirs[0, :2] = -1  # 18 pixels are left to compare
        ours = theirs.copy()
        ours[3, :3] = 1
        samples = [
            sample(name, ClassMap(seen), ClassMap(theirs), ClassMap(theirs), (4, 5))
            for name, seen in (("b", ours), ("same", theirs), ("a", ours))
        ]
        share = pytest.approx(100 * 3 / 18)
        assert evidence(samples, "pixels").changes(5) == [("a", share), ("b", share)]


class TestIntervals:
    @pytest.mark.parametrize("measure", ["boxes", "pixels"])
    def test_a_drop_lies_within_its_interval(self, measure):
        one = made(measure, 40)
        low, high = one.drop_interval()
        assert low < one.result.drop < high

    @pytest.mark.parametrize("measure", ["boxes", "pixels"])
    def test_it_is_as_wide_as_resamples_measured_one_by_one(self, measure):
        one = made(measure, 30)
        random = np.random.default_rng(1)
        drops = []
        for _ in range(200):
            taken = [one.samples[number] for number in random.integers(0, 30, 30)]
            again = tuple(replace(each, name=f"{number:02}") for number, each in enumerate(taken))
            resample = replace(one, samples=again)
            drops.append(resample.result.drop)
        low, high = one.drop_interval()
        assert high - low == pytest.approx(2 * 2.045 * np.std(drops), rel=0.2)  # 200 tell a deviation to 5 %

    @pytest.mark.parametrize("measure", ["boxes", "pixels"])
    def test_without_annotations_no_drop_is_below_0(self, measure):
        one = made(measure, 8, annotated=False)
        low, high = one.drop_interval()
        assert 0 <= low < one.result.drop < high <= 100
        itself = turned(one)
        assert itself.drop_interval() == (0, 0)
        assert tied(one, one)

    @pytest.mark.parametrize("measure", MEASURES)
    def test_the_other_way_round_it_is_turned(self, measure):
        one = made(measure, 20)
        low, high = difference_interval(turned(one), one)
        assert difference_interval(one, turned(one)) == pytest.approx((-high, -low))
        assert one.drop_interval() == pytest.approx((low, high))

    @pytest.mark.parametrize("measure", MEASURES)
    def test_of_few_images_it_is_all_that_is_possible(self, measure):
        one, sure = made(measure, FEW - 1), made(measure, FEW - 1, annotated=False)
        assert one.drop_interval() == (-100, 100) == difference_interval(one, turned(one))
        assert sure.drop_interval() == (0, 100)
        assert tied(one, turned(one))

    def test_a_model_that_finds_nothing_is_worse_beyond_chance(self):
        one = made("boxes", 30)
        blind = replace(one, samples=tuple(replace(each, found=found()) for each in one.samples))
        assert difference_interval(one, blind)[0] > 0
        assert not tied(one, blind)
        assert not tied(blind, one)

    def test_of_other_images_there_is_none(self):
        one = made("boxes", 6)
        with pytest.raises(DataError, match="in the same images"):
            difference_interval(one, replace(one, samples=one.samples[1:]))
