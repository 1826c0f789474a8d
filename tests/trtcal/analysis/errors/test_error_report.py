"""Errors by layer against models run by hand; the same whatever the batches."""

import json

import numpy as np
import pytest

from calibrators.errors import DataError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO
from tests.trtcal.planted import formed, network, opened, rescaled, samples, stored
from trtcal.analysis.errors.error_report import errors_by_layer
from trtcal.analysis.errors.fidelity import Fidelity
from trtcal.config.settings import QuantConfig
from trtcal.tables import console


@pytest.fixture
def work(tmp_path):
    """A simulation, its forms, and a function that opens 11 labelled samples in batches of a size."""
    model = network()
    simulation, statistics, forms = formed(model, samples(64))
    path = stored(tmp_path, samples(11, seed=1), labels=np.arange(11) % 4)
    return simulation, statistics, forms, lambda size=8: opened(model, path, size)


def test_against_both_models_run_by_hand(work):
    simulation, statistics, forms, images = work
    report = errors_by_layer(simulation, forms.forms, images(), statistics=statistics)
    names = ["a", "a_relu", "b", "flat", "products"]
    (batch,) = images(11)
    with (
        OnnxRuntimeSession(simulation.version({}, outputs=names)) as one,
        OnnxRuntimeSession(simulation.version(forms.forms, outputs=names)) as other,
    ):
        floats, integers = ({**batch, **session.run(batch)} for session in (one, other))
    for error in report.layers:
        layer = error.layer
        encoding = forms.forms[layer.name].activation
        read = encoding.fake_quantize(integers[layer.activation])
        for found, expected in (
            (error.arrives, Fidelity.of(floats[layer.activation], integers[layer.activation])),
            (error.rounded, Fidelity.of(integers[layer.activation], read)),
            (error.reads, Fidelity.of(floats[layer.activation], read)),
            (error.gives, Fidelity.of(floats[layer.output], integers[layer.output])),
        ):
            assert found.sqnr == pytest.approx(expected.sqnr, rel=1e-3)
            assert found.cosine == pytest.approx(expected.cosine, rel=1e-5)
        assert error.use.total == integers[layer.activation].size
        assert error.use.encoding == encoding
        assert len(error.channels.amax) == floats[layer.activation].shape[1]
        assert error.weight.fidelity.sqnr > 35
    assert [error.layer.name for error in report.layers] == ["a/Conv", "b/Conv", "products/MatMul"]
    assert report.layers[0].arrives.identical
    assert (report.score.samples, report.score.top1.total, report.reference.samples) == (11, 11, 11)
    assert set(report.score.distortions) == {"scores"}


@pytest.mark.parametrize("size", [1, 3, 11, 64])
def test_the_batch_size_changes_nothing(work, size):
    simulation, statistics, forms, images = work
    one, other = (errors_by_layer(simulation, forms.forms, images(each), statistics=statistics) for each in (8, size))
    assert one.to_dict() == other.to_dict()
    assert one.score == other.score


def test_fetching_changes_nothing_but_rounding(work):
    simulation, _, forms, images = work
    names = [layer.output for layer in simulation.layers]
    (batch,) = images(11)
    with (
        OnnxRuntimeSession(simulation.version(forms.forms)) as one,
        OnnxRuntimeSession(simulation.version(forms.forms, outputs=names)) as other,
    ):
        assert other.run(batch)["scores"] == pytest.approx(one.run(batch)["scores"], rel=1e-5, abs=1e-6)


def test_what_stays_in_float_is_not_reported(work):
    simulation, _, forms, images = work
    some = {**forms.forms, "b/Conv": LayerForm(half=True)}
    report = errors_by_layer(simulation, some, images())
    assert [error.layer.name for error in report.layers] == ["a/Conv", "products/MatMul"]
    with pytest.raises(DataError, match="no layer is quantized"):
        errors_by_layer(simulation, {}, images())


def test_the_error_begins_at_the_layer_that_is_broken(tmp_path):
    model = rescaled()
    simulation, statistics, forms = formed(model, samples(64))
    report = errors_by_layer(simulation, forms.forms, opened(model, stored(tmp_path, samples(8, 1))))
    a, b, scores = report.layers
    assert a.gives.sqnr > 30
    assert b.reads.sqnr > 25  # of the whole tensor, which the large channel is
    assert b.channels.sqnr < 3
    assert b.gives.sqnr < 10
    assert scores.arrives.sqnr < 20
    assert statistics.keys() >= {"image", "a_relu", "flat"}


def test_a_fixed_batch_and_samples_that_do_not_fill_it(tmp_path):
    values = samples(7, seed=1)
    free, fixed = network(), network(batch=3)
    path = stored(tmp_path, values)
    simulation, _, forms = formed(free, samples(6))
    expected = errors_by_layer(simulation, forms.forms, opened(free, path))
    simulation = type(simulation)(fixed)
    found = errors_by_layer(simulation, forms.forms, opened(fixed, path))
    for one, other in zip(expected.layers, found.layers, strict=True):
        assert one.use.total == other.use.total
        assert other.gives.sqnr == pytest.approx(one.gives.sqnr, rel=1e-3)
    assert found.score.samples == 7


def test_samples_that_are_not_on_the_first_axis(tmp_path):
    """Such as a transformer whose blocks work on (length, samples, width)."""
    net = Net()
    net.node("Transpose", net.input("image", (4, 6, 8)), "turned", perm=[1, 0, 2])
    net.weight("w", 8, 8)
    net.node("MatMul", "turned w", "product")
    net.node("Transpose", "product", "back", perm=[1, 0, 2])
    model = net.model("back")
    values = np.random.default_rng(0).standard_normal((6, 6, 8)).astype(np.float32)
    simulation, _, forms = formed(model, values)
    report = errors_by_layer(simulation, forms.forms, opened(model, stored(tmp_path, values)))
    (error,) = report.layers
    assert error.use.total == 8 * 6 * 8  # the two repeats that fill the second batch, too
    assert error.gives.sqnr > 30
    assert report.score.samples == 6


@pytest.mark.parametrize("kind", ZOO)
def test_every_kind_of_network(kind, tmp_path):
    from engines.collection.collect import collect
    from engines.simulation.simulated_model import Simulation
    from trtcal.config.layer_forms import layer_forms
    from trtcal.data.images import open_images

    model = ZOO[kind]().model
    simulation = Simulation(model)
    forms = layer_forms(simulation, collect(model, samples_of(model, 4), tensors="quantizable"), "minmax")
    arrays = samples_of(model, 3, seed=1, batch=3)[0]
    np.savez(tmp_path / "test.npz", **arrays)
    with OnnxRuntimeSession(model) as session:
        images = open_images(tmp_path / "test.npz", session.inputs)
    report = errors_by_layer(simulation, forms.forms, images)
    assert [error.layer.name for error in report.layers] == list(forms.quantized)
    for error in report.layers:
        assert error.gives.sqnr > 15, error.layer.name
        assert 0.99 < error.gives.cosine <= 1
    json.loads(console.as_json(report.to_dict()))


def test_other_grids(work):
    simulation, statistics, _, images = work
    config = QuantConfig().add_name_config("*", activation_bits=4, symmetric=False)
    from trtcal.config.layer_forms import layer_forms

    settings = config.settings(simulation.layers).layers
    forms = layer_forms(simulation, statistics, "minmax", settings)
    report = errors_by_layer(simulation, forms.forms, images())
    for error in report.layers:
        assert error.use.counts.size == 16
        assert error.to_dict()["grid"]["bits"] == 4
        assert error.rounded.sqnr < 30
