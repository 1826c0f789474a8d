"""Everything that Q/DQ nodes say: weights, zero points, axes, blocks."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.cache.text import CalibrationCache
from calibrators.codecs.encodings import of_scale
from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.grid import Grid
from engines.qdq.read import DEQUANTIZE, QUANTIZE
from engines.qdq.to_cache import qdq_scales
from engines.qdq.to_encodings import qdq_encodings
from engines.qdq.write import quantize
from tests.engines.networks import classifier


def model(*pairs, weight=None, opset=21):
    """Pairs in a row on the input, then a product with a weight that is stored quantized."""
    constants, nodes, here = [], [], "image"
    for number, (scale, zero_point, axis) in enumerate(pairs):
        name = f"s{number}"
        constants += [
            numpy_helper.from_array(np.asarray(scale), name),
            numpy_helper.from_array(zero_point, f"z{number}"),
        ]
        nodes.append(helper.make_node(QUANTIZE, [here, name, f"z{number}"], [f"q{number}"], axis=axis))
        nodes.append(helper.make_node(DEQUANTIZE, [f"q{number}", name, f"z{number}"], [f"d{number}"], axis=axis))
        nodes.append(helper.make_node("Relu", [f"d{number}"], [f"r{number}"]))
        here = f"r{number}"
    if weight is not None:
        levels, scale, attributes = weight
        constants += [numpy_helper.from_array(scale, "w_scale"), levels]
        nodes.append(helper.make_node(DEQUANTIZE, ["w_quantized", "w_scale"], ["w_float"], **attributes))
        nodes.append(helper.make_node("MatMul", [here, "w_float"], ["y"]))
        here = "y"
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 4])]
    outputs = [helper.make_tensor_value_info(here, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def scale(*values):
    return np.float32(values if len(values) > 1 else values[0])


def test_our_own_models():
    cache = CalibrationCache(dict.fromkeys(("image", "a_relu", "pooled", "flat"), 0.05))
    quantized = quantize(classifier(), cache).model
    found = qdq_encodings(quantized)
    assert {name: float(value.scale) for name, value in found.activations.items()} == qdq_scales(quantized).scales
    assert list(found.weights) == ["a_w", "b_w", "w"]
    assert [value.axis for value in found.weights.values()] == [0, 0, 1]
    stored = next(item for item in quantized.graph.initializer if item.name == "w_scale")
    assert np.array_equal(found.weights["w"].scale, numpy_helper.to_array(stored))


def test_asymmetric_and_per_channel_activations():
    found = qdq_encodings(
        model(
            (scale(0.5), np.uint8(3), 0), (scale(0.5, 1, 2, 4), np.zeros(4, np.int8), 1), (scale(1.0), np.int16(0), 0)
        )
    )
    assert found.activations == {
        "image": Encoding(np.float32(0.5), np.int32(3), Grid(8, signed=False, symmetric=False)),
        "r0": Encoding(np.float32([0.5, 1, 2, 4]), np.zeros(4, np.int32), axis=1),
        "r1": Encoding(np.float32(1.0), np.int32(0), Grid(16)),
    }


def test_blocks_of_four_bits():
    levels = helper.make_tensor("w_quantized", TensorProto.INT4, [4, 2], np.zeros(8, np.int8))
    found = qdq_encodings(
        model((scale(0.5), np.int8(0), 0), weight=(levels, np.ones((2, 2), np.float32), {"axis": 0, "block_size": 2}))
    )
    assert found.weights == {"w": Encoding(np.ones((2, 2), np.float32), np.zeros((2, 2), np.int32), Grid(4), 0, 2)}
    assert found.activations == {"image": of_scale(0.5)}


def test_biases_are_left_out():
    levels = numpy_helper.from_array(np.zeros((4, 2), np.int32), "w_quantized")
    found = qdq_encodings(model((scale(0.5), np.int8(0), 0), weight=(levels, scale(0.5), {})))
    assert (found.weights, found.notes) == ({}, ("left out: w (INT32)",))


def test_onnxruntimes_models(job):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        batches = iter([{"image": np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)}])

        def get_next(self):
            return next(self.batches, None)

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(
        job / "model.onnx", job / "q.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds
    )
    found = qdq_encodings(job / "q.onnx")
    assert {"a_w", "b_w", "w"} <= found.weights.keys()
    assert {"image", "pooled", "scores"} <= found.activations.keys()
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load(job / "q.onnx").graph.initializer}
    assert found.activations["image"].scale == stored["image_scale"]
    assert found.activations["image"].zero_point == stored["image_zero_point"]


@pytest.mark.parametrize(
    ("pairs", "what"),
    [
        ([(scale(0.0), np.int8(0), 0)], "its tensor image has an encoding that is none: scales must be positive"),
        ([(scale(0.5), np.zeros(3, np.int8), 0)], "its tensor image has 1 scales and 3 zero points"),
    ],
)
def test_what_is_none(pairs, what):
    with pytest.raises(ModelError) as failure:
        qdq_encodings(model(*pairs))
    assert what in str(failure.value)


def test_several_encodings_of_one_tensor():
    proto = model((scale(0.5), np.int8(0), 0), (scale(1.0), np.int8(0), 0))
    proto.graph.node[3].input[0] = "image"
    with pytest.raises(ModelError, match="its tensor image has several encodings"):
        qdq_encodings(proto)


def test_a_float_model():
    with pytest.raises(ModelError, match="has no Q/DQ nodes"):
        qdq_encodings(classifier())
