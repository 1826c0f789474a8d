"""Q/DQ models whose scales no calibration cache can hold."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engines.networks import Net
from tests.engines.qdq.refused import refused
from tests.engines.zoo import ZOO


class TestWhatACacheCannotHold:
    @pytest.mark.parametrize(
        "options, why",
        [
            ({"zero_point": np.int8(3)}, "is quantized asymmetrically (INT8, zero point 3)"),
            ({"zero_point": np.uint8(0)}, "is quantized asymmetrically (UINT8, zero point 0)"),
            ({"zero_point": np.uint8(126)}, "is quantized asymmetrically (UINT8, zero point 126)"),
            ({"scale": [0.1] * 8, "axis": 1}, "is quantized per channel (8 scales), a cache holds one per tensor"),
            ({"scale": 0.0}, "has the scale 0, which is none"),
            ({"scale": -0.5}, "has the scale -0.5, which is none"),
            ({"scale": math.inf}, "has the scale inf, which is none"),
            ({"scale": math.nan}, "has the scale nan, which is none"),
        ],
    )
    def test_it_is_refused_naming_the_tensor(self, options, why, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.conv("x", "c", (8, 8), activations=False, weights=True))
        built.nodes.clear()
        built.initializers.clear()
        pair = built.quantized("x", "q", **options)
        model = built.model(built.node("Relu", [pair], "r"))
        message = refused(model)
        assert message.startswith(f"no calibration cache comes of the model: its tensor x {why}")
        assert ": " in message.removeprefix("no calibration cache comes of the model: ")

    @pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.UINT4])
    def test_other_types(self, kind):
        net = Net(opset=21, ir_version=10)
        net.input()
        net.constant("s", np.float32(0.1))
        model = net.model("y")
        model.graph.initializer.append(helper.make_tensor("z", kind, [], [0]))
        model.graph.node.extend(
            [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ]
        )
        name = TensorProto.DataType.Name(kind)
        assert f"tensor x is quantized to {name}, a cache holds INT8 scales" in refused(model)

    def test_several_scales_of_one_tensor(self, network):
        built = network("N", 8, 8, 8)
        first, second = built.quantized("x", "a", scale=0.1), built.quantized("x", "b", scale=0.25)
        message = refused(built.model(built.node("Add", [first, second], "sum")))
        assert "its tensor x has several scales (0.1 and 0.25), a cache holds one per tensor: give it one" in message

    def test_a_pair_that_disagrees_with_itself(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a", scale=0.1))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "other"))
        model.graph.node[1].input[1] = "other"
        assert "several scales (0.1 and 0.5)" in refused(model)

    def test_a_computed_scale(self, network):
        built = network("N", 8, 8, 8)
        largest = built.node("ReduceMax", ["x"], "max", keepdims=0)
        zero = built.constant("z", np.int8(0))
        integers = built.node("QuantizeLinear", ["x", largest, zero], "q")
        model = built.model(built.node("DequantizeLinear", [integers, largest, zero], "dq"))
        assert "its tensor x has a scale that is computed, not constant" in refused(model)

    @pytest.mark.parametrize("kind", [np.int8, np.uint8])
    def test_a_computed_zero_point(self, kind, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        model.graph.initializer.append(numpy_helper.from_array(kind(7), "seven"))
        model.graph.node.insert(0, helper.make_node("Sub", ["seven", "seven"], ["nothing"]))
        for node in model.graph.node[1:]:
            node.input[2] = "nothing"
        assert "its tensor x has a zero point that is computed, not constant" in refused(model)

    def test_a_scale_that_float32_does_not_hold(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        for node in model.graph.node:
            node.input[1] = "huge"
        model.graph.initializer.append(numpy_helper.from_array(np.float64(1e300), "huge"))
        assert "its tensor x has the scale inf, which is none" in refused(model)

    @pytest.mark.parametrize(
        "scale",
        [
            TensorProto(name="odd", data_type=TensorProto.FLOAT, raw_data=b"12"),
            TensorProto(name="odd", data_type=TensorProto.FLOAT, dims=[2**40], raw_data=b"1234"),
            TensorProto(name="odd", data_type=TensorProto.UNDEFINED, raw_data=b"1234"),
            TensorProto(name="odd", data_type=99, raw_data=b"1234"),
        ],
    )
    def test_a_malformed_scale(self, scale, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        model.graph.initializer.append(scale)
        for node in model.graph.node:
            node.input[1] = "odd"
        assert "the model's constant odd is malformed" in refused(model)

    def test_a_text_for_a_scale(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [], [b"0.1"]))
        for node in model.graph.node:
            node.input[1] = "text"
        assert "has a text for a scale" in refused(model)

    def test_no_zero_point_in_its_place(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.int8), "none"))
        for node in model.graph.node:
            node.input[2] = "none"
        assert "its tensor x has one scale and 0 zero points" in refused(model)

    @pytest.mark.parametrize("part", ["input", "output"])
    def test_a_node_without_inputs_or_outputs(self, part, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a"))
        model.graph.node[0].ClearField(part)
        assert "lacks its input, scale or output; export it again" in refused(model)

    def test_a_type_that_onnx_lacks(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.quantized("x", "a", zero_point=None))
        model.graph.node[0].attribute.append(helper.make_attribute("output_dtype", 99))
        assert "is quantized to type 99, which ONNX lacks" in refused(model)

    def test_more_than_one_tensor_is_counted(self, network):
        built = network("N", 8, 8, 8)
        inner = built.node("Relu", [built.quantized("x", "a", zero_point=np.int8(1))], "r")
        message = refused(built.model(built.quantized(inner, "b", zero_point=np.int8(1))))
        assert message.endswith("(and 1 more such tensors)")

    def test_a_float_model(self):
        assert "the model has no Q/DQ nodes, and so no scales: give a quantized model" in refused(ZOO["gemm"]().model)

    def test_quantized_weights_alone(self, network):
        built = network("N", 8, 8, 8)
        model = built.model(built.conv("x", "c", (8, 8), activations=False))
        assert "quantizes weights only" in refused(model)

    def test_a_missing_file(self, tmp_path):
        assert "no model" in refused(tmp_path / "missing.onnx")
