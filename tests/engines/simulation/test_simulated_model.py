"""Versions of a model: any layers on any grid, and the INT8 one is the Q/DQ model itself."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.grid import Grid
from calibrators.range import Range
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.weights import Granularity, WeightOptions
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO

GRIDS = st.builds(Grid, bits=st.integers(2, 16), signed=st.booleans(), symmetric=st.booleans())


def run(model, batch):
    with OnnxRuntimeSession(model) as session:
        return session.run(batch)


def per_tensor(scale, grid=None):
    grid = grid or Grid()
    return Encoding(np.asarray(scale, np.float32), np.asarray(grid.zero_point, np.int32), grid)


def int8_forms(simulation, scales, options=None):
    """What `quantize` makes of a cache."""
    options = options or WeightOptions()
    return {
        layer.name: LayerForm(
            per_tensor(scales[layer.activation]),
            None if layer.weight is None else simulation.weight_encoding(layer.name, options),
        )
        for layer in simulation.layers
        if layer.activation in scales
    }


@pytest.mark.parametrize("name", ZOO)
def test_the_int8_version_is_the_quantized_model(name):
    model = ZOO[name]().model
    quantized = quantize(model, calibrate(collect(model, samples_of(model, 8))))
    simulation = Simulation(model)
    version = simulation.version(int8_forms(simulation, quantized.scales))
    onnx.checker.check_model(version)
    assert [layer.name for layer in simulation.layers if layer.activation in quantized.scales] == list(
        quantized.quantized
    )
    for batch in samples_of(model, 4):
        expected, found = run(quantized.model, batch), run(version, batch)
        assert list(expected) == list(found)
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values)


@pytest.mark.parametrize("name", ZOO)
def test_without_forms_it_is_the_float_model(name):
    model = ZOO[name]().model
    simulation = Simulation(model)
    version = simulation.version({layer.name: FLOAT for layer in simulation.layers})
    assert [node.op_type for node in version.graph.node] == [node.op_type for node in simulation.floats.graph.node]
    for batch in samples_of(model, 2):
        for key, values in run(simulation.floats, batch).items():
            np.testing.assert_array_equal(run(version, batch)[key], values)


def product():
    """x @ w, of one layer whose arithmetic numpy repeats exactly: inputs are small whole numbers."""
    net = Net()
    net.input("x", ("N", 6))
    net.constant("w", np.eye(6, dtype=np.float32))
    net.node("MatMul", "x w", "y")
    return net.model("y")


@given(grid=GRIDS, low=st.floats(-8, 0), high=st.floats(0.1, 8), seed=st.integers(0, 99))
def test_an_activation_goes_through_its_encoding(grid, low, high, seed):
    model = product()
    simulation = Simulation(model)
    (layer,) = simulation.layers
    encoding = Encoding.of_range(Range.symmetric(high) if grid.symmetric else Range(low, high), grid)
    values = np.random.default_rng(seed).normal(0, 6, (9, 6)).astype(np.float32)
    version = simulation.version({layer.name: LayerForm(activation=encoding)})
    onnx.checker.check_model(version)
    found = run(version, {"x": values})["y"]
    expected = encoding.fake_quantize(values)
    # Clip bounds, which a grid that does not fill its type needs, are rounded to float32: half-way values may differ.
    steps = np.abs(found - expected) / encoding.scale
    assert (steps < 1.001).all()
    assert np.isclose(found, expected, rtol=1e-6, atol=1e-6).mean() > 0.97
    if grid.bits in (8, 16) and not grid.narrow:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_weight_goes_through_its_encoding(bits, granularity):
    net = Net()
    net.input("x", ("N", 5))
    weight = np.random.default_rng(0).normal(0, 1, (5, 7)).astype(np.float32)
    net.constant("w", weight)
    net.node("MatMul", "x w", "y")
    simulation = Simulation(net.model("y"))
    (layer,) = simulation.layers
    options = WeightOptions("absmax", Granularity.parse(granularity), bits)
    encoding = simulation.weight_encoding(layer.name, options)
    assert (encoding.grid.minimum, encoding.grid.maximum) == (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    version = simulation.version({layer.name: LayerForm(weight=encoding)})
    found = run(version, {"x": np.eye(5, dtype=np.float32)})["y"]
    # ONNX Runtime (1.32) multiplies by the level above -128 and takes 128 steps off again, in float32.
    rounding = float(encoding.scale.max()) * 128 * 2.0**-22
    np.testing.assert_allclose(found, encoding.fake_quantize(weight), rtol=1e-6, atol=rounding)


def test_half_rounds_both_operands():
    net = Net()
    net.input("x", ("N", 1))
    net.constant("w", np.array([[1 + 2**-12, 3.0]], np.float32))
    net.node("MatMul", "x w", "y")
    simulation = Simulation(net.model("y"))
    found = run(
        simulation.version({simulation.layers[0].name: LayerForm(half=True)}), {"x": np.float32([[1 + 2**-13]])}
    )
    assert found["y"].tolist() == [[1.0, 3.0]]
    overflowing = run(
        simulation.version({simulation.layers[0].name: LayerForm(half=True)}), {"x": np.float32([[70000.0]])}
    )
    assert np.isinf(overflowing["y"]).all()


def test_half_rounds_what_the_layer_writes_for_all_its_readers():
    net = Net()
    net.input("x", ("N", 1))
    net.constant("w", np.array([[1.0, 300.0]], np.float32))
    net.node("MatMul", "x w", "product")
    net.node("Relu", "product", "y")
    net.constant("v", np.eye(2, dtype=np.float32))
    net.node("MatMul", "product v", "z")
    net.node("Neg", "product", "minus")
    simulation = Simulation(net.model("y", "z", "minus"))
    model = simulation.version({"product/MatMul": LayerForm(half=True)})
    assert run(model, {"x": np.float32([[300.0]])})["y"].tolist() == [[300.0, np.inf]]  # 90000 is beyond 65504
    found = run(model, {"x": np.float32([[1 + 2**-10]])})
    product = [1 + 2**-10, 300.25]  # 300 x (1 + 2^-10) is 300.293, between 300.25 and 300.5
    assert (found["y"].tolist(), found["z"].tolist(), found["minus"].tolist()) == (
        [product],
        [product],
        [[-value for value in product]],
    )


def test_readers_of_one_tensor_may_differ():
    net = Net()
    net.input("x", ("N", 4))
    for name in ("a", "b", "c"):
        net.constant(f"w{name}", np.eye(4, dtype=np.float32))
        net.node("MatMul", f"x w{name}", name)
    simulation = Simulation(net.model("a", "b", "c"))
    first, second, _ = (layer.name for layer in simulation.layers)
    coarse, fine = per_tensor(1.0), per_tensor(0.25)
    version = simulation.version({first: LayerForm(activation=coarse), second: LayerForm(activation=fine)})
    found = run(version, {"x": np.full((1, 4), 0.3, np.float32)})
    assert [float(found[name][0, 0]) for name in ("a", "b", "c")] == pytest.approx([0.0, 0.25, 0.3])


def test_readers_of_one_encoding_share_a_node():
    net = Net()
    net.input("x", ("N", 4))
    for name in ("a", "b"):
        net.constant(f"w{name}", np.eye(4, dtype=np.float32))
        net.node("MatMul", f"x w{name}", name)
    simulation = Simulation(net.model("a", "b"))
    version = simulation.version({layer.name: LayerForm(activation=per_tensor(1.0)) for layer in simulation.layers})
    (quantize,) = (node for node in version.graph.node if node.op_type == "QuantizeLinear")
    readers = [node for node in version.graph.node if quantize.output[0] in node.input]
    assert [node.op_type for node in readers] == ["DequantizeLinear"] * 2


def test_versions_do_not_change_one_another():
    model = classifier()
    simulation = Simulation(model)
    (batch,) = samples_of(model, 1)
    before = run(simulation.version({}), batch)
    forms = {layer.name: LayerForm(per_tensor(0.5), None) for layer in simulation.layers}
    changed = run(simulation.version(forms), batch)
    after = run(simulation.version({}), batch)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
        assert not np.array_equal(changed[name], values)


def test_tensors_of_the_float_model_come_out_on_request():
    model = classifier()
    simulation = Simulation(model)
    (batch,) = samples_of(model, 1)
    names = [layer.output for layer in simulation.layers]
    found = run(simulation.version({}, outputs=[*names, names[0]]), batch)
    assert set(names) <= set(found)


def test_levels_that_rounding_gives_back(tmp_path):
    """Weights on the levels of an encoding keep it: what AdaRound and the like hand over."""
    net = Net()
    net.input("x", ("N", 3))
    encoding = per_tensor(0.1, Grid(4, narrow=True))
    levels = np.array([[1, -7, 3], [0, 2, 7], [5, -1, -2]])
    net.constant("w", encoding.dequantize(levels))
    net.node("MatMul", "x w", "y")
    simulation = Simulation(net.model("y"))
    version = simulation.version({simulation.layers[0].name: LayerForm(weight=encoding)})
    (stored,) = (numpy_helper.to_array(each) for each in version.graph.initializer if each.name.endswith("_quantized"))
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, levels)


def test_what_is_not_there_is_refused():
    simulation = Simulation(classifier())
    with pytest.raises(ModelError, match="no layer nowhere to quantize"):
        simulation.version({"nowhere": FLOAT})
    layer = next(layer for layer in simulation.layers if layer.weight)
    odd = Encoding(np.ones(999, np.float32), np.zeros(999, np.int32), axis=0)
    with pytest.raises(ModelError, match="does not fit it"):
        simulation.version({layer.name: LayerForm(weight=odd)})


def test_a_skip_input_has_no_weight():
    model = (
        ZOO["residual"]().model
        if "residual" in ZOO
        else next(
            made.model
            for made in (make() for make in ZOO.values())
            if any(layer.weight is None for layer in Simulation(made.model).layers)
        )
    )
    simulation = Simulation(model)
    skip = next(layer for layer in simulation.layers if layer.weight is None)
    with pytest.raises(ModelError, match="has no weight"):
        simulation.weight(skip.name)
    with pytest.raises(ModelError, match="has no weight"):
        simulation.weight_encoding(skip.name, WeightOptions())


def test_a_path_is_read_with_its_external_data(tmp_path):
    model = classifier()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    simulation, in_memory = Simulation(tmp_path / "m.onnx"), Simulation(classifier())
    scales = {layer.activation: 0.1 for layer in simulation.layers}
    (batch,) = samples_of(model, 1)
    wide = {
        layer.name: LayerForm(activation=per_tensor(0.001, Grid(16))) for layer in simulation.layers
    }  # raises the opset, for which the model is read again
    for forms in (int8_forms(simulation, scales), wide):
        found, expected = (run(each.version(forms), batch) for each in (simulation, in_memory))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("weight", [None, 16])
def test_float_weights_stay_float_between_quantized_activations(weight):
    """ONNX Runtime quantizes them to INT8 on its own, some 35 dB here, unless it cannot tell that they are constant."""
    net = Net()
    net.conv(net.input(), "a", 16, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "y", 8, 16, 1, 1)
    simulation = Simulation(net.model("y"))
    fine = per_tensor(8 / 2**15, Grid(16))
    forms = {
        layer.name: LayerForm(
            fine, weight and simulation.weight_encoding(layer.name, WeightOptions("absmax", Granularity(), weight))
        )
        for layer in simulation.layers
    }
    (batch,) = samples_of(net.model("y"), 1)
    found, expected = run(simulation.version(forms), batch)["y"], run(simulation.floats, batch)["y"]
    assert np.sum((found - expected) ** 2) < 10**-6.5 * np.sum(expected**2)


def test_what_arithmetic_makes_of_the_nodes():
    """To the letter: numbers that NumPy gives for a bias that is no whole multiple of both scales."""
    net = Net()
    net.input("x", ("N", 1, 1, 1))
    net.constant("w", np.full((1, 1, 1, 1), 1.0, np.float32))
    net.constant("bias", np.float32([0.26]))
    net.node("Conv", "x w bias", "a")
    net.constant("v", np.full((1, 1, 1, 1), 1.0, np.float32))
    net.node("Conv", "a v", "y")
    simulation = Simulation(net.model("y"))
    coarse = Encoding(np.float32([1.0]), np.zeros(1, np.int32), Grid(narrow=True), 0)
    fine = per_tensor(1 / 16)
    first, second = simulation.layers
    version = simulation.version({first.name: LayerForm(fine, coarse), second.name: LayerForm(fine, coarse)})
    with OnnxRuntimeSession(version, arithmetic="literal") as session:
        found = session.run({"x": np.float32([[[[0.5]]]])})["y"].item()
    assert found == fine.fake_quantize(np.float32(0.76)).item() == 0.75
