"""Matrix products too small to gain by INT8: in float, named, unless they are asked for."""

import numpy as np
import pytest

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.write import quantize
from engines.simulation.layer_names import layers_of
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net, samples_of
from tests.engines.qdq.test_shared_scales import decibels
from trtcal.config.layer_forms import layer_forms
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import quantize as quantize_by_config

WHY = (
    "its constant operand, {}, is too small to gain by INT8: fewer than 16 one way; "
    'precision = "int8" in a configuration quantizes it'
)


def head(operator="MatMul", rows=16, columns=10, **attributes):
    """A product that is large enough, and one that need not be."""
    net = Net()
    net.weight("w", 16, rows)
    net.weight("v", *((columns, rows) if attributes.get("transB") else (rows, columns)))
    net.node("MatMul", net.input(shape=("N", 16)) + " w", "a")
    net.node("Relu", "a", "a_relu")
    net.node(operator, "a_relu v", "y", **attributes)
    return net.model("y")


def cache_of(model):
    return calibrate(collect(model, samples_of(model, 8)), "minmax")


@pytest.mark.parametrize(
    "operator, rows, columns, attributes, left",
    [
        ("MatMul", 16, 10, {}, "16 x 10"),
        ("Gemm", 16, 10, {}, "16 x 10"),
        ("Gemm", 16, 10, {"transB": 1}, "10 x 16"),
        ("MatMul", 16, 16, {}, None),
        ("Gemm", 20, 17, {"transB": 1}, None),
    ],
)
def test_heads_of_few_outputs_stay_in_float(operator, rows, columns, attributes, left):
    model = head(operator, rows, columns, **attributes)
    result = quantize(model, cache_of(model))
    assert result.left_float == ({} if left is None else {f"y/{operator}": WHY.format(left)})


@pytest.mark.parametrize("inputs", [1, 3])
def test_positions_times_frequencies_stay_in_float(inputs):
    """As in rotary embeddings: angles of up to some hundred radians go into a sine."""
    net = Net()
    net.constant("frequencies", (10000 ** -np.linspace(0, 1, 32, dtype=np.float32))[None].repeat(inputs, 0))
    net.weight("w", 32, 32)
    net.node("MatMul", net.input(shape=("N", 16, inputs)) + " frequencies", "angles")
    net.node("Sin", "angles", "sines")
    net.node("MatMul", "sines w", "y")
    x = np.arange(4 * 16 * inputs, dtype=np.float32).reshape(4, 16, inputs)
    assert min(decibels(net.model("y"), {"x": x})) > 30


def test_a_configuration_asks_for_one():
    model = head()
    cache = cache_of(model)
    config = QuantConfig()
    assert quantize_by_config(model, cache, config=config).left_float == {"y/MatMul": WHY.format("16 x 10")}
    config.add_layer_config("y/MatMul", weight_bits=6)
    assert quantize_by_config(model, cache, config=config).left_float == {"y/MatMul": WHY.format("16 x 10")}
    config.add_layer_config("y/MatMul", precision="int8")
    asked = quantize_by_config(model, cache, config=config)
    assert (asked.quantized, dict(asked.left_float)) == (("a/MatMul", "y/MatMul"), {})
    assert config.plan(layers_of(model)).weights["y/MatMul"].bits == 6


def test_sensitivity_leaves_them_in_float_as_well():
    model = head()
    simulation, statistics = Simulation(model), collect(model, samples_of(model, 8))
    found = layer_forms(simulation, statistics, "minmax")
    assert (found.quantized, found.left) == (("a/MatMul",), {"y/MatMul": WHY.format("16 x 10")})
    settings = QuantConfig().settings(simulation.layers).layers
    assert layer_forms(simulation, statistics, "minmax", settings) == found
    settings = QuantConfig().add_name_config("y/*", precision="int8").settings(simulation.layers).layers
    assert layer_forms(simulation, statistics, "minmax", settings).left == {}


def test_a_model_of_small_products_alone_is_refused_with_the_way_out():
    net = Net()
    net.weight("w", 16, 4)
    net.node("MatMul", net.input(shape=("N", 16)) + " w", "y")
    with pytest.raises(ModelError, match=r'every layer stays in float .* precision = "int8" in a configuration'):
        quantize(net.model("y"), {"x": 0.1})
