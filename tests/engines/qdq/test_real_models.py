"""Real models, calibrated and quantized, on real images: what the INT8 models lose, and where INT8 runs."""

import numpy as np
import pytest

import trtcal
from engines.graph.model import load_model
from engines.qdq.placement import SMALL
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.trtcal.gathering import collect_images


def quantized(model, images, preprocess, **options):
    """The Q/DQ model that entropy gives on all images of a file."""
    statistics, _ = collect_images(model, images, preprocess=preprocess, count=None, batch_size=64, **options)
    return trtcal.quantize(model, trtcal.calibrate(statistics, method="entropy"))


def top1(model, batches):
    """The share of samples, in per cent, whose class has the highest score."""
    right, total = 0, 0
    with OnnxRuntimeSession(model) as session:
        for batch in batches:
            (scores,) = session.run(batch).values()
            right += int((scores.reshape(len(scores), -1).argmax(1) == batch.labels).sum())
            total += len(scores)
    return 100 * right / total


@pytest.fixture(scope="module")
def resnet20(shared_data):
    path = shared_data / "models" / "cifar10_resnet20.onnx"
    return path, quantized(path, shared_data / "images" / "cifar10_train_512.npz", "cifar10")


def test_resnet20(resnet20, shared_data):
    path, result = resnet20
    test = trtcal.ImageLoader(shared_data / "images" / "cifar10_test_2000.npz", preprocess="cifar10", batch_size=250)
    assert top1(path, test) == pytest.approx(91.55)
    assert top1(result.model, test) >= 91.05
    assert list(result.left_float.values()) == [SMALL]  # the classifier, of ten classes
    kinds = [node.op_type for node in result.model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 19
    assert kinds.count("QuantizeLinear") == len(result.scales) == 19  # the input of each convolution


def test_resnet8(shared_data):
    path = shared_data / "models" / "mlperf_tiny_resnet8.onnx"
    result = quantized(path, shared_data / "images" / "cifar10_train_512.npz", "raw")
    test = trtcal.ImageLoader(shared_data / "images" / "cifar10_test_2000.npz", preprocess="raw", batch_size=250)
    assert top1(path, test) == pytest.approx(86.80)
    assert top1(result.model, test) >= 86.3


def test_keyword_spotting(shared_data, tmp_path):
    """Arrays, and depthwise convolutions: calibrated on the first 200, measured on the other 800."""
    path = shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx"
    with np.load(shared_data / "images" / "kws01_1000.npz") as data:
        arrays = dict(data)
    for name, part in (("first", slice(200)), ("rest", slice(200, None))):
        np.savez(tmp_path / f"{name}.npz", **{key: array[part] for key, array in arrays.items()})
    result = quantized(path, tmp_path / "first.npz", "none")
    test = trtcal.ImageLoader(tmp_path / "rest.npz", preprocess="none", batch_size=100)
    assert top1(result.model, test) >= top1(path, test) - 1.5


def test_lenet_has_tensorrts_own_thresholds(shared_data):
    """Against the cache that TensorRT 7 wrote for this network, from images of which only the kind is known."""
    path = shared_data / "models" / "lenet_mnist.onnx"
    theirs = trtcal.CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
    statistics, _ = collect_images(path, shared_data / "images" / "mnist_train_1000.npz", preprocess="unit", count=None)
    ours = trtcal.calibrate(statistics, method="entropy")
    assert ours["data"] == pytest.approx(theirs["data"], rel=1e-4)
    assert ours["conv1"] == pytest.approx(theirs["conv1"], rel=0.02)
    model = load_model(path)
    pools = [(node.input[0], node.output[0]) for node in model.graph.node if node.op_type == "MaxPool"]
    assert len(pools) == 2
    for before, after in pools:
        assert ours[before] == ours[after]
        assert theirs[before] == theirs[after]


@pytest.mark.parametrize("name, preprocess", [("mnist_cnn", "raw"), ("ultraface_rfb_320", "imagenet-tf")])
def test_other_models_become_valid_and_accepted(name, preprocess, shared_data, rtx):
    """An old exporter's initializers among the inputs; a detector."""
    path = shared_data / "models" / f"{name}.onnx"
    images = shared_data / "images" / ("mnist_train_1000.npz" if name == "mnist_cnn" else "faces")
    statistics, _ = collect_images(path, images, preprocess=preprocess, count=8, tensors="quantizable")
    result = trtcal.quantize(path, trtcal.calibrate(statistics))
    logger = rtx.Logger(rtx.Logger.ERROR)
    network = rtx.Builder(logger).create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(result.model.SerializeToString())
    assert parser.num_errors == 0
    floats = OnnxRuntimeSession(path)
    spec = floats.inputs[0]
    sample = np.zeros([1, *spec.shape[1:]], np.float32)
    assert {key: value.shape for key, value in OnnxRuntimeSession(result.model).run({spec.name: sample}).items()} == {
        key: value.shape for key, value in floats.run({spec.name: sample}).items()
    }


@pytest.mark.usefixtures("rtx")
def test_every_convolution_of_resnet20_runs_in_int8(resnet20, tmp_path):
    """By the log of TensorRT-RTX's builder."""
    _, result = resnet20
    engine = trtcal.build_engine(result.model, output=tmp_path / "resnet20.engine")
    assert engine.path.stat().st_size > 100_000
    convolutions = [each for each in engine.record.operators if each.op_type == "Conv"]
    assert len(convolutions) == 19
    assert {each.precision for each in convolutions} == {"INT8"}


def test_lenet_quantized_with_the_cache_that_tensorrt_wrote(shared_data):
    """The names of TensorRT's own in it are tensors of this model, which was converted from its network."""
    path = shared_data / "models" / "lenet_mnist.onnx"
    theirs = trtcal.CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
    result = trtcal.quantize(path, theirs)
    assert dict(result.scales) == {
        "data": theirs["data"],
        "pool1": theirs["pool1"],
        "ip1_flatten": theirs["pool2"],
    }
    assert (list(result.left_float.values()), result.internal, result.unused) == ([SMALL], (), ())
    assert result.shared == ("ip1_flatten",)
    test = trtcal.ImageLoader(shared_data / "images" / "mnist_test_2000.npz", preprocess="mnist", batch_size=250)
    assert top1(path, test) == pytest.approx(96.15)
    assert top1(result.model, test) >= 95.9
