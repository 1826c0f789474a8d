"""Errors of weights, per channel and per tensor."""

import math

import numpy as np
import pytest

from calibrators.grid import TENSORRT_WEIGHTS
from calibrators.weights import weight_encoding
from engines.simulation.simulated_model import Layer
from trtcal.analysis.errors.weight_errors import weight_error


def layer(shape, axis):
    return Layer("layer", "Conv", "x", "y", "w", shape, axis)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_channel_in_closed_form(axis):
    weight = np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype(np.float32)
    encoding = weight_encoding(weight, axis=axis)
    found = weight_error(layer(weight.shape, axis), weight, encoding)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    scale = np.abs(rows).max(axis=1, keepdims=True).astype(np.float32) / np.float32(127)
    error = rows - np.rint(rows.astype(np.float32) / scale) * scale
    expected = 10 * np.log10(np.sum(rows**2, axis=1) / np.sum(error**2, axis=1))
    assert found.sqnr == pytest.approx(expected, rel=1e-4)
    assert found.worst == (int(np.argmin(expected)), pytest.approx(expected.min(), rel=1e-4))
    assert found.fidelity.sqnr == pytest.approx(10 * np.log10(np.sum(rows**2) / np.sum(error**2)), rel=1e-4)
    assert found.amax == pytest.approx(np.abs(rows).max(axis=1))
    assert (found.apart, found.bits, found.dead) == (True, 8, ())


def test_one_large_channel_drowns_the_others_where_they_share_a_scale():
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    weight[2] *= 300
    weight[5] = 0
    apart, shared = (
        weight_error(layer(weight.shape, 0), weight, weight_encoding(weight, axis=axis)) for axis in (0, None)
    )
    assert apart.spread == shared.spread > 100
    assert (apart.dead, shared.dead) == ((5,), (5,))
    assert apart.worst[1] > 35
    assert shared.worst[1] < 3
    assert shared.fidelity.sqnr > 35  # of the whole, which the large channel is
    assert (apart.sqnr[5], shared.apart) == (math.inf, False)


@pytest.mark.parametrize("axis", [0, 1])
def test_input_channels_that_are_rounded_away(axis):
    weight = np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32)
    index = [slice(None)] * 3
    index[1 - axis] = 2
    weight[tuple(index)] *= 1e-4
    index[1 - axis] = 4
    weight[tuple(index)] = 0
    found = weight_error(layer(weight.shape, axis), weight, weight_encoding(weight, axis=axis))
    assert found.lost == (2,)  # not 4, which is zero anyway


def test_fewer_bits_are_told():
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    grid = type(TENSORRT_WEIGHTS)(bits=4, narrow=True)
    found = weight_error(layer(weight.shape, 0), weight, weight_encoding(weight, axis=0, grid=grid))
    assert found.bits == found.to_dict()["bits"] == 4
    assert found.worst[1] < 20
