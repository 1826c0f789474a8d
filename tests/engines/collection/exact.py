"""A tensor's statistics straight from their definitions, and networks and samples that are exact in whole numbers."""

from fractions import Fraction

import numpy as np

from calibrators.statistics.histogram import BINS, Histogram
from calibrators.statistics.tensor import TensorStatistics
from tests.engines.networks import Net


def counted(samples):
    """The statistics of a tensor, straight from their definitions."""

    def histogram(magnitudes):
        if magnitudes.size == 0:
            return Histogram.empty()
        exponent = int(np.frexp(magnitudes.max())[1])
        places = np.floor(magnitudes.astype(np.float64) * 2.0**-exponent * BINS).astype(np.int64)
        return Histogram(np.bincount(places, minlength=BINS).astype(np.int64), exponent, float(magnitudes.max()))

    def total(values):
        return int(sum(Fraction(float(value)) for value in values) * 2**149)

    samples = [np.asarray(sample, np.float32) for sample in samples]
    values = np.concatenate([sample.reshape(-1) for sample in samples])
    return TensorStatistics(
        positive=histogram(values[values > 0]),
        negative=histogram(-values[values < 0]),
        zeros=int((values == 0).sum()),
        samples=len(samples),
        highest_sum=total(sample.max(initial=0) for sample in samples),
        lowest_sum=total((-sample).max(initial=0) for sample in samples),
        absmax_sum=total(np.abs(sample).max(initial=0) for sample in samples),
    )


def whole_numbers(net):
    """Round the weights of a network to a few whole numbers, so that sums are exact in whatever order."""
    for name, array in net.constants.items():
        if array.dtype == np.float32 and array.ndim:
            net.constants[name] = np.rint(2 * array).clip(-3, 3).astype(array.dtype)


def whole_samples(shape, count, seed=1):
    random = np.random.default_rng(seed)
    return [{"x": random.integers(-4, 5, (1, *shape)).astype(np.float32)} for _ in range(count)]


def exact_network(batch="N", channels=8):
    """A bit of everything that is exact in whole numbers and halves."""
    net = Net()
    net.conv(net.input(shape=(batch, channels, 7, 7)), "a", 16, channels, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 16, 16, 1, 1)
    net.constant("low", np.float32(0))
    net.constant("high", np.float32(20))
    net.node("Clip", "b low high", "b_clip")
    net.node("Add", "b_clip a_relu", "sum")
    net.node("MaxPool", "sum", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "c", 16, 1, 3, 3, group=16)
    net.node("Neg", "c", "negative")
    net.node("Concat", "c negative", "both", axis=1)
    net.constant("shape", np.array([0, 32, 9], np.int64))
    net.node("Reshape", "both shape", "flat")
    net.node("Transpose", "flat", "turned", perm=[0, 2, 1])
    net.node("Abs", "turned", "magnitude")
    net.weight("w", 32, 4, fan_in=32)
    net.node("MatMul", "magnitude w", "y")
    whole_numbers(net)
    return net.model("y", "b_clip")


def batched(samples, size):
    return [
        {name: np.concatenate([sample[name] for sample in samples[start : start + size]]) for name in samples[0]}
        for start in range(0, len(samples), size)
    ]
