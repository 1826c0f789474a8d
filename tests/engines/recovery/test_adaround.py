"""AdaRound on whole networks: weights on the levels, less error, and what is left alone."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.weights import Granularity, WeightOptions
from engines.qdq.write import quantize
from engines.recovery import reconstruction, rounded
from engines.recovery.adaround import adarounded, passes
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from tests.engines.networks import Net, samples_of
from tests.engines.recovery.test_bias_correction import batches_of, forms_of, mlp
from tests.engines.zoo import ZOO

BY_CHANNEL = WeightOptions(bits=3)


def weights(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def noise(reference, model, batches):
    """The share of the outputs' energy that the model gets wrong."""
    wrong = energy = 0.0
    with OnnxRuntimeSession(reference) as first, OnnxRuntimeSession(model, arithmetic="literal") as second:
        for batch in batches:
            for (name, expected), got in zip(first.run(batch).items(), second.run(batch).values(), strict=True):
                assert name
                wrong += float(np.square(expected - got, dtype=np.float64).sum())
                energy += float(np.square(expected, dtype=np.float64).sum())
    return wrong / energy


def correlated(model, count, *, batch=4):
    """Samples as of images: smooth, and not about 0."""
    random = np.random.default_rng(1)
    for each in samples_of(model, count, batch=batch):
        yield Batch(
            {name: np.abs(np.cumsum(value, axis=-1)) * random.uniform(0.5, 1, value.shape).astype(np.float32)
             for name, value in each.items()}
        )  # fmt: skip


def network():
    """A strided convolution, a depthwise one, ReLU6, a transposed convolution, Gemm and MatMul."""
    net = Net()
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    net.conv(net.input(shape=("N", 4, 8, 8)), "a", 8, 4, 3, 3, strides=[2, 2])
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "d", 8, 1, 3, 3, group=8, bias=False)
    net.node("Clip", "d zero six", "d_clip")
    net.conv("d_clip", "t", 8, 3, 2, 2, operator="ConvTranspose", group=2, strides=[2, 2], pads=[0, 0, 0, 0])
    net.node("GlobalAveragePool", "t", "p")
    net.node("Flatten", "p", "f")
    net.weight("w", 12, 6)
    net.constant("b", np.ones(12, np.float32))
    net.node("Gemm", "f w b", "g", transB=1, alpha=0.5)
    net.weight("v", 12, 5)
    net.node("MatMul", "g v", "y")
    return net.model("y")


@pytest.mark.parametrize("options", [BY_CHANNEL, WeightOptions("mse", Granularity("tensor"), bits=3)], ids=str)
def test_weights_on_their_levels_and_outputs_nearer(options):
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 32))
    forms = forms_of(simulation, samples, options)
    before = simulation.floats.SerializeToString(deterministic=True)
    made = adarounded(simulation.floats, forms, samples, 32)
    assert simulation.floats.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made.model, full_check=True)
    assert (list(made.layers), made.skipped) == (list(forms), {})
    assert len(made.encodings) >= 3
    again = Simulation(made.model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in simulation.layers]
    for name, encoding in made.encodings.items():
        weight = again.weight(name)
        np.testing.assert_array_equal(encoding.fake_quantize(weight), weight)
        grid = forms[name].weight
        assert (encoding.grid, encoding.axis) == (grid.grid, grid.axis)
        assert made.layers[name].error < made.layers[name].nearest
    for name in set(forms) - set(made.encodings):
        np.testing.assert_array_equal(again.weight(name), simulation.weight(name))
        assert made.layers[name].why
    now = {
        name: replace(form, weight=made.encodings[name]) if name in made.encodings else form
        for name, form in forms.items()
    }
    nearest = noise(simulation.floats, simulation.version(forms), samples)
    assert noise(simulation.floats, again.version(now), samples) < 0.5 * nearest


def test_written_as_it_was_simulated():
    """`quantize` puts weights on the encodings that they were rounded for."""
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 16))
    cache = calibrate(collect(simulation.floats, samples), "minmax")
    forms = forms_of(simulation, samples, BY_CHANNEL)
    made = adarounded(simulation.floats, forms, samples, 16)
    choices = {name: made.encodings.get(name, BY_CHANNEL) for name in forms}
    result = quantize(made.model, cache, layers=choices)
    written, scales = result.model, result.layer_scales
    now = {
        name: LayerForm(Encoding(np.float32(scales[name]), np.int32(0)), made.encodings.get(name, form.weight))
        for name, form in forms.items()
    }
    simulated = Simulation(made.model).version(now)
    for batch in samples[:2]:
        with OnnxRuntimeSession(written) as one, OnnxRuntimeSession(simulated) as other:
            np.testing.assert_array_equal(one.run(batch)["y"], other.run(batch)["y"])
    levels = weights(written)
    assert {tuple(np.unique(levels[f"{name}_quantized"])) for name in ("a_w", "w")} <= {
        tuple(range(-low, high + 1)) for low in (2, 3) for high in (2, 3)
    }


def test_the_same_again_and_another_with_another_seed():
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 16))
    forms = forms_of(simulation, samples, BY_CHANNEL)
    one, same, other = (
        adarounded(simulation.floats, forms, samples, 16, seed=seed).model.SerializeToString(deterministic=True)
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_eight_bits_by_channel_need_none():
    simulation = Simulation(mlp())
    samples = batches_of(simulation.floats, 12)
    forms = forms_of(simulation, samples, WeightOptions())
    made = adarounded(simulation.floats, forms, samples, 12)
    assert made.encodings == {}
    assert all(each.why.startswith("rounding to the nearest costs it little: ") for each in made.layers.values())
    assert all(each.noise > 35 for each in made.layers.values())


def test_mean_errors_go_into_biases_all_the_same():
    """Of the layers that are not rounded, too: at every output the mean is right on what was looked at."""
    simulation = Simulation(mlp())
    samples = batches_of(simulation.floats, 12)
    forms = forms_of(simulation, samples, WeightOptions())
    made = adarounded(simulation.floats, forms, samples, 12)
    with (
        OnnxRuntimeSession(simulation.floats) as before,
        OnnxRuntimeSession(Simulation(made.model).version(forms), arithmetic="literal") as after,
    ):
        for name in ("s", "scores"):
            means = [
                np.concatenate([session.run(batch)[name].reshape(-1, session.run(batch)[name].shape[-1])
                                for batch in samples]).mean(axis=0, dtype=np.float64)
                for session in (before, after)
            ]  # fmt: skip
            np.testing.assert_allclose(*means, atol=1e-5)


def test_samples_are_counted():
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 8))
    forms = forms_of(simulation, samples, BY_CHANNEL)
    told = []
    adarounded(simulation.floats, forms, samples, 8, progress=told.append)
    assert sum(told) == 8 * passes(simulation.floats, forms)


def test_many_layers_go_in_groups(monkeypatch):
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 8))
    forms = forms_of(simulation, samples, BY_CHANNEL)
    whole = adarounded(simulation.floats, forms, samples, 8)
    monkeypatch.setattr(reconstruction, "TARGETS", 1)
    assert passes(simulation.floats, forms) == 2 * len(forms)
    parts = adarounded(simulation.floats, forms, samples, 8)
    assert list(parts.layers) == list(whole.layers)
    for name in ("a/Conv", "d/Conv"):  # what is fetched apart, ONNX Runtime may sum up in another order
        assert parts.layers[name].noise == pytest.approx(whole.layers[name].noise, abs=0.01)


def test_a_shared_weight_stays():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Conv", "a a_w a_b", "b", pads=[1, 1, 1, 1])
    net.conv("b", "y", 4, 8, 1, 1)
    simulation = Simulation(net.model("y"))
    samples = list(correlated(simulation.floats, 8))
    forms = forms_of(simulation, samples, BY_CHANNEL)
    made = adarounded(simulation.floats, forms, samples, 8)
    assert made.skipped == dict.fromkeys(["a/Conv", "b/Conv"], "its weight a_w is read by others too")
    np.testing.assert_array_equal(weights(made.model)["a_w"], weights(simulation.floats)["a_w"])
    assert set(made.layers) == {"y/Conv"}


def test_only_activations_quantized_is_nothing_to_round():
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 4))
    forms = {name: replace(form, weight=None) for name, form in forms_of(simulation, samples, BY_CHANNEL).items()}
    made = adarounded(simulation.floats, forms, samples, 4)
    assert (made.layers, made.skipped, passes(simulation.floats, forms)) == ({}, {}, 0)


def test_what_cannot_be_taken_apart_is_named():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3, operator="ConvTranspose", output_shape=[9, 9], pads=None)
    net.conv("a", "y", 4, 8, 1, 1)
    simulation = Simulation(net.model("y"))
    samples = list(correlated(simulation.floats, 4))
    made = adarounded(simulation.floats, forms_of(simulation, samples, BY_CHANNEL), samples, 4)
    assert "a/ConvTranspose states its output's size" in made.skipped["a/ConvTranspose"]
    assert set(made.layers) == {"y/Conv"}


def test_a_layer_that_gives_something_else_is_found_out(monkeypatch):
    monkeypatch.setattr(rounded, "columns", lambda *given: 2 * reconstruction.columns(*given))
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 4))
    made = adarounded(simulation.floats, forms_of(simulation, samples, BY_CHANNEL), samples, 4)
    assert set(made.skipped.values()) == {"it gives something else than its weights and what it reads make up"}


@pytest.mark.parametrize(
    "name", ["conv_1d", "depthwise", "gemm", "grouped_conv_transpose", "mat_mul", "shared_weights", "unnamed"]
)
def test_every_kind_of_network_stays_valid(name):
    simulation = Simulation(ZOO[name]().model)
    samples = batches_of(simulation.floats, 4)
    forms = forms_of(simulation, samples, BY_CHANNEL)
    made = adarounded(simulation.floats, forms, samples, 4)
    onnx.checker.check_model(made.model, full_check=True)
    weighted = {layer.name for layer in simulation.layers if layer.weight is not None}
    assert set(made.layers) | set(made.skipped) == weighted
    now = {name: replace(form, weight=made.encodings.get(name, form.weight)) for name, form in forms.items()}
    assert np.isfinite(noise(simulation.floats, Simulation(made.model).version(now), samples))
