"""Learned rounding of one matrix product."""

from itertools import product as combinations

import numpy as np
import pytest

from engines.recovery.rounding import Product, learned


def problem(*, groups=1, outputs=2, inputs=8, places=400, bits=3, seed=0, bounds=(-np.inf, np.inf), zero=0.0):
    """Inputs that go together, so that errors of rounding add up or cancel."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((groups, outputs, inputs)).astype(np.float32)
    mixing = random.standard_normal((inputs, inputs)) + 2
    x = np.maximum(random.standard_normal((places, groups, inputs)) @ mixing, 0).astype(np.float32)
    highest = 2 ** (bits - 1) - 1
    scale = np.full_like(weight, np.abs(weight).max() / highest)
    bias = random.standard_normal((groups, outputs)).astype(np.float32)
    y = np.einsum("goi,pgi->pgo", weight, x) + bias
    ends = (-highest + int(zero), highest + int(zero))
    return Product(weight, scale, np.full_like(weight, zero), ends, x, y.astype(np.float32), bias, bounds)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)])
@pytest.mark.parametrize("zero", [0.0, 3.0])
def test_it_is_among_the_best_of_all_roundings(bounds, zero):
    """Of 256 in the first twentieth, over several layers, and none worse than the nearest."""
    places, ratios = [], []
    for seed in range(6):
        given = problem(outputs=1, bounds=bounds, zero=zero, seed=seed)
        base = np.floor(given.weight / given.scale) + given.zero
        every = (
            np.clip(base + np.array(up, np.float32).reshape(1, 1, -1), *given.ends)
            for up in combinations((0, 1), repeat=given.weight.size)
        )
        errors = [given.error(given.floats(levels)) for levels in every]
        found = given.error(given.floats(learned(given)))
        places.append(np.mean(np.array(errors) < found * (1 - 1e-5)))
        ratios.append(found / given.error(given.floats(given.nearest())))
    assert np.mean(places) < 0.05
    assert min(ratios) < 0.5
    assert max(ratios) < 1 + 1e-5


def test_many_inputs_that_go_together():
    given = problem(outputs=8, inputs=48, places=2000)
    assert given.error(given.floats(learned(given))) < 0.5 * given.error(given.floats(given.nearest()))


@pytest.mark.parametrize("groups", [1, 3])
def test_each_weight_goes_to_one_of_its_neighbours(groups):
    given = problem(groups=groups, outputs=4, inputs=12)
    levels = learned(given)
    assert levels.dtype == np.int32
    below = np.clip(np.floor(given.weight / given.scale), *given.ends)
    assert set(np.unique(levels - below)) <= {0, 1}
    assert given.error(given.floats(levels)) < given.error(given.floats(given.nearest()))


def test_the_same_seed_gives_the_same():
    given = problem(outputs=4, inputs=12)
    np.testing.assert_array_equal(learned(given, seed=1), learned(given, seed=1))


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_layers_scale_does_not_matter(factor):
    given = problem(outputs=4, inputs=12)
    scaled = Product(
        given.weight, given.scale, given.zero, given.ends, given.x * np.float32(factor),
        given.y * np.float32(factor), given.bias * np.float32(factor),
    )  # fmt: skip
    np.testing.assert_array_equal(learned(scaled), learned(given))


def test_errors_by_hand():
    given = problem(outputs=3, inputs=5)
    other = given.floats(given.nearest())
    difference = np.einsum("goi,pgi->pgo", given.weight - other, given.x.astype(np.float64))
    assert given.error(other) == pytest.approx(np.square(difference).sum(axis=(1, 2)).mean(), rel=1e-4)
    assert given.energy() == pytest.approx(np.square(given.y, dtype=np.float64).sum(axis=(1, 2)).mean(), rel=1e-6)
    np.testing.assert_allclose(given.remainder(other), difference.mean(axis=0), rtol=1e-3, atol=1e-4)
    settled = given.settled(other)
    np.testing.assert_allclose(settled.remainder(other), 0, atol=1e-4)
    assert settled.error(other) < given.error(other)
    signal = np.einsum("goi,pgi->pgo", given.weight, given.x.astype(np.float64)).var(axis=0).sum()
    assert given.noise(other) == pytest.approx(10 * np.log10(signal / difference.var(axis=0).sum()), rel=1e-3)
    assert given.noise(given.weight) == np.inf


def test_clipped_errors_do_not_count():
    given = problem(outputs=3, inputs=5, bounds=(0.0, 1.0))
    other = given.floats(given.nearest())
    result = np.clip(np.einsum("goi,pgi->pgo", other, given.x) + given.bias, 0, 1)
    wanted = np.square(result - np.clip(given.y, 0, 1)).sum(axis=(1, 2)).mean()
    assert given.error(other) == pytest.approx(wanted, rel=1e-3)
