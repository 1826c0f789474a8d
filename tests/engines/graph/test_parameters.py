"""What a model tells of encodings whose file does not: weights and axes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.encoding import Encoding
from engines.graph.parameters import completed

SHAPES = {"conv": (4, 2, 3, 3), "deconv": (4, 5, 3, 3), "rows": (6, 4), "columns": (4, 6), "left": (3, 4), "bias": (4,)}
AXES = {"conv": 0, "deconv": 1, "rows": 0, "columns": 1, "left": 0, "bias": 0, "product": 1}


@pytest.fixture
def model():
    nodes = [
        helper.make_node("Conv", ["x", "conv", "bias"], ["a"]),
        helper.make_node("ConvTranspose", ["a", "deconv"], ["b"]),
        helper.make_node("Gemm", ["v", "rows"], ["c"], transB=1),
        helper.make_node("Gemm", ["v", "columns"], ["d"]),
        helper.make_node("MatMul", ["left", "columns"], ["e"]),
        helper.make_node(
            "Constant", [], ["product"], value=numpy_helper.from_array(np.ones((4, 7), np.float32), "product")
        ),
        helper.make_node("MatMul", ["v", "product"], ["f"]),
    ]
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in SHAPES.items()]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "v")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "bcdef"]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights))


def channels(count):
    return Encoding(np.ones(count, np.float32), np.zeros(count, np.int32), axis=0)


def test_axes_are_the_operators(model):
    sizes = {**{name: SHAPES[name][AXES[name]] for name in SHAPES}, "product": 7}
    weights = {name: channels(size) for name, size in sizes.items()}
    found = completed(Encodings({}, weights, {}, frozenset(weights)), model)
    assert {name: value.axis for name, value in found.weights.items()} == AXES
    assert (found.axis_unknown, found.notes) == (frozenset(), ())


def test_an_axis_that_is_told_stays(model):
    weights = {"deconv": Encoding(np.ones(4, np.float32), np.zeros(4, np.int32), axis=0)}
    assert completed(Encodings({}, weights), model).weights["deconv"].axis == 0


def test_scales_that_fit_no_axis_stay_unknown(model):
    found = completed(Encodings({}, {"conv": channels(3)}, {}, frozenset({"conv"})), model)
    assert found.axis_unknown == {"conv"}
    assert found.notes == ("the number of scales of conv is not that of channels in the model: the axis stays unknown",)


def test_constants_are_weights_and_the_rest_is_not(model):
    mixed = Encodings({"x": of_scale(1.0), "bias": of_scale(0.5)}, {"a": channels(4), "conv": channels(4)})
    found = completed(mixed, model)
    assert list(found.activations) == ["x", "a"]
    assert list(found.weights) == ["conv", "bias"]
    assert found.notes == ()


def test_names_of_another_model_are_noted(model):
    found = completed(Encodings({"x": of_scale(1.0), "other": of_scale(1.0)}), model)
    assert list(found.activations) == ["x", "other"]
    assert found.notes == ("the model has no tensor of 1 names, such as other: is it another model's file?",)


def test_a_path_will_do(model, tmp_path):
    onnx.save(model, tmp_path / "m.onnx")
    found = completed(Encodings({}, {"deconv": channels(5)}, {}, frozenset({"deconv"})), tmp_path / "m.onnx")
    assert found.weights["deconv"].axis == 1
