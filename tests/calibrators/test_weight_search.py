"""The scales with the least squared error, against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.weights import SMALLEST_SCALE, weight_encoding

SYMMETRIC = [
    TENSORRT_WEIGHTS,
    TENSORRT_INT8,
    Grid(bits=4),
    Grid(bits=4, narrow=True),
    Grid(bits=2, narrow=True),
    Grid(bits=6, signed=False),
    Grid(bits=12),
    Grid(bits=16, narrow=True),
]
ASYMMETRIC = [Grid(bits=bits, signed=signed, symmetric=False) for bits in (4, 8) for signed in (True, False)]
POWERS = [Grid(bits=bits, symmetric=symmetric, power_of_two=True) for bits in (4, 8) for symmetric in (True, False)]
DRAWS = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "laplace": lambda random, shape: random.laplace(size=shape),
    "heavy": lambda random, shape: random.standard_t(2, size=shape),
    "positive": lambda random, shape: np.abs(random.standard_normal(shape)),
    "uniform": lambda random, shape: random.uniform(-1, 3, shape),
}


def errors(encoding, rows):
    """The squared error of each row."""
    return ((encoding.fake_quantize(rows).astype(np.float64) - rows) ** 2).sum(1)


def rows_of(size, draws=DRAWS, count=4):
    random = np.random.default_rng(size)
    return np.concatenate([draw(random, (count, size)) for draw in draws.values()]).astype(np.float32)


def both(rows, grid):
    return (weight_encoding(rows, axis=0, grid=grid, method=method) for method in ("absmax", "mse"))


@pytest.mark.parametrize("size", [1, 2, 9, 64, 576])
@pytest.mark.parametrize("grid", SYMMETRIC, ids=str)
def test_no_fraction_of_a_fine_grid_is_better(grid, size):
    """To two in a thousand at most, where a row is long; its loss has many minima within a thousandth of the range."""
    rows = rows_of(size)
    full, found = both(rows, grid)
    least = errors(full, rows)
    for fraction in np.linspace(0.001, 1, 1500):
        tried = Encoding(full.scale * np.float32(fraction), full.zero_point, grid, 0)
        least = np.minimum(least, errors(tried, rows))
    assert (errors(found, rows) <= least * (1.002 if size > 100 else 1.001) + 1e-30).all()


@pytest.mark.parametrize("size", [2, 9, 64])
@pytest.mark.parametrize("grid", ASYMMETRIC, ids=str)
def test_no_scale_and_zero_point_is_much_better(grid, size):
    rows = rows_of(size, count=2)
    full, found = both(rows, grid)
    least = errors(full, rows)
    span = grid.maximum - grid.minimum
    for fraction in np.linspace(0.2, 1, 161):
        scale = full.scale * np.float32(fraction)
        low = np.rint(grid.minimum - np.minimum(rows.min(1), 0) / scale)
        for shift in np.unique(np.rint(np.linspace(-2, span * (1 - fraction) + 2, 12))):
            zero_point = np.clip(low - shift, grid.minimum, grid.maximum)
            least = np.minimum(least, errors(Encoding(scale, zero_point, grid, 0), rows))
    ratio = errors(found, rows) / np.maximum(least, 1e-30)
    assert ratio.max() < 1.1
    assert ratio.mean() < 1.01


@pytest.mark.parametrize("grid", POWERS, ids=str)
def test_powers_of_two_are_the_best_of_their_kind(grid):
    rows = rows_of(64)
    full, found = both(rows, grid)
    assert (np.frexp(found.scale)[0] == 0.5).all()
    least = errors(full, rows)
    for power in range(8) if grid.symmetric else ():
        least = np.minimum(least, errors(Encoding(full.scale * np.float32(2.0**-power), 0, grid, 0), rows))
    assert (errors(found, rows) <= least).all()
    assert grid.bits > 4 or errors(found, rows).sum() < errors(full, rows).sum()


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.just(0.0) | st.floats(-(2.0**90), 2.0**90, width=32) | st.floats(-8, 8, width=32),
    ),
    st.sampled_from([*SYMMETRIC, *ASYMMETRIC, *POWERS]),
)
def test_never_worse_than_absmax_and_never_a_larger_scale(rows, grid):
    full, found = both(rows, grid)
    assert (errors(found, rows) <= errors(full, rows)).all()
    assert (found.scale <= full.scale).all()


@given(
    arrays(
        np.float32, (3, 11), elements=st.just(0.0) | st.floats(2**-10, 8, width=32) | st.floats(-8, -(2**-10), width=32)
    ),
    st.sampled_from([*SYMMETRIC, *ASYMMETRIC, *POWERS]),
    st.integers(-15, 60),
)
def test_a_power_of_two_changes_nothing_but_the_scale(rows, grid, power):
    factor = np.float32(2.0**power)
    one = weight_encoding(rows, axis=0, grid=grid, method="mse")
    other = weight_encoding(rows * factor, axis=0, grid=grid, method="mse")
    live = rows.any(1)
    assert np.array_equal(other.scale[live], one.scale[live] * factor)
    assert np.array_equal(other.zero_point, one.zero_point)


@pytest.mark.parametrize("grid", [*SYMMETRIC, *ASYMMETRIC], ids=str)
def test_a_channel_does_not_depend_on_the_others(grid):
    rows = rows_of(33)
    together = weight_encoding(rows, axis=0, grid=grid, method="mse")
    for place in (0, 7, 19):
        alone = weight_encoding(rows[place : place + 1], axis=0, grid=grid, method="mse")
        assert alone.scale[0] == together.scale[place]


@pytest.mark.parametrize("grid", SYMMETRIC, ids=str)
def test_where_nothing_is_lost_the_full_range_stays(grid):
    """Zeros, one magnitude, whole levels: no smaller scale is better than no error."""
    largest = grid.maximum - grid.zero_point
    rows = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [largest, 1, largest - 1]], np.float32)
    full, found = both(rows, grid)
    assert np.array_equal(found.scale[[0, 2]], full.scale[[0, 2]])
    assert found.scale[0] == np.float32(SMALLEST_SCALE)
    assert found.scale[1] == pytest.approx(full.scale[1], rel=1e-6)


@pytest.mark.parametrize("grid", [Grid(bits=4, narrow=True), Grid(bits=4, symmetric=False)], ids=str)
def test_an_outlier_is_cut_where_that_is_better(grid):
    row = np.random.default_rng(0).standard_normal((1, 4096)).astype(np.float32)
    row[0, 17] = 30
    full, found = both(row, grid)
    assert found.scale[0] < 0.5 * full.scale[0]
    assert errors(found, row)[0] < 0.5 * errors(full, row)[0]


def test_an_asymmetric_grid_may_give_up_one_end_alone():
    row = np.random.default_rng(0).uniform(0, 1, (1, 4096)).astype(np.float32)
    row[0, 3] = -2
    grid = Grid(bits=4, signed=False, symmetric=False)
    found = weight_encoding(row, axis=0, grid=grid, method="mse")
    low, high = (found.dequantize([[level]])[0, 0] for level in (grid.minimum, grid.maximum))
    assert low > -0.5
    assert high > 0.9


@pytest.mark.parametrize("value", [2.0**-149, 2.0**-130, 1e-20])
def test_almost_nothing_is_nothing(value):
    rows = np.array([[value, -value, 0]], np.float32)
    for grid in (TENSORRT_WEIGHTS, Grid(symmetric=False), Grid(power_of_two=True)):
        encoding = weight_encoding(rows, axis=0, grid=grid, method="mse")
        assert encoding.scale[0] == np.float32(SMALLEST_SCALE)
        assert not encoding.fake_quantize(rows).any()


@pytest.mark.parametrize("dtype, smallest, largest", [(np.float16, 2.0**-24, 65504.0), (np.float32, 2.0**-30, 3.4e38)])
def test_the_ends_of_a_type(dtype, smallest, largest):
    """Subnormal float16 and the largest numbers of either type."""
    random = np.random.default_rng(0)
    rows = random.uniform(-1, 1, (2, 500)) * [[smallest * 50], [largest]]
    rows = np.where(np.abs(rows) < 2.0**-40, 0, rows).astype(dtype)
    full, found = both(rows, TENSORRT_WEIGHTS)
    assert np.isfinite(found.fake_quantize(rows)).all()
    in_units = rows.astype(np.float64) / [[smallest], [largest]]
    after = found.fake_quantize(rows).astype(np.float64) / [[smallest], [largest]]
    before = full.fake_quantize(rows).astype(np.float64) / [[smallest], [largest]]
    assert (((after - in_units) ** 2).sum(1) <= ((before - in_units) ** 2).sum(1)).all()


def test_bfloat16_is_taken_as_it_is():
    import ml_dtypes

    rows = rows_of(64)
    narrow = rows.astype(ml_dtypes.bfloat16)
    wide = narrow.astype(np.float32)
    assert weight_encoding(narrow, axis=0, method="mse") == weight_encoding(wide, axis=0, method="mse")


def test_four_bits_gain_decibels():
    """Of normal weights 4 bits lose 3 dB less; what 8 bits gain is small, as their range is hardly too large."""
    weight = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32)
    gains = []
    for grid in (Grid(bits=4, narrow=True), TENSORRT_WEIGHTS):
        full, found = both(weight.reshape(64, -1), grid)
        rows = weight.reshape(64, -1)
        gains.append(10 * np.log10(errors(full, rows).sum() / errors(found, rows).sum()))
    assert gains[0] > 1.5
    assert 0.05 < gains[1] < 1.0
