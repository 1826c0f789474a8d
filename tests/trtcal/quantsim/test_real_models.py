"""Simulated INT8 of real models on real images: what it loses, and that it is what plain ONNX Runtime computes."""

import numpy as np
import pytest

import trtcal
from calibrators.batches import Batch
from tests.trtcal.simulating import plain
from trtcal.quantsim.simulator import QuantSim

CLASSIFIERS = {
    "cifar10_resnet20": ("cifar10_train_512", "cifar10_test_2000", "cifar10"),
    "mlperf_tiny_resnet8": ("cifar10_train_512", "cifar10_test_2000", "raw"),
    "mnist_cnn": ("mnist_train_1000", "mnist_test_2000", "raw"),
    "lenet_mnist": ("mnist_train_1000", "mnist_test_2000", "unit"),
}


@pytest.fixture(scope="module")
def simulated(shared_data):
    """A classifier's simulation by AIMET's default scheme, and what to test it on."""
    known = {}

    def of(name):
        if name not in known:
            calibration, test, preprocess = CLASSIFIERS[name]
            images = shared_data / "images"
            sim = QuantSim(shared_data / "models" / f"{name}.onnx")
            sim.compute_encodings(trtcal.ImageLoader(images / f"{calibration}.npz", preprocess=preprocess))
            known[name] = (
                sim,
                trtcal.ImageLoader(images / f"{test}.npz", preprocess=preprocess, batch_size=100, inputs=sim.inputs),
            )
        return known[name]

    return of


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_at_most_three_tenths_of_a_point_are_lost(name, simulated, shared_data):
    sim, test = simulated(name)
    models = {"float": shared_data / "models" / f"{name}.onnx", "sim": sim}
    score = trtcal.evaluate(models, test, reference="float").scores["sim"]
    assert score.top1.total == 2000
    assert score.drop <= 0.3  # of 2,000 images, of which about 1 in 60 changes its class: half of that is chance
    assert score.distortion.sqnr > 20


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_it_is_the_exported_model(name, simulated, tmp_path):
    sim, test = simulated(name)
    written = sim.export(tmp_path, name, qdq=True, cache=True)
    (batch,) = (batch for batch, _ in zip(test, range(1), strict=False))
    arrays = {spec.name: np.asarray(array) for spec, array in zip(sim.inputs, batch.values(), strict=True)}
    if sim.inputs[0].shape[0] == 1:
        arrays = {key: array[:1] for key, array in arrays.items()}
    found = sim.run(arrays)
    for key, expected in plain(written.qdq, arrays).items():
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_depthwise_convolutions(shared_data, tmp_path):
    """Keyword spotting: features from -123 to 25 in one INT8 tensor, so that the range matters."""
    with np.load(shared_data / "images" / "kws01_1000.npz") as data:
        features, labels = data["features"], data["labels"]
    sim = QuantSim(shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx")
    name = sim.inputs[0].name
    sim.compute_encodings([{name: features[:200]}])
    test = [Batch({name: features[200:]}, labels=labels[200:].astype(np.int64))]
    models = {"float": shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx", "sim": sim}
    score = trtcal.evaluate(models, test, reference="float").scores["sim"]
    assert score.drop <= 0.3
    written = sim.export(tmp_path, "kws", qdq=True)
    for key, expected in plain(written.qdq, {name: features[:100]}).items():
        np.testing.assert_allclose(sim.run({name: features[:100]})[key], expected, rtol=0, atol=1e-5)


def test_a_detector(shared_data, tmp_path):
    sim = QuantSim(shared_data / "models" / "ultraface_rfb_320.onnx")
    faces = trtcal.ImageLoader(
        shared_data / "images" / "faces", preprocess="imagenet-tf", batch_size=1, count=4, inputs=sim.inputs
    )
    sim.compute_encodings(faces)
    written = sim.export(tmp_path, "face", qdq=True)
    for batch in faces:
        arrays = {sim.inputs[0].name: np.asarray(next(iter(batch.values())))}
        found = sim.run(arrays)
        for key, expected in plain(written.qdq, arrays).items():
            np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-5 * np.ptp(expected))
