"""Q/DQ nodes where layers differ: weights of their own, scales of their own, left in float."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError
from engines.qdq.weights import Granularity, WeightOptions
from engines.qdq.write import quantizable_tensors, quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from engines.structure.lint import structure_of
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO


def scales_of(model, scale=0.05):
    return dict.fromkeys(quantizable_tensors(model), scale)


def constants(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def fork():
    """Two convolutions that read the same tensor."""
    net = Net()
    x = net.node("Relu", net.input(), "r")
    net.node("Add", f"{net.conv(x, 'a', 8, 8, 3, 3)} {net.conv(x, 'b', 8, 8, 3, 3)}", "sum")
    return net.model("sum")


def test_weights_by_layer():
    model = classifier()
    layers = {"a/Conv": WeightOptions(bits=4), "b/Conv": WeightOptions(granularity=Granularity("tensor"))}
    made = quantize(model, scales_of(model), layers=layers)
    found = constants(made.model)
    assert np.abs(found["a_w_quantized"]).max() == 7
    assert np.abs(found["b_w_quantized"]).max() == 127
    assert found["b_w_scale"].shape == ()
    assert (found["a_w_scale"].shape, found["w_scale"].shape) == ((16,), (16,))
    assert made.quantized == ("a/Conv", "b/Conv", "scores/MatMul")


def test_layers_left_in_float_are_told_with_the_reason():
    model = classifier()
    made = quantize(model, scales_of(model), layers={"b/Conv": "of a reason"})
    assert made.left_float == {"b/Conv": "of a reason"}
    assert made.quantized == ("a/Conv", "scores/MatMul")
    assert set(made.scales) == {"image", "flat"}
    with pytest.raises(ModelError, match="every layer stays in float"):
        quantize(model, scales_of(model), layers=dict.fromkeys(("a/Conv", "b/Conv", "scores/MatMul"), "so"))


def test_a_scale_of_its_own_for_a_layer_that_shares_its_tensor():
    model = fork()
    made = quantize(model, scales_of(model), caches={"b/Conv": scales_of(model, 0.1)})
    assert made.several == ("r",)
    assert made.layer_scales["a/Conv"] == 0.05
    assert made.layer_scales["b/Conv"] == 0.1
    assert made.scales["r"] == 0.05
    quantizers = [node for node in made.model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "r"]
    assert len(quantizers) == 2
    assert any("have a pair for each range" in note for note in made.notes)
    assert not [each for each in structure_of(made.model).findings if each.severity == "error"]
    forms = {
        layer.name: LayerForm(
            encoding(made.layer_scales[layer.name]),
            None if layer.weight is None else simulation.weight_encoding(layer.name, WeightOptions()),
        )
        for simulation in [Simulation(model)]
        for layer in simulation.layers
    }
    (batch,) = samples_of(model, 2, batch=2)
    with OnnxRuntimeSession(made.model) as written, OnnxRuntimeSession(Simulation(model).version(forms)) as simulated:
        np.testing.assert_array_equal(written.run(batch)["sum"], simulated.run(batch)["sum"])


def encoding(scale):
    from calibrators.encoding import Encoding

    return Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32))


def test_equal_scales_share_a_pair():
    model = fork()
    made = quantize(model, scales_of(model), caches={"b/Conv": scales_of(model)})
    assert made.several == ()
    assert made.model == quantize(model, scales_of(model)).model


@pytest.mark.parametrize("name", ZOO)
def test_any_layer_may_be_left_out(name):
    model = ZOO[name]().model
    layers = Simulation(model).layers
    for left in layers if len(layers) > 1 else ():
        made = quantize(model, scales_of(model), layers={left.name: "so it is"})
        onnx.checker.check_model(made.model, full_check=True)
        assert made.left_float[left.name] == "so it is"
        assert left.name not in made.quantized
        assert set(made.layer_scales) == set(made.quantized)


def test_blocks_for_products_beside_convolutions():
    model = classifier()
    blocks = WeightOptions(granularity=Granularity("block", 8))
    made = quantize(model, scales_of(model), layers={"scores/MatMul": blocks})
    assert any("a scale per block of 8" in note for note in made.notes)
    onnx.checker.check_model(made.model, full_check=True)
    with pytest.raises(ModelError, match="a/Conv is a Conv, and blocks divide"):
        quantize(model, scales_of(model), layers={"a/Conv": blocks})


def test_more_bits_than_a_grid_has():
    with pytest.raises(RangeError):
        WeightOptions(bits=17)


def test_a_weight_on_an_encoding_that_is_given():
    model = classifier()
    weight = Simulation(model).weight("a/Conv")
    encoding = Encoding.symmetric(np.full(16, 0.5), WeightOptions(bits=4).grid, axis=0)
    made = quantize(model, scales_of(model), layers={"a/Conv": encoding})
    found = constants(made.model)
    np.testing.assert_array_equal(found["a_w_quantized"], encoding.quantize(weight))
    np.testing.assert_array_equal(found["a_w_scale"], encoding.scale)
    simulated = Simulation(model).version(
        {
            name: LayerForm(
                Encoding(np.float32(0.05), np.int32(0)),
                encoding if name == "a/Conv" else Simulation(model).weight_encoding(name, WeightOptions()),
            )
            for name in made.quantized
        }
    )
    (batch,) = samples_of(model, 2, batch=2)
    with OnnxRuntimeSession(made.model) as one, OnnxRuntimeSession(simulated) as other:
        np.testing.assert_array_equal(one.run(batch)["scores"], other.run(batch)["scores"])


def test_an_encoding_that_does_not_fit_is_refused():
    model = classifier()
    encoding = Encoding.symmetric(np.full(7, 0.5), WeightOptions().grid, axis=0)
    with pytest.raises(ModelError, match="a_w, the weight of a/Conv: 7 scales along axis 0 do not go with a tensor"):
        quantize(model, scales_of(model), layers={"a/Conv": encoding})
