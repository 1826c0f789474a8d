"""Regions of binary maps: which pixels touch, the smallest rectangle, the mean within."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trtcal.tasks.decoding.regions import mean_within, outlines, smallest_rectangle


def filled(binary):
    """Pixels of each region by a flood."""
    left, found = {(x, y) for y, x in zip(*np.nonzero(binary), strict=True)}, []
    while left:
        open_, region = [left.pop()], set()
        while open_:
            x, y = open_.pop()
            region.add((x, y))
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            open_ += near
        found.append(region)
    return found


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_regions_are_those_of_a_flood(binary):
    regions = filled(binary)
    every = outlines(binary, 100)
    assert len(every) == len(regions)
    for points in every:
        places = {(int(x), int(y)) for x, y in points}
        (region,) = [region for region in regions if places <= region]
        for y in {y for _, y in region}:
            row = [x for x, at in region if at == y]
            assert {(min(row), y), (max(row), y)} <= places


def test_the_largest_regions_come_first():
    binary = np.zeros((9, 30), bool)
    binary[1, 1:3], binary[3:6, 5:9], binary[8, 10:15] = True, True, True
    assert [len(points) for points in outlines(binary, 2)] == [6, 2]
    assert outlines(np.zeros((4, 4), bool), 5) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_no_direction_gives_a_smaller_rectangle(points):
    rectangle = smallest_rectangle(points)
    places = np.array(points, float)
    away = np.abs((places - rectangle.centre) @ np.stack([rectangle.along, rectangle.across], axis=1))
    assert (away <= np.array(rectangle.sides) / 2 + 1e-9).all()
    for angle in np.linspace(0, math.pi / 2, 90):
        turned = places @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        assert rectangle.sides[0] * rectangle.sides[1] <= np.ptp(turned, axis=0).prod() + 1e-9


def test_a_rectangle_grows_on_all_sides():
    rectangle = smallest_rectangle([(0, 0), (6, 8), (-4, 3), (2, 11)]).grown(1)  # sides of 10 and 5, slanted
    assert sorted(rectangle.sides) == pytest.approx([7, 12])
    corners = rectangle.corners
    assert corners.mean(axis=0) == pytest.approx([1, 5.5])
    assert sorted(np.hypot(*np.diff(corners, axis=0).T)) in (pytest.approx([7, 7, 12]), pytest.approx([7, 12, 12]))


def test_the_mean_is_of_the_pixels_within_and_on_the_edge():
    plane = np.arange(80.0).reshape(8, 10)
    square = np.array([[2.9, 1.2], [5.3, 1.2], [5.3, 4.8], [2.9, 4.8]])
    assert mean_within(plane, square) == plane[1:5, 2:6].mean()
    assert mean_within(plane, square[::-1]) == plane[1:5, 2:6].mean()
    diamond = np.array([[4.0, 1.0], [6.0, 3.0], [4.0, 5.0], [2.0, 3.0]])
    inside = [plane[y, x] for y in range(8) for x in range(10) if abs(x - 4) + abs(y - 3) <= 2]
    assert mean_within(plane, diamond) == pytest.approx(np.mean(inside))
    assert mean_within(plane, square - np.array([20, 0])) == 0
    assert mean_within(plane, square + np.array([5, 0])) == plane[1:5, 7:].mean()
