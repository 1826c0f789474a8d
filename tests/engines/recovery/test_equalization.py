"""Cross-layer equalization: the formulas, the same function on any network, and what is left alone."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from engines.passes.prepare import prepared
from engines.recovery.affine import affines, floats_of, matrices
from engines.recovery.equalization import SETTLED, equalized
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of
from tests.engines.qdq.test_random_networks import BLOCKS, grown


def floats(model):
    return ir.to_proto(prepared(model))


def constants(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def run(model, batch):
    with OnnxRuntimeSession(model) as session:
        return session.run(batch)


def same(before, after, *, tolerance=1e-4, samples=2):
    """Whether two models compute the same, up to float32's rounding."""
    onnx.checker.check_model(after, full_check=True)
    assert [value.name for value in before.graph.output] == [value.name for value in after.graph.output]
    for batch in samples_of(before, samples):
        outputs = run(after, batch)
        for name, expected in run(before, batch).items():
            assert np.abs(expected - outputs[name]).max() <= tolerance * np.abs(expected).max()


def ranges(model, name):
    """max|W| by output channel, and by input channel."""
    layer = affines(ir.from_proto(model))[0][name]
    rows = np.abs(matrices(floats_of(layer), layer))
    return rows.max(axis=(2, 3)).reshape(-1), rows.max(axis=(1, 3)).reshape(-1)


def pair(*, spread=2.0):
    net = Net()
    net.conv(net.input(), "a", 16, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "y", 4, 16, 3, 3)
    factors = 10 ** net.random.uniform(-spread, spread, 16).astype(np.float32)
    net.constants["a_w"] *= factors.reshape(16, 1, 1, 1)
    net.constants["a_b"] *= factors
    return net


def test_a_pair_by_the_formula():
    model = pair().model("y")
    before, after = constants(model), equalized(floats(model))
    new = constants(after.model)
    first, second = np.abs(before["a_w"]).max(axis=(1, 2, 3)), np.abs(before["y_w"]).max(axis=(0, 2, 3))
    s = first / np.sqrt(first * second)
    np.testing.assert_allclose(new["a_w"], before["a_w"] / s.reshape(-1, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(new["a_b"], before["a_b"] / s, rtol=1e-6)
    np.testing.assert_allclose(new["y_w"], before["y_w"] * s.reshape(1, -1, 1, 1), rtol=1e-6)
    np.testing.assert_array_equal(new["y_b"], before["y_b"])
    assert after.sets == (("a/Conv", "y/Conv"),)
    assert after.skipped == {"y/Conv": "its output y is the model's too"}
    same(model, after.model)


def test_a_depthwise_triple_by_the_formula():
    net = pair()
    net.nodes.pop()
    net.conv("a_relu", "d", 16, 1, 3, 3, group=16)
    net.node("Relu", "d", "d_relu")
    net.conv("d_relu", "y", 4, 16, 1, 1)
    model = net.model("y")
    before, after = constants(model), equalized(floats(model))
    new = constants(after.model)
    r0, r1 = (np.abs(before[name]).max(axis=(1, 2, 3)) for name in ("a_w", "d_w"))
    r2 = np.abs(before["y_w"]).max(axis=(0, 2, 3))
    mean = np.cbrt(r0 * r1 * r2)
    np.testing.assert_allclose(new["a_w"], before["a_w"] / (r0 / mean).reshape(-1, 1, 1, 1), rtol=1e-5)
    np.testing.assert_allclose(new["y_w"], before["y_w"] * (mean / r2).reshape(1, -1, 1, 1), rtol=1e-5)
    np.testing.assert_allclose(new["d_b"], before["d_b"] / (mean / r2), rtol=1e-5)
    for each in (ranges(after.model, "a/Conv")[0], ranges(after.model, "d/Conv")[0], ranges(after.model, "y/Conv")[1]):
        np.testing.assert_allclose(each, mean, rtol=1e-5)
    assert after.sets == (("a/Conv", "d/Conv", "y/Conv"),)
    same(model, after.model)


def test_a_chain_until_all_ranges_are_equal():
    net = pair()
    for name, reader in (("b", "y"), ("c", "b")):
        net.conv(f"{reader}", name, 6, 4 if reader == "y" else 6, 3, 3)
    model = net.model("c")
    after = equalized(floats(model))
    assert len(after.sets) == 3
    assert after.sweeps > 2
    for giving, reading in after.sets:
        given, read = ranges(after.model, giving)[0], ranges(after.model, reading)[1]
        np.testing.assert_allclose(given, read, rtol=3 * SETTLED)
    same(model, after.model)


def test_channels_of_zeros_keep_their_scale():
    net = pair()
    net.constants["a_w"][3] = 0
    net.constants["y_w"][:, 5] = 0
    model = net.model("y")
    before, after = constants(model), equalized(floats(model))
    new = constants(after.model)
    np.testing.assert_array_equal(new["y_w"][:, 3], before["y_w"][:, 3])
    np.testing.assert_array_equal(new["a_w"][5], before["a_w"][5])
    np.testing.assert_array_equal(new["a_b"][[3, 5]], before["a_b"][[3, 5]])
    same(model, after.model)


def test_a_weight_that_is_no_number_harms_no_other_channel():
    net = pair()
    net.constants["a_w"][3, 0, 0, 0] = np.nan
    model = net.model("y")
    before, after = constants(model), equalized(floats(model))
    np.testing.assert_array_equal(constants(after.model)["y_w"][:, 3], before["y_w"][:, 3])
    assert np.isfinite(np.delete(constants(after.model)["a_w"], 3, axis=0)).all()


def behind(build, channels=16):
    """A convolution of unequal channels, and layers of every kind behind it."""
    net = pair()
    net.nodes.pop()
    build(net)
    return net.model("y")


def grouped(net):
    net.conv("a_relu", "b", 8, 4, 3, 3, group=4)
    net.conv("b", "y", 4, 8, 1, 1)


def transposed(net):
    net.conv("a_relu", "b", 16, 3, 3, 3, operator="ConvTranspose", group=2, strides=[2, 2])
    net.conv("b", "y", 4, 6, 1, 1)


def twice(net):
    """A depthwise convolution that gives two channels for each that it reads."""
    net.conv("a_relu", "b", 32, 1, 3, 3, group=16)
    net.conv("b", "y", 4, 32, 1, 1)


def flattened(net):
    net.node("MaxPool", "a_relu", "p", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Flatten", "p", "f")
    net.weight("w", 12, 256)
    net.constant("c", np.ones((1, 12), np.float32))
    net.node("Gemm", "f w c", "g", transB=1, alpha=0.5, beta=2.0)
    net.node("Relu", "g", "g_relu")
    net.weight("v", 12, 5)
    net.constant("d", np.ones(5, np.float32))
    net.node("MatMul", "g_relu v", "m")
    net.node("Add", "m d", "n")
    net.node("LeakyRelu", "n", "l", alpha=0.2)
    net.weight("u", 5, 3)
    net.node("MatMul", "l u", "y")


def two_readers(net):
    net.conv("a_relu", "b", 4, 16, 1, 1)
    net.conv("a_relu", "c", 4, 16, 3, 3)
    net.node("Add", "b c", "y")


def average(net):
    net.node("GlobalAveragePool", "a_relu", "p")
    net.conv("p", "y", 4, 16, 1, 1)


KINDS = {
    grouped: [("a/Conv", "b/Conv"), ("b/Conv", "y/Conv")],
    transposed: [("a/Conv", "b/ConvTranspose"), ("b/ConvTranspose", "y/Conv")],
    twice: [("a/Conv", "b/Conv"), ("b/Conv", "y/Conv")],
    flattened: [("a/Conv", "g/Gemm"), ("g/Gemm", "m/MatMul"), ("m/MatMul", "y/MatMul")],
    two_readers: [("a/Conv", "b/Conv", "c/Conv")],
    average: [("a/Conv", "y/Conv")],
}


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_layers_of_every_kind(build):
    model = behind(build)
    after = equalized(floats(model))
    assert list(after.sets) == KINDS[build]
    same(model, after.model)
    before = ranges(floats(model), "a/Conv")[0]
    given = ranges(after.model, "a/Conv")[0]
    assert before.max() / before.min() > 100 > given.max() / given.min()


def test_two_readers_count_by_the_larger():
    model = behind(two_readers)
    after = equalized(floats(model))
    read = np.maximum(ranges(after.model, "b/Conv")[1], ranges(after.model, "c/Conv")[1])
    np.testing.assert_allclose(ranges(after.model, "a/Conv")[0], read, rtol=1e-5)


def test_a_shared_weight_is_left_alone():
    net = pair()
    net.conv("a_relu", "z", 16, 8, 3, 3)
    net.nodes[-1].input[0], net.nodes[-1].input[1] = "x", "a_w"
    model = net.model("y", "z")
    after = equalized(floats(model))
    assert after.sets == ()
    assert after.skipped["a/Conv"] == "its weight a_w is read by others too"
    assert constants(after.model).keys() == constants(floats(model)).keys()
    net = pair()
    net.node("Conv", "a_relu y_w y_b", "z")
    after = equalized(floats(net.model("y", "z")))
    assert after.skipped["a/Conv"] == "y/Conv, which reads it, has a weight that others read too"


def test_a_shared_bias_becomes_the_layers_own():
    net = pair()
    net.constants["y_b"] = net.constants["a_b"][:4].copy()
    net.conv("a_relu", "z", 16, 16, 1, 1)
    net.nodes[-1].input[2] = "a_b"
    model = net.model("y", "z")
    after = equalized(floats(model))
    assert after.sets == (("a/Conv", "y/Conv", "z/Conv"),)
    same(model, after.model)


def relu6():
    net = pair(spread=1.0)
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(0.5))
    net.nodes[1:] = []
    net.node("Clip", "a zero six", "a_clip")
    net.conv("a_clip", "d", 16, 1, 3, 3, group=16)
    net.node("Clip", "d zero six", "d_clip")
    net.conv("d_clip", "y", 4, 16, 1, 1)
    return net.model("y")


def test_a_clip_stops():
    model = relu6()
    after = equalized(floats(model))
    assert (after.sets, after.clips) == ((), 0)
    assert after.skipped["a/Conv"] == "a_clip/Clip (Clip) cuts off its output at 0.5"
    same(model, after.model, tolerance=0)


def test_a_clip_by_channel_is_the_same_function():
    model = relu6()
    after = equalized(floats(model), clips="channel")
    assert (after.sets, after.clips) == ((("a/Conv", "d/Conv", "y/Conv"),), 2)
    same(model, after.model)
    assert [node.op_type for node in after.model.graph.node] == ["Conv", "Relu", "Min", "Conv", "Relu", "Min", "Conv"]
    assert {"a_clip", "d_clip"} <= {name for node in after.model.graph.node for name in node.output}


def test_a_relu_for_a_clip_is_another_function():
    model = relu6()
    after = equalized(floats(model), clips="relu")
    assert (len(after.sets), after.clips) == (1, 2)
    assert [node.op_type for node in after.model.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    (batch,) = samples_of(model, 4, batch=4)
    assert np.abs(run(model, batch)["y"] - run(after.model, batch)["y"]).max() > 1e-3


@pytest.mark.parametrize("place", ["product", "squeezed"])
def test_a_clip_on_another_axis(place):
    net = pair(spread=1.0)
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(0.3))
    net.nodes[1:] = []
    net.node("GlobalAveragePool", "a", "p")
    net.constant("axes", np.array([2, 3], np.int64))
    net.node("Squeeze", "p axes", "q")
    net.weight("w", 16, 6)
    if place == "product":
        net.node("MatMul", "q w", "m")
        net.node("Clip", "m zero six", "c")
        net.weight("v", 6, 4)
        net.node("MatMul", "c v", "y")
    else:
        net.node("Clip", "q zero six", "c")
        net.node("MatMul", "c w", "y")
    model = net.model("y")
    after = equalized(floats(model), clips="channel")
    assert after.clips == 1
    same(model, after.model)


def test_the_model_itself_is_not_changed():
    model = floats(relu6())
    before = model.SerializeToString(deterministic=True)
    for clips in ("stop", "relu", "channel"):
        equalized(model, clips=clips)
    assert model.SerializeToString(deterministic=True) == before


def test_all_of_a_second_time_changes_little():
    once = equalized(floats(behind(flattened))).model
    again = equalized(once).model
    for name, numbers in constants(once).items():
        np.testing.assert_allclose(constants(again)[name], numbers, rtol=5 * SETTLED)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=2),
    st.sampled_from(["stop", "channel"]),
)
def test_any_network_computes_the_same(blocks, outputs, clips):
    model = grown(blocks, outputs)
    after = equalized(floats(model), clips=clips)
    same(model, after.model, samples=1)
    named = {name for names in after.sets for name in names}
    layers, others = affines(prepared(model))
    assert set(layers) == {names[0] for names in after.sets} | set(after.skipped) | named & set(layers)
    assert set(others) <= set(after.skipped)
    assert {node.name for node in after.model.graph.node} >= {node.name for node in floats(model).graph.node} - {
        node.name for node in model.graph.node if node.op_type == "Clip"
    }
