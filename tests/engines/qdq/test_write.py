"""Q/DQ models of a zoo of networks: valid, close to the float ones, accepted by TensorRT, with nothing unmeant."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError, OutputError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.model import load_model
from engines.graph.operators import WEIGHTED
from engines.passes.prepare import WIDENED_NOTE
from engines.qdq.write import quantizable_tensors, quantize, save
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO


@pytest.fixture(scope="module", params=ZOO)
def quantized(request):
    """A network of the zoo, its cache, and what `quantize` makes of both."""
    network = ZOO[request.param]()
    cache = calibrate(collect(network.model, samples_of(network.model, 16)), "minmax")
    return network, cache, quantize(network.model, cache)


def run(model, batches):
    """The outputs over all batches, in the model's order."""
    with OnnxRuntimeSession(model) as session:
        outputs = [session.run(batch) for batch in batches]
    return [np.concatenate([output[name] for output in outputs]) for name in outputs[0]]


def sqnr(model, other, batches):
    """The signal-to-noise ratio in dB of `other` against `model`, of the worst output."""
    return min(
        10 * np.log10(np.sum(expected**2, dtype=np.float64) / np.sum((expected - actual) ** 2, dtype=np.float64))
        for expected, actual in zip(run(model, batches), run(other, batches), strict=True)
    )


class Pairs:
    """The Q/DQ nodes of a model.

    Attributes:
        quantized: By activation, its QuantizeLinear nodes.
        dequantized: By the name of a DequantizeLinear's output, where its integers come from: (activation, None), or
            for a weight (the initializer, its axis).
    """

    def __init__(self, model):
        graph = model.graph
        self.nodes = list(graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.quantized, self.dequantized, made = {}, {}, {}
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                self.quantized.setdefault(node.input[0], []).append(node)
                made[node.output[0]] = node.input[0]
            elif node.op_type == "DequantizeLinear":
                axis = next((each.i for each in node.attribute if each.name == "axis"), None)
                self.dequantized[node.output[0]] = (made.get(node.input[0], node.input[0]), axis)

    def producer(self, name):
        return next((node for node in self.nodes if name in node.output), None)


class TestZoo:
    def test_is_valid(self, quantized):
        _, _, result = quantized
        onnx.checker.check_model(result.model, full_check=True)
        names = [node.name for node in result.model.graph.node if node.name]
        assert len(names) == len(set(names))

    def test_is_close_to_the_float_model(self, quantized):
        network, _, result = quantized
        assert sqnr(network.model, result.model, samples_of(network.model, 16)) > 25

    def test_is_accepted_by_tensorrt(self, quantized, rtx):
        _, _, result = quantized
        logger = rtx.Logger(rtx.Logger.ERROR)
        network = rtx.Builder(logger).create_network(0)
        parser = rtx.OnnxParser(network, logger)
        assert parser.parse(result.model.SerializeToString())
        assert [parser.get_error(place).desc() for place in range(parser.num_errors)] == []

    def test_exactly_the_expected_tensors_are_quantized_once_each(self, quantized):
        network, _, result = quantized
        pairs = Pairs(result.model)
        assert set(pairs.quantized) == network.quantized == set(result.scales)
        assert all(len(nodes) == 1 for nodes in pairs.quantized.values())
        assert set(quantizable_tensors(network.model)) == network.quantized

    def test_every_activation_has_the_scale_of_its_cache(self, quantized):
        """The cache's own, to the bit: no tensor of the zoo is behind an average pooling and quantized for itself."""
        _, cache, result = quantized
        pairs = Pairs(result.model)
        scales = {**cache, **cache.sidecar.explicit}
        for name, (node,) in pairs.quantized.items():
            scale, zero_point = (pairs.constants[each] for each in node.input[1:])
            assert (scale.dtype, scale.shape, float(scale)) == (np.float32, (), scales[name])
            assert result.scales[name] == scales[name]
            assert (zero_point.dtype, zero_point.shape, int(zero_point)) == (np.int8, (), 0)
            assert not node.attribute

    def test_both_sides_of_a_pair_have_one_scale(self, quantized):
        pairs = Pairs(quantized[2].model)
        made = {node.output[0]: node for nodes in pairs.quantized.values() for node in nodes}
        for node in pairs.nodes:
            if node.op_type == "DequantizeLinear" and node.input[0] in made:
                assert list(node.input[1:]) == list(made[node.input[0]].input[1:])
            for name in node.input:
                if name in made:
                    assert node.op_type == "DequantizeLinear"

    def test_weights_are_symmetric_integers_by_output_channel(self, quantized):
        network, _, result = quantized
        pairs = Pairs(result.model)
        original = {tensor.name: numpy_helper.to_array(tensor) for tensor in network.model.graph.initializer}
        readers = {name: node for node in pairs.nodes for name in node.input if name in pairs.dequantized}
        seen = {}
        for node in pairs.nodes:
            if node.op_type != "DequantizeLinear" or node.input[0] not in pairs.constants:
                continue
            levels, scale, zero_point = (pairs.constants[name] for name in node.input)
            axis = pairs.dequantized[node.output[0]][1]
            reader = readers[node.output[0]]
            left = reader.op_type == "MatMul" and node.output[0] == reader.input[0]
            assert left or node.output[0] == reader.input[1]
            if reader.op_type == "MatMul" and levels.ndim > 2:
                assert (scale.shape, axis) == ((), None)
                continue
            transposed = reader.op_type == "Gemm" and {each.name: each.i for each in reader.attribute}.get("transB")
            assert axis == (0 if reader.op_type == "Conv" or transposed or left else 1)
            assert levels.dtype == zero_point.dtype == np.int8
            assert scale.dtype == np.float32
            assert scale.shape == zero_point.shape == (levels.shape[axis],)
            assert not zero_point.any()
            others = tuple(place for place in range(levels.ndim) if place != axis)
            assert (np.abs(levels.astype(int)).max(others) == 127).all()
            name = node.input[0].removesuffix("_quantized")
            seen[name] = axis
            if name in original and "BatchNormalization" not in {each.op_type for each in network.model.graph.node}:
                shape = [-1 if place == axis else 1 for place in range(levels.ndim)]
                error = np.abs(levels * scale.reshape(shape) - original[name])
                assert (error <= scale.reshape(shape) * 0.5001).all()
        assert network.weights.items() <= seen.items()

    def test_nothing_but_quantized_operators_reads_dequantized_values(self, quantized):
        """Operators with weights read both operands so, or neither; a bias is never one of them."""
        network, _, result = quantized
        pairs = Pairs(result.model)
        moving = {"Add", "Slice"}
        for node in pairs.nodes:
            read = [place for place, name in enumerate(node.input) if name in pairs.dequantized]
            if node.op_type in WEIGHTED:
                assert read == ([] if node.name in network.left else [0, 1])
                assert (node.name in result.quantized) == bool(read) or not node.name
            elif read:
                assert node.op_type in moving
                assert len(read) == 1

    def test_no_pair_between_a_convolution_and_what_fuses_with_it(self, quantized):
        pairs = Pairs(quantized[2].model)
        for node in pairs.nodes:
            if node.op_type in ("BatchNormalization", "Relu", "Clip", "Sigmoid"):
                assert node.input[0] not in pairs.dequantized

    def test_what_stays_in_float_is_named_with_the_reason(self, quantized):
        network, _, result = quantized
        assert set(result.left_float) == set(network.left)
        assert all(why in result.left_float[name] for name, why in network.left.items())

    def test_every_name_of_the_cache_is_known(self, quantized):
        assert quantized[2].unused == quantized[2].internal == ()

    def test_nothing_is_said_to_be_shared_where_the_cache_has_the_scale(self, quantized):
        assert quantized[2].shared == ()

    def test_inputs_and_outputs_stay(self, quantized):
        network, _, result = quantized
        constants = {tensor.name for tensor in network.model.graph.initializer}
        inputs = [value for value in network.model.graph.input if value.name not in constants]
        assert list(result.model.graph.input) == inputs
        names = [value.name for value in result.model.graph.output]
        assert names == [value.name for value in network.model.graph.output]

    def test_the_quantizable_tensors_alone_give_the_same_scales(self, quantized):
        network, _, result = quantized
        some = collect(network.model, samples_of(network.model, 16), tensors="quantizable")
        scales = quantize(network.model, calibrate(some, "minmax")).scales
        assert scales == pytest.approx(result.scales, rel=1e-5)


@pytest.mark.parametrize("name", ["identity_skip", "padded_skip", "depthwise", "grouped", "pooled_concat", "conv_3d"])
def test_entropy_is_close_to_the_float_model_too(name):
    """Where a tensor has thousands of values, as the images of a real calibration have."""
    model = ZOO[name]().model
    samples = samples_of(model, 16)
    assert sqnr(model, quantize(model, calibrate(collect(model, samples))).model, samples) > 25


class TestWeights:
    def quantized(self, weights):
        net = Net()
        net.constant("w", weights)
        net.node("Conv", net.input() + " w", "y", pads=[1, 1, 1, 1])
        return quantize(net.model("y"), {"x": 0.1})

    def test_a_channel_of_zeros(self):
        weights = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
        weights[3] = 0
        pairs = Pairs(self.quantized(weights).model)
        (scale,) = (array for array in pairs.constants.values() if array.shape == (8,) and array.dtype == np.float32)
        (levels,) = (array for array in pairs.constants.values() if array.ndim == 4)
        assert (scale > 0).all()
        assert not levels[3].any()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_weight_that_is_no_number_names_weight_and_operator(self, value):
        weights = np.ones((8, 8, 3, 3), np.float32)
        weights[1, 2, 0, 0] = value
        with pytest.raises(ModelError, match="w, the weight of y/Conv: a weight is NaN or infinite"):
            self.quantized(weights)

    def test_the_file_shrinks_to_about_a_quarter(self):
        net = Net()
        net.conv(net.input("x", ("N", 64, 8, 8)), "y", 64, 64, 3, 3)
        model = net.model("y")
        assert quantize(model, {"x": 0.1}).model.ByteSize() < 0.3 * model.ByteSize()


def test_the_model_given_is_not_changed():
    model = ZOO["conv_bn_relu"]().model
    before = model.SerializeToString()
    quantize(model, {"x": 0.1, "a_relu": 0.1})
    assert model.SerializeToString() == before


def test_quantizing_twice_is_refused():
    model = ZOO["conv_bn_relu"]().model
    with pytest.raises(ModelError, match="quantized already: give the float model"):
        quantize(quantize(model, {"x": 0.1, "a_relu": 0.1}).model, {"x": 0.1})


def test_a_model_in_half_precision_becomes_float32_and_int8():
    net = Net()
    net.input(element=TensorProto.FLOAT16)
    net.constant("w", np.ones((8, 8, 3, 3), np.float16))
    net.node("Conv", "x w", "y")
    found = quantize(net.model("y", element=TensorProto.FLOAT16), {"x": 0.1})
    assert found.remarks == (WIDENED_NOTE.format("FP16"),)
    assert found.quantized == ("y/Conv",)


def test_a_file_with_external_data_becomes_one_file(tmp_path):
    model = ZOO["identity_skip"]().model
    samples = samples_of(model, 4)
    path = tmp_path / "model.onnx"
    onnx.save(ZOO["identity_skip"]().model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    result = quantize(path, calibrate(collect(path, samples), "minmax"))
    save(result, tmp_path / "int8.onnx")
    (tmp_path / "data.bin").unlink()
    assert sqnr(model, load_model(tmp_path / "int8.onnx"), samples) > 25


class TestSaving:
    @pytest.fixture
    def result(self):
        return quantize(ZOO["conv_bn_relu"]().model, {"x": 0.1, "a_relu": 0.1})

    def test_what_is_saved_comes_back(self, result, tmp_path):
        save(result, tmp_path / "int8.onnx")
        assert load_model(tmp_path / "int8.onnx") == result.model
        assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]

    def test_the_same_input_gives_the_same_bytes(self, result, tmp_path):
        save(result, tmp_path / "one.onnx")
        save(quantize(ZOO["conv_bn_relu"]().model, {"x": 0.1, "a_relu": 0.1}), tmp_path / "two.onnx")
        assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()

    def test_a_missing_folder(self, result, tmp_path):
        with pytest.raises(OutputError, match="does not exist; make it first"):
            save(result, tmp_path / "missing" / "int8.onnx")

    def test_a_model_that_the_checker_refuses_is_not_written(self, result, tmp_path):
        (tmp_path / "int8.onnx").write_text("good")
        result.model.graph.node[0].input[0] = "nowhere"
        with pytest.raises(ModelError, match="the quantized model is not valid"):
            save(result, tmp_path / "int8.onnx")
        assert (tmp_path / "int8.onnx").read_text() == "good"


def test_a_loop_keeps_its_names_apart():
    """Names inside a body count as taken: ONNX has one space of names for a graph and what it encloses."""
    net = Net()
    net.constant("times", np.array(2, np.int64))
    net.constant("true", np.array(True))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["x_quantized"], ["x_dequantized"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_quantized", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_dequantized", TensorProto.FLOAT, None),
        ],
    )
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Loop", "times true a", "y", body=body)
    model = net.model("y")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 8, 8]))
    result = quantize(model, {"x": 4 / 127})
    onnx.checker.check_model(result.model)
    assert sqnr(model, result.model, samples_of(model, 4)) > 25
