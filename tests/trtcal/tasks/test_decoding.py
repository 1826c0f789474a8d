"""What adapters share, against plain loops and closed forms."""

import math

import numpy as np
import pytest

from trtcal.tasks.decoding import candidates, cells, corners_of_centres, grid, sigmoid, softmax, top


def test_corners_of_a_centre_and_a_size():
    assert corners_of_centres([[10, 20, 4, 6]]).tolist() == [[8, 17, 12, 23]]
    assert corners_of_centres(np.zeros((2, 0, 4), np.float32)).shape == (2, 0, 4)


def test_sigmoid_of_any_size_of_number():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert sigmoid([0.0, 1000.0, -1000.0]).tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert sigmoid(np.float32([1.5, -1.5])) == pytest.approx([1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(1.5))])
    assert np.isnan(sigmoid([math.nan])).all()


def test_softmax_along_an_axis():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert softmax([[1000.0, 1000.0], [0.0, math.log(3)]]).tolist() == [
            pytest.approx([0.5, 0.5]),
            pytest.approx([0.25, 0.75]),
        ]
        assert np.isnan(softmax([math.inf, 0.0])).all()
    assert softmax(np.zeros((2, 4, 3)), axis=1).sum(axis=1) == pytest.approx(np.ones((2, 3)))


def test_a_grid_goes_row_by_row_and_has_a_cell_for_what_is_left_over():
    assert grid(16, 24, 8).tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert len(grid(17, 24, 8)) == 9
    assert cells(640, 640, (8, 16, 32)) == 8400
    assert cells(17, 24, (8,)) == 9


def test_a_box_is_found_with_each_class_whose_score_is_above_the_least():
    boxes = np.arange(12.0).reshape(3, 4)
    scores = np.array([[0.5, 0.001], [0.0, 0.9], [0.7, 0.5]])
    found = top(boxes, scores)
    assert found.scores.tolist() == [0.9, 0.7, 0.5, 0.5]
    assert found.classes.tolist() == [1, 0, 0, 1]
    assert found.boxes.tolist() == boxes[[1, 2, 0, 2]].tolist()
    assert found.boxes.dtype == found.scores.dtype == np.float64


def test_what_is_not_finite_is_not_found():
    boxes = np.array([[0, 0, 1, math.nan], [0, 0, 1, math.inf], [0, 0, 1, 1], [0, 0, 2, 2]])
    assert len(top(boxes, np.full((4, 3), math.nan))) == 0
    assert top(boxes, np.array([[0.5], [0.5], [math.inf], [0.4]])).scores.tolist() == [0.4]
    assert len(top(np.full((4, 4), math.nan), np.ones((4, 2)))) == 0
    assert len(top(np.zeros((0, 4)), np.zeros((0, 2)))) == 0


def test_the_most_are_the_first_of_all_in_order_with_equal_scores():
    generator = np.random.default_rng(0)
    boxes = generator.random((500, 4))
    scores = np.round(generator.random((500, 3)), 1).astype(np.float32)
    numbers, classes = candidates(boxes, scores)
    plain = sorted(
        ((-scores[i, c], i, c) for i in range(500) for c in range(3) if scores[i, c] > 0.001),
    )
    assert list(zip(numbers, classes, strict=True)) == [(i, c) for _, i, c in plain]
    few = candidates(boxes, scores, most=100)
    assert np.array_equal(few, (numbers[:100], classes[:100]))
