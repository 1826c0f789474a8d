"""Every method on the activations of real models, and what INT8 then really loses of them."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.ranges import METHODS, range_of
from calibrators.statistics.tensor import TensorStatistics
from tests.calibrators.methods.kl import divergences, last_minimum

GRIDS = {
    "TensorRT's": TENSORRT_INT8,
    "4 bits": Grid(4),
    "uint8": Grid(signed=False, symmetric=False),
    "power of two": Grid(power_of_two=True),
}

Tensor = npt.NDArray[np.float32]


def activations(model: Path, images: Tensor) -> dict[str, Tensor]:
    """The input and every third tensor of a model, samples on the first axis."""
    import onnx
    from onnxruntime import InferenceSession

    proto = onnx.load(model)
    known = {output.name for output in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name and node.op_type != "Constant"][::3]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    found = dict(zip((o.name for o in session.get_outputs()), session.run(None, {fed.name: images}), strict=True))
    found[fed.name] = images
    return {name: x for name, x in found.items() if x.dtype == np.float32 and len(x) == len(images) and x.size > 1000}


@pytest.fixture(scope="module", params=["resnet20", "kws"])
def tensors(request: pytest.FixtureRequest, shared_data: Path) -> dict[str, Tensor]:
    models, images = shared_data / "models", shared_data / "images"
    if request.param == "kws":
        with np.load(images / "kws01_1000.npz") as file:
            return activations(models / "mlperf_tiny_kws_dscnn.onnx", file["features"][:24].astype(np.float32))
    with np.load(images / "cifar10_train_512.npz") as file:
        pixels = file["images"][:8].transpose(0, 3, 1, 2) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    scaled = (pixels - mean[:, None, None]) / deviation[:, None, None]
    return activations(models / "cifar10_resnet20.onnx", scaled.astype(np.float32))


@pytest.fixture(scope="module")
def statistics(tensors: dict[str, Tensor]) -> dict[str, TensorStatistics]:
    return {name: TensorStatistics.of(*x) for name, x in tensors.items()}


def losses(x: Tensor, encoding: Encoding) -> tuple[float, float]:
    """Signal over noise, in dB, of squares and of magnitudes."""
    signal = x.astype(np.float64)
    noise = encoding.fake_quantize(x) - signal
    squares = np.square(signal).sum() / max(np.square(noise).sum(), 1e-300)
    return 10 * math.log10(squares), 20 * math.log10(np.abs(signal).sum() / max(np.abs(noise).sum(), 1e-300))


Measured = dict[str, dict[str, tuple[float, float]]]


@pytest.fixture(scope="module", params=GRIDS)
def measured(
    request: pytest.FixtureRequest, tensors: dict[str, Tensor], statistics: dict[str, TensorStatistics]
) -> Measured:
    """What is lost by method and tensor."""
    grid = GRIDS[request.param]
    return {
        method: {
            name: losses(x, Encoding.of_range(range_of(statistics[name], method, grid), grid))
            for name, x in tensors.items()
        }
        for method in METHODS
    }


TOLERANCE = 0.05
"""In dB: a histogram knows values to a part of a step."""


@pytest.mark.parametrize(("method", "measure"), [("mse", 0), ("best", 0), ("emd", 1)])
def test_no_method_loses_less_than_the_one_that_searches_for_the_least(
    measured: Measured, method: str, measure: int
) -> None:
    for other, of_tensor in measured.items():
        for name, found in of_tensor.items():
            assert measured[method][name][measure] >= found[measure] - TOLERANCE, (other, name)


def test_a_least_squares_scale_loses_no_more_than_the_whole_range(measured: Measured) -> None:
    for name, (found, _) in measured["lsq-scale"].items():
        assert found >= measured["minmax"][name][0] - TOLERANCE, name


def test_every_tensor_survives_every_method_but_one(measured: Measured) -> None:
    """Entropy does not see how far a clipped value is moved, and with 4 bits clips nearly all of the keywords."""
    for method, of_tensor in measured.items():
        for name, (found, _) in of_tensor.items():
            assert found > 3 or method == "entropy", (method, name)


def test_the_divergences_of_real_histograms_have_the_minimum_of_the_definition(
    statistics: dict[str, TensorStatistics],
) -> None:
    for name, of_tensor in list(statistics.items())[::3]:
        bins = of_tensor.magnitudes().over(of_tensor.amax, 2048)
        bins[0] = bins[1]
        expected = (128 + last_minimum(divergences(bins)) + 0.5) / 2048 * of_tensor.amax
        assert range_of(of_tensor, "entropy").amax == expected, name


def test_a_mean_and_a_percentile_are_what_numpy_says(
    tensors: dict[str, Tensor], statistics: dict[str, TensorStatistics]
) -> None:
    for name, x in tensors.items():
        samples, of_tensor = np.abs(x.astype(np.float64)).reshape(len(x), -1), statistics[name]
        assert range_of(of_tensor, "mean").amax == pytest.approx(samples.max(1).mean(), rel=1e-12), name
        assert range_of(of_tensor, "percentile").amax == pytest.approx(
            np.percentile(samples, 99.99), abs=of_tensor.amax / 4096
        ), name
