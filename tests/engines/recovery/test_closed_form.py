"""Rounding in closed form on whole networks: weights on the levels, less error, and what is left alone."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibrators.batches import Batch
from engines.qdq.weights import Granularity, WeightOptions
from engines.recovery import closed_form
from engines.recovery.affine import affines
from engines.recovery.closed_form import rounded
from engines.recovery.gram import Gram
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net
from tests.engines.recovery.test_adaround import correlated, network, noise
from tests.engines.recovery.test_bias_correction import batches_of, forms_of, mlp

OPTIONS = [
    WeightOptions(bits=3),
    WeightOptions("mse", Granularity("tensor"), bits=3),
    WeightOptions(granularity=Granularity("tensor"), bits=4),
    WeightOptions(),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_on_their_levels_and_outputs_nearer(options):
    """Of every kind of layer: strided, depthwise, transposed with groups, Gemm with a factor, MatMul."""
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 32))
    forms = forms_of(simulation, samples, options)
    before = simulation.floats.SerializeToString(deterministic=True)
    made = rounded(simulation.floats, forms, samples, 32)
    assert simulation.floats.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made.model, full_check=True)
    assert (list(made.layers), made.skipped) == (list(forms), {})
    assert len(made.encodings) >= 4
    again = Simulation(made.model)
    for name, encoding in made.encodings.items():
        weight = again.weight(name)
        np.testing.assert_allclose(encoding.fake_quantize(weight), weight, rtol=1e-6)
        grid = forms[name].weight
        assert (encoding.grid, encoding.axis) == (grid.grid, grid.axis)
        assert made.layers[name].error < made.layers[name].nearest
    for name in set(forms) - set(made.encodings):
        np.testing.assert_array_equal(again.weight(name), simulation.weight(name))
        assert made.layers[name].why
    floats = {name: replace(form, activation=None) for name, form in forms.items()}
    now = {name: replace(form, weight=made.encodings.get(name, form.weight)) for name, form in floats.items()}
    nearest = noise(simulation.floats, simulation.version(floats), samples)
    assert noise(simulation.floats, again.version(now), samples) < 0.5 * nearest


def test_an_error_is_what_is_measured():
    """Of a padded, strided, dilated convolution with groups, at all places: the covariance says what a run gives."""
    net = Net()
    net.conv(
        net.input(shape=("N", 4, 9, 8)), "y", 6, 2, 3, 2, group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 1]
    )
    simulation = Simulation(net.model("y"))
    samples = list(correlated(simulation.floats, 16))
    forms = {name: replace(form, activation=None) for name, form in forms_of(simulation, samples, OPTIONS[0]).items()}
    made = rounded(simulation.floats, forms, samples, 16)
    ((name, one),) = made.layers.items()
    now = {name: replace(forms[name], weight=made.encodings[name])}
    wrong = noise(simulation.floats, Simulation(made.model).version(now), samples)
    y = np.concatenate([_run(simulation.floats, batch) for batch in samples]).astype(np.float64)
    spread = y.var(axis=(0, 2, 3)).sum() / np.square(y).mean(axis=(0, 2, 3)).sum()
    assert wrong == pytest.approx(one.error * spread, rel=1e-3)


def _run(model, batch):
    from engines.sessions.onnxruntime import OnnxRuntimeSession

    with OnnxRuntimeSession(model) as session:
        (y,) = session.run(batch).values()
    return y


def test_the_same_in_other_batches_and_another_with_another_seed(monkeypatch):
    monkeypatch.setattr(closed_form, "PLACES", 200)
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 32))
    forms = forms_of(simulation, samples, OPTIONS[0])
    joined = [
        Batch({name: np.concatenate([each[name] for each in samples[at : at + 3]]) for name in samples[0]})
        for at in range(0, len(samples), 3)
    ]
    first, same, other, seeded = (
        rounded(simulation.floats, forms, each, 32, seed=seed)
        for each, seed in ((samples, 0), (samples, 0), (joined, 0), (samples, 1))
    )
    for name, encoding in first.encodings.items():
        np.testing.assert_array_equal(encoding.scale, other.encodings[name].scale)
        assert other.layers[name].error == pytest.approx(first.layers[name].error, rel=0.01)
    texts = [each.model.SerializeToString(deterministic=True) for each in (first, same, seeded)]
    assert texts[0] == texts[1] != texts[2]


def test_sums_add_up():
    x = np.random.default_rng(0).standard_normal((2, 5, 60)).astype(np.float32)
    whole, parts = Gram.of(x), Gram.of(x[:, :, :7]) + Gram.of(x[:, :, 7:])
    assert whole.places == parts.places == 60
    np.testing.assert_allclose(whole.covariance, parts.covariance, rtol=1e-4, atol=1e-6)
    for group in range(2):
        np.testing.assert_allclose(parts.covariance[group], np.cov(x[group], bias=True), rtol=1e-4, atol=1e-6)


def test_layer_by_layer_where_memory_holds_no_more(monkeypatch):
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 16))
    forms = forms_of(simulation, samples, OPTIONS[0])
    at_once = rounded(simulation.floats, forms, samples, 16)
    largest = max(closed_form._squares(layer) for layer in affines(ir.from_proto(simulation.floats))[0].values())
    monkeypatch.setattr(closed_form, "MOST_SQUARES", largest)
    apart = rounded(simulation.floats, forms, samples, 16)
    assert list(apart.layers) == list(at_once.layers)
    for name, each in at_once.layers.items():
        assert apart.layers[name].nearest == pytest.approx(each.nearest, rel=1e-4)
        assert apart.layers[name].error == pytest.approx(each.error, rel=0.05)
    monkeypatch.setattr(closed_form, "MOST_SQUARES", largest - 1)
    (why,) = set(rounded(simulation.floats, forms, samples, 16).skipped.values())
    assert "its Gram matrix would take" in why


def test_fewer_places_than_inputs_are_refused():
    simulation = Simulation(mlp())
    (batch,) = batches_of(simulation.floats, 1, batch=1)
    forms = forms_of(simulation, [batch])
    made = rounded(simulation.floats, forms, [batch], 1)
    assert made.encodings == {}
    assert all("places of its output are too few for" in each.why for each in made.layers.values())


def test_scales_that_are_powers_of_two_stay_so():
    simulation = Simulation(network())
    samples = list(correlated(simulation.floats, 16))
    made = rounded(
        simulation.floats, forms_of(simulation, samples, WeightOptions(bits=4, power_of_two=True)), samples, 16
    )
    assert made.encodings
    for encoding in made.encodings.values():
        np.testing.assert_array_equal(np.frexp(encoding.scale)[0], 0.5)
