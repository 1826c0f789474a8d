"""The section of ranges: histograms, thresholds, what is clipped, and the levels that are used."""

import numpy as np
import pytest

from calibrators.ranges import METHODS, range_of
from calibrators.statistics.file import Statistics
from calibrators.statistics.tensor import TensorStatistics
from trtcal.report.gather.ranges import BINS, ranges_section


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    return {
        "signed": rng.standard_normal((4, 5000)).astype(np.float32),
        "relu": np.maximum(rng.standard_normal((4, 5000)), 0).astype(np.float32),
        "sparse": np.repeat(np.float32([0, 1, 2, 4]), 100).reshape(4, 100),
        "zero": np.zeros((4, 10), np.float32),
    }


@pytest.fixture(scope="module")
def section(values):
    statistics = Statistics({name: TensorStatistics.of(*each) for name, each in values.items()})
    return ranges_section(statistics, chosen="mse", harm={"relu": 12.0}), statistics


def test_histograms_hold_all_values(section, values):
    found, _ = section
    tensors = {each["name"]: each for each in found["tensors"]}
    assert set(tensors) == {"signed", "relu", "sparse"}  # of zeros there is nothing to draw
    for name, each in tensors.items():
        data = values[name]
        assert len(each["counts"]) == BINS and each["total"] == data.size and each["zeros"] == np.sum(data == 0)
        edges = np.linspace(each["low"], each["high"], BINS + 1)
        expected, _ = np.histogram(data[data != 0], edges)
        assert sum(each["counts"]) == pytest.approx(np.count_nonzero(data), abs=BINS)
        assert np.abs(np.array(each["counts"]) - expected).max() <= max(5, 0.05 * expected.max())
    assert tensors["relu"]["low"] == 0 and tensors["signed"]["low"] < 0


def test_thresholds_are_the_methods_own(section):
    found, statistics = section
    assert found["methods"] == [*METHODS]
    for each in found["tensors"]:
        for method in METHODS:
            assert each["thresholds"][method] == range_of(statistics[each["name"]], method).amax


def test_what_is_clipped_and_used(section, values):
    found, _ = section
    for each in found["tensors"]:
        data = values[each["name"]]
        for method, amax in each["thresholds"].items():
            assert each["clipped"][method] == pytest.approx(np.mean(np.abs(data) > amax), abs=2e-3)
            levels = np.unique(np.clip(np.rint(data / (amax / 127)), -127, 127)).size
            assert abs(each["levels"][method] - levels) <= max(3, 0.03 * levels)
    sparse = next(each for each in found["tensors"] if each["name"] == "sparse")
    assert sparse["levels"]["minmax"] <= 6  # four values, and the bins that they share


def test_what_harms_most_comes_first(section):
    found, _ = section
    assert found["tensors"][0]["name"] == "relu" and found["tensors"][0]["harm"] == 12.0


def test_ranges_of_ones_own_stand_beside_the_methods(values):
    statistics = Statistics({name: TensorStatistics.of(*each) for name, each in values.items()})
    found = ranges_section(statistics, chosen="cache", methods=["mse"], given={"cache": {"signed": 3.0}})
    assert [each["name"] for each in found["tensors"]] == ["signed"]
    assert found["tensors"][0]["thresholds"]["cache"] == 3.0 and found["methods"] == ["cache", "mse"]
