"""Intervals from resamples, and how many of these."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.tasks.measuring.chance import FEW, RESAMPLES, interval, resamples

STUDENT = {5: 2.7764, 10: 2.2622, 20: 2.0930, 100: 1.9842, 5000: 1.9604}  # of n - 1, from tables


@pytest.mark.parametrize(("images", "quantile"), STUDENT.items())
def test_the_reach_is_students(images, quantile):
    low, high = interval(0.1, 0.01, images)
    reach = quantile * (images / (images - 1)) ** 0.5
    assert (low, high) == (pytest.approx(10 - reach, abs=0.02), pytest.approx(10 + reach, abs=0.02))


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(1, 10_000), st.sampled_from([-100.0, 0.0]))
def test_it_stays_within_what_is_possible(difference, error, images, least):
    low, high = interval(max(difference, least / 100), error, images, least)
    assert least <= low <= high <= 100
    if images < FEW:
        assert (low, high) == (least, 100)


@pytest.mark.parametrize(
    ("images", "boxes", "times"), [(5000, 100, 200), (500, 100, 200), (500, 10, 1000), (5, 0, 1000), (9, 300, 100)]
)
def test_resamples_by_the_detections_of_an_image(images, boxes, times):
    assert resamples(images, 2 * images * boxes) == times
    assert min(RESAMPLES) <= times <= max(RESAMPLES)
