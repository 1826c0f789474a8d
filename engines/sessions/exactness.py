"""Whether ONNX Runtime with default options computes on this machine what Q/DQ nodes say."""

from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.sessions.onnxruntime import OnnxRuntimeSession

WIDTH = 64
"""Products that are summed up: enough for every width of its kernels."""


@cache
def default_is_exact() -> bool:
    """Whether sums of INT8 products come out right, the largest of them included.

    On x86 it turns the INT8 of activations into UINT8. Processors without VNNI then sum up pairs of products in 16
    bits, where the largest do not fit; and up to ONNX Runtime 1.24 such a MatMul is wrong anywhere.
    """
    with OnnxRuntimeSession(_model(), arithmetic="default") as session:
        return bool(np.array_equal(session.run({"x": _levels()})["y"], _levels() @ _weight()))


def _levels() -> npt.NDArray[np.float32]:
    """Activations of both ends of the grid, one by one and mixed."""
    mixed = np.where(np.arange(WIDTH) % 3, 127, -128)
    return np.stack([np.full(WIDTH, 127), np.full(WIDTH, -128), mixed, np.arange(WIDTH) - 32]).astype(np.float32)


def _weight() -> npt.NDArray[np.float32]:
    return np.stack([np.full(WIDTH, 127), np.full(WIDTH, -127), np.arange(WIDTH) * 2 - 63], axis=1).astype(np.float32)


def _model() -> onnx.ModelProto:
    """x, quantized with scale 1, times a weight: every sum is a whole number that float32 holds."""
    constants = {"one": np.float32(1), "zero": np.int8(0), "w_quantized": _weight().astype(np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x_quantized"]),
        helper.make_node("DequantizeLinear", ["x_quantized", "one", "zero"], ["x_dequantized"]),
        helper.make_node("DequantizeLinear", ["w_quantized", "one", "zero"], ["w"]),
        helper.make_node("MatMul", ["x_dequantized", "w"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", WIDTH), ("y", 3))
    )
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "exactness", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
