"""PaddleSlim's observers of weights: a threshold per channel."""

import numpy as np
import pytest

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_WEIGHTS
from calibrators.weights import weight_encoding
from tests.peers.installed import differs, needed

paddle = needed("paddlepaddle", "paddle")
observers = needed("paddleslim", "paddleslim.quant.observers")
as_read = differs("paddleslim", read="2.6.0")

LAYERS = {"Conv2D": (0, (8, 4, 3, 3)), "Linear": (1, (32, 8))}
"""The axis of output channels, and a shape."""


def thresholds(kind: str, layer: str, weight) -> np.ndarray:
    made = paddle.nn.Conv2D(4, 8, 3) if layer == "Conv2D" else paddle.nn.Linear(32, 8)
    observer = getattr(observers, kind)()._instance(made)
    observer(paddle.to_tensor(weight))
    return np.asarray(observer.scales(), np.float32).reshape(-1)


def drawn(layer: str) -> np.ndarray:
    return np.random.default_rng(4).laplace(size=LAYERS[layer][1]).astype(np.float32)


def errors(weight, encoding: Encoding, axis: int) -> np.ndarray:
    """The mean squared error of each channel."""
    error = (encoding.fake_quantize(weight).astype(np.float64) - weight) ** 2
    return error.mean(tuple(each for each in range(weight.ndim) if each != axis))


@pytest.mark.parametrize("layer", LAYERS)
def test_absolute_maximum(layer: str) -> None:
    weight = drawn(layer)
    own = weight_encoding(weight, axis=LAYERS[layer][0])
    assert own.scale == pytest.approx(thresholds("AbsMaxChannelWiseWeightObserver", layer, weight) / 127, rel=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_of_the_least_squared_errors_ours_is_nowhere_larger(layer: str) -> None:
    """They try 35 thresholds of each channel."""
    weight, axis = drawn(layer), LAYERS[layer][0]
    found = thresholds("MSEChannelWiseWeightObserver", layer, weight)
    theirs = errors(weight, Encoding.symmetric(found, TENSORRT_WEIGHTS, axis=axis), axis)
    own = errors(weight, weight_encoding(weight, axis=axis, method="mse"), axis)
    assert (own <= theirs * (1 + 1e-6)).all()
    assert own.sum() < 0.99 * theirs.sum()


@as_read
def test_they_never_try_the_whole_of_a_channel() -> None:
    """0.98 of it at most; all of these values want the whole."""
    weight = np.broadcast_to(np.linspace(-1, 1, 255, dtype=np.float32)[:32, None], (32, 8)).copy()
    found = thresholds("MSEChannelWiseWeightObserver", "Linear", weight)
    assert found == pytest.approx(0.98)
    assert (weight_encoding(weight, axis=1, method="mse").scale == np.float32(1 / 127)).all()
