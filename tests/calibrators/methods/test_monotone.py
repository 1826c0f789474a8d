"""What must not fall as something else grows."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.grid import Grid
from calibrators.methods.loss import expected_error
from calibrators.ranges import METHODS, range_of
from calibrators.statistics.tensor import TensorStatistics

GRIDS = [Grid(), Grid(symmetric=False)]

values = arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("method", ["minmax", "mean", "percentile", "percentile:90"])
@given(values, st.floats(0, 1000, width=32))
@settings(max_examples=50)
def test_a_larger_value_shrinks_no_range(method, grid, sample, more) -> None:
    """A percentile by less than a bin, whose values lie elsewhere in it when the bins merge."""
    largest = np.abs(sample).max() + np.float32(more)
    before = TensorStatistics.of(sample)
    after = TensorStatistics.of(np.append(sample, largest))
    one_bin = after.positive.width if method.startswith("percentile") else 0.0
    assert range_of(after, method, grid).maximum >= range_of(before, method, grid).maximum - one_bin


@pytest.mark.parametrize("grid", GRIDS)
@given(values, st.floats(50, 100), st.floats(50, 100))
@settings(max_examples=100)
def test_a_larger_percentage_shrinks_no_range(grid, sample, one, other) -> None:
    statistics = TensorStatistics.of(sample)
    less, more = (range_of(statistics, f"percentile:{each!r}", grid) for each in sorted((one, other)))
    assert more.minimum <= less.minimum
    assert more.maximum >= less.maximum


@pytest.mark.parametrize("kind", ["gauss", "relu", "laplace", "skewed", "uniform"])
@pytest.mark.parametrize("method", ["minmax", "mse", "lsq-scale", "sqnr", "best"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_more_bits_lose_less(kind: str, method: str, symmetric: bool) -> None:
    """Of values that lie densely: those of few places may meet the levels of some width by chance."""
    rng = np.random.default_rng(1)
    gauss = rng.standard_normal(30_000)
    tensor = {
        "gauss": gauss,
        "relu": np.maximum(gauss, 0),
        "laplace": rng.laplace(0, 1, 30_000),
        "skewed": rng.gamma(2, 1, 30_000) - 0.7,
        "uniform": rng.uniform(-1, 2, 30_000),
    }[kind]
    statistics = TensorStatistics.of(tensor)
    errors = []
    for bits in (4, 5, 6, 7, 8, 10, 12, 16):
        grid = Grid(bits=bits, symmetric=symmetric)
        errors.append(expected_error(statistics, range_of(statistics, method, grid), grid))
    assert all(more < less for less, more in pairwise(errors))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "emd-moments"])
@pytest.mark.parametrize("grid", GRIDS)
def test_larger_values_make_a_range_as_much_larger(method: str, grid: Grid) -> None:
    """Nearly, for factors that are no powers of two: values move within their bins.

    The two moments are kept by many ranges with two ends, of which any may be the best.
    """
    rng = np.random.default_rng(2)
    tensor = rng.laplace(0, 1, 30_000).astype(np.float32)
    plain, found = (
        range_of(TensorStatistics.of(*np.array_split(each, 10)), method, grid)
        for each in (tensor, tensor * np.float32(1.37))
    )
    assert found.amax == pytest.approx(1.37 * plain.amax, rel=0.03)
