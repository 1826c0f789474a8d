"""A Q/DQ model becomes the float model that it came from, but for the rounding of its weights."""

import numpy as np
import onnx
import pytest

from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.passes.without_quantizers import without_quantizers
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier, samples_of
from tests.engines.zoo import ZOO


def residual():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "r")
    net.conv("r", "b", 8, 8, 3, 3)
    net.node("Add", "b r", "y")
    return net.model("y")


@pytest.mark.parametrize("made", [classifier, residual, ZOO["shared_both_ways"]], ids=["classes", "skip", "shared"])
def test_only_the_weights_are_rounded(made):
    model = getattr(made(), "model", None) or made()
    samples = samples_of(model, 4)
    quantized = quantize(model, calibrate(collect(model, samples), "minmax")).model
    floats = without_quantizers(quantized)
    onnx.checker.check_model(floats, full_check=True)
    assert not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in floats.graph.node)
    with OnnxRuntimeSession(model) as before, OnnxRuntimeSession(floats) as after:
        for name, expected in before.run(samples[0]).items():
            np.testing.assert_allclose(after.run(samples[0])[name], expected, atol=0.03 * np.abs(expected).max())


def test_the_model_itself_stays():
    model = classifier()
    quantized = quantize(model, calibrate(collect(model, samples_of(model, 2)), "minmax")).model
    before = quantized.SerializeToString(deterministic=True)
    without_quantizers(quantized)
    assert quantized.SerializeToString(deterministic=True) == before
