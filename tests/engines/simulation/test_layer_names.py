"""Layers of float and Q/DQ models: the same names in both."""

import onnx
import pytest

from calibrators.errors import ModelError
from engines.graph.model import is_quantized
from engines.graph.operators import label
from engines.qdq.write import quantizable_tensors, quantize
from engines.simulation.layer_names import layers_of
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net, classifier
from tests.engines.zoo import ZOO


def quantized(model, **options):
    return quantize(model, dict.fromkeys(quantizable_tensors(model), 0.05), **options).model


@pytest.mark.parametrize("name", ZOO)
def test_they_are_a_simulations(name):
    model = ZOO[name]().model
    assert layers_of(model) == Simulation(model).layers


@pytest.mark.parametrize("name", ZOO)
def test_a_quantized_model_has_the_layers_of_the_float_one(name):
    model = ZOO[name]().model
    layers = layers_of(model)
    for left in ({}, {layer.name: "so it is" for layer in layers[1:]}):
        made = quantized(model, layers=left)
        assert is_quantized(made)
        found = layers_of(made)
        assert [(each.name, each.type, each.output, each.partner) for each in found] == [
            (each.name, each.type, each.output, each.partner) for each in layers
        ]
        assert [each.shape for each in found] == [each.shape for each in layers]


@pytest.mark.parametrize("name", ZOO)
def test_their_names_are_those_of_the_model_as_given(name):
    model = ZOO[name]().model
    names = {label(node) for node in model.graph.node}
    assert {layer.name for layer in layers_of(model)} <= names


def test_a_node_without_a_name_keeps_one_though_its_batch_normalization_is_folded():
    net = Net(named=False)
    net.batch_norm(net.conv(net.input(), "a", 8, 8, 3, 3), "b", 8)
    assert [layer.name for layer in layers_of(net.model("b"))] == ["Conv -> a"]


def test_weights_in_a_file_are_not_read(tmp_path):
    onnx.save(classifier(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    expected = layers_of(classifier())
    size = (tmp_path / "weights").stat().st_size
    (tmp_path / "weights").write_bytes(b"\xff" * size)  # no number at all
    found = layers_of(tmp_path / "model.onnx")
    assert [(each.name, each.shape) for each in found] == [(each.name, each.shape) for each in expected]


def test_the_partner_of_a_residual_addition():
    layers = {layer.name: layer for layer in layers_of(ZOO["identity_skip"]().model)}
    partners = {name: layer.partner for name, layer in layers.items() if layer.partner is not None}
    assert partners
    for name, partner in partners.items():
        assert layers[name].weight is None
        assert layers[partner].type == "Conv"


def test_a_model_with_nothing_to_quantize():
    net = Net()
    net.node("Relu", net.input(), "y")
    with pytest.raises(ModelError, match="the model has no layer to quantize"):
        layers_of(net.model("y"))
