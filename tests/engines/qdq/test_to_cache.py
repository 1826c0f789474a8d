"""Scales read back from Q/DQ models: ours, and ONNX Runtime's."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
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
from tests.engines.qdq.refused import refused
from tests.engines.zoo import ZOO
from tests.trtcal.gathering import collect_images

CACHES = Path(__file__).resolve().parents[4] / "shared" / "data" / "caches"
FILES = sorted(CACHES.iterdir()) if CACHES.is_dir() else []


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
        for name in back.derived:  # the finer scale that a part of a tensor may have in the side-car, or the shared one
            assert back.scales[name] in (cache[name], cache.sidecar.explicit.get(name)), name
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
    """LeNet's: all that TensorRT wrote of what Q/DQ needs, and the pooled tensors that share it.

    What the last product reads is not among it: with its ten outputs it is in float.
    """
    theirs = CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
    result = quantize(shared_data / "models" / "lenet_mnist.onnx", theirs)
    back = qdq_scales(result.model)
    assert {name: back.scales[name] for name in result.scales} == result.scales
    assert {name: scale for name, scale in back.scales.items() if name in theirs} == {
        name: theirs[name] for name in ("data", "conv1", "pool1", "conv2", "pool2")
    }
    assert {name: scale for name, scale in back.scales.items() if name not in theirs} == {
        "ip1_flatten": theirs["pool2"],  # the ONNX model's own, which TensorRT's network did not have
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
