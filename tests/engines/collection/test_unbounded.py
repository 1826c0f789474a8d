"""Activations that are infinite where nothing needs their range: noted, and left out; elsewhere a fault."""

import numpy as np
import pytest
from onnx import TensorProto

from calibrators.errors import CacheError, DataError
from calibrators.ranges import calibrate
from calibrators.statistics.file import Statistics
from engines.collection.collect import collect
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net

FOREVER = -np.inf


def attention(net, mask):
    """Attention over x of N,6,8, with a mask that is added before its Softmax; y is the projected result."""
    net.node("MatMul", f"x {net.weight('q_w', 16, 16)}", "q")
    net.node("Transpose", "x", "k", perm=[0, 2, 1])
    net.node("MatMul", "q k", "scores")
    net.node("Add", f"scores {mask}", "masked")
    net.node("Softmax", "masked", "p", axis=-1)
    net.node("MatMul", "p x", "mixed")
    return net.node("MatMul", f"mixed {net.weight('y_w', 16, 16)}", "y")


def padded():
    """True where there is something to attend to: at least the first position."""
    return np.arange(6)[None, None] < np.random.default_rng(1).integers(1, 6, (8, 1, 1))


def by_where():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("keep", ("N", 1, 6), TensorProto.BOOL)
    net.constant("zero", np.float32(0))
    net.constant("never", np.float32(FOREVER))
    net.node("Where", "keep zero never", "mask")
    return net.model(attention(net, "mask")), {"keep": padded()}, {"mask", "masked"}


def by_logarithm():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("keep", ("N", 1, 6))
    net.node("Log", "keep", "mask")
    return net.model(attention(net, "mask")), {"keep": padded().astype(np.float32)}, {"mask", "masked"}


def by_an_input():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("mask", ("N", 1, 6))
    mask = np.where(padded(), 0, FOREVER).astype(np.float32)
    return net.model(attention(net, "mask")), {"mask": mask}, {"mask", "masked"}


def moved():
    """The mask goes through a Reshape and a Transpose, whose statistics follow from their input's."""
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("flat", ("N", 6))
    net.constant("to", np.array([0, 6, 1]))
    net.node("Reshape", "flat to", "tall")
    net.node("Transpose", "tall", "mask", perm=[0, 2, 1])
    flat = np.where(padded()[:, 0], 0, FOREVER).astype(np.float32)
    return net.model(attention(net, "mask")), {"flat": flat}, {"flat", "tall", "mask", "masked"}


def a_safe_division():
    """+inf, which a Where takes out before anything reads it."""
    net = Net()
    net.input("x", ("N", 6, 16))
    net.constant("zero", np.float32(0))
    net.node("Relu", "x", "r")
    net.node("Reciprocal", "r", "inverse")
    net.node("Equal", "r zero", "none")
    net.node("Where", "none zero inverse", "safe")
    net.node("Clip", "safe zero one", "small")
    net.constant("one", np.float32(1))
    return net.model(net.node("MatMul", f"small {net.weight('y_w', 16, 16)}", "y")), {}, {"inverse"}


def scores_of_what_was_left_out():
    """An output of the model is -inf by design."""
    net = Net()
    net.input("x", ("N", 6, 16))
    net.node("MatMul", f"x {net.weight('s_w', 16, 16)}", "s")
    net.constant("zero", np.float32(0))
    net.constant("never", np.float32(FOREVER))
    net.node("Less", "s zero", "low")
    return net.model(net.node("Where", "low never s", "y")), {}, {"y"}


CASES = [by_where, by_logarithm, by_an_input, moved, a_safe_division, scores_of_what_was_left_out]


def data(extra):
    return [{"x": np.random.default_rng(0).standard_normal((8, 6, 16)).astype(np.float32), **extra}]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_what_is_infinite_and_needs_no_range_is_noted_and_left_out(case, threads):
    model, extra, unbounded = case()
    statistics = collect(model, data(extra), threads=threads)
    assert set(statistics.unbounded) == unbounded
    assert not unbounded & statistics.keys()
    assert collect(model, data(extra), tensors="quantizable").unbounded == ()


@pytest.mark.parametrize("case", CASES[:-1])
def test_the_rest_is_quantized(case):
    model, extra, _ = case()
    quantized = quantize(model, calibrate(collect(model, data(extra)), "minmax"))
    assert "y/MatMul" in quantized.quantized
    with OnnxRuntimeSession(model) as floats, OnnxRuntimeSession(quantized.model) as session:
        expected, actual = (each.run(data(extra)[0])["y"] for each in (floats, session))
    assert 10 * np.log10(np.sum(expected**2) / np.sum((expected - actual) ** 2)) > 25


def a_masked_maximum():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("keep", ("N", 6, 1), TensorProto.BOOL)
    net.constant("never", np.float32(FOREVER))
    net.node("Where", "keep x never", "masked")
    net.node("Transpose", "masked", "turned", perm=[0, 2, 1])
    net.node("GlobalMaxPool", "turned", "most")
    net.node("Flatten", "most", "flat")
    model = net.model(net.node("MatMul", f"flat {net.weight('y_w', 16, 16)}", "y"))
    return model, {"keep": padded().transpose(0, 2, 1)}, {"masked", "turned"}, "flat"


def padding_of_minus_infinity():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.constant("around", np.array([0, 0, 1, 0, 0, 1]))
    net.constant("never", np.float32(FOREVER))
    net.node("Pad", "x around never", "wide")
    net.node("MaxPool", "wide", "most", kernel_shape=[3])
    model = net.model(net.node("MatMul", f"most {net.weight('y_w', 16, 16)}", "y"))
    return model, {}, {"wide"}, "most"


def joined_with_smaller_values():
    """The finite operand reaches less far than what is quantized behind: its range is no measure."""
    net = Net()
    net.input("x", ("N", 6, 16))
    net.constant("never", np.float32(FOREVER))
    for name, value in (("ten", 10), ("tenth", 0.1)):
        net.constant(name, np.float32(value))
    net.constant("every_other", np.arange(16) % 2 == 0)
    net.node("Mul", "x ten", "large")
    net.node("Mul", "x tenth", "small")
    net.node("Where", "every_other never large", "masked")
    net.node("Concat", "masked small", "both", axis=1)
    net.node("MaxPool", "both", "most", kernel_shape=[3], pads=[1, 1])
    model = net.model(net.node("MatMul", f"most {net.weight('y_w', 16, 16)}", "y"))
    return model, {}, {"masked", "both"}, "most"


def operands_of_a_softmax():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.constant("mask", np.where(np.arange(16) % 3 == 0, FOREVER, 0)[None, None].astype(np.float32))
    net.node("MatMul", f"x {net.weight('s_w', 16, 16)}", "s")
    net.node("Add", "s mask", "masked")
    net.node("Concat", "masked x", "both", axis=2)
    net.node("Softmax", "both", "p", axis=-1)
    model = net.model(net.node("MatMul", f"p {net.weight('y_w', 32, 16)}", "y"))
    return model, {}, {"masked", "both"}, "p"


def a_logarithm_before_a_relu():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.node("Relu", "x", "r")
    net.node("Log", "r", "l")
    net.node("Relu", "l", "positive")
    model = net.model(net.node("MatMul", f"positive {net.weight('y_w', 16, 16)}", "y"))
    return model, {}, {"l"}, "positive"


def a_logarithm_before_a_clip():
    net = Net()
    net.input("x", ("N", 6, 16))
    net.node("Relu", "x", "r")
    net.node("Log", "r", "l")
    net.constant("low", np.float32(0))
    net.constant("high", np.float32(0.8))
    net.node("Clip", "l low high", "positive")
    model = net.model(net.node("MatMul", f"positive {net.weight('y_w', 16, 16)}", "y"))
    return model, {}, {"l"}, "positive"


BEFORE_A_QUANTIZED_LAYER = [
    a_masked_maximum,
    padding_of_minus_infinity,
    joined_with_smaller_values,
    operands_of_a_softmax,
    a_logarithm_before_a_relu,
    a_logarithm_before_a_clip,
]


@pytest.mark.parametrize("tensors", ["all", "quantizable"])
@pytest.mark.parametrize("case", BEFORE_A_QUANTIZED_LAYER)
def test_what_a_layer_makes_finite_before_it_is_quantized_needs_no_range(case, tensors):
    model, extra, unbounded, quantizable = case()
    statistics = collect(model, data(extra), tensors=tensors)
    assert set(statistics.unbounded) <= unbounded
    assert tensors == "quantizable" or set(statistics.unbounded) == unbounded
    quantized = quantize(model, calibrate(statistics, "minmax"))
    assert "y/MatMul" in quantized.quantized and quantizable in quantized.scales
    with OnnxRuntimeSession(model) as floats, OnnxRuntimeSession(quantized.model) as session:
        expected, actual = (each.run(data(extra)[0])["y"] for each in (floats, session))
    assert 10 * np.log10(np.sum(expected**2) / np.sum((expected - actual) ** 2)) > 25


def test_minus_infinity_that_is_quantized_is_a_fault():
    """Where all is masked there is no maximum: ONNX Runtime's is the least float, and would be a range."""
    model, extra, _, _ = a_masked_maximum()
    assert "the activation masked is infinite for sample" in refused(model, data({"keep": extra["keep"] & False}))


def refused(model, batches):
    with pytest.raises(DataError) as caught:
        collect(model, batches)
    return str(caught.value)


def test_nan_stays_an_error():
    model, _, _ = by_an_input()
    mask = np.where(padded(), 0, FOREVER).astype(np.float32)
    mask[5, 0, 3] = np.nan
    assert "the activation mask is NaN for sample 5" in refused(model, data({"mask": mask}))


def test_a_row_that_is_masked_altogether_is_nan():
    model, _, _ = by_an_input()
    mask = np.full((8, 1, 6), FOREVER, np.float32)
    assert "the activation p is NaN for sample" in refused(model, data({"mask": mask}))


def test_infinity_that_reaches_a_quantized_layer_is_told_where_it_begins():
    """Beside a mask that is none of its causes."""
    net = Net()
    net.input("x", ("N", 6, 16))
    net.input("mask", ("N", 1, 6))
    attention(net, "mask")
    net.node("Reciprocal", "x", "inverse")
    net.node("Relu", "inverse", "positive")
    net.node("Exp", "positive", "grown")
    net.node("MatMul", f"grown {net.weight('z_w', 16, 16)}", "z")
    (batch,) = data({"mask": np.where(padded(), 0, FOREVER).astype(np.float32)})
    batch["x"][3, 0, 0] = 0
    assert "the activation inverse is infinite for sample" in refused(net.model("y", "z"), [batch])


def test_a_file_keeps_them_and_shards_merge(tmp_path):
    model, extra, unbounded = by_an_input()
    (batch,) = data(extra)
    whole = collect(model, [batch])
    finite = {"x": batch["x"], "mask": np.zeros_like(batch["mask"])}
    parts = [collect(model, [each]) for each in (batch, finite)]
    assert parts[1].unbounded == ()
    for one, other in (parts, parts[::-1]):
        one.save(tmp_path / "a.npz")
        merged = Statistics.load(tmp_path / "a.npz") + other
        assert set(merged.unbounded) == unbounded
        assert merged.keys() == whole.keys()
        assert merged.groups == whole.groups
        assert list(merged) == list(whole)


def test_shards_of_other_tensors_do_not_merge():
    one, other = (collect(case()[0], data(case()[1])) for case in (by_an_input, scores_of_what_was_left_out))
    with pytest.raises(CacheError, match="do not merge"):
        one + other
