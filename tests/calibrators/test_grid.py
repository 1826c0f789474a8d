from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid

grids = st.builds(Grid, bits=st.integers(2, 16), signed=st.booleans(), symmetric=st.booleans()) | st.builds(
    Grid, bits=st.integers(2, 16), narrow=st.just(True)
)


@pytest.mark.parametrize(
    ("grid", "minimum", "maximum", "zero_point"),
    [
        (TENSORRT_INT8, -128, 127, 0),
        (TENSORRT_WEIGHTS, -127, 127, 0),
        (Grid(), -128, 127, 0),
        (Grid(signed=False), 0, 255, 128),
        (Grid(bits=2), -2, 1, 0),
        (Grid(bits=2, narrow=True), -1, 1, 0),
        (Grid(bits=4), -8, 7, 0),
        (Grid(bits=4, signed=False), 0, 15, 8),
        (Grid(bits=16), -32768, 32767, 0),
        (Grid(bits=16, signed=False), 0, 65535, 32768),
    ],
)
def test_levels(grid: Grid, minimum: int, maximum: int, zero_point: int) -> None:
    assert (grid.minimum, grid.maximum, grid.zero_point) == (minimum, maximum, zero_point)


@given(grids)
def test_there_are_two_to_the_bits_levels_with_the_zero_point_among_them(grid: Grid) -> None:
    assert grid.maximum - grid.minimum + 1 == 2**grid.bits - grid.narrow
    assert grid.minimum <= grid.zero_point <= grid.maximum
    assert not grid.narrow or grid.minimum == -grid.maximum


@given(grids, st.floats(1e-30, 1e30))
def test_the_largest_magnitude_stands_on_the_largest_level(grid: Grid, amax: float) -> None:
    scale = grid.symmetric_scale(amax)
    assert scale * (grid.maximum - grid.zero_point) == pytest.approx(amax, rel=1e-15)
    assert grid.symmetric_amax(scale) == pytest.approx(amax, rel=1e-15)


def test_tensorrt_divides_by_127() -> None:
    assert TENSORRT_INT8.symmetric_scale(127.0) == 1.0 == TENSORRT_WEIGHTS.symmetric_scale(127.0)
    assert TENSORRT_INT8.symmetric_scale(1.0) == 1 / 127
    assert TENSORRT_INT8.symmetric_scale(0.0) == 0.0


def test_scales_of_many_channels_at_once() -> None:
    amax = np.array([127.0, 0.0, 1e-3])
    assert TENSORRT_INT8.symmetric_scale(amax).tolist() == [1.0, 0.0, 1e-3 / 127]
    assert TENSORRT_INT8.symmetric_amax(np.array([1.0, 2.0])).tolist() == [127.0, 254.0]


@pytest.mark.parametrize("bits", [-8, 0, 1, 17, 64])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(RangeError, match=f"from 2 to 16 bits, not {bits}"):
        Grid(bits=bits)


@pytest.mark.parametrize("bits", [8.0, "8", None])
def test_widths_that_are_no_whole_number_are_refused(bits: Any) -> None:
    with pytest.raises(RangeError, match=f"from 2 to 16 bits, not {bits!r}"):
        Grid(bits=bits)


def test_an_unsigned_grid_is_not_narrow() -> None:
    with pytest.raises(RangeError, match="only a signed grid can be narrow"):
        Grid(signed=False, narrow=True)


def test_a_grid_is_a_value() -> None:
    assert Grid(8, True, True, True) == TENSORRT_WEIGHTS
    assert len({Grid(), TENSORRT_INT8, TENSORRT_WEIGHTS}) == 2
    grid: Any = Grid()
    with pytest.raises(FrozenInstanceError):
        grid.bits = 4
