"""INT8 behind operators that compute in it: `inspect` says what TensorRT-RTX's builder makes of it."""

import numpy as np
import pytest

from engines.build.builder import build_engine
from engines.structure.lint import structure_of


def ints(*values):
    return np.array(values, np.int64)


THROUGH = {  # operator, further operands, attributes, channels behind it
    "Transpose": ("Transpose", [], {"perm": [0, 2, 1, 3]}, 16),
    "Reshape": ("Reshape", [ints(0, 64, 8, 16)], {}, 64),
    "Slice": ("Slice", [ints(0), ints(16), ints(1)], {}, 16),
    "Identity": ("Identity", [], {}, 32),
    "Dropout": ("Dropout", [], {}, 32),
    "DepthToSpace": ("DepthToSpace", [], {"blocksize": 2}, 8),
    "SpaceToDepth": ("SpaceToDepth", [], {"blocksize": 2}, 128),
    "Pad with zeros": ("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {}, 32),
    "Pad by reflection": ("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}, 32),
    "MaxPool": ("MaxPool", [], {"kernel_shape": [2, 2]}, 32),
    "GlobalMaxPool": ("GlobalMaxPool", [], {}, 32),
    "Gather": ("Gather", [ints(3, 1, 2, 0)], {"axis": 1}, 4),
    "Tile": ("Tile", [ints(1, 2, 1, 1)], {}, 64),
    "ReduceMax": ("ReduceMax", [ints(2)], {"keepdims": 1}, 32),
}

NOT_THROUGH = {
    "Relu": ("Relu", [], {}, 32),
    "Clip": ("Clip", [np.float32(0), np.float32(6)], {}, 32),
    "Resize": ("Resize", [None, np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}, 32),
    "AveragePool": ("AveragePool", [], {"kernel_shape": [2, 2]}, 32),
    "Pad with ones": ("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(1)], {}, 32),
}


def behind(network, case, *, axis=None):
    """A pair, an operator, and an INT8 convolution."""
    operator, operands, attributes, channels = case
    built = network("N", 32, 16, 16, opset=18)
    scale = 0.05 if axis is None else np.full(32, 0.05)
    tensor = built.quantized("x", "in", scale=scale, axis=axis)
    names = ["" if each is None else built.constant(f"operand{at}", each) for at, each in enumerate(operands)]
    moved = built.node(operator, [tensor, *names], "between", **attributes)
    return built.model(built.conv(moved, "c", (channels, 32), activations=False, relu=False))


def concatenated(network, scales, *, pooled=False):
    built = network("N", 32, 16, 16)
    parts = [built.quantized("x", f"in{at}", scale=scale) for at, scale in enumerate(scales)]
    if pooled:
        parts[0] = built.node("MaxPool", [parts[0]], "pool", kernel_shape=[1, 1])
    joined = built.node("Concat", parts, "cat", axis=1)
    return built.model(built.conv(joined, "c", (32 * len(scales), 32), activations=False, relu=False))


def told(model):
    """Whether the convolution is said to be in INT8, and the findings of it."""
    structure = structure_of(model)
    (operator,) = structure.operators
    return operator.quantized, {finding.rule for finding in structure.findings}


@pytest.mark.parametrize("name", THROUGH)
def test_int8_passes(network, name):
    assert told(behind(network, THROUGH[name])) == (True, set())


@pytest.mark.parametrize("name", NOT_THROUGH)
def test_int8_does_not_pass(network, name):
    assert told(behind(network, NOT_THROUGH[name])) == (False, {"half-quantized"})


def test_activations_quantized_per_channel_do_not_pass(network):
    quantized, rules = told(behind(network, THROUGH["Identity"], axis=1))
    assert not quantized and "per-channel-activation" in rules


def test_a_concatenation_passes_equal_scales_alone(network):
    assert told(concatenated(network, [0.05, 0.05, 0.05])) == (True, set())
    assert told(concatenated(network, [0.05, 0.05], pooled=True)) == (True, set())
    assert told(concatenated(network, [0.05, 0.06])) == (False, {"half-quantized"})


def test_several_operators_one_behind_the_other(network):
    built = network("N", 32, 16, 16, opset=18)
    turned = built.node("Transpose", [built.quantized("x", "in")], "t", perm=[0, 2, 1, 3])
    built.node("Split", [turned, built.constant("sizes", ints(8, 8))], "s", axis=1)
    built.nodes[-1].output.append("second")
    pooled = built.node("MaxPool", ["second"], "p", kernel_shape=[2, 2])
    assert told(built.model(built.conv(pooled, "c", (8, 32), activations=False, relu=False))) == (True, set())


@pytest.mark.parametrize("axis, rules", [(0, set()), (1, {"weight-axis"})])
def test_weights_behind_a_transposition_keep_their_channels(network, axis, rules):
    built = network("N", 32)
    weight = built.node("Transpose", [built.weights("w", (64, 32), axis=axis)], "t", perm=[1, 0])
    model = built.model(built.node("MatMul", [built.quantized("x", "in"), weight], "m"))
    assert told(model) == (True, rules)
    assert "axis" in str(structure_of(model).operators[0].inputs[1])


def test_weights_behind_a_reshape(network):
    built = network("N", 16, 8, 8)
    shape = built.constant("shape", ints(32, 16, 3, 3))
    weight = built.node("Reshape", [built.weights("w", (32, 144)), shape], "r")
    assert told(built.model(built.node("Conv", [built.quantized("x", "in"), weight], "c"))) == (True, set())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*THROUGH, *NOT_THROUGH])
def test_the_builder_does_what_is_said(network, name, rtx, tmp_path):
    model = behind(network, (THROUGH | NOT_THROUGH)[name])
    sizes = "..".join(f"{size}x32x16x16" for size in (1, 2, 4))
    record = build_engine(model, output=tmp_path / "e.engine", rest="fp32", shapes=f"x:{sizes}").record
    assert record.operators_by_precision == {"INT8" if name in THROUGH else "FP32": 1}
