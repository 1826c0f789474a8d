"""Weights in float instead of INT8: the same numbers, and the same kernels."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.build.builder import build_engine
from engines.passes.float_weights import with_float_weights


def run(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": array})[0])


def int8_constants(model: onnx.ModelProto) -> list[str]:
    zeros = {name for node in model.graph.node if "Linear" in node.op_type for name in node.input[2:]}
    return [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and tensor.name not in zeros
    ]


def test_it_computes_the_same(convolutions: onnx.ModelProto) -> None:
    before = convolutions.SerializeToString()
    changed = with_float_weights(convolutions)
    assert convolutions.SerializeToString() == before
    onnx.checker.check_model(changed, full_check=True)
    assert len(int8_constants(convolutions)) == 2
    assert int8_constants(changed) == []
    array = np.random.default_rng(0).normal(0, 1, (2, 16, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(run(changed, array), run(convolutions, array))
    made = {output: node for node in changed.graph.node for output in node.output}
    for node in changed.graph.node:
        if node.op_type == "Conv":
            assert made[made[node.input[1]].input[0]].op_type == "QuantizeLinear"


def test_every_level_comes_back(network: Any) -> None:
    """All 255 levels under scales of any size, per channel and per tensor, FP16 ones too."""
    levels = np.tile(np.arange(-127, 128, dtype=np.int8), (40, 1))
    random = np.random.default_rng(0)
    for scales in (
        np.exp(random.uniform(-20, 20, 40)).astype(np.float32),
        random.uniform(1e-3, 9, 40).astype(np.float16),
    ):
        for axis in (0, None):
            used = scales if axis == 0 else scales[0]
            attributes = {} if axis is None else {"axis": axis}
            nodes = [
                helper.make_node("DequantizeLinear", ["w", "s"], ["f"], name="dq", **attributes),
                helper.make_node("QuantizeLinear", ["f", "s"], ["y"], name="q", **attributes),
            ]
            # The type of what the last node gives is INT8 by its zero point.
            nodes[1].input.append("z")
            zeros = np.zeros(np.shape(used), np.int8)
            graph = helper.make_graph(
                nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.INT8, [40, 255])],
                [numpy_helper.from_array(value, name) for value, name in ((levels, "w"), (used, "s"), (zeros, "z"))],
            )  # fmt: skip
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
            changed = with_float_weights(model)
            assert [node.op_type for node in changed.graph.node] == [
                "QuantizeLinear",
                "DequantizeLinear",
                "QuantizeLinear",
            ]
            session = onnxruntime.InferenceSession(changed.SerializeToString())
            np.testing.assert_array_equal(session.run(None, {})[0], levels)


def test_zero_points_are_kept() -> None:
    levels = np.array([[1, 2], [3, -4]], np.int8)
    values = {"w": levels, "s": np.array([0.5, 2], np.float32), "z": np.array([1, -1], np.int8)}
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"], axis=0)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])
    graph = helper.make_graph([node], "g", [], [result], [numpy_helper.from_array(v, k) for k, v in values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    changed = with_float_weights(model)
    floats = next(t for t in changed.graph.initializer if t.data_type == TensorProto.FLOAT and t.name != "s")
    np.testing.assert_array_equal(numpy_helper.to_array(floats), [[0, 0.5], [8, -6]])
    session = onnxruntime.InferenceSession(changed.SerializeToString())
    np.testing.assert_array_equal(session.run(None, {})[0], [[0, 0.5], [8, -6]])


def test_a_model_without_such_weights_comes_back_itself(float_convolutions: onnx.ModelProto, network: Any) -> None:
    assert with_float_weights(float_convolutions) is float_convolutions
    built = network("N", 16, 8, 8)
    activations = built.model(built.conv("x", "c", (16, 16), weights=False))
    assert with_float_weights(activations) is activations


@pytest.mark.usefixtures("rtx")
def test_the_kernels_are_the_same(convolutions: onnx.ModelProto, tmp_path: Any) -> None:
    records = [
        build_engine(model, output=tmp_path / "m.engine", backend="tensorrt-rtx").record
        for model in (convolutions, with_float_weights(convolutions))
    ]
    assert [record.operators_by_precision for record in records] == [{"INT8": 2}] * 2
    assert records[0].kernels_by_precision == records[1].kernels_by_precision
