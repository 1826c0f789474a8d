"""`power_of_two = true`: the cache, the Q/DQ nodes and the simulation have the same powers."""

import math

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.read import DEQUANTIZE
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import classifier, samples_of
from tests.engines.zoo import ZOO
from trtcal.config.layer_forms import layer_forms
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig

ALL = QuantConfig(LayerSettings(power_of_two=True))


def scales_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The scale of each DequantizeLinear node, by what it gives."""
    values = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return {node.output[0]: values[node.input[1]] for node in model.graph.node if node.op_type == DEQUANTIZE}


def is_power(scales: np.ndarray) -> bool:
    return bool((np.frexp(scales)[0] == 0.5).all())


@pytest.fixture(scope="module", params=["classifier", "identity_skip", "depthwise"])
def work(request: pytest.FixtureRequest):
    model = classifier() if request.param == "classifier" else ZOO[request.param]().model
    return model, collect(model, samples_of(model, 6))


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_every_scale_is_the_next_power_of_two(work, method):
    model, statistics = work
    config = QuantConfig(LayerSettings(power_of_two=True, activation=method))
    plain = trtcal.quantize(model, calibrate(statistics, method)).model
    raised = trtcal.quantize(model, statistics, config=config).model
    before, after = scales_of(plain), scales_of(raised)
    assert before.keys() == after.keys()
    for name, scale in after.items():
        assert is_power(scale), name
        assert (np.exp2(np.ceil(np.log2(before[name].astype(np.float64)))) == scale).all(), name


def test_a_cache_gives_what_its_statistics_give(work):
    model, statistics = work
    cache = calibrate(statistics, "minmax")
    config = QuantConfig(LayerSettings(power_of_two=True, activation="minmax"))
    one, other = trtcal.quantize(model, cache, config=config), trtcal.quantize(model, statistics, config=config)
    assert one.model == other.model
    assert one.scales == other.scales
    assert all(each["power_of_two"] for each in one.configured.values())


def test_the_simulation_computes_what_the_nodes_say(work):
    model, statistics = work
    simulation = Simulation(model)
    forms = layer_forms(simulation, statistics, "minmax", ALL.settings(simulation.layers).layers)
    quantized = trtcal.quantize(model, calibrate(statistics, "minmax"), config=ALL)
    for name, scale in quantized.layer_scales.items():
        assert float(forms.forms[name].activation.scale) == scale
    batch = samples_of(model, 3, seed=1, batch=3)[0]
    with (
        OnnxRuntimeSession(simulation.version(forms.forms)) as one,
        OnnxRuntimeSession(quantized.model) as other,
    ):
        for name, value in one.run(batch).items():
            assert np.array_equal(value, other.run(batch)[name]), name


def test_quantsim_writes_them_into_every_file(work, tmp_path):
    model, _ = work
    with trtcal.QuantSim(model, scheme="minmax", config=ALL) as sim:
        sim.compute_encodings(samples_of(model, 6))
        sim.export(tmp_path, "m", qdq=True, cache=True)
    cache = trtcal.CalibrationCache.load(tmp_path / "m.cache")
    assert len(cache) > 1
    assert is_power(np.array(list(cache.values())))
    scales = scales_of(onnx.load(tmp_path / "m.qdq.onnx"))
    assert all(map(is_power, scales.values()))
    direct = trtcal.quantize(model, calibrate(collect(model, samples_of(model, 6)), "minmax"), config=ALL)
    assert sorted(float(each) for each in scales.values() if not each.ndim) == sorted(
        float(each) for each in scales_of(direct.model).values() if not each.ndim
    )


def test_one_layer_alone(tmp_path):
    model = classifier()
    cache = calibrate(collect(model, samples_of(model, 6)), "entropy")
    name = Simulation(model).layers[1].name
    (tmp_path / "quant.toml").write_text(f'[[layer]]\nname = "{name}"\npower_of_two = true\n')
    config = QuantConfig.load(tmp_path / "quant.toml")
    plain, found = trtcal.quantize(model, cache), trtcal.quantize(model, cache, config=config)
    for layer, scale in found.layer_scales.items():
        raised = 2.0 ** math.ceil(math.log2(plain.layer_scales[layer]))
        assert scale == (raised if layer == name else plain.layer_scales[layer])
    config.save(tmp_path / "again.toml")
    assert QuantConfig.load(tmp_path / "again.toml") == config


def test_weights_by_least_error_are_powers_no_larger(work):
    model, statistics = work
    found = {}
    for method in ("absmax", "mse"):
        config = QuantConfig(LayerSettings(power_of_two=True, weight=method, weight_bits=4))
        scales = scales_of(trtcal.quantize(model, calibrate(statistics, "minmax"), config=config).model)
        found[method] = {name: scale for name, scale in scales.items() if scale.ndim}
        assert found[method]
        assert all(map(is_power, found[method].values()))
    assert all((scale <= found["absmax"][name]).all() for name, scale in found["mse"].items())


def test_it_is_true_or_false():
    with pytest.raises(trtcal.TrtcalError, match="power_of_two must be true or false, not 1"):
        LayerSettings(power_of_two=1)
