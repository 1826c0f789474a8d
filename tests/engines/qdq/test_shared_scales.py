"""Q/DQ models in which tensors of unlike ranges meet: nothing of them may drown, or be cut off."""

import numpy as np
import onnxruntime
import pytest

from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.write import quantize
from tests.engines.networks import Net

RNG = np.random.default_rng(0)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def decibels(model, samples, *, method="minmax", tensors="all"):
    """The SQNR of each output of the Q/DQ model, over all samples."""
    quantized = quantize(model, calibrate(collect(model, [samples], tensors=tensors), method)).model
    found = []
    for expected, given in zip(run(model, samples), run(quantized, samples), strict=True):
        noise = float(((expected.astype(np.float64) - given) ** 2).sum())
        found.append(10 * np.log10(float((expected.astype(np.float64) ** 2).sum()) / noise))
    return found


class TestConcatenationsWithConstants:
    """Coordinates from -1 to 1 beside values of at most 0.1."""

    X = (RNG.random((8, 3, 8, 8)) * 0.1).astype(np.float32)

    def coordinates(self, net):
        net.constant("coords", np.stack(np.meshgrid(*[np.linspace(-1, 1, 8)] * 2))[None].astype(np.float32))

    def constant(self, net):
        self.coordinates(net)
        net.node("Concat", net.input(shape=(1, 3, 8, 8)) + " coords", "both", axis=1)

    def expanded(self, net):
        """The constant takes the batch size of the input."""
        self.coordinates(net)
        net.node("Shape", net.input(shape=("N", 3, 8, 8)), "batch", start=0, end=1)
        net.constant("rest", np.array([2, 8, 8], np.int64))
        net.node("Concat", "batch rest", "shape", axis=0)
        net.node("Expand", "coords shape", "expanded")
        net.node("Concat", "x expanded", "both", axis=1)

    def positions(self, net):
        """Computed from the input's shape alone."""
        net.node("Shape", net.input(shape=("N", 3, 8, 8)), "shape")
        net.node("ConstantOfShape", "shape", "zeros")
        net.constant("one", np.float32(1))
        net.constant("axes", np.array([1], np.int64))
        net.node("Add", "zeros one", "ones")
        net.node("ReduceMean", "ones", "flags", axes=[1])
        net.node("Concat", "flags x flags", "both", axis=1)

    @pytest.mark.parametrize("tensors", ["all", "quantizable"])
    @pytest.mark.parametrize("operands", ["constant", "expanded", "positions"])
    def test_the_concatenations_own_values_count(self, operands, tensors):
        net = Net()
        getattr(self, operands)(net)
        net.conv("both", "y", 8, 5, 3, 3)
        model = net.model("y")
        samples = {"x": self.X[:1] if operands == "constant" else self.X}
        assert min(decibels(model, samples, tensors=tensors)) > 30

    @pytest.mark.parametrize("operands", ["constant", "expanded"])
    def test_a_cache_without_the_concatenation_is_told_by_the_constant(self, operands):
        net = Net()
        getattr(self, operands)(net)
        net.conv("both", "y", 8, 5, 3, 3)
        model = net.model("y")
        assert quantize(model, {"x": 0.001}).scales["both"] == pytest.approx(1 / 127)
        assert quantize(model, {"x": 0.5}).scales["both"] == 0.5
        assert quantize(model, {"x": 0.001, "both": 0.006}).scales["both"] == 0.006
