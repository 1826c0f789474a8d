"""Checks of the histogram calibrator of pytorch-quantization, which NVIDIA's Model Optimizer took over."""

from types import ModuleType

import numpy as np
import pytest

from calibrators.methods.entropy import BINS, LEVELS, TIE, kl_divergences
from tests.peers.tensors import DRAWN, Floats, our_amax, sqnr, tensor


def calibrator(module: ModuleType, values: Floats):
    import torch

    made = module.HistogramCalibrator(8, None, False)
    made.collect(torch.from_numpy(values))
    return made


def check_maximum(module: ModuleType, name: str) -> None:
    """Equal to the bit."""
    import torch

    values = tensor(name)
    made = module.MaxCalibrator(8, None, False)
    made.collect(torch.from_numpy(values))
    assert float(made.compute_amax()) == our_amax(values, "minmax")


def check_percentile(module: ModuleType, name: str, percent: float) -> None:
    """Theirs is the left edge of the bin that holds the next value, ours lies between both values."""
    values = tensor(name)
    magnitudes = np.sort(np.abs(values).reshape(-1))
    width = float(magnitudes[-1]) / BINS
    rank = percent / 100 * (magnitudes.size - 1)
    gap = float(magnitudes[min(int(rank) + 1, magnitudes.size - 1)] - magnitudes[int(rank)])
    theirs = float(calibrator(module, values).compute_amax("percentile", percentile=percent))
    assert our_amax(values, f"percentile:{percent}") == pytest.approx(theirs, abs=2 * width + gap)


def check_entropy(module: ModuleType, name: str) -> None:
    """The same divergences, but with them a candidate that ends in an empty bin is none.

    What is clipped then lies where their Q is 0, and the divergence is infinite. So in a sparse tail only the bins that
    hold a value are looked at; on the others' account ours keeps more.
    """
    values = tensor(name)
    made = calibrator(module, values)
    bins, edges = made._calib_hist.numpy().astype(np.float64), made._calib_bin_edges.numpy()
    bins[0] = bins[1]
    divergences, last_bin = kl_divergences(bins), bins[LEVELS - 1 : BINS]
    of_theirs = np.where(last_bin == 0, np.inf, divergences)
    chosen = LEVELS + int(np.flatnonzero(of_theirs <= of_theirs.min() + TIE)[-1])
    assert float(made.compute_amax("entropy")) == edges[chosen]
    assert divergences.min() < of_theirs.min()


def check_size_of_difference(module: ModuleType, name: str, threshold: float, decibels: float) -> None:
    """Which on these tensors is so many decibels."""
    values = DRAWN[name]
    theirs = float(calibrator(module, values).compute_amax("entropy"))
    assert theirs == pytest.approx(threshold, abs=1e-4)
    gained = sqnr(values, our_amax(values, "entropy")) - sqnr(values, theirs)
    assert gained == pytest.approx(decibels, abs=0.1)
