"""Real models, quantized dynamically: what they lose on real images and words."""

import numpy as np
import pytest

from engines.graph.model import input_specs, load_model
from engines.qdq.dynamic import quantize_dynamic
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.data.images import open_images

CASES = {
    "cifar10_resnet20": ("cifar10_test_2000", "cifar10", 20),
    "mlperf_tiny_resnet8": ("cifar10_test_2000", "raw", 10),
    "mlperf_tiny_kws_dscnn": ("kws01_1000", "none", 10),
    "lenet_mnist": ("mnist_test_2000", "mnist", 4),
    "mnist_cnn": ("mnist_test_2000", "raw", 3),
}


def top1(model, loader):
    """The share of samples, in per cent, whose class has the highest score."""
    with OnnxRuntimeSession(model) as session:
        hits = [
            next(iter(session.run(batch).values())).reshape(len(batch.labels), -1).argmax(1) == batch.labels
            for batch in loader
        ]
    return 100 * float(np.mean(np.concatenate(hits)))


def of_images(path, images, preprocess):
    """Batches for a model: 500 samples, as many of each class as come."""
    return open_images(images, input_specs(load_model(path)), preprocess=preprocess, batch_size=100, count=500)


@pytest.mark.parametrize("name", CASES)
def test_accuracy_stays_within_about_a_point(name, shared_data):
    images, preprocess, operators = CASES[name]
    path = shared_data / "models" / f"{name}.onnx"
    loader = of_images(path, shared_data / "images" / f"{images}.npz", preprocess)
    result = quantize_dynamic(path)
    assert (len(result.quantized), result.left_float) == (operators, {})
    assert top1(result.model, loader) >= top1(path, loader) - 1.0


def test_one_scale_for_a_weight_loses_little_on_keywords(shared_data):
    path = shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx"
    loader = of_images(path, shared_data / "images" / "kws01_1000.npz", "none")
    result = quantize_dynamic(path, weights="mse", granularity="tensor")
    assert top1(result.model, loader) >= top1(path, loader) - 2.0


def test_a_detector_runs(shared_data):
    """Scores and boxes stay near the float ones."""
    path = shared_data / "models" / "ultraface_rfb_320.onnx"
    result = quantize_dynamic(path)
    spec = OnnxRuntimeSession(path).inputs[0]
    sample = {spec.name: np.random.default_rng(0).uniform(-1, 1, spec.shape).astype(np.float32)}
    floats, integers = (OnnxRuntimeSession(model).run(sample) for model in (path, result.model))
    for name, value in floats.items():
        assert np.sum((integers[name] - value) ** 2) < 0.01 * np.sum(value**2)
