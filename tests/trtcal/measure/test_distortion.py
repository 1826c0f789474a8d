"""Distortions by group of channels: what hides in one number over unlike things."""

import math

import numpy as np
import pytest

from trtcal.measure.distortion import Channels, Distortion, cut, distortion, distortions
from trtcal.measure.measures import Score, score

RANDOM = np.random.default_rng(0)


def detector(samples=8, anchors=50, classes=6):
    """Boxes in pixels beside probabilities, as YOLOv8 gives them: samples,4 + classes,anchors."""
    boxes = RANDOM.uniform(20, 600, (samples, 4, anchors))
    scores = RANDOM.random((samples, classes, anchors)) ** 4
    scores[:, 2] *= 1e-4  # a class that is not in the images
    return np.concatenate([boxes, scores], axis=1).astype(np.float32)


def groups_of(reference, values):
    return cut(distortions(reference, values)[1])


def test_boxes_in_pixels_and_scores_are_two_groups():
    exact = detector()
    rough = exact.copy()
    rough[:, 4:] = 0
    found = groups_of(exact, rough)
    assert list(found) == ["channels 0-3", "channels 4-9"]
    assert found["channels 4-9"].sqnr == 0
    assert found["channels 0-3"].sqnr == math.inf


def test_a_dead_detector_is_seen():
    exact = detector()
    rough = exact.copy()
    rough[:, 4:] = 0
    found = score({"out": rough}, reference={"out": exact})
    assert found.distortion.sqnr > 50  # which hid it
    assert (found.worst, found.sqnr) == ("out channels 4-9", 0)


@pytest.mark.parametrize("layout", [(0, 1, 2), (0, 2, 1)])
def test_channels_may_come_last(layout):
    exact = detector(anchors=700).transpose(layout)
    assert sorted(groups_of(exact, exact)) == ["channels 0-3", "channels 4-9"]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_of_images_too(axis):
    exact = np.moveaxis(detector(anchors=9 * 12).reshape(8, 10, 9, 12), 1, axis)
    assert sorted(groups_of(exact, exact)) == ["channels 0-3", "channels 4-9"]


def test_channels_of_one_kind_are_one_group():
    logits = RANDOM.normal(-3, 4, (8, 20, 40))
    logits[:, 3] *= 0.2
    probabilities = RANDOM.random((8, 20, 40)) * np.geomspace(1e-6, 1, 20)[:, None]
    for values in (logits, probabilities):
        assert groups_of(values.astype(np.float32), values.astype(np.float32)) == {}


def test_a_channel_of_zeros_goes_with_the_smallest():
    exact = detector()
    exact[:, 5] = 0
    rough = exact.copy()
    rough[:, 5] = 0.01
    found = groups_of(exact, rough)
    assert list(found) == ["channels 0-3", "channels 4-9"]
    assert 0 < found["channels 4-9"].sqnr < math.inf


def test_three_kinds_and_scattered_channels():
    exact = RANDOM.normal(size=(8, 6, 40)) * np.array([1, 900, 1, 30, 900, 1])[:, None]
    assert list(groups_of(exact, exact)) == ["channels 0, 2, 5", "channels 1, 4", "channels 3"]


def test_few_values_tell_nothing():
    exact = RANDOM.normal(size=(8, 2)) * [1, 1000]
    assert groups_of(exact, exact) == {}
    more = np.tile(exact, (8, 1))
    assert list(groups_of(more, more)) == ["channels 0", "channels 1"]


def test_they_add_up_whatever_the_batches():
    exact = detector(samples=12)
    rough = exact + RANDOM.normal(0, 0.01, exact.shape).astype(np.float32)
    whole = score({"out": rough}, reference={"out": exact})
    parts = sum(
        (score({"out": rough[at : at + 5]}, reference={"out": exact[at : at + 5]}) for at in range(0, 12, 5)), Score()
    )
    assert parts.worst == whole.worst == "out channels 4-9"
    assert parts.sqnr == pytest.approx(whole.sqnr, rel=1e-12)
    assert sum(part.signal for part in whole.groups.values()) == pytest.approx(whole.distortion.signal)


def test_sizes_that_differ_from_sample_to_sample_have_no_channels():
    one, other = (Channels(2, 100, (1.0,) * size, (0.1,) * size, (True,) * size) for size in (3, 4))
    assert (one + other).signal == ()
    assert cut([one + other]) == {}


def test_class_scores_are_not_cut():
    exact = np.tile(RANDOM.normal(size=(1, 10)) * np.geomspace(1e-3, 1, 10), (100, 1))
    found = score({"scores": exact * 1.01}, reference={"scores": exact})
    assert list(found.groups) == ["scores"]
    assert found.sqnr == pytest.approx(40)


def test_of_several_outputs_the_worst_counts():
    exact = {"boxes": RANDOM.normal(300, 50, (4, 9, 4)), "scores": RANDOM.random((4, 9, 3))}
    rough = {"boxes": exact["boxes"] * 1.001, "scores": exact["scores"] * 1.1}
    found = score(rough, reference=exact)
    assert (found.worst, found.sqnr) == ("scores", pytest.approx(20))


def test_nothing_to_compare_is_no_worst():
    assert (Score().worst, Score().sqnr) == ("", math.inf)


def test_nan_is_the_worst():
    exact = {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    found = score({"a": exact["a"] * 2, "b": exact["b"] * np.nan}, reference=exact)
    assert found.worst == "b"
    assert math.isnan(found.sqnr)


def test_infinities_that_are_the_same():
    assert distortion(np.array([[np.inf, 1.0]]), np.array([[np.inf, 1.0]])) == Distortion(1.0, 0.0)
