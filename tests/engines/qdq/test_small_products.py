"""Matrix products too small to gain by INT8: in float, named, unless they are asked for."""

import numpy as np
import pytest

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.dynamic import quantize_dynamic
from engines.qdq.placement import SMALL, WHY_SMALL
from engines.qdq.write import quantize
from engines.simulation.layer_names import layers_of
from engines.simulation.simulated_model import Simulation
from engines.structure.lint import structure_of
from tests.engines.networks import Net, samples_of
from tests.engines.qdq.test_shared_scales import decibels
from trtcal.config.layer_forms import layer_forms
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import quantize as quantize_by_config


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
    "operator, rows, columns, attributes, stays",
    [
        ("MatMul", 16, 10, {}, True),
        ("MatMul", 16, 15, {}, True),
        ("Gemm", 16, 10, {}, True),
        ("Gemm", 16, 10, {"transB": 1}, True),
        ("MatMul", 16, 16, {}, False),
        ("Gemm", 20, 17, {"transB": 1}, False),
    ],
)
def test_heads_of_few_outputs_stay_in_float(operator, rows, columns, attributes, stays):
    model = head(operator, rows, columns, **attributes)
    cache = cache_of(model)
    result = quantize(model, cache)
    assert result.left_float == ({f"y/{operator}": SMALL} if stays else {})
    assert "a_relu" in cache  # a cache has all ranges: TensorRT's calibrators quantize the head as well
    assert structure_of(result.model).left_float == ({f"y/{operator}": WHY_SMALL} if stays else {})


@pytest.mark.parametrize("stack, stays", [((4, 16, 8), True), ((4, 8, 16), True), ((4, 16, 16), False)])
def test_of_a_stack_of_matrices_each_counts(stack, stays):
    """Four experts of a few columns each are four small products, whatever their number."""
    net = Net()
    net.weight("w", *stack)
    net.weight("v", 16, 16)
    net.node("MatMul", net.input(shape=("N", 1, 3, stack[1])) + " w", "y")
    net.node("MatMul", net.input("z", ("N", 16)) + " v", "large")
    model = net.model("y", "large")
    assert quantize(model, cache_of(model)).left_float == ({"y/MatMul": SMALL} if stays else {})


@pytest.mark.parametrize("rows, stays", [(4, True), (32, False)])
def test_a_constant_on_the_left_counts_as_well(rows, stays):
    """As in a pooling of tokens by a learned matrix: what is small is its constant, on either side."""
    net = Net()
    net.weight("pool", rows, 20)
    net.weight("v", 16, 16)
    net.node("MatMul", net.input(shape=("N", 20, 16)) + " v", "tokens")
    net.node("MatMul", "pool tokens", "y")
    model = net.model("y")
    assert quantize(model, cache_of(model)).left_float == ({"y/MatMul": SMALL} if stays else {})


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


def test_a_bias_is_no_operand():
    net = Net()
    net.weight("w", 16, 16)
    net.weight("b", 1, 16)
    net.node("Gemm", net.input(shape=("N", 16)) + " w b", "y")
    result = quantize(net.model("y"), {"x": 0.02})
    assert structure_of(result.model).left_float == result.left_float == {}


def test_convolutions_of_few_channels_are_quantized():
    net = Net()
    net.conv(net.input("image", ("N", 3, 8, 8)), "y", 4, 3, 3, 3, bias=False)
    model = net.model("y")
    assert quantize(model, cache_of(model)).left_float == {}


def test_a_configuration_asks_for_one():
    model = head()
    cache = cache_of(model)
    config = QuantConfig()
    assert quantize_by_config(model, cache, config=config).left_float == {"y/MatMul": SMALL}
    config.add_layer_config("y/MatMul", weight_bits=6)
    assert quantize_by_config(model, cache, config=config).left_float == {"y/MatMul": SMALL}
    config.add_layer_config("y/MatMul", precision="int8")
    asked = quantize_by_config(model, cache, config=config)
    assert (asked.quantized, dict(asked.left_float)) == (("a/MatMul", "y/MatMul"), {})
    assert config.plan(layers_of(model)).weights["y/MatMul"].bits == 6


def test_a_configuration_that_says_float_is_obeyed():
    """By a calibrator's build too, where a small product is TensorRT's to choose unless something is said of it."""
    model = head()
    assert "y/MatMul" not in QuantConfig().plan(layers_of(model)).precisions
    plan = QuantConfig().skip(names="y/*").plan(layers_of(model))
    assert plan.precisions["y/MatMul"] == "float"
    left = quantize(model, cache_of(model), layers=plan.choices).left_float
    assert left == {"y/MatMul": "the configuration has it in float"}


def test_sensitivity_leaves_them_in_float_as_well():
    model = head()
    simulation, statistics = Simulation(model), collect(model, samples_of(model, 8))
    found = layer_forms(simulation, statistics, "minmax")
    assert (found.quantized, found.left) == (("a/MatMul",), {"y/MatMul": SMALL})
    settings = QuantConfig().settings(simulation.layers).layers
    assert layer_forms(simulation, statistics, "minmax", settings) == found
    settings = QuantConfig().add_name_config("y/*", precision="int8").settings(simulation.layers).layers
    assert layer_forms(simulation, statistics, "minmax", settings).left == {}


def test_dynamic_quantization_takes_them():
    assert quantize_dynamic(head()).quantized == ("a/MatMul", "y/MatMul")


def test_a_model_of_small_products_alone_is_refused_with_the_way_out():
    net = Net()
    net.weight("w", 16, 4)
    net.node("MatMul", net.input(shape=("N", 16)) + " w", "y")
    with pytest.raises(ModelError, match=r'every layer stays in float .* precision = "int8" asks for it'):
        quantize(net.model("y"), {"x": 0.1})
