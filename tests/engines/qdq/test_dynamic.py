"""Dynamic quantization of the zoo and of every form of the three operators: valid, close to float, for ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.errors import ModelError, RangeError
from calibrators.weights import weight_encoding
from engines.collection.collect import collect
from engines.graph.model import load_model
from engines.passes.prepare import WIDENED_NOTE
from engines.qdq.dynamic import quantize_dynamic
from engines.qdq.write import quantize
from engines.sessions.exactness import default_is_exact
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO

INTEGER = {"Conv": "ConvInteger", "Gemm": "MatMulInteger", "MatMul": "MatMulInteger"}
TRANSPOSED = "ONNX has no ConvTranspose of integers"


def run(model, batches):
    with OnnxRuntimeSession(model) as session:
        outputs = [session.run(batch) for batch in batches]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def sqnr(model, other, batches):
    """The signal-to-noise ratio in dB of `other` against `model`, of the worst output."""
    floats, integers = run(model, batches), run(other, batches)
    assert floats.keys() == integers.keys()
    noise = {name: np.sum((floats[name] - integers[name]) ** 2, dtype=np.float64) for name in floats}
    return min(10 * np.log10(np.sum(floats[name] ** 2, dtype=np.float64) / noise[name]) for name in floats)


def require_exact_sums():
    """Skip what is left of a test where ONNX Runtime's integer products are not what ONNX says they are."""
    if not default_is_exact():
        pytest.skip("ONNX Runtime adds up INT8 products wrongly here, see findings/ort-saturates-without-vnni.sh")


def kinds(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_valid_and_close_to_float(name, granularity):
    network = ZOO[name]()
    result = quantize_dynamic(network.model, granularity=granularity)
    onnx.checker.check_model(result.model, full_check=True)
    names = [node.name for node in result.model.graph.node]
    assert len(names) == len(set(names))
    left = {**network.left, **{node.name: TRANSPOSED for node in network.model.graph.node if "Transpose" in node.name}}
    left = {name: why for name, why in left.items() if not name.endswith("/Transpose")}
    left |= dict.fromkeys(("b/MatMul", "c/MatMul"), "no matrix on the right") if name == "mat_mul" else {}
    assert result.left_float.keys() == left.keys()
    assert all(why in result.left_float[name] for name, why in left.items())
    if "MatMulInteger" in kinds(result.model):
        require_exact_sums()
    assert sqnr(network.model, result.model, samples_of(network.model, 8, batch=4)) > 30


@pytest.mark.parametrize("name", ZOO)
def test_an_activation_is_quantized_once_for_all_its_readers(name):
    result = quantize_dynamic(ZOO[name]().model)
    quantized = [node.input[0] for node in result.model.graph.node if node.op_type == "DynamicQuantizeLinear"]
    assert sorted(quantized) == sorted(result.activations)
    assert len(set(quantized)) == len(quantized)
    integers = [node for node in result.model.graph.node if node.op_type in INTEGER.values()]
    assert len(integers) == len(result.quantized)
    named = [node.name for node in integers if "sums" not in node.name]
    assert named == list(result.quantized)


def test_weights_are_those_of_the_encoding():
    model = ZOO["conv_bn_relu"]().model
    for method in ("absmax", "mse"):
        result = quantize_dynamic(model, weights=method)
        constants = {each.name: numpy_helper.to_array(each) for each in result.model.graph.initializer}
        original = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "y_w")
        encoding = weight_encoding(original, axis=0, method=method)
        assert constants["y_w_quantized"].dtype == np.int8
        assert np.array_equal(constants["y_w_quantized"], encoding.quantize(original))
        assert np.array_equal(constants["y_w_scale"].reshape(-1), encoding.scale)
    assert quantize_dynamic(model).model != result.model


CONVOLUTIONS = {
    "padded": ((8, 9, 9), (16, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    "uneven": ((8, 19, 17), (16, 8, 3, 3), {"pads": [0, 1, 2, 1], "strides": [2, 3], "dilations": [2, 1]}),
    "grouped": ((8, 9, 9), (12, 2, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "depthwise": ((8, 9, 9), (8, 1, 3, 3), {"group": 8}),
    "multiplied": ((8, 9, 9), (16, 1, 3, 3), {"group": 8, "strides": [2, 2]}),
    "one_dimension": ((8, 19), (16, 4, 5), {"group": 2, "strides": [2], "pads": [2, 1]}),
    "three_dimensions": ((4, 5, 6, 7), (8, 4, 3, 3, 3), {"pads": [1] * 6}),
    "same_upper": ((8, 10, 9), (16, 8, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same_lower": ((8, 10, 9), (16, 8, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "valid": ((8, 10, 9), (16, 8, 3, 3), {"auto_pad": "VALID"}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_every_form_of_convolution(form, bias):
    """What ONNX Runtime's ConvInteger makes of it; channels differ a hundredfold, so a wrong scale is seen."""
    shape, kernel, attributes = CONVOLUTIONS[form]
    net = Net()
    net.weight("w", *kernel)
    net.constants["w"] *= 10 ** net.random.uniform(-1, 1, (len(net.constants["w"]), *[1] * (len(kernel) - 1)))
    net.constants["w"] = net.constants["w"].astype(np.float32)
    net.constant("b", net.random.standard_normal(kernel[0]).astype(np.float32))
    net.node("Conv", net.input(shape=("N", *shape)) + " w" + " b" * bias, "y", **attributes)
    model = net.model("y")
    result = quantize_dynamic(model)
    assert result.quantized == ("y/Conv",)
    samples = samples_of(model, 6, batch=3)
    floats, integers = run(model, samples)["y"], run(result.model, samples)["y"]
    others = tuple(axis for axis in range(floats.ndim) if axis != 1)
    ratio = (floats**2).sum(others) / ((floats - integers) ** 2).sum(others)
    assert 10 * np.log10(ratio.min()) > 30


@pytest.mark.parametrize(
    "attributes", [{}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1}, {"transB": 1, "alpha": -3.0}, {"beta": 0.0}]
)
@pytest.mark.parametrize("bias", ["row", "one", "none", "computed"])
def test_every_form_of_gemm(attributes, bias):
    net = Net()
    net.input(shape=("N", 32))
    net.weight("w", *((24, 32) if attributes.get("transB") else (32, 24)))
    net.constant("row", net.random.standard_normal(24).astype(np.float32))
    net.constant("one", np.float32([[0.7]]))
    if bias == "computed":
        net.node("ReduceMean", "x", "computed", axes=[1])
    net.node("Gemm", "x w" + (f" {bias}" if bias != "none" else ""), "y", **attributes)
    model = net.model("y")
    result = quantize_dynamic(model)
    assert result.left_float == {}
    assert "Gemm" not in kinds(result.model)
    require_exact_sums()
    assert sqnr(model, result.model, samples_of(model, 16, batch=8)) > 35


@pytest.mark.parametrize("shape", [("N", 16), ("N", "T", 16), ("N", 3, "T", 16), (16,)])
def test_matrix_products_of_any_rank_and_free_sizes(shape):
    net = Net()
    net.weight("w", 16, 24, fan_in=16)
    net.constant("b", net.random.standard_normal(24).astype(np.float32))
    net.node("MatMul", net.input(shape=shape) + " w", "m")
    net.node("Add", "m b", "y")
    model = net.model("y")
    result = quantize_dynamic(model)
    random = np.random.default_rng(0)
    for free in (1, 7):
        sizes = [size if isinstance(size, int) else free for size in shape]
        sample = [{"x": random.standard_normal(sizes).astype(np.float32)}]
        floats, integers = run(model, sample)["y"], run(result.model, sample)["y"]
        assert floats.shape == integers.shape
        require_exact_sums()
        assert 10 * np.log10((floats**2).sum() / ((floats - integers) ** 2).sum()) > 30


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30])
def test_constant_inputs(value):
    """An activation of zeros has no range: ONNX Runtime takes the scale 1 for it, and the result is the bias."""
    model = ZOO["depthwise"]().model
    result = quantize_dynamic(model)
    sample = [{"x": np.full((2, 8, 8, 8), value, np.float32)}]
    floats, integers = run(model, sample)["y"], run(result.model, sample)["y"]
    assert np.isfinite(integers).all()
    np.testing.assert_allclose(integers, floats, atol=0.03 * np.abs(floats).max())


def test_a_channel_of_zeros():
    net = Net()
    net.weight("w", 8, 8, 3, 3)
    net.constants["w"][3] = 0
    net.node("Conv", net.input() + " w", "y")
    model = net.model("y")
    outputs = run(quantize_dynamic(model).model, samples_of(model, 2))["y"]
    assert not outputs[:, 3].any()
    assert np.isfinite(outputs).all()


def test_an_output_in_the_middle_keeps_its_name_and_stays_float():
    model = ZOO["output_in_the_middle"]().model
    result = quantize_dynamic(model).model
    assert [value.name for value in result.graph.output] == ["features", "y"]
    assert [value.name for value in result.graph.input] == ["x"]


def test_products_that_could_overflow_stay_in_float():
    """255 * 127 * 70000 is more than INT32 holds."""
    net = Net()
    net.input(shape=("N", 70000))
    net.constant("w", np.ones((70000, 2), np.float32))
    net.node("MatMul", "x w", "a")
    net.weight("v", 2, 4)
    net.node("MatMul", "a v", "y")
    result = quantize_dynamic(net.model("y"))
    assert result.left_float == {"a/MatMul": "its sums could overflow INT32"}
    assert result.quantized == ("y/MatMul",)


def test_the_largest_sums_that_are_allowed_are_right():
    """Against the sum in 64 bits: 255 * 127 * 66000 is just below the end of INT32."""
    require_exact_sums()
    net = Net()
    net.constant("w", np.ones((66000, 1), np.float32))
    net.node("MatMul", net.input(shape=("N", 66000)) + " w", "y")
    result = quantize_dynamic(net.model("y"))
    ones = {"x": np.ones((1, 66000), np.float32)}
    session = onnxruntime.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, ones)[0] == pytest.approx(66000, rel=1e-5)


def test_nothing_to_quantize():
    net = Net()
    net.conv(net.input(), "y", 8, 8, 2, 2, operator="ConvTranspose")
    with pytest.raises(
        ModelError, match=f"no layer to quantize dynamically; y/ConvTranspose is not one, for {TRANSPOSED}"
    ):
        quantize_dynamic(net.model("y"))


def test_a_weight_that_is_no_number_names_weight_and_operator():
    net = Net()
    net.constant("w", np.full((8, 8, 3, 3), np.nan, np.float32))
    net.node("Conv", net.input() + " w", "y")
    with pytest.raises(ModelError, match="w, the weight of y/Conv: a weight is NaN or infinite"):
        quantize_dynamic(net.model("y"))


def test_half_precision_becomes_float32():
    net = Net()
    net.constant("w", np.ones((8, 8, 3, 3), np.float16))
    net.node("Conv", net.input(element=TensorProto.FLOAT16) + " w", "y")
    found = quantize_dynamic(net.model("y", element=TensorProto.FLOAT16))
    assert found.quantized == ("y/Conv",)
    assert [value.type.tensor_type.elem_type for value in found.model.graph.input] == [TensorProto.FLOAT]
    assert found.remarks == (WIDENED_NOTE.format("FP16"),)


@pytest.mark.parametrize(
    "option, why", [({"granularity": "block:8"}, "no scales by blocks"), ({"weights": "best"}, "no weight method")]
)
def test_what_there_is_not(option, why):
    with pytest.raises(RangeError, match=why):
        quantize_dynamic(ZOO["gemm"]().model, **option)


def test_a_model_that_is_quantized_already_is_refused_everywhere():
    model = ZOO["conv_bn_relu"]().model
    result = quantize_dynamic(model)
    static = quantize(model, {"x": 0.1, "a_relu": 0.1})
    for quantized in (result.model, static.model):
        with pytest.raises(ModelError, match="quantized already: give the float model"):
            quantize_dynamic(quantized)
    with pytest.raises(ModelError, match="quantized already: give the float model"):
        quantize(result.model, {"x": 0.1})
    with pytest.raises(ModelError, match=r"is quantized dynamically .*TensorRT has no dynamic INT8"):
        collect(result.model, samples_of(model, 1))


def test_the_model_given_is_not_changed():
    model = ZOO["gemm"]().model
    before = model.SerializeToString()
    quantize_dynamic(model)
    assert model.SerializeToString() == before


def test_the_same_input_gives_the_same_bytes():
    one, two = (quantize_dynamic(ZOO["two_inputs"]().model).model.SerializeToString() for _ in range(2))
    assert one == two


def test_a_file_with_external_data_becomes_one_model(tmp_path):
    model = ZOO["identity_skip"]().model
    path = tmp_path / "model.onnx"
    onnx.save(ZOO["identity_skip"]().model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    result = quantize_dynamic(path).model
    (tmp_path / "data.bin").unlink()
    onnx.save(result, tmp_path / "dynamic.onnx")
    assert sqnr(model, load_model(tmp_path / "dynamic.onnx"), samples_of(model, 4)) > 30


def test_the_file_shrinks_to_about_a_quarter():
    net = Net()
    net.conv(net.input("x", ("N", 64, 8, 8)), "y", 64, 64, 3, 3)
    model = net.model("y")
    assert quantize_dynamic(model).model.ByteSize() < 0.3 * model.ByteSize()


def test_the_note_says_that_it_is_not_for_tensorrt():
    (note,) = quantize_dynamic(ZOO["gemm"]().model).notes
    assert "this model is for ONNX Runtime: TensorRT has no dynamic INT8" in note


def test_the_reference_evaluator_agrees_with_onnx_runtime():
    from onnx.reference import ReferenceEvaluator

    model = ZOO["gemm"]().model
    result = quantize_dynamic(model).model
    (sample,) = samples_of(model, 5, batch=5)
    (expected,) = ReferenceEvaluator(result).run(None, sample)
    require_exact_sums()
    np.testing.assert_allclose(run(result, [sample])["y"], expected, rtol=1e-4, atol=1e-5)


def test_operators_of_another_domain_stay():
    """A model with an operator of ONNX Runtime's own keeps its domain."""
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.nodes.append(helper.make_node("Gelu", ["a"], ["y"], name="y/Gelu", domain="com.microsoft"))
    model = net.model("y")
    assert sqnr(model, quantize_dynamic(model).model, samples_of(model, 2)) > 30
