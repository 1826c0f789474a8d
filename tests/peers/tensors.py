"""The activations that trtcal and its peers are given, and what a range makes of them."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.ranges import range_of
from calibrators.statistics.tensor import TensorStatistics
from tests.engines.networks import classifier, samples_of

Floats = npt.NDArray[np.float32]

UNSIGNED = Grid(bits=8, signed=False, symmetric=False)
"""0 to 255 with a zero point: the asymmetric grid of every peer."""


def _drawn() -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    laplace = rng.laplace(0, 1, 32768).astype(np.float32)
    return {"laplace": laplace, "relu": np.maximum(rng.standard_normal(32768).astype(np.float32), 0)}


DRAWN = _drawn()
"""Many small values and few large ones of both signs, from -9.993 to 11.949; and half zeros, up to 4.732."""

NAMES = [*DRAWN, "image", "a", "b_relu"]
"""Those, and three of the activations of a network: its input, a convolution, a later ReLU."""


def network() -> onnx.ModelProto:
    """A small classifier: convolutions, a pooling, a matrix product."""
    return classifier()


def samples() -> list[dict[str, Floats]]:
    """Inputs for the network, one a batch; one is larger than the others, as an outlier is."""
    batches = samples_of(network(), 6)
    batches[3]["image"] *= 2
    return batches


@lru_cache(maxsize=1)
def activations() -> dict[str, Floats]:
    """The network's activations over all samples, samples first, by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    model = network()
    names = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    evaluator = ReferenceEvaluator(model)
    runs = [batch | dict(zip(names, evaluator.run(None, batch), strict=True)) for batch in samples()]
    return {name: np.concatenate([run[name] for run in runs]).astype(np.float32) for name in ("image", *names)}


def tensor(name: str) -> Floats:
    """One of `NAMES`; for the drawn ones, the whole tensor is one sample."""
    return DRAWN[name] if name in DRAWN else activations()[name]


def ours(values: npt.ArrayLike, method: str, grid: Grid = TENSORRT_INT8) -> tuple[float, float]:
    """Our range of a tensor that is one sample."""
    found = range_of(TensorStatistics.of(values), method, grid)
    return found.minimum, found.maximum


def our_amax(values: npt.ArrayLike, method: str) -> float:
    """Our threshold for TensorRT."""
    return ours(values, method)[1]


def error_of(values: Floats, encoding: Encoding) -> float:
    """The mean squared error of quantization."""
    return float(((encoding.fake_quantize(values).astype(np.float64) - values) ** 2).mean())


def mean_squared_error(values: Floats, amax: float) -> float:
    """Of INT8 quantization with that range."""
    return error_of(values, Encoding.symmetric(amax))


def sqnr(values: Floats, amax: float) -> float:
    """Signal over the noise of INT8 quantization with that range, in dB."""
    return 10 * math.log10((values.astype(np.float64) ** 2).mean() / mean_squared_error(values, amax))
