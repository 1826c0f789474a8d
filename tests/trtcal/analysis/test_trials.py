"""Scores of versions of a model: the same images each time, whatever the batches, the float model run once."""

import numpy as np
import onnx
import pytest

from calibrators.encoding import Encoding
from calibrators.errors import DataError, ModelError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from tests.engines.networks import Net, classifier
from trtcal.analysis import trials
from trtcal.analysis.trials import Trials
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A simulation, and a function that opens 70 labelled images in batches of a size."""
    folder = tmp_path_factory.mktemp("work")
    model = classifier(classes=4)
    onnx.save(model, folder / "model.onnx")
    values = np.random.default_rng(1).standard_normal((70, 3, 16, 16)).astype(np.float32)
    with OnnxRuntimeSession(model) as session:
        inputs = session.inputs
        labels = session.run({"image": values})["scores"].argmax(axis=1)
    np.savez(folder / "test.npz", image=values, labels=labels.astype(np.int64))
    return Simulation(folder / "model.onnx"), lambda size: open_images(folder / "test.npz", inputs, batch_size=size)


def coarse(simulation, scale=0.8):
    encoding = Encoding(np.float32(scale), np.int32(0))
    return {layer.name: LayerForm(activation=encoding) for layer in simulation.layers}


@pytest.mark.parametrize("held", [trials.MOST_BYTES, 0])
def test_a_score_is_that_of_the_models_side_by_side(work, held, monkeypatch):
    simulation, opened = work
    monkeypatch.setattr(trials, "MOST_BYTES", held)
    measured = Trials(simulation, opened(7))
    forms = coarse(simulation)
    found = measured.score(forms)
    with OnnxRuntimeSession(simulation.floats) as float_one, OnnxRuntimeSession(simulation.version(forms)) as other:
        report = evaluate({"float": float_one, "version": other}, opened(70), reference="float")
    expected = report.scores["version"]
    assert (found.top1, found.agreement, found.lost, found.gained) == (
        expected.top1,
        expected.agreement,
        expected.lost,
        expected.gained,
    )
    assert found.distortion.sqnr == pytest.approx(expected.distortion.sqnr, rel=1e-5)
    assert (measured.reference.top1, measured.samples) == (report.scores["float"].top1, 70)
    assert measured.criterion == "top-1"
    assert measured.worth(found) == found.top1.percent < 100
    assert measured.drop(found) == pytest.approx(100 - found.top1.percent)


def test_the_batch_size_changes_nothing(work):
    simulation, opened = work
    first, *others = (Trials(simulation, opened(size)).score(coarse(simulation)) for size in (1, 9, 70))
    assert all(other == first for other in others)


def test_the_order_of_trials_changes_nothing(work):
    simulation, opened = work
    measured = Trials(simulation, opened(8))
    forms = [coarse(simulation), {}, coarse(simulation, 0.3)]
    forwards = [measured.score(each) for each in forms]
    assert [measured.score(each) for each in reversed(forms)] == forwards[::-1]
    assert forwards[1].distortion.noise == 0


def test_without_labels_it_is_agreement(work):
    simulation, opened = work
    measured = Trials(simulation, opened(8), labelled=False)
    found = measured.score(coarse(simulation))
    assert measured.criterion == "agreement"
    assert measured.worth(found) == found.agreement.percent
    assert measured.drop(found) == 100 - found.agreement.percent


def test_progress_counts_every_sample(work):
    simulation, opened = work
    done = []
    measured = Trials(simulation, opened(8), progress=done.append)
    measured.score({})
    assert sum(done) == 2 * 70


def detector():
    """Two outputs, neither of which holds class scores."""
    net = Net()
    net.input("x", ("N", 3, 8, 8))
    net.constant("w", np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32))
    net.node("Conv", "x w", "boxes")
    net.node("Sigmoid", "boxes", "scores")
    return net.model("boxes", "scores")


def test_a_detector_is_judged_by_its_outputs(tmp_path):
    model = detector()
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(0, 1, (5, 3, 8, 8)).astype(np.float32))
    simulation = Simulation(model)
    with OnnxRuntimeSession(model) as session:
        measured = Trials(simulation, open_images(tmp_path / "x.npy", session.inputs))
    found = measured.score(coarse(simulation))
    assert measured.criterion == "SQNR"
    assert 0 < measured.worth(found) < 60
    with pytest.raises(ModelError, match="no class scores"):
        measured.drop(found)


def test_one_number_for_all_images(tmp_path):
    net = Net()
    net.conv(net.input("x", ("N", 3, 8, 8)), "a", 4, 3, 3, 3)
    net.node("ReduceMean", "a", "mean", keepdims=0)
    simulation = Simulation(net.model("mean"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(0, 1, (5, 3, 8, 8)).astype(np.float32))
    with OnnxRuntimeSession(simulation.floats) as session:
        measured = Trials(simulation, open_images(tmp_path / "x.npy", session.inputs))
    assert (measured.criterion, measured.samples) == ("SQNR", 5)
    assert measured.score(coarse(simulation)).samples == 5


def test_labels_that_are_no_classes_are_refused(work, tmp_path):
    simulation, _ = work
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 3, 16, 16), np.float32), labels=np.array([0, 9]))
    with OnnxRuntimeSession(simulation.floats) as session:
        images = open_images(tmp_path / "x.npz", session.inputs)
    with pytest.raises(DataError, match="label 9"):
        Trials(simulation, images)
