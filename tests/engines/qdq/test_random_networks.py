"""Networks put together at random: whatever stands next to whatever, the Q/DQ model is valid, close and accepted."""

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibrators.cache.text import CalibrationCache
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.model import activations, scale_groups
from engines.graph.operators import COMMUTES
from engines.passes.half import to_half
from engines.qdq.to_cache import qdq_scales
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of

CHANNELS = 8
KERNEL = (CHANNELS, CHANNELS, 3, 3)
HALF = (CHANNELS // 2, CHANNELS, 3, 3)
POOL = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def residual(net, x, to):
    inner = net.node("Relu", net.conv(x, f"{to}_a", *KERNEL), f"{to}_a_relu")
    return net.node("Add", f"{net.conv(inner, f'{to}_b', *KERNEL)} {x}", to)


def down(net, x, to):
    other = net.conv(x, f"{to}_b", CHANNELS, CHANNELS, 1, 1)
    return net.node("Add", f"{net.conv(x, f'{to}_a', *KERNEL)} {other}", to)


def join(net, x, to):
    one = net.node("Relu", net.conv(x, f"{to}_a", *HALF), f"{to}_a_relu")
    return net.node("Concat", f"{one} {net.conv(x, f'{to}_b', *HALF)}", to, axis=1)


def halves(net, x, to):
    net.node("Split", x, f"{to}_a {to}_b", axis=1)
    small = net.conv(f"{to}_a", f"{to}_conv", CHANNELS // 2, CHANNELS // 2, 3, 3)
    return net.node("Concat", f"{net.node('Add', f'{small} {to}_b', f'{to}_sum')} {to}_a", to, axis=1)


def padded(net, x, to):
    part = net.node("Slice", f"{x} first half axis", f"{to}_part")
    return net.node("Add", f"{net.conv(x, f'{to}_conv', *KERNEL)} {net.node('Pad', f'{part} pads', f'{to}_pad')}", to)


def turned(net, x, to):
    return net.node("Transpose", net.node("Transpose", x, f"{to}_nhwc", perm=[0, 2, 3, 1]), to, perm=[0, 3, 1, 2])


BLOCKS = {
    "conv": lambda net, x, to: net.conv(x, to, *KERNEL),
    "depthwise": lambda net, x, to: net.conv(x, to, CHANNELS, 1, 3, 3, group=CHANNELS),
    "normalized": lambda net, x, to: net.batch_norm(net.conv(x, f"{to}_conv", *KERNEL, bias=False), to, CHANNELS),
    "relu": lambda net, x, to: net.node("Relu", x, to),
    "relu6": lambda net, x, to: net.node("Clip", f"{x} zero six", to),
    "silu": lambda net, x, to: net.node("Mul", f"{x} {net.node('Sigmoid', x, f'{to}_gate')}", to),
    "maximum": lambda net, x, to: net.node("MaxPool", x, to, **POOL),
    "average": lambda net, x, to: net.node("AveragePool", x, to, **POOL),
    "residual": residual,
    "down": down,
    "join": join,
    "halves": halves,
    "padded": padded,
    "turned": turned,
}
"""Each takes and gives CHANNELS channels of 8x8."""


def grown(blocks, outputs):
    """A network of these blocks, one behind the other; the results at `outputs` are outputs of the model too."""
    net = Net()
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    for name, values in (("first", [0]), ("half", [CHANNELS // 2]), ("axis", [1])):
        net.constant(name, np.array(values, np.int64))
    net.constant("pads", np.array([0, CHANNELS // 2, 0, 0, 0, 0, 0, 0], np.int64))
    results = [net.input(shape=("N", CHANNELS, 8, 8))]
    for place, block in enumerate(blocks):
        results.append(BLOCKS[block](net, results[-1], f"t{place}"))
    net.conv(results[-1], "y", 4, CHANNELS, 1, 1)
    return net.model("y", *dict.fromkeys(results[1 + place % len(blocks)] for place in outputs))


def run(model, batches):
    """The outputs over all batches, in the model's order."""
    with OnnxRuntimeSession(model) as session:
        outputs = [session.run(batch) for batch in batches]
    return [np.concatenate([output[name] for output in outputs]) for name in outputs[0]]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=2))
@example(["halves", "halves", "halves"], [])
def test_any_network(blocks, outputs):
    model = grown(blocks, outputs)
    samples = samples_of(model, 4)
    result = quantize(model, calibrate(collect(model, samples), "minmax"))
    onnx.checker.check_model(result.model, full_check=True)
    assert (result.left_float, result.unused) == ({}, ())
    for expected, actual in zip(run(model, samples), run(result.model, samples), strict=True):
        noise = np.sum((expected - actual) ** 2, dtype=np.float64)
        assert noise < 10**-2 * np.sum(expected**2, dtype=np.float64)
    for group in scale_groups(model, through=COMMUTES):
        found = {result.scales[name] for name in group.members if name in result.scales}
        assert all(scale == max(found) or scale < max(found) / 4 * 1.0001 for scale in found)  # quiet parts
    quantized = {node.input[0] for node in result.model.graph.node if node.op_type == "QuantizeLinear"}
    for node in result.model.graph.node:
        if node.op_type in ("BatchNormalization", "Relu", "Clip", "Sigmoid"):
            convolutions = {each.output[0] for each in result.model.graph.node if each.op_type == "Conv"}
            assert not (node.input[0] in convolutions & quantized and alone(result.model, node.input[0]))


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=2))
def test_the_scales_of_any_network_come_back_and_quantize_it_alike(blocks, outputs):
    model = grown(blocks, outputs)
    result = quantize(model, calibrate(collect(model, samples_of(model, 2)), "minmax"))
    for source in (result.model, to_half(result.model).model):
        back = qdq_scales(source).scales
        assert {name: back[name] for name in result.scales} == result.scales
        assert set(back) <= set(activations(model))
        again = quantize(model, CalibrationCache.parse(CalibrationCache(back).dumps()))
        assert again.model.SerializeToString() == result.model.SerializeToString()


def alone(model, name):
    """Whether a tensor has one reader and is no output."""
    readers = [node for node in model.graph.node if name in node.input]
    return len(readers) == 1 and name not in {value.name for value in model.graph.output}


@settings(max_examples=15)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=3, max_size=6))
def test_any_network_is_accepted_by_tensorrt(blocks):
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    model = grown(blocks, [])
    result = quantize(model, calibrate(collect(model, samples_of(model, 2)), "minmax"))
    logger = rtx.Logger(rtx.Logger.ERROR)
    network = rtx.Builder(logger).create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(result.model.SerializeToString())
    assert parser.num_errors == 0
