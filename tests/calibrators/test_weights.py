from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from calibrators import weights
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.weights import SMALLEST_SCALE, WeightMethod, weight_encoding

CONV = np.random.default_rng(0).standard_normal((8, 3, 5, 5)).astype(np.float32) * np.float32(0.1)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
def test_the_scale_of_a_channel_is_its_largest_magnitude_over_127(axis: int) -> None:
    encoding = weight_encoding(CONV, axis=axis)
    expected = [np.float32(float(np.abs(channel).max()) / 127) for channel in np.moveaxis(CONV, axis, 0)]
    assert encoding.scale.tolist() == expected
    assert encoding.zero_point.tolist() == [0] * CONV.shape[axis]
    assert (encoding.grid, encoding.axis) == (TENSORRT_WEIGHTS, axis % 4)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_nothing_is_clipped_and_the_error_is_half_a_step_at_most(axis: int) -> None:
    encoding = weight_encoding(CONV, axis=axis)
    levels = np.moveaxis(encoding.quantize(CONV), axis, 0)
    assert (np.abs(levels).reshape(len(levels), -1).max(1) == 127).all()
    error = np.moveaxis(np.abs(encoding.fake_quantize(CONV) - CONV), axis, 0).reshape(len(levels), -1).max(1)
    assert (error <= encoding.scale / 2 * (1 + 1e-5)).all()


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=1, max_dims=4, max_side=4),
        elements=st.just(0.0) | st.floats(2.0**-20, 2.0**100, width=32) | st.floats(-(2.0**100), -(2.0**-20), width=32),
    ),
    st.data(),
)
def test_the_largest_weight_of_each_channel_stands_on_the_largest_level(
    weight: np.ndarray, data: st.DataObject
) -> None:  # type: ignore[type-arg]
    axis = data.draw(st.integers(-weight.ndim, weight.ndim - 1))
    encoding = weight_encoding(weight, axis=axis)
    for levels, values in zip(
        np.moveaxis(encoding.quantize(weight), axis, 0), np.moveaxis(weight, axis, 0), strict=True
    ):
        assert np.abs(levels).max() == (127 if np.abs(values).max() > 0 else 0)
        assert (np.sign(levels) * np.sign(values) >= 0).all()


def test_a_channel_of_zeros_has_a_positive_scale_and_only_zeros() -> None:
    weight = CONV.copy()
    weight[[1, 4]] = 0
    weight[4, 0, 0, 0] = -0.0
    encoding = weight_encoding(weight, axis=0)
    assert encoding.scale[[1, 4]].tolist() == [SMALLEST_SCALE] * 2
    assert np.float32(SMALLEST_SCALE) == SMALLEST_SCALE > 0
    assert not encoding.quantize(weight)[[1, 4]].any()
    assert encoding.quantize(weight)[[0, 2, 3]].any(axis=(1, 2, 3)).all()


def test_a_weight_of_zeros() -> None:
    assert not weight_encoding(np.zeros((2, 3)), axis=1).quantize(np.zeros((2, 3))).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_floats_will_do(dtype: type) -> None:
    weight = np.array([[1.0, -2.0], [0.5, 0.25]], dtype)
    assert weight_encoding(weight, axis=0).scale.tolist() == [np.float32(2 / 127), np.float32(0.5 / 127)]


def test_a_vector_has_a_scale_for_each_number() -> None:
    encoding = weight_encoding([1.0, -2.0, 0.0], axis=0)
    assert encoding.quantize([1.0, -2.0, 0.0]).tolist() == [127, -127, 0]


def test_a_weight_without_channels_has_no_scale() -> None:
    assert weight_encoding(np.zeros((0, 3)), axis=0).scale.shape == (0,)
    assert weight_encoding(np.zeros((0, 3)), axis=1).scale.tolist() == [SMALLEST_SCALE] * 3


@pytest.mark.parametrize(
    ("grid", "divisor", "zero_point"),
    [(TENSORRT_INT8, 127, 0), (Grid(bits=4, narrow=True), 7, 0), (Grid(signed=False), 127, 128)],
)
def test_another_grid(grid: Grid, divisor: int, zero_point: int) -> None:
    encoding = weight_encoding([[1.0, -3.0]], axis=0, grid=grid)
    assert encoding.scale.tolist() == [np.float32(3 / divisor)]
    assert (encoding.grid, encoding.zero_point.tolist()) == (grid, [zero_point])


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_nan_and_infinity_are_refused(bad: float, axis: int) -> None:
    weight = CONV.copy()
    weight[3, 1, 2, 2] = bad
    with pytest.raises(RangeError, match="a weight is NaN or infinite: repair the model first"):
        weight_encoding(weight, axis=axis)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3), 2), ((2, 3), -3), ((2, 3), 4), ((), 0)])
def test_an_axis_that_is_not_there_is_refused(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(RangeError, match=rf"has no axis {axis}: name its output channel"):
        weight_encoding(np.ones(shape), axis=axis)


def blocked(weight: np.ndarray, axis: int, size: int) -> list[np.ndarray]:  # type: ignore[type-arg]
    """The blocks of a matrix along an axis, in the order of their scales."""
    starts = range(0, weight.shape[axis], size)
    rows = [weight.take(range(start, min(start + size, weight.shape[axis])), axis) for start in starts]
    return (
        [block for row in rows for block in np.moveaxis(row, 1 - axis, 0)]
        if axis == 0
        else [row[line] for line in range(len(weight)) for row in rows]
    )


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("size", [1, 8, 10, 32, 100])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_block_is_encoded_as_it_would_be_alone(method: WeightMethod, size: int, axis: int) -> None:
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    encoding = weight_encoding(weight, axis=axis, method=method, block_size=size)
    alone = [weight_encoding(block, axis=None, method=method).scale for block in blocked(weight, axis % 2, size)]
    assert encoding.scale.reshape(-1) == pytest.approx(np.array(alone), rel=1e-6)
    assert encoding.scale.shape == ((-(-32 // size), 32) if axis == 0 else (32, -(-32 // size)))
    assert (encoding.axis, encoding.block_size) == (axis % 2, size)


@pytest.mark.parametrize("method", ["absmax", "mse"])
def test_a_whole_tensor_is_encoded_as_its_only_channel_would_be(method: WeightMethod) -> None:
    encoding = weight_encoding(CONV, axis=None, method=method)
    assert encoding.scale.shape == encoding.zero_point.shape == ()
    assert encoding.axis is None
    assert encoding.scale == weight_encoding(CONV.reshape(1, -1), axis=0, method=method).scale[0]


def test_smaller_blocks_lose_less() -> None:
    weight = np.random.default_rng(0).laplace(size=(128, 64)).astype(np.float32)
    sizes = [None, 128, 32, 8, 1]
    encodings = [weight_encoding(weight, axis=1 if size is None else 0, block_size=size) for size in sizes]
    errors = [float(((encoding.fake_quantize(weight) - weight) ** 2).sum()) for encoding in encodings]
    assert errors[0] == errors[1] > 1.2 * errors[2] > 1.2 * errors[3] > 1.2 * errors[4]


def test_an_asymmetric_grid_represents_the_smallest_and_the_largest_weight() -> None:
    weight = np.array([[-1.0, 3.0, 0.5], [1.0, 2.0, 4.0], [-2.0, -1.0, -0.5], [0.0, 0.0, 0.0]], np.float32)
    encoding = weight_encoding(weight, axis=0, grid=Grid(signed=False, symmetric=False))
    expected = [4 / 255, 4 / 255, 2 / 255, SMALLEST_SCALE]
    assert encoding.scale.tolist() == [np.float32(scale) for scale in expected]
    assert encoding.zero_point.tolist() == [64, 0, 255, 0]
    assert np.abs(encoding.fake_quantize(weight) - weight).max() <= 2.001 / 255


def test_large_weights_are_encoded_in_parts_that_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[dict[str, Any]] = [{"axis": 0}, {"axis": 1}, {"axis": 2, "block_size": 2}, {"axis": None}]
    whole = [weight_encoding(CONV, method="mse", **case) for case in cases]
    monkeypatch.setattr(weights, "_CHUNK", 100)
    assert [weight_encoding(CONV, method="mse", **case) for case in cases] == whole


@pytest.mark.parametrize("size", [0, -4])
def test_a_block_holds_something(size: int) -> None:
    with pytest.raises(RangeError, match=f"a block holds one value or more, not {size}"):
        weight_encoding(CONV, axis=0, block_size=size)


def test_blocks_without_an_axis_are_refused() -> None:
    with pytest.raises(RangeError, match="blocks divide one axis: name it"):
        weight_encoding(CONV, axis=None, block_size=4)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(RangeError, match="there is no weight method 'entropy': choose among absmax, mse"):
        weight_encoding(CONV, axis=0, method="entropy")  # type: ignore[arg-type]
