"""ONNX Runtime's calibrators."""

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization.calibrate import CalibrationDataReader, HistogramCollector, MinMaxCalibrater

from calibrators.grid import TENSORRT_INT8
from calibrators.methods.minmax import minmax_range
from engines.collection.collect import collect
from tests.peers.installed import differs
from tests.peers.tensors import DRAWN, NAMES, UNSIGNED, network, our_amax, ours, samples, sqnr, tensor

as_read = differs("onnxruntime", read="1.31.1")

BINS = 2048


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self._batches = iter(samples())

    def get_next(self):
        return next(self._batches, None)


def minmax(folder: Path, **options: object) -> dict[str, tuple[float, float]]:
    onnx.save(network(), folder / "model.onnx")
    calibrater = MinMaxCalibrater(folder / "model.onnx", augmented_model_path=str(folder / "augmented.onnx"), **options)
    calibrater.augment_graph()
    calibrater.create_inference_session()
    calibrater.collect_data(Reader())
    found = calibrater.compute_data()
    return {name: tuple(np.asarray(end).item() for end in data.range_value) for name, data in found.items()}


def histogram(values, method: str, **options: object) -> tuple[float, float]:
    settings = {"symmetric": False, "num_bins": BINS, "num_quantized_bins": 128, "percentile": None} | options
    collector = HistogramCollector(method=method, scenario="same", **settings)
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": values.reshape(1, -1)})
        low, high = collector.compute_collection_result()["x"][:2]
    return float(low), float(high)


def test_the_ranges_of_a_network_are_the_same(tmp_path: Path) -> None:
    """Ours hold 0 as well; theirs do once they become scales. Last bits of a sum depend on how the engine fuses."""
    statistics = collect(network(), samples())
    theirs = minmax(tmp_path)
    assert set(theirs) == set(statistics)
    for name, (low, high) in theirs.items():
        found = minmax_range(statistics[name], UNSIGNED)
        assert (found.minimum, found.maximum) == pytest.approx((min(low, 0), max(high, 0)), rel=1e-6, abs=1e-6)


def test_so_are_the_symmetric_ones(tmp_path: Path) -> None:
    statistics = collect(network(), samples())
    for name, ends in minmax(tmp_path, symmetric=True).items():
        found = minmax_range(statistics[name], TENSORRT_INT8)
        assert (found.minimum, found.maximum) == pytest.approx(ends, rel=1e-6)


@as_read
def test_they_forget_what_does_not_fit_into_max_intermediate_outputs(tmp_path: Path) -> None:
    """They clear the collected data without having looked at them: the outlier, the fourth of six, is lost."""
    forgetful = minmax(tmp_path, max_intermediate_outputs=4)
    image = tensor("image")
    assert forgetful["image"] == (image[4:].min(), image[4:].max())
    assert ours(image, "minmax")[1] == np.abs(image).max() > 1.5 * forgetful["image"][1]


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", NAMES)
def test_percentiles_of_magnitudes_differ_by_a_bin(name: str, percent: float) -> None:
    """Theirs is the left edge of the bin that holds the next value, ours lies between both values."""
    values = tensor(name)
    magnitudes = np.sort(np.abs(values).reshape(-1))
    rank = percent / 100 * (magnitudes.size - 1)
    value, following = (float(magnitudes[place]) for place in (int(rank), min(int(rank) + 1, magnitudes.size - 1)))
    width = float(magnitudes[-1]) / BINS
    theirs = histogram(values, "percentile", symmetric=True, percentile=percent)[1]
    found = our_amax(values, f"percentile:{percent}")
    assert value - 1.01 * width <= theirs <= following
    assert value - width <= found <= following + width
    assert abs(found - theirs) <= 2 * width + (following - value)


@as_read
@pytest.mark.parametrize("name", NAMES)
def test_of_two_ends_they_cut_half_as_much_each(name: str) -> None:
    """Their 99.8 takes 0.1 % from either end, which is our 99.9."""
    values = tensor(name)
    width = 2 * float(np.abs(values).max()) / BINS
    gap = float(max(np.diff(np.sort(values.reshape(-1)))[[int(0.001 * values.size), int(0.999 * (values.size - 1))]]))
    theirs = histogram(values, "percentile", percentile=99.8)
    low, high = ours(values, "percentile:99.9", UNSIGNED)
    assert (low, high) == pytest.approx((min(theirs[0], 0), max(theirs[1], 0)), abs=2 * width + gap)


@as_read
@pytest.mark.parametrize("name", DRAWN)
def test_entropy_by_default_clips_nothing(name: str) -> None:
    """128 bins for 128 levels leave one candidate, all of them."""
    values = DRAWN[name]
    assert histogram(values, "entropy", num_bins=128) == (values.min(), values.max())
    assert our_amax(values, "entropy") < 0.9 * values.max()


@as_read
@pytest.mark.parametrize(("name", "threshold", "decibels"), [("laplace", 7.4797, 4.2), ("relu", 2.6663, 12.0)])
def test_entropy_of_more_bins_clips_too_much(name: str, threshold: float, decibels: float) -> None:
    """Zeros count, levels are whole numbers of bins with the rest in the last one, and Q is cut to whole numbers."""
    values = DRAWN[name]
    theirs = histogram(values, "entropy")[1]
    assert theirs == pytest.approx(threshold, abs=1e-4)
    found = our_amax(values, "entropy")
    assert sqnr(values, found) - sqnr(values, theirs) == pytest.approx(decibels, abs=0.1)
