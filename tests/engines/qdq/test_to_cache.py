"""Scales read back from Q/DQ models: ours, ONNX Runtime's, and those that no cache can hold."""

import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import trtcal
from calibrators.cache.text import CalibrationCache, usable
from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.model import activations, load_model
from engines.passes.half import to_half
from engines.qdq.to_cache import qdq_scales
from engines.qdq.write import quantize
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO
from trtcal.pipeline import collect_images

CACHES = Path(__file__).resolve().parents[4] / "shared" / "data" / "caches"
FILES = sorted(CACHES.iterdir()) if CACHES.is_dir() else []


def refused(model):
    with pytest.raises(ModelError) as caught:
        qdq_scales(model)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2
    return str(caught.value)


class TestRoundTrip:
    @pytest.fixture(params=ZOO)
    def zoo(self, request):
        network = ZOO[request.param]()
        cache = calibrate(collect(network.model, samples_of(network.model, 8)), "minmax")
        return network, cache, quantize(network.model, cache)

    def test_every_scale_comes_back_to_the_bit(self, zoo):
        network, cache, result = zoo
        back = qdq_scales(result.model)
        assert {name: back.scales[name] for name in result.scales} == result.scales
        assert set(back.scales) - set(back.derived) == network.quantized
        assert list(back.scales) == [name for name in activations(network.model) if name in back.scales]
        scales = {**cache, **cache.sidecar.explicit}
        assert {name: scales[name] for name in back.derived} == {name: back.scales[name] for name in back.derived}
        assert back.notes == ()

    def test_the_cache_that_comes_of_it_gives_the_same_model(self, zoo):
        network, _, result = zoo
        back = CalibrationCache.parse(CalibrationCache(qdq_scales(result.model).scales).dumps())
        assert quantize(network.model, back).model.SerializeToString() == result.model.SerializeToString()

    def test_half_precision_around_it_changes_nothing(self, zoo):
        """Casts stand between FP16 tensors and their Q/DQ nodes."""
        _, _, result = zoo
        half = to_half(result.model).model
        assert "Cast" in {node.op_type for node in half.graph.node}
        assert qdq_scales(half).scales == qdq_scales(result.model).scales


@pytest.mark.parametrize(
    ("name", "images", "preprocess"),
    [
        ("cifar10_resnet20", "cifar10_train_512.npz", "cifar10"),
        ("mlperf_tiny_resnet8", "cifar10_train_512.npz", "raw"),
        ("mlperf_tiny_kws_dscnn", "kws01_1000.npz", "none"),
        ("mnist_cnn", "mnist_train_1000.npz", "raw"),
        ("ultraface_rfb_320", "faces", "imagenet-tf"),
    ],
)
def test_real_models_come_back(name, images, preprocess, shared_data, tmp_path):
    path = shared_data / "models" / f"{name}.onnx"
    statistics, _ = collect_images(path, shared_data / "images" / images, preprocess=preprocess, count=2)
    result = trtcal.quantize(path, calibrate(statistics), output=tmp_path / "int8.onnx")
    back = qdq_scales(tmp_path / "int8.onnx").scales
    assert {tensor: back[tensor] for tensor in result.scales} == result.scales
    assert set(back) <= set(activations(load_model(path)))
    again = trtcal.quantize(path, CalibrationCache(back))
    assert again.model.SerializeToString() == result.model.SerializeToString()


def test_tensorrts_own_cache_comes_back(shared_data):
    """LeNet's: all that TensorRT wrote of what Q/DQ needs, and the pooled tensors that share it."""
    theirs = CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
    result = quantize(shared_data / "models" / "lenet_mnist.onnx", theirs)
    back = qdq_scales(result.model)
    assert {name: back.scales[name] for name in result.scales} == result.scales
    assert {name: scale for name, scale in back.scales.items() if name in theirs} == {
        name: theirs[name] for name in ("data", "conv1", "pool1", "conv2", "pool2", "ip1")
    }
    assert {name: scale for name, scale in back.scales.items() if name not in theirs} == {
        "ip1_flatten": theirs["pool2"],  # the ONNX model's own, which TensorRT's network did not have
        "ip2_flatten": theirs["ip1"],
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_names_and_scales_come_back(path):
    """Caches from the wild over a chain of convolutions whose tensors have their names."""
    cache = CalibrationCache.load(path)
    names = [name for name in cache if usable(cache[name])][:60]
    net = Net()
    net.input(names[0], ("N", 1, 4, 4))
    net.constant("one weight", np.ones((1, 1, 1, 1), np.float32))
    for before, after in zip(names, [*names[1:], "the model's output"], strict=True):
        net.nodes.append(helper.make_node("Conv", [before, "one weight"], [after]))
    result = quantize(net.model("the model's output"), cache)
    back = qdq_scales(result.model)
    assert back.scales == {name: cache[name] for name in names}
    again = CalibrationCache.parse(CalibrationCache(back.scales).dumps())
    assert {name: int(again.bits(name), 16) for name in names} == {name: int(cache.bits(name), 16) for name in names}


class _Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        return next(self.batches, None)


@pytest.fixture
def by_onnxruntime(tmp_path):
    """Quantizes a model with ONNX Runtime's quantize_static; gives the file."""

    def run(model, *, symmetric=True, activation=QuantType.QInt8, form=QuantFormat.QDQ, **options):
        onnx.save(model, tmp_path / "float.onnx")
        quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            _Reader(samples_of(model, 4)),
            quant_format=form,
            activation_type=activation,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"ActivationSymmetric": symmetric, **options},
        )
        return tmp_path / "int8.onnx"

    return run


class TestOnnxRuntimes:
    @pytest.mark.parametrize(
        "name", ["depthwise", "grouped", "padded_skip", "concat", "gemm", "mat_mul", "output_in_the_middle", "unnamed"]
    )
    def test_symmetric_activations(self, name, by_onnxruntime):
        """Its scales are those of the largest absolute value, under the float model's names."""
        network = ZOO[name]()
        path = by_onnxruntime(network.model)
        back = qdq_scales(path)
        assert network.quantized <= set(back.scales) <= set(activations(network.model))
        amax = {key: each.amax for key, each in collect(network.model, samples_of(network.model, 4)).items()}
        for key in network.quantized:
            assert back.scales[key] == pytest.approx(amax[key] / 127, rel=1e-6), key
        result = quantize(network.model, CalibrationCache(back.scales))
        assert not result.left_float.keys() - network.left.keys()

    def test_an_output_keeps_its_name(self, by_onnxruntime):
        """ONNX Runtime renames the tensor before an output's Q/DQ nodes."""
        model = ZOO["depthwise"]().model
        path = by_onnxruntime(model)
        names = {name for node in load_model(path).graph.node for name in node.input}
        assert "y_QuantizeLinear_Input" in names
        assert "y" in qdq_scales(path).scales
        assert not any("Quantize" in name for name in qdq_scales(path).scales)

    def test_uint8_around_128_has_the_levels_of_int8(self, by_onnxruntime):
        model = ZOO["depthwise"]().model
        signed = qdq_scales(by_onnxruntime(model)).scales
        back = qdq_scales(by_onnxruntime(model, activation=QuantType.QUInt8)).scales
        ratios = {name: back[name] / scale for name, scale in signed.items()}
        # Its INT8 has 254 steps; its UINT8 around 128 has 255, and in older versions 254 around 127.
        assert any(ratios == pytest.approx(dict.fromkeys(signed, 127 / half), rel=1e-6) for half in (127.5, 127))

    def test_an_old_opset_that_the_checker_refuses(self, by_onnxruntime):
        net = Net(opset=11, ir_version=6)
        net.conv(net.input(), "a", 8, 8, 3, 3)
        path = by_onnxruntime(net.model("a"))
        with pytest.raises(ModelError, match="Unrecognized attribute: axis"):
            load_model(path)
        assert list(qdq_scales(path).scales) == ["x", "a"]

    def test_asymmetric_activations_are_refused(self, by_onnxruntime):
        path = by_onnxruntime(ZOO["depthwise"]().model, symmetric=False, activation=QuantType.QUInt8)
        pattern = r"no calibration cache comes of .*int8\.onnx: its tensor x is quantized asymmetrically \(UINT8, zero"
        pattern += r" point \d+\), TensorRT's INT8 is symmetric: quantize activations symmetrically \(and \d+ more .*\)"
        assert re.fullmatch(pattern, refused(path))

    def test_fused_operators_are_refused(self, by_onnxruntime):
        path = by_onnxruntime(ZOO["depthwise"]().model, form=QuantFormat.QOperator)
        assert "has QLinearConv nodes" in refused(path)
        assert "quantize the float model in the Q/DQ format" in refused(path)

    def test_wider_types_are_refused(self, by_onnxruntime):
        path = by_onnxruntime(ZOO["depthwise"]().model, activation=QuantType.QInt16)
        assert "tensor x is quantized to INT16, a cache holds INT8 scales" in refused(path)


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


class TestForms:
    def test_no_zero_point_is_read_as_tensorrt_reads_it(self, network):
        built = network("N", 8, 8, 8)
        back = qdq_scales(built.model(built.quantized("x", "a", zero_point=None)))
        assert back.scales["x"] == float(np.float32(0.05))
        assert back.notes == (
            "1 tensors, such as x, are quantized without a zero point: read as TensorRT reads them, INT8 with zero "
            "point 0, where ONNX means UINT8",
        )

    def test_weights_and_biases_are_counted_and_left_out(self, convolutions):
        back = qdq_scales(convolutions)
        assert back.weights == 2
        assert list(back.scales) == ["x", "c1_relu_out"]

    def test_an_output_of_the_model_shares_the_scale(self, network):
        """A pair at the end: the output's own name, and that of what goes into the pair."""
        built = network("N", 8, 8, 8)
        relu = built.node("Relu", ["x"], "r")
        back = qdq_scales(built.model(built.quantized(relu, "a")))
        assert dict(back.scales) == dict.fromkeys(["r_out", "a_DQ_out"], float(np.float32(0.05)))

    def test_integers_that_leave_the_model(self, network):
        built = network("N", 8, 8, 8)
        built.quantized("x", "a")
        built.nodes.pop()
        assert list(qdq_scales(built.model("a_Q_out", output_type=TensorProto.INT8)).scales) == ["x"]

    def test_integers_that_enter_the_model(self, network):
        built = network("N", 8, 8, 8, input_type=TensorProto.INT8)
        operands = [built.constant("s", np.float32(0.5)), built.constant("z", np.int8(0))]
        pixels = built.node("DequantizeLinear", ["x", *operands], "pixels")
        back = qdq_scales(built.model(built.node("Relu", [pixels], "r")))
        assert back.scales == {"pixels_out": 0.5}

    def test_two_pairs_in_a_row_are_one_tensor(self, network):
        built = network("N", 8, 8, 8)
        relu = built.node("Relu", [built.quantized(built.quantized("x", "a"), "b")], "r")
        assert list(qdq_scales(built.model(relu)).scales) == ["x"]

    def test_both_sides_of_a_pooling_with_scales_of_their_own_keep_them(self, network):
        built = network("N", 8, 8, 8)
        pooled = built.node("MaxPool", [built.quantized("x", "a", scale=0.5)], "p", kernel_shape=[2, 2])
        flat = built.node("Flatten", [built.quantized(pooled, "b", scale=0.25)], "f")
        back = qdq_scales(built.model(flat))
        assert dict(back.scales) == {"x": 0.5, "p_out": 0.25}
        assert back.derived == ()

    def test_branches_are_not_read_and_that_is_said(self):
        net = Net()
        net.constant("s", np.float32(0.5))
        net.constant("z", np.int8(0))
        net.node("QuantizeLinear", net.input() + " s z", "q")
        net.node("DequantizeLinear", "q s z", "x_dq")
        net.node("ReduceMax", "x_dq", "highest", keepdims=0)
        net.constant("three", np.float32(3))
        net.node("Greater", "highest three", "loud")
        branches = {}
        for name in ("then", "else"):
            output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
            nodes = [
                helper.make_node("QuantizeLinear", ["x_dq", "s", "z"], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_out"]),
            ]
            branches[f"{name}_branch"] = helper.make_graph(nodes, name, [], [output])
        net.node("If", "loud", "y", **branches)
        back = qdq_scales(net.model("y"))
        assert list(back.scales) == ["x"]
        assert back.notes == (
            "4 Q/DQ nodes inside branches of control flow were not read: caches list no tensors of branches",
        )

    def test_scales_in_half_precision_behind_casts(self):
        """As Model-Optimizer writes them: FP16 scales, and casts at the inputs and outputs."""
        net = Net(opset=19, ir_version=9)
        net.node("Cast", net.input(), "x_cast_to_fp16", to=TensorProto.FLOAT16)
        net.constant("s", np.float16(0.1))
        net.constant("z", np.int8(0))
        net.node("QuantizeLinear", "x_cast_to_fp16 s z", "q")
        net.node("DequantizeLinear", "q s z", "dq")
        net.node("Relu", "dq", "relu")
        net.node("QuantizeLinear", "relu s z", "relu_q")
        net.node("DequantizeLinear", "relu_q s z", "relu_dq")
        net.node("Flatten", "relu_dq", "y_cast_from_fp16")
        net.node("Cast", "y_cast_from_fp16", "y", to=TensorProto.FLOAT)
        back = qdq_scales(net.model("y"))
        assert dict(back.scales) == dict.fromkeys(["x", "relu", "y"], float(np.float16(0.1)))
        assert back.derived == ("y",)

    def test_a_file_with_external_data(self, tmp_path):
        model = ZOO["identity_skip"]().model
        result = quantize(model, calibrate(collect(model, samples_of(model, 4)), "minmax"))
        expected = dict(result.scales)
        onnx.save(result.model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        assert dict(qdq_scales(tmp_path / "m.onnx").scales) == expected
