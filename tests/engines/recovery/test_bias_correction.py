"""Empirical bias correction: afterwards no layer's mean output is off, whatever the network."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.constants import with_outputs
from engines.qdq.weights import Granularity, WeightOptions
from engines.recovery.bias_correction import bias_corrected, waves
from engines.simulation.simulated_model import LayerForm, Simulation
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.qdq.test_random_networks import BLOCKS, grown

COARSE = WeightOptions(granularity=Granularity("tensor"), bits=3)


def batches_of(model, count, *, batch=4, seed=0):
    return [Batch(each) for each in samples_of(model, count, batch=batch, seed=seed)]


def forms_of(simulation, samples, options=COARSE):
    scales = calibrate(collect(simulation.floats, samples), "minmax")
    return {
        layer.name: LayerForm(
            Encoding(np.float32(scales[layer.activation]), np.int32(0)),
            None if layer.weight is None else simulation.weight_encoding(layer.name, options),
        )
        for layer in simulation.layers
    }


def means(model, names, batches):
    """By tensor, the mean over all but the channels.

    Behind integer weights ONNX Runtime would round biases, which TensorRT has in float: it is told to leave the nodes
    as they are.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        with_outputs(model, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [session.run(names, dict(batch)) for batch in batches]
    joined = {
        name: np.concatenate([each[place] for each in found]).astype(np.float64) for place, name in enumerate(names)
    }
    return {
        name: value.mean(axis=(0, 2, 3) if value.ndim == 4 else tuple(range(value.ndim - 1)))
        for name, value in joined.items()
    }


@settings(max_examples=12)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=5), st.lists(st.integers(0, 5), max_size=1))
def test_no_mean_is_off_afterwards(blocks, outputs):
    simulation = Simulation(grown(blocks, outputs))
    samples = batches_of(simulation.floats, 8)
    forms = forms_of(simulation, samples)
    corrected = bias_corrected(simulation.floats, forms, samples)
    onnx.checker.check_model(corrected.model, full_check=True)
    layers = [layer for layer in simulation.layers if layer.weight is not None]
    assert set(corrected.shifts) == {layer.name for layer in layers}
    assert corrected.skipped == {}
    names = [layer.output for layer in layers]
    wanted = means(simulation.floats, names, samples)
    found = means(Simulation(corrected.model).version(forms), names, samples)
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-5 * max(1, np.abs(wanted[name]).max()))


def mlp(named=True):
    """Products with a bias in an Add, without one, of rows, and a Gemm; unnamed nodes go by their outputs."""
    net = Net(named=named)
    net.weight("w", 8, 6)
    net.constant("b", np.ones(6, np.float32))
    net.node("MatMul", f"{net.input(shape=('N', 5, 8))} w", "m")
    net.node("Add", "m b", "n")
    net.node("Relu", "n", "r")
    net.weight("v", 6, 6)
    net.node("MatMul", "r v", "s")
    net.node("Sigmoid", "s", "t")
    net.node("ReduceMean", "t", "p", axes=[1], keepdims=0)
    net.weight("u", 3, 6)
    net.constant("c", np.ones(3, np.float32))
    net.node("Gemm", "p u c", "y", transB=1, alpha=2.0, beta=0.5)
    net.weight("z", 3, 4)
    net.node("MatMul", "y z", "scores")
    return net.model("scores", "s")


@pytest.mark.parametrize("named", [True, False])
def test_products_get_a_bias_and_keep_their_names(named):
    simulation = Simulation(mlp(named))
    samples = batches_of(simulation.floats, 12)
    forms = forms_of(simulation, samples)
    corrected = bias_corrected(simulation.floats, forms, samples)
    onnx.checker.check_model(corrected.model, full_check=True)
    again = Simulation(corrected.model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in simulation.layers]
    assert [layer.activation for layer in again.layers] == [layer.activation for layer in simulation.layers]
    adds = [node for node in corrected.model.graph.node if node.op_type == "Add"]
    assert len(adds) == 3  # the one there was, and those of the products without
    names = ["n", "s", "y", "scores"]
    wanted = means(simulation.floats, names, samples)
    found = means(again.version(forms), names, samples)
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)
    before = means(simulation.version(forms), names, samples)
    assert max(np.abs(before[name] - wanted[name]).max() for name in names) > 1e-2


def test_branches_are_measured_together():
    simulation = Simulation(grown(["down", "conv"], []))
    forms = forms_of(simulation, batches_of(simulation.floats, 2))
    assert waves(simulation.floats, forms) == 3  # both of `down`, `conv`, `y`
    assert waves(simulation.floats, {"y/Conv": forms["y/Conv"]}) == 1


def test_only_quantized_layers_are_corrected():
    simulation = Simulation(grown(["conv", "relu", "conv"], []))
    samples = batches_of(simulation.floats, 8)
    forms = {"t0/Conv": forms_of(simulation, samples)["t0/Conv"]}
    corrected = bias_corrected(simulation.floats, forms, samples)
    assert set(corrected.shifts) == {"t0/Conv"}
    old, new = (
        {each.name: each.SerializeToString() for each in model.graph.initializer}
        for model in (simulation.floats, corrected.model)
    )
    assert {name for name in old if old[name] != new[name]} == {"t0_b"}


def test_samples_may_come_in_any_batches_and_are_counted():
    simulation = Simulation(classifier())
    samples = batches_of(simulation.floats, 12)
    forms = forms_of(simulation, samples)
    told = []
    one = bias_corrected(simulation.floats, forms, samples, progress=told.append)
    other = bias_corrected(simulation.floats, forms, batches_of(simulation.floats, 12, batch=5))
    assert sum(told) == 12 * (1 + waves(simulation.floats, forms))
    for name, shift in one.shifts.items():
        assert other.shifts[name] == pytest.approx(shift, rel=1e-3)


def test_nothing_changes_where_nothing_is_quantized():
    simulation = Simulation(classifier())
    corrected = bias_corrected(simulation.floats, {}, batches_of(simulation.floats, 2))
    assert (corrected.shifts, corrected.skipped) == ({}, {})


def test_a_mean_that_is_no_number_is_left_alone():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Log", "a", "b")
    net.conv("b", "y", 4, 8, 1, 1)
    simulation = Simulation(net.model("y"))
    samples = batches_of(simulation.floats, 4)
    encoding = Encoding(np.float32(0.01), np.int32(0))
    forms = {
        layer.name: LayerForm(
            encoding if layer.name == "a/Conv" else None, simulation.weight_encoding(layer.name, COARSE)
        )
        for layer in simulation.layers
    }
    corrected = bias_corrected(simulation.floats, forms, samples)
    assert set(corrected.shifts) == {"a/Conv"}
    assert corrected.skipped == {"y/Conv": "its mean error is no finite number"}
