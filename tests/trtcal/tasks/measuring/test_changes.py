"""What is lost, extra and moved: pairs of one class, one to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trtcal.tasks.random_scenes import found, scenes
from trtcal.tasks.measuring.changes import changed

BOX = (10, 10, 30, 30)


def counts(reference, ours, confidence=0.25):
    return changed("a", reference, ours, confidence)[1:]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (found([BOX], [0.9]), (0, 0, 0)),
        (found([BOX], [0.25]), (0, 0, 0)),
        (found([BOX], [0.24]), (1, 0, 0)),
        (found(), (1, 0, 0)),
        (found([BOX], [0.9], [1]), (1, 1, 0)),
        (found([BOX, BOX], [0.9, 0.9]), (0, 1, 0)),
        (found([(10, 10, 30, 28)], [0.9]), (0, 0, 0)),  # 0.9
        (found([(10, 10, 30, 27)], [0.9]), (0, 0, 1)),
        (found([(10, 10, 30, 20)], [0.9]), (0, 0, 1)),  # 0.5
        (found([(10, 10, 30, 19)], [0.9]), (1, 1, 0)),
        (found([(50, 50, 60, 60)], [0.9]), (1, 1, 0)),
    ],
)
def test_of_one_detection(ours, expected):
    assert counts(found([BOX], [0.8]), ours) == expected


def test_neither_has_any():
    assert counts(found(), found()) == (0, 0, 0)


def test_a_detection_is_paired_once_so_that_others_are_too():
    """The first of ours overlaps both of theirs, most the one that the second of ours alone could have."""
    theirs = found([(0, 0, 100, 10), (20, 0, 120, 10)], [0.9, 0.9])
    ours = found([(8, 0, 108, 10), (-20, 0, 80, 10)], [0.9, 0.9])
    assert counts(theirs, ours) == (0, 0, 2)


@given(st.integers(0, 1000))
def test_the_order_of_detections_does_not_matter(seed):
    made = scenes(seed, images=1, classes=2)[0]
    random = np.random.default_rng(seed)
    order = random.permutation(len(made.found))
    shuffled = found(made.found.boxes[order], made.found.scores[order], made.found.classes[order])
    assert counts(made.reference, shuffled) == counts(made.reference, made.found)


@given(st.integers(0, 1000))
def test_what_one_has_lost_the_other_has_extra(seed):
    made = scenes(seed, images=1, classes=2)[0]
    lost, extra, moved = counts(made.reference, made.found)
    assert counts(made.found, made.reference) == (extra, lost, moved)
    assert counts(made.found, made.found) == (0, 0, 0)
