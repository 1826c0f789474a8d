"""Biases beside channels whose weights are near zero: INT32 holds them, or the session does without it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.encoding import Encoding
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.biases import ROOM, overflowing_biases
from engines.qdq.weights import WeightOptions
from engines.qdq.write import quantize
from engines.sessions.exactness import default_is_exact
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from tests.engines.networks import samples_of

CHANNELS, DEAD = 16, 2


def layer(kind, *, dead=1e-9):
    """A layer whose first channels have weights near zero and a bias, and one behind it."""
    random = np.random.default_rng(0)
    images = kind.startswith("Conv")
    inputs, outputs = (8, 4) if images else (16, 16)
    weight = random.standard_normal((inputs, CHANNELS)).astype(np.float32)
    weight[:, :DEAD] *= dead
    last = random.standard_normal((CHANNELS, outputs)).astype(np.float32)
    constants = {"b": np.full(CHANNELS, 0.5, np.float32), "v": last}
    if kind == "Conv":
        constants["w"] = weight.T.reshape(CHANNELS, 8, 1, 1)
    elif kind == "ConvTranspose":
        constants["w"] = weight.reshape(8, CHANNELS, 1, 1)
    else:
        constants["w"] = weight.T if kind == "Gemm transB" else weight
    if images:
        constants["v"] = constants["v"].T.reshape(4, CHANNELS, 1, 1)
    if kind == "MatMul":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "a"), helper.make_node("Add", ["m", "b"], ["c"])]
    else:
        turned = {"transB": 1} if kind == "Gemm transB" else {}
        nodes = [helper.make_node(kind.split()[0], ["x", "w", "b"], ["c"], "a", **turned)]
    nodes.append(helper.make_node("Conv" if images else "MatMul", ["c", "v"], ["y"], "z"))
    size = [5, 5] if images else []
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", inputs, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", outputs, *size])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def decibels(model, other, **options):
    """SQNR of `other` against a float model."""
    batches = samples_of(model, 16)
    with OnnxRuntimeSession(model) as floats, OnnxRuntimeSession(other, **options) as session:
        pairs = [(floats.run(batch)["y"], session.run(batch)["y"]) for batch in batches]
    signal = sum(np.sum(expected**2) for expected, _ in pairs)
    return 10 * np.log10(signal / sum(np.sum((expected - actual) ** 2) for expected, actual in pairs))


def cache_of(model):
    return calibrate(collect(model, samples_of(model, 16)), "minmax")


def too_fine(result, name="w"):
    """A Q/DQ model as other tools write it: with a weight's scales by its largest magnitudes alone."""
    made = onnx.ModelProto()
    made.CopyFrom(result)
    for tensor in made.graph.initializer:
        if tensor.name == f"{name}_scale":
            scale = numpy_helper.to_array(tensor).copy()
            scale[:DEAD] = 1e-11
            tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    return made


KINDS = ["Conv", "ConvTranspose", "Gemm", "Gemm transB", "MatMul"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arithmetic", ["int8", "literal", "default"])
def test_a_bias_beside_a_dead_channel_survives_in_every_arithmetic(kind, arithmetic):
    if arithmetic == "default" and not default_is_exact():
        pytest.skip("ONNX Runtime's default arithmetic is wrong on this processor, whatever the biases")
    model = layer(kind)
    result = quantize(model, cache_of(model)).model
    assert not overflowing_biases(result)
    assert decibels(model, result, arithmetic=arithmetic) > 30


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("dead", [0.0, 1e-9, 1.0])
def test_no_scale_is_finer_than_its_bias_allows_nor_coarser_than_it_must(granularity, dead):
    model = layer("Conv", dead=dead)
    cache = cache_of(model)
    result = quantize(model, cache, granularity=granularity).model
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    floats = numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == "w"))
    own = np.abs(floats).max(axis=(1, 2, 3) if granularity == "channel" else None) / 127
    least = 0.5 / (cache["x"] * ROOM)
    np.testing.assert_allclose(arrays["w_scale"], np.maximum(own, least), rtol=1e-6)


def test_room_is_left_in_powers_of_two_as_well():
    model = layer("Conv")
    layers = {"a": WeightOptions(power_of_two=True)}
    result = quantize(model, cache_of(model), layers=layers).model
    scales = next(numpy_helper.to_array(each) for each in result.graph.initializer if each.name == "w_scale")
    assert (np.frexp(scales)[0] == 0.5).all()
    assert not overflowing_biases(result)


def test_an_encoding_that_is_given_leaves_room_too():
    model = layer("Conv")
    cache = cache_of(model)
    given = Encoding(np.full(CHANNELS, 1e-12, np.float32), np.zeros(CHANNELS, np.int32), axis=0)
    result = quantize(model, cache, layers={"a": given}).model
    assert not overflowing_biases(result)


def test_a_simulation_has_the_room_that_the_model_has():
    model = layer("Conv")
    cache = cache_of(model)
    simulation = Simulation(model)
    made = quantize(model, cache)
    forms = {
        each.name: LayerForm(
            Encoding(np.float32(cache[each.activation]), np.int32(0)),
            simulation.weight_encoding(each.name, made.weights),
        )
        for each in simulation.layers
    }
    version = simulation.version(forms)
    assert not overflowing_biases(version)
    assert decibels(model, version) == pytest.approx(decibels(model, made.model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_others_whose_biases_overflow_is_computed_literally(kind, tmp_path):
    model = layer(kind)
    made = too_fine(quantize(model, cache_of(model)).model)
    assert overflowing_biases(made) == ("a",)
    apart = tmp_path / "apart.onnx"
    onnx.save(made, apart, save_as_external_data=True, location="apart.data", size_threshold=0)
    for source in (onnx.load(apart), apart):
        with OnnxRuntimeSession(source) as session:
            (remark,) = session.remarks
            assert "such as a," in remark and "INT32" in remark
        assert decibels(model, source) > 30


def test_a_model_whose_biases_fit_is_left_to_the_integer_kernels(tmp_path):
    model = layer("Conv", dead=1.0)
    for each in (model, quantize(model, cache_of(model)).model):
        with OnnxRuntimeSession(each) as session:
            assert session.remarks == ()
