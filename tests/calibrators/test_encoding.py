from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid
from calibrators.range import Range

INT8 = Grid(symmetric=False)
UINT8 = Grid(signed=False, symmetric=False)
INT16 = Grid(bits=16, symmetric=False)
UINT16 = Grid(bits=16, signed=False, symmetric=False)
DTYPES = {INT8: np.int8, UINT8: np.uint8, INT16: np.int16, UINT16: np.uint16}
CHANNELS = 5

scales = st.floats(2.0**-100, 2.0**100, width=32)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)

Reference = Callable[..., tuple[npt.NDArray[Any], npt.NDArray[np.float32]]]


@pytest.fixture(scope="session")
def onnxruntime_reference() -> Reference:
    """A function (x, encoding) -> levels and real values, as ONNX Runtime's own two operators give them."""
    import onnxruntime
    from onnx import TensorProto, helper

    sessions: dict[tuple[np.dtype[Any], int | None], onnxruntime.InferenceSession] = {}

    def session(dtype: np.dtype[Any], axis: int | None) -> onnxruntime.InferenceSession:
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        attributes = {} if axis is None else {"axis": axis}
        shape = [] if axis is None else ["channels"]
        graph = helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"], **attributes),
                helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"], **attributes),
            ],
            "reference",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
                helper.make_tensor_value_info("scale", TensorProto.FLOAT, shape),
                helper.make_tensor_value_info("zero_point", kind, shape),
            ],
            [
                helper.make_tensor_value_info("q", kind, None),
                helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(x: npt.NDArray[np.float32], encoding: Encoding) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        dtype = np.dtype(DTYPES[encoding.grid])
        key = (dtype, encoding.axis)
        if key not in sessions:
            sessions[key] = session(*key)
        feeds = {"x": x, "scale": encoding.scale, "zero_point": encoding.zero_point.astype(dtype)}
        levels, values = sessions[key].run(["q", "y"], feeds)
        return levels, values

    return run


@st.composite
def encodings_and_values(draw: st.DrawFn, *, per_channel: bool) -> tuple[Encoding, npt.NDArray[np.float32]]:
    """An encoding, and values of which many lie on levels, half way between two, and just beside."""
    grid = draw(st.sampled_from(list(DTYPES)))
    axis = draw(st.integers(0, 2)) if per_channel else None
    shape = () if axis is None else (CHANNELS,)
    scale = draw(arrays(np.float32, shape, elements=scales))
    zero_point = draw(arrays(np.int32, shape, elements=st.integers(grid.minimum, grid.maximum)))
    encoding = Encoding(scale, zero_point, grid, axis)
    sizes = [2, 3, 4]
    if axis is not None:
        sizes[axis] = CHANNELS
    levels = draw(arrays(np.float32, sizes, elements=st.integers(-140, 140).map(lambda k: k / 2)))
    along = [1, 1, 1]
    if axis is not None:
        along[axis] = CHANNELS
    values = (levels * scale.reshape(along)).astype(np.float32)
    nudge = draw(st.sampled_from([0, np.inf, -np.inf]))
    if nudge:
        values = np.nextafter(values, np.float32(nudge))
    for place, value in draw(st.dictionaries(st.integers(0, values.size - 1), finite, max_size=6)).items():
        values.reshape(-1)[place] = value
    return encoding, values


@pytest.mark.parametrize("per_channel", [False, True])
def test_levels_and_values_are_onnx_runtimes_to_the_bit(onnxruntime_reference: Reference, per_channel: bool) -> None:
    @given(encodings_and_values(per_channel=per_channel))
    @settings(max_examples=80)
    def check(case: tuple[Encoding, npt.NDArray[np.float32]]) -> None:
        encoding, x = case
        levels, values = onnxruntime_reference(x, encoding)
        quantized = encoding.quantize(x)
        assert quantized.dtype == np.int32
        assert np.array_equal(quantized, levels)
        restored = encoding.dequantize(quantized)
        assert restored.dtype == np.float32
        assert restored.tobytes() == values.tobytes()

    check()


@pytest.mark.parametrize("grid", DTYPES, ids=["int8", "uint8", "int16", "uint16"])
def test_half_way_goes_to_even_and_beyond_the_ends_saturates(onnxruntime_reference: Reference, grid: Grid) -> None:
    encoding = Encoding(np.float32(0.25), np.int32(grid.minimum + 3), grid)
    halves = np.arange(-12, 12, dtype=np.float32) / 8
    x = np.concatenate([halves, np.float32([1e9, -1e9, 3e38, -3e38, np.inf, -np.inf, 0.0, -0.0])])
    levels, values = onnxruntime_reference(x, encoding)
    assert np.array_equal(encoding.quantize(x), levels)
    assert np.array_equal(encoding.fake_quantize(x), values)
    assert encoding.quantize([0.125, 0.375, -0.125, -0.375]).tolist() == [grid.minimum + 3 + k for k in (0, 2, 0, -2)]


def test_tensorrts_grids_saturate_at_their_own_ends() -> None:
    activation, weight = Encoding.symmetric(127.0, TENSORRT_INT8), Encoding.symmetric(127.0, TENSORRT_WEIGHTS)
    assert activation.quantize([-1e9, -128, -127.5, 127.5, 1e9]).tolist() == [-128, -128, -128, 127, 127]
    assert weight.quantize([-1e9, -128, -127.5, 127.5, 1e9]).tolist() == [-127, -127, -127, 127, 127]


@given(st.sampled_from(list(DTYPES)), scales, st.data())
def test_every_level_comes_back(grid: Grid, scale: float, data: st.DataObject) -> None:
    zero_point = data.draw(st.integers(grid.minimum, grid.maximum))
    encoding = Encoding(scale, zero_point, grid)
    levels = np.arange(grid.minimum, grid.maximum + 1, 1 if grid.bits == 8 else 97)
    assert np.array_equal(encoding.quantize(encoding.dequantize(levels)), levels)
    assert encoding.dequantize(zero_point) == 0.0 == encoding.fake_quantize(0.0)


@given(st.sampled_from([TENSORRT_INT8, TENSORRT_WEIGHTS, *DTYPES]), scales, st.data())
def test_the_error_within_the_range_is_half_a_step_at_most(grid: Grid, scale: float, data: st.DataObject) -> None:
    zero_point = grid.zero_point if grid.symmetric else data.draw(st.integers(grid.minimum, grid.maximum))
    encoding = Encoding(scale, zero_point, grid)
    low, high = (float(end) for end in encoding.dequantize([grid.minimum, grid.maximum]))
    x = data.draw(arrays(np.float32, 20, elements=st.floats(low, high, width=32)))
    restored = encoding.fake_quantize(x)
    error = np.abs(restored.astype(np.float64) - x.astype(np.float64))
    assert (error <= scale / 2 + np.maximum(np.abs(low), np.abs(high)) * 2.0**-22).all()
    assert np.array_equal(encoding.fake_quantize(restored), restored)


@given(st.sampled_from(list(DTYPES)), scales, arrays(np.float32, 20, elements=finite))
def test_quantizing_keeps_the_order(grid: Grid, scale: float, x: npt.NDArray[np.float32]) -> None:
    levels = Encoding(scale, grid.zero_point, grid).quantize(np.sort(x))
    assert (np.diff(levels) >= 0).all()


@given(arrays(np.float32, 20, elements=st.floats(-1.0, 1.0, width=32)), st.integers(-40, 40))
def test_a_power_of_two_changes_no_level(x: npt.NDArray[np.float32], k: int) -> None:
    factor = np.float32(2.0**k)
    x = np.where(np.abs(x) < 1e-20, np.float32(0), x)
    assert np.array_equal(Encoding.symmetric(1.0).quantize(x), Encoding.symmetric(factor).quantize(x * factor))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_each_channel_is_quantized_by_its_own_scale(axis: int) -> None:
    rng = np.random.default_rng(0)
    amax = np.array([0.1, 3.0, 70.0])
    x = np.moveaxis(rng.standard_normal((3, 4, 5)), 0, axis).astype(np.float32)
    encoding = Encoding.symmetric(amax, axis=axis)
    together = np.moveaxis(encoding.fake_quantize(x), axis, 0)
    for channel, values in enumerate(np.moveaxis(x, axis, 0)):
        assert np.array_equal(together[channel], Encoding.symmetric(amax[channel]).fake_quantize(values))


@pytest.mark.parametrize("x", [0.5, [], [[0.25]], np.float64([[1.0, 2.0]]), np.float16([1.0]), [1, 2]])
def test_shapes_stay_and_kinds_are_fixed(x: Any) -> None:
    encoding = Encoding.symmetric(2.0)
    assert encoding.quantize(x).shape == np.shape(x) == encoding.fake_quantize(x).shape
    assert (encoding.quantize(x).dtype, encoding.fake_quantize(x).dtype) == (np.int32, np.float32)


@given(st.floats(1e-30, 1e30))
def test_a_symmetric_encoding_puts_amax_on_the_largest_level(amax: float) -> None:
    encoding = Encoding.symmetric(amax)
    assert encoding.scale == np.float32(amax / 127)
    assert (encoding.scale.shape, encoding.zero_point, encoding.grid, encoding.axis) == ((), 0, TENSORRT_INT8, None)
    assert encoding.quantize([amax, -amax]).tolist() == [127, -127]


def test_a_symmetric_unsigned_encoding_has_its_zero_in_the_middle() -> None:
    encoding = Encoding.symmetric([1.0, 127.0], Grid(signed=False), axis=1)
    assert encoding.zero_point.tolist() == [128, 128]
    assert encoding.quantize([[0.0, 127.0]]).tolist() == [[128, 255]]


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf, 1e-60, [1.0, 0.0], [1.0, np.nan]])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale: Any) -> None:
    with pytest.raises(RangeError, match="scales must be positive and finite"):
        Encoding(scale, 0, TENSORRT_INT8, None if np.ndim(scale) == 0 else 0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("amax", [0.0, -1.0, np.nan, np.inf, 1e-60, 1e60, [1.0, 0.0]])
def test_a_range_without_a_scale_is_refused(amax: Any) -> None:
    with pytest.raises(RangeError, match="scales must be positive and finite"):
        Encoding.symmetric(amax, axis=None if np.ndim(amax) == 0 else 0)


@pytest.mark.parametrize(
    ("grid", "zero_point", "reason"),
    [
        (INT8, 128, r"within -128\.\.127"),
        (INT8, -129, r"within -128\.\.127"),
        (INT8, 2**32, r"within -128\.\.127"),
        (INT8, 2**70, r"within -128\.\.127"),
        (INT8, np.nan, r"within -128\.\.127"),
        (INT8, [0, 500], r"within -128\.\.127"),
        (UINT8, -1, r"within 0\.\.255"),
        (UINT8, 256, r"within 0\.\.255"),
        (TENSORRT_WEIGHTS, -128, r"within -127\.\.127"),
        (INT8, 0.5, "whole numbers"),
        (TENSORRT_INT8, 1, "a symmetric grid has zero point 0"),
        (Grid(signed=False), 0, "a symmetric grid has zero point 128"),
        (INT8, [0, 0, 0], r"shape \(3,\) do not go with scales of shape \(2,\)"),
        (INT8, [[0, 0]], r"shape \(1, 2\) do not go with scales of shape \(2,\)"),
    ],
)
def test_a_zero_point_off_the_grid_is_refused(grid: Grid, zero_point: Any, reason: str) -> None:
    with pytest.raises(RangeError, match=reason):
        Encoding([1.0, 1.0], zero_point, grid, 0)


@pytest.mark.parametrize(
    ("scale", "axis"), [([1.0], None), ([[1.0]], None), (1.0, 0), ([[1.0, 2.0]], 0), ([[[1.0]]], 1)]
)
def test_a_scale_is_one_number_or_one_per_channel(scale: Any, axis: int | None) -> None:
    with pytest.raises(RangeError, match=f"does not go with axis {axis}"):
        Encoding(scale, 0, TENSORRT_INT8, axis)


@pytest.mark.parametrize("shape", [(3,), (1,), (), (4, 3), (1, 5)])
@pytest.mark.parametrize("axis", [0, -1, 3])
def test_a_tensor_without_a_channel_for_each_scale_is_never_broadcast(shape: tuple[int, ...], axis: int) -> None:
    encoding = Encoding.symmetric(np.ones(4 if axis != 0 or shape != (4, 3) else 2), axis=axis)
    for apply in (encoding.quantize, encoding.dequantize, encoding.fake_quantize):
        with pytest.raises(RangeError, match=r"scales along axis -?\d do not go with a tensor of shape \("):
            apply(np.ones(shape, np.int32))


@pytest.mark.parametrize("x", [np.nan, [1.0, np.nan], [[np.nan, np.inf]]])
def test_nan_has_no_level(x: Any) -> None:
    with pytest.raises(RangeError, match="NaN has no level"):
        Encoding.symmetric(1.0).quantize(x)


def test_an_encoding_is_a_value() -> None:
    encoding = Encoding.symmetric([1.0, 2.0], axis=0)
    assert encoding == Encoding(np.float32([1 / 127, 2 / 127]), [0, 0], TENSORRT_INT8, 0)
    assert encoding != Encoding.symmetric([1.0, 2.5], axis=0)
    assert encoding != Encoding.symmetric([1.0, 2.0], axis=1)
    assert encoding != Encoding.symmetric([1.0, 2.0], TENSORRT_WEIGHTS, axis=0)
    assert Encoding(1.0, 3, INT8) != Encoding(1.0, 4, INT8)
    assert encoding != object()
    with pytest.raises(FrozenInstanceError):
        encoding.axis = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="unhashable"):
        hash(encoding)


def test_an_asymmetric_range_keeps_zero_on_a_level() -> None:
    encoding = Encoding.of_range(Range(-1.0, 3.0), Grid(signed=False, symmetric=False))
    assert (float(encoding.scale), int(encoding.zero_point)) == (float(np.float32(4 / 255)), 64)
    assert encoding.dequantize(encoding.zero_point) == 0.0


def test_a_symmetric_range_puts_its_larger_end_on_the_largest_level() -> None:
    assert Encoding.of_range(Range(-254.0, 3.0)) == Encoding.symmetric(254.0)


def test_a_power_of_two_grid_rounds_the_scale_up() -> None:
    grid = Grid(power_of_two=True)
    assert float(Encoding.of_range(Range.symmetric(127.0 * 0.3), grid).scale) == 0.5
    assert float(Encoding.of_range(Range.symmetric(127.0 * 0.5), grid).scale) == 0.5
    assert float(Encoding.of_range(Range(0.0, 255.0 * 3), Grid(symmetric=False, power_of_two=True)).scale) == 4.0


def test_a_range_of_only_zero_has_no_scale() -> None:
    with pytest.raises(RangeError, match="leave the tensor in float"):
        Encoding.of_range(Range(0.0, 0.0), Grid(symmetric=False))


def test_the_next_powers_of_two_hold_what_was_held() -> None:
    each = Encoding([0.3, 0.5, 0.5001, 3e-9], np.zeros(4, np.int32), axis=0)
    raised = each.with_powers_of_two()
    assert raised.scale.tolist() == [0.5, 0.5, 1.0, 2.0**-28]
    assert raised.grid == Grid(power_of_two=True)
    assert raised.with_powers_of_two() == raised
    whole = Encoding.symmetric(127.0 * 0.3).with_powers_of_two()
    assert (float(whole.scale), whole.scale.shape, int(whole.zero_point)) == (0.5, (), 0)


@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.0, 255.0 * 3), (-7.0, 0.0), (-100.0, 1.0)])
def test_the_next_power_of_two_of_an_asymmetric_range_keeps_its_ends(ends: tuple[float, float]) -> None:
    raised = Encoding.of_range(Range(*ends), Grid(symmetric=False)).with_powers_of_two()
    step = float(raised.scale)
    assert np.frexp(step)[0] == 0.5
    assert np.allclose(raised.fake_quantize(np.array(ends, np.float32)), ends, atol=step)
