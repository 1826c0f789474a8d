"""Forms of layers from statistics and settings."""

from dataclasses import replace

import numpy as np
import pytest

from calibrators.errors import ConfigError, ModelError
from calibrators.ranges import encodings
from calibrators.statistics.file import Statistics
from engines.collection.collect import collect
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import identity_skip
from trtcal.config.layer_forms import layer_forms
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig


@pytest.fixture(scope="module")
def work():
    model = classifier()
    return Simulation(model), collect(model, samples_of(model, 8), tensors="quantizable")


def named(simulation, **wanted):
    """Layer names by the tensor that each gives."""
    return {layer.output: layer.name for layer in simulation.layers}


def test_all_in_int8_is_the_qdq_model():
    network = identity_skip()
    statistics = collect(network.model, samples_of(network.model, 4))
    simulation = Simulation(network.model)
    forms = layer_forms(simulation, statistics, "minmax")
    assert forms.quantized == tuple(layer.name for layer in simulation.layers)
    cache = {name: float(each.scale) for name, each in encodings(statistics, "minmax").items()}
    batch = samples_of(network.model, 3, seed=1, batch=3)[0]
    with (
        OnnxRuntimeSession(simulation.version(forms.forms)) as one,
        OnnxRuntimeSession(quantize(network.model, cache).model) as other,
    ):
        for name, value in one.run(batch).items():
            assert np.array_equal(value, other.run(batch)[name]), name


def test_settings_are_obeyed(work):
    simulation, statistics = work
    names = [layer.name for layer in simulation.layers]
    config = QuantConfig()
    config.add_layer_config(names[0], precision="fp16")
    config.add_layer_config(names[1], weight_bits=4, activation_bits=6, granularity="tensor", symmetric=False)
    config.add_layer_config(names[2], activation="percentile:99", weight="mse")
    forms = layer_forms(simulation, statistics, "minmax", config.settings(simulation.layers).layers)
    assert forms.forms[names[0]] == LayerForm(half=True)
    assert forms.left == {names[0]: "the configuration has it in fp16"}
    assert forms.quantized == tuple(names[1:])
    second, third = forms.forms[names[1]], forms.forms[names[2]]
    assert (second.weight.grid.bits, second.weight.axis) == (4, None)
    assert (second.activation.grid.bits, second.activation.grid.symmetric) == (6, False)
    tensor = simulation.layers[2].activation
    assert third.activation == encodings(statistics, "percentile:99")[tensor]
    assert third.activation != encodings(statistics, "minmax")[tensor]


def test_in_float_is_float(work):
    simulation, statistics = work
    config = QuantConfig().add_type_config("Conv", precision="fp32")
    forms = layer_forms(simulation, statistics, settings=config.settings(simulation.layers).layers)
    assert [forms.forms[layer.name] == FLOAT for layer in simulation.layers] == [True, True, False]


def test_what_has_no_scale_stays_in_float(work):
    simulation, statistics = work
    first, second, _ = simulation.layers
    zero = type(statistics[first.activation]).of(np.zeros(4, np.float32))
    rest = {name: each for name, each in statistics.items() if name not in (first.activation, second.activation)}
    forms = layer_forms(simulation, type(statistics)({first.activation: zero, **rest}))
    assert forms.left == {
        first.name: f"its input {first.activation} was always zero, and has no scale",
        second.name: f"its input {second.activation} has no statistics",
    }


def test_blocks_are_not_for_convolutions(work):
    simulation, statistics = work
    config = QuantConfig(default=replace(QuantConfig().default, granularity="block:4"))
    with pytest.raises(ModelError, match="is a Conv, and blocks divide"):
        layer_forms(simulation, statistics, settings=config.settings(simulation.layers).layers)


def test_what_cannot_be_quantized_is_told():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 1, 1)
    net.node("Transpose", "a", "turned", perm=[0, 1, 3, 2])
    net.node("MatMul", "a turned", "scores")
    model = net.model("scores")
    forms = layer_forms(Simulation(model), collect(model, samples_of(model, 2)))
    assert forms.left == {"scores/MatMul": "both of its operands are activations"}


@pytest.mark.parametrize("setting", [{"activation": "lsq"}, {"weight": "lsq+"}])
def test_what_only_training_can_honour_is_refused(setting):
    simulation = Simulation(classifier())
    layers = {layer.name: LayerSettings(**setting) for layer in simulation.layers}
    with pytest.raises(ConfigError, match=r"is a quantizer to train a PyTorch model with: train with trtcal\.qat"):
        layer_forms(simulation, Statistics({}), "minmax", layers)
    floats = {name: replace(each, precision="float") for name, each in layers.items()}
    assert not layer_forms(simulation, Statistics({}), "minmax", floats).quantized
