"""Levels in closed form: beside all there are, a plain loop, and group by group."""

from itertools import product

import numpy as np
import pytest

from engines.recovery.levels import Curvature, Levels, descended, errors_of, fed_back, settled


def case(groups=1, rows=3, inputs=5, *, bits=3, zero=0.0, seed=0):
    """A covariance of values that hang together, weights, and their levels by row."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((groups, inputs, 4 * inputs)) + 2 * random.standard_normal((groups, 1, 4 * inputs))
    covariance = x @ x.swapaxes(1, 2) / x.shape[2]
    weight = random.standard_normal((groups, rows, inputs)).astype(np.float32)
    largest = 2 ** (bits - 1) - 1
    scale = np.broadcast_to(np.abs(weight).max(axis=2, keepdims=True) / largest, weight.shape).astype(np.float32)
    levels = Levels(scale, np.full(weight.shape, zero, np.float32), (-largest - 1, largest))
    return covariance, weight, levels


def test_never_worse_than_the_nearest_and_often_the_best_of_all():
    best = 0
    for seed in range(60):
        covariance, weight, levels = case(rows=1, inputs=4, bits=2, seed=seed)
        curvature = Curvature.of(covariance)
        found = settled(curvature, levels, weight)
        choices = [np.arange(-2, 2) * levels.scale[0, 0, 0]] * 4
        every = np.array(list(product(*choices)), np.float32)[None]
        least = errors_of(weight - every, curvature.h).min()
        got = errors_of(weight - found, curvature.h)[0, 0]
        assert got <= errors_of(weight - levels.nearest(weight), curvature.h)[0, 0] * (1 + 1e-5)
        best += got <= least * (1 + 1e-5)
    assert best > 40


@pytest.mark.parametrize(("inputs", "zero"), [(5, 0.0), (48, 0.0), (131, 1.0)])
def test_error_feedback_is_gptq_written_as_a_loop(inputs, zero):
    covariance, weight, levels = case(inputs=inputs, zero=zero)
    curvature = Curvature.of(covariance)
    inverse = np.linalg.inv(covariance[0] + 0.01 * np.trace(covariance[0]) / inputs * np.eye(inputs))
    wanted, expected = weight[0].astype(np.float64), np.empty_like(weight[0])
    for k in range(inputs):
        for row in range(len(wanted)):
            scale = float(levels.scale[0, row, k])
            expected[row, k] = (np.clip(np.rint(wanted[row, k] / scale) + zero, *levels.ends) - zero) * scale
            wanted[row] -= (wanted[row, k] - expected[row, k]) / inverse[k, k] * inverse[k]
        inverse -= np.outer(inverse[k], inverse[k]) / inverse[k, k]
        inverse[k, k] = 1
    np.testing.assert_allclose(fed_back(curvature, levels, weight)[0], expected, rtol=1e-5, atol=1e-6)


def test_nothing_moves_any_more():
    """Behind coordinate descent no single weight has a better level."""
    covariance, weight, levels = case(inputs=60, rows=2)
    curvature = Curvature.of(covariance)
    found = descended(curvature, levels, weight, levels.nearest(weight), sweeps=100)
    np.testing.assert_allclose(levels.nearest(found), found, rtol=1e-6)
    least = errors_of(weight - found, curvature.h)
    assert (least < errors_of(weight - levels.nearest(weight), curvature.h)).all()
    for column, step in product(range(60), (-1, 1)):
        moved = found.copy()
        moved[:, :, column] += step * levels.scale[:, :, column]
        moved = levels.nearest(moved)
        assert (errors_of(weight - moved, curvature.h) >= least * (1 - 1e-4)).all()


def test_groups_are_layers_of_their_own():
    covariance, weight, levels = case(groups=4, inputs=9)
    curvature = Curvature.of(covariance)
    together = settled(curvature, levels, weight)
    for group in range(4):
        part = slice(group, group + 1)
        own = Curvature.of(covariance[part])
        levels_of = Levels(levels.scale[part], levels.zero[part], levels.ends)
        alone = settled(own, levels_of, weight[part])
        np.testing.assert_array_equal(together[part], alone)


def test_damping_keeps_what_never_varies():
    covariance, weight, levels = case(inputs=6)
    covariance[:, 2] = covariance[:, :, 2] = 0
    nothing = np.zeros_like(covariance)
    for each in (covariance, nothing):
        curvature = Curvature.of(each)
        found = fed_back(curvature, levels, weight)
        np.testing.assert_array_equal(found[:, :, 2], levels.nearest(weight)[:, :, 2])
    np.testing.assert_array_equal(found, levels.nearest(weight))
    mean = np.trace(covariance[0]) / 6
    np.testing.assert_allclose(np.diagonal(Curvature.of(covariance, 0.5).h[0] - covariance[0]), 0.5 * mean, rtol=1e-5)
