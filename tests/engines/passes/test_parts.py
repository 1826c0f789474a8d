"""Tensors that are taken out of a sequence keep their names, and so the ranges that a calibration saw."""

import numpy as np
import pytest

from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.passes.prepare import UNPROVED, prepared
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of

SMALL = 0.005
"""How much smaller the second half of the channels is."""


def network(*, sizes=4, place=1, axis=1, output=False, opset=17, twice=False):
    """A convolution whose result is cut into a sequence, of which the part of small values goes on."""
    net = Net(opset=opset)
    net.conv(net.input(), "c", 8, 8, 1, 1, bias=False)
    net.constants["c_w"][4:] *= SMALL
    net.constant("sizes", np.array(sizes))
    net.constant("place", np.array(place))
    net.node("SplitToSequence", "c sizes", "parts", axis=axis)
    net.node("SequenceAt", "parts place", "u")
    if twice:
        net.node("SequenceAt", "parts place", "u2")
        net.node("Add", net.conv("u", "y1", 16, 4, 3, 3) + " " + net.conv("u2", "y2", 16, 4, 3, 3), "y")
    else:
        net.conv("u", "y", 16, 4, 3, 3, bias=False)
    return net.model("y", *(["u"] if output else []))


CASES = {
    "sizes": {"sizes": [4, 4]},
    "chunks": {},
    "from the end": {"place": -1, "axis": -3},
    "an output too": {"output": True},
    "opset 18": {"opset": 18},
    "twice": {"twice": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_part_has_its_own_scale(case):
    model = network(**CASES[case])
    graph = prepared(model)
    assert graph.meta[UNPROVED] == ""
    assert "SequenceAt" not in [node.op_type for node in graph.graph]
    batches = samples_of(model, 8, batch=8)
    quantized = quantize(model, calibrate(collect(model, batches), "minmax"))
    assert quantized.scales["u"] < 0.1 * quantized.scales["x"]
    with OnnxRuntimeSession(model) as floats, OnnxRuntimeSession(quantized.model) as session:
        expected, actual = (each.run(batches[0])["y"] for each in (floats, session))
    assert 10 * np.log10(np.sum(expected**2) / np.sum((expected - actual) ** 2)) > 28
