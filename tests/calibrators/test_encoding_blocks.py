"""Encodings by blocks: as ONNX's two operators have them from opset 21 on."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calibrators.encoding import Encoding
from calibrators.errors import RangeError
from calibrators.grid import TENSORRT_WEIGHTS, Grid

INT8 = Grid(symmetric=False)


@st.composite
def cases(draw):
    """An encoding by blocks, the last of which is often short, and values that lie on its levels or anywhere.

    Of two dimensions or three: ONNX Runtime takes a vector's only scale for one per tensor, which has no blocks.
    """
    shape = draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    block_size = draw(st.integers(1, shape[axis] + 2))
    blocks = list(shape)
    blocks[axis] = -(-shape[axis] // block_size)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = (2.0 ** random.uniform(-8, 8, blocks)).astype(np.float32)
    zero_point = random.integers(-128, 128, blocks)
    values = random.integers(-300, 300, shape) / 2 * random.choice(scale.reshape(-1), shape)
    return Encoding(scale, zero_point, INT8, axis, block_size), values.astype(np.float32)


def onnx_model(encoding, x):
    """QuantizeLinear and DequantizeLinear with an encoding's numbers, for a constant x."""
    attributes = {"axis": encoding.axis, "block_size": encoding.block_size}
    constants = {"x": x, "scale": encoding.scale, "zero_point": encoding.zero_point.astype(np.int8)}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"], **attributes),
        ],
        "blocks",
        [],
        [
            helper.make_tensor_value_info("q", TensorProto.INT8, x.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@given(cases())
@settings(max_examples=60)
def test_levels_and_values_are_onnx_runtimes_and_the_reference_evaluators_to_the_bit(case):
    encoding, x = case
    model = onnx_model(encoding, x)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for runtime in (session, ReferenceEvaluator(model)):
        levels, values = runtime.run(None, {})
        assert np.array_equal(encoding.quantize(x), levels)
        assert encoding.fake_quantize(x).tobytes() == values.tobytes()


def test_each_block_has_its_own_scale_and_the_last_may_be_short():
    encoding = Encoding.symmetric([[127.0], [254.0], [12.7]], axis=0, block_size=2)
    assert encoding.quantize([[1.0], [1], [2], [254], [1]]).tolist() == [[1], [1], [1], [127], [10]]
    assert encoding.dequantize([[1], [2], [3], [4], [5]]).tolist() == [[1.0], [2.0], [6.0], [8.0], [np.float32(0.5)]]


def test_a_block_of_one_is_a_scale_for_each_value_and_one_as_long_as_the_axis_is_per_channel():
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    each = Encoding.symmetric(np.abs(x), TENSORRT_WEIGHTS, axis=1, block_size=1)
    assert (np.abs(each.quantize(x)) == 127).all()
    amax = np.abs(x).max(0)
    channels = Encoding.symmetric(amax, TENSORRT_WEIGHTS, axis=1)
    for size in (6, 7, 100):
        blocks = Encoding.symmetric(amax[None], TENSORRT_WEIGHTS, axis=0, block_size=size)
        assert np.array_equal(blocks.fake_quantize(x), channels.fake_quantize(x))


@pytest.mark.parametrize("shape", [(5, 2), (4, 3), (4,), (4, 2, 1), (6, 2), ()])
def test_a_tensor_without_a_block_for_each_scale_is_never_broadcast(shape):
    encoding = Encoding.symmetric(np.ones((2, 2)), axis=0, block_size=2)
    assert encoding.quantize(np.ones((3, 2))).shape == (3, 2)
    for apply in (encoding.quantize, encoding.dequantize, encoding.fake_quantize):
        with pytest.raises(RangeError, match=r"by blocks of 2 along axis 0 do not go with a tensor of shape \("):
            apply(np.ones(shape, np.int32))


@pytest.mark.parametrize("axis", [None, 2, -3])
def test_blocks_want_an_axis_of_the_scales(axis):
    with pytest.raises(RangeError, match=f"does not go with blocks along axis {axis}: it has the tensor's rank"):
        Encoding(np.ones((2, 3)), 0, TENSORRT_WEIGHTS, axis, 4)


def test_one_scale_is_no_block():
    with pytest.raises(RangeError, match=r"a scale of shape \(\) does not go with blocks along axis 0"):
        Encoding(1.0, 0, TENSORRT_WEIGHTS, 0, 4)


@pytest.mark.parametrize("size", [0, -1])
def test_a_block_holds_something(size):
    with pytest.raises(RangeError, match=f"a block holds one value or more, not {size}"):
        Encoding(np.ones((2, 3)), 0, TENSORRT_WEIGHTS, 0, size)


def test_the_block_size_is_part_of_the_value():
    of_two, of_three = (Encoding.symmetric(np.ones((2, 3)), axis=0, block_size=size) for size in (2, 3))
    assert of_two == Encoding(np.full((2, 3), 1 / 127), 0, axis=0, block_size=2)
    assert of_two != of_three


def test_zero_points_are_as_many_as_the_scales():
    with pytest.raises(RangeError, match=r"zero points of shape \(3,\) do not go with scales of shape \(2, 3\)"):
        Encoding(np.ones((2, 3)), [0, 1, 2], INT8, 0, 2)
