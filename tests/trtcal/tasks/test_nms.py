"""Non-maximum suppression against two plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcal.tasks.found import Found
from trtcal.tasks.nms import MOST, suppressed, without_overlaps


def drawn(seed: int, count: int, *, classes: int, side: float = 100.0):
    generator = np.random.default_rng(seed)
    corners = generator.random((count, 2)) * side
    boxes = np.hstack([corners, corners + generator.random((count, 2)) * side / 2])
    return boxes, np.round(generator.random(count), 2), generator.integers(0, classes, count)


def plain(boxes, scores, classes, overlap):
    """Every box against every one that stays."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(classes[i] != classes[k] or plain_iou(boxes[i], boxes[k]) <= overlap for k in kept):
            kept.append(i)
    return kept


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("count", "classes"), [(0, 1), (1, 1), (127, 1), (400, 1), (700, 5)])
def test_the_same_as_two_loops(count, classes, overlap):
    boxes, scores, numbers = drawn(count, count, classes=classes)
    kept = suppressed(boxes, scores, numbers, overlap, most=count)
    assert kept.tolist() == plain(boxes, scores, numbers, overlap)
    assert kept.dtype == np.int64


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 4, st.sampled_from([0.25, 0.5]), st.integers(0, 1)), max_size=12),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_small_whole_boxes_with_equal_scores(rows, overlap):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _, _ in rows], float).reshape(-1, 4)
    scores, classes = [row[4] for row in rows], [row[5] for row in rows]
    assert suppressed(boxes, scores, np.array(classes, int), overlap).tolist() == plain(boxes, scores, classes, overlap)


def test_no_more_than_the_most_stay_and_they_are_the_first():
    boxes, scores, classes = drawn(0, 3000, classes=40, side=1000)
    everything = suppressed(boxes, scores, classes, 0.7, most=3000)
    assert len(everything) > MOST
    assert np.array_equal(suppressed(boxes, scores, classes, 0.7), everything[:MOST])


def test_what_is_not_a_number_does_not_stay_and_hides_nothing():
    boxes = np.array(
        [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, math.inf], [0, 0, math.nan, 9], [-1e300, -1e300, 1e300, 1e300]]
    )
    scores = np.array([math.nan, 0.5, 0.9, 0.9, 0.6])
    assert suppressed(boxes, scores, np.zeros(5, int), 0.5).tolist() == [4, 1]
    assert len(suppressed(np.full((9, 4), math.nan), np.ones(9), np.zeros(9, int), 0.5)) == 0


def test_everything_that_belongs_to_an_object_stays_with_it():
    found = Found(
        boxes=np.array([[0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 60, 60]], float),
        scores=np.array([0.5, 0.9, 0.7]),
        classes=np.array([1, 1, 1]),
        masks=({"counts": "a"}, {"counts": "b"}, {"counts": "c"}),
        points=np.arange(18, dtype=float).reshape(3, 2, 3),
    )
    left = without_overlaps(found, 0.5)
    assert left.scores.tolist() == [0.9, 0.7]
    assert left.masks == ({"counts": "b"}, {"counts": "c"})
    assert left.points.tolist() == found.points[[1, 2]].tolist()
    assert without_overlaps(found, None).scores.tolist() == [0.9, 0.7, 0.5]
    assert without_overlaps(found, None, most=1).boxes.tolist() == [[1, 0, 10, 10]]
