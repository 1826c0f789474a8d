"""NVIDIA's pytorch-quantization."""

import pytest

from tests.peers import histograms
from tests.peers.installed import differs, needed
from tests.peers.tensors import DRAWN, NAMES, mean_squared_error, our_amax

calib = needed("pytorch-quantization", "pytorch_quantization.calib")
torch = needed("torch", "torch")
as_read = differs("pytorch-quantization", read="2.1.3")


@pytest.mark.parametrize("name", NAMES)
def test_maximum(name: str) -> None:
    histograms.check_maximum(calib, name)


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", NAMES)
def test_percentile(name: str, percent: float) -> None:
    histograms.check_percentile(calib, name, percent)


@as_read
@pytest.mark.parametrize("name", [*DRAWN, "a"])
def test_entropy(name: str) -> None:
    histograms.check_entropy(calib, name)


@as_read
@pytest.mark.parametrize(("name", "threshold", "decibels"), [("laplace", 7.7248, 3.5), ("relu", 3.7015, 1.2)])
def test_size_of_the_difference(name: str, threshold: float, decibels: float) -> None:
    histograms.check_size_of_difference(calib, name, threshold, decibels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="their search for the least squared error runs on a GPU only")
@pytest.mark.parametrize("name", DRAWN)
def test_least_squared_error(name: str) -> None:
    values = DRAWN[name]
    theirs = float(histograms.calibrator(calib, values).compute_amax("mse"))
    own = our_amax(values, "mse")
    assert own == pytest.approx(theirs, rel=0.02)
    assert mean_squared_error(values, own) <= mean_squared_error(values, theirs) * (1 + 1e-3)
