"""Samples counted by class: by hand, and by any split of the samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trtcal.measure.class_counts import ClassCounts, added, count_by_class
from trtcal.measure.measures import score

LABELS = np.array([0, 0, 0, 2, 2])
RIGHT = np.array([True, False, True, False, False])
BEFORE = np.array([True, True, False, True, False])


def test_lost_and_gained_count_for_the_label_and_agreement_for_the_class_of_the_reference():
    reference, agreeing = np.array([0, 0, 1, 2, -1]), np.array([True, False, False, True, False])
    assert count_by_class(LABELS, RIGHT, BEFORE, reference, agreeing) == {
        0: ClassCounts(samples=3, right=2, lost=1, gained=1, expected=2, agreeing=1),
        1: ClassCounts(expected=1),
        2: ClassCounts(samples=2, right=0, lost=1, expected=1, agreeing=1),
    }


def test_without_a_reference_nothing_is_lost():
    assert count_by_class(LABELS, RIGHT, None, None, None) == {0: ClassCounts(3, 2), 2: ClassCounts(2, 0)}


def test_without_labels_there_is_agreement():
    found = count_by_class(None, None, None, np.array([1, 1]), np.array([True, False]))
    assert found == {1: ClassCounts(expected=2, agreeing=1)}


def test_counts_add_up_class_by_class():
    one, other = {0: ClassCounts(1, 1), 1: ClassCounts(2)}, {1: ClassCounts(1, 1), 7: ClassCounts(expected=1)}
    assert added(one, other) == {0: ClassCounts(1, 1), 1: ClassCounts(3, 1), 7: ClassCounts(expected=1)}
    assert one == {0: ClassCounts(1, 1), 1: ClassCounts(2)}


@given(st.integers(0, 2**32 - 1), st.integers(1, 29))
def test_they_sum_up_to_the_score_whatever_the_batches(seed, cut):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-3, 4, (30, 4)).astype(np.float64)
    reference[3, 1] = np.nan
    values, labels = reference + rng.integers(-1, 2, (30, 4)), rng.integers(0, 4, 30)
    parts = [
        score({"y": values[part]}, labels=labels[part], reference={"y": reference[part]}, by_class=True)
        for part in (slice(cut), slice(cut, None))
    ]
    found = parts[0] + parts[1]
    whole = score({"y": values}, labels=labels, reference={"y": reference}, by_class=True)
    assert found.by_class == whole.by_class
    counts = sum(found.by_class.values(), ClassCounts())
    assert (counts.samples, counts.right, counts.lost, counts.gained) == (30, found.top1.hits, found.lost, found.gained)
    assert (counts.expected, counts.agreeing) == (29, found.agreement.hits)


def test_scores_hold_none_unless_they_are_asked_for():
    assert score({"y": np.eye(3)}, labels=np.arange(3), reference={"y": np.eye(3)}).by_class == {}
