"""PaddleSlim's observers. Their `scale` is the threshold itself."""

import numpy as np
import pytest
from packaging.version import Version

from calibrators.ranges import range_of
from calibrators.statistics.tensor import TensorStatistics
from tests.peers.installed import differs, needed
from tests.peers.tensors import DRAWN, NAMES, UNSIGNED, mean_squared_error, our_amax, ours, sqnr, tensor

paddle = needed("paddlepaddle", "paddle")
observers = needed("paddleslim", "paddleslim.quant.observers")
as_read = differs("paddleslim", read="2.6.0")


def observed(kind: str, *batches):
    observer = getattr(observers, kind)()._instance(None)
    for batch in batches:
        observer(paddle.to_tensor(batch))
    return observer


def threshold(kind: str, *batches) -> float:
    return float(observed(kind, *batches).scales())


def moment_loss(values, amax: float) -> float:
    """What their EMD observer minimises, on the levels -128 to 127."""
    values = values.astype(np.float64)
    there = np.clip(np.rint(values / amax * 127), -128, 127) * amax / 127
    return abs(values.mean() - there.mean()) + abs(values.std() - there.std())


@pytest.mark.parametrize("name", NAMES)
def test_absolute_maximum(name: str) -> None:
    values = tensor(name)
    observer = observed("AbsmaxObserver", values)
    assert float(observer._max) == our_amax(values, "minmax")


@as_read
def test_theirs_stops_where_it_is_asked_between_batches() -> None:
    values = DRAWN["laplace"]
    observer = observed("AbsmaxObserver", values * np.float32(0.1))
    early = float(observer.scales())
    observer(paddle.to_tensor(values))
    assert float(observer.scales()) == early == our_amax(values * np.float32(0.1), "minmax")


def test_mean_of_the_samples() -> None:
    values = DRAWN["laplace"].reshape(32, 1024)
    statistics = TensorStatistics.of(*values)
    own = range_of(statistics, "mean").amax
    assert own == pytest.approx(threshold("AVGObserver", values[:16], values[16:]), rel=1e-6)


@as_read
def test_theirs_counts_the_samples_of_a_small_batch_more() -> None:
    values = DRAWN["laplace"].reshape(32, 1024).copy()
    values[31] *= 10
    largest = np.abs(values).max(1)
    own = range_of(TensorStatistics.of(*values), "mean").amax
    assert own == pytest.approx(largest.mean(), rel=1e-6)
    uneven = threshold("AVGObserver", values[:31], values[31:])
    assert uneven == pytest.approx((largest[:31].mean() + largest[31]) / 2, rel=1e-6)
    assert uneven > 3 * own


@as_read
@pytest.mark.parametrize(("name", "amax", "better"), [("laplace", 10.5150, 0.0054), ("relu", 4.3534, 0.0029)])
def test_least_squared_error(name: str, amax: float, better: float) -> None:
    """0.88 and 0.92 of the largest magnitude, of 35 candidates."""
    values = DRAWN[name]
    theirs, own = threshold("MSEObserver", values), our_amax(values, "mse")
    assert theirs == pytest.approx(amax, abs=1e-4)
    gained = 1 - mean_squared_error(values, own) / mean_squared_error(values, theirs)
    assert gained == pytest.approx(better, abs=0.001)


@as_read
def test_they_never_try_the_whole_range() -> None:
    """Adding 0.02 up to 1.0 ends at 0.98, as floats are; all of these values want the whole."""
    values = np.linspace(-1, 1, 255, dtype=np.float32)
    assert threshold("MSEObserver", values) == pytest.approx(0.98)
    assert our_amax(values, "mse") == 1.0


@as_read
def test_of_many_batches_they_keep_what_the_last_one_says() -> None:
    """If none of its candidates beats the least loss of all batches before, that is its own largest magnitude."""
    values = DRAWN["laplace"]
    small = values * np.float32(0.1)
    assert threshold("MSEObserver", small, values) == np.abs(values).max()
    assert threshold("MSEObserver", values, small) < 0.1 * np.abs(values).max()
    both = np.concatenate([values, small])
    assert our_amax(both, "mse") == our_amax(both[::-1], "mse") > 0.75 * np.abs(values).max()


@as_read
@pytest.mark.parametrize(("name", "amax"), [("laplace", 10.9930), ("relu", 4.4480)])
def test_least_difference_of_moments(name: str, amax: float) -> None:
    """What they call the earth mover's distance."""
    values = DRAWN[name]
    theirs = threshold("EMDObserver", values)
    assert theirs == pytest.approx(amax, abs=1e-4)
    assert moment_loss(values, our_amax(values, "emd-moments")) <= moment_loss(values, theirs) + 1e-5


@as_read
def test_of_negative_values_theirs_is_zero() -> None:
    """They take the largest value for the largest magnitude."""
    values = -np.abs(DRAWN["laplace"]) - np.float32(0.5)
    assert threshold("EMDObserver", values) == 0.0
    assert our_amax(values, "emd-moments") > 0.75 * np.abs(values).max()


@as_read
@pytest.mark.parametrize(("name", "amax", "decibels"), [("laplace", 17.6401, 4.0), ("relu", 2.6305, 12.4)])
def test_entropy(name: str, amax: float, decibels: float) -> None:
    """The first bin is taken for 0 though it is the least value, and the last level takes what 127 leave over."""
    values = DRAWN[name]
    theirs, own = threshold("KLObserver", values), our_amax(values, "entropy")
    assert theirs == pytest.approx(amax, abs=1e-4)
    assert sqnr(values, own) - sqnr(values, theirs) == pytest.approx(decibels, abs=0.1)


@as_read
@pytest.mark.skipif(Version(np.__version__) >= Version("2.4"), reason="theirs makes a float of an array: numpy < 2.4")
@pytest.mark.parametrize(("name", "ends"), [("laplace", (-6.4626, 6.0724)), ("relu", (0, 3.0742))])
def test_percentile(name: str, ends: tuple[float, float]) -> None:
    """The same on an asymmetric grid, but for half a bin below and a gap between values."""
    values = DRAWN[name]
    observer = observed("HistObserver", values)
    observer.cal_thresholds()
    low, high = float(observer.min_value()), float(observer.max_value())
    assert (min(low, 0), high) == pytest.approx(ends, abs=1e-2)
    assert ours(values, "percentile:99.9", UNSIGNED) == pytest.approx((min(low, 0), high), abs=0.04)
