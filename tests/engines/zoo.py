"""Small networks of every kind, each with what quantization has to do to it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.engines.networks import Net


@dataclass(frozen=True)
class Network:
    """A float model and the tensors that get a QuantizeLinear.

    Attributes:
        model: Its inputs have a free first axis, and fixed ones behind it.
        quantized: Names of these tensors.
        left: By label of an operator that stays in float, a word of the reason.
        weights: By name of an operator's quantized weight, the axis of its scales.
    """

    model: ModelProto
    quantized: set[str]
    left: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)


ZOO: dict[str, Callable[[], Network]] = {}


def network(make: Callable[[], Network]) -> Callable[[], Network]:
    ZOO[make.__name__] = make
    return make


@network
def conv_bn_relu():
    net = Net()
    net.conv(net.input(), "a", 16, 8, 3, 3, bias=False)
    net.batch_norm("a", "a_bn", 16)
    net.node("Relu", "a_bn", "a_relu")
    net.conv("a_relu", "y", 8, 16, 1, 1)
    return Network(net.model("y"), {"x", "a_relu"}, weights={"a_w": 0, "y_w": 0})


@network
def depthwise():
    net = Net()
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    net.conv(net.input(), "a", 16, 8, 1, 1)
    net.node("Clip", "a zero six", "a_clip")
    net.conv("a_clip", "b", 16, 1, 3, 3, group=16)
    net.node("Clip", "b zero six", "b_clip")
    net.conv("b_clip", "y", 8, 16, 1, 1)
    return Network(net.model("y"), {"x", "a_clip", "b_clip"}, weights={"b_w": 0})


@network
def grouped():
    net = Net()
    net.conv(net.input(), "a", 16, 4, 3, 3, group=2)
    net.node("Sigmoid", "a", "a_sigmoid")
    net.node("Mul", "a a_sigmoid", "a_silu")
    net.conv("a_silu", "y", 16, 4, 3, 3, group=4)
    return Network(net.model("y"), {"x", "a_silu"}, weights={"a_w": 0, "y_w": 0})


@network
def identity_skip():
    """The Add is fed by the convolution directly; its other input shares the pair that the block's first one has."""
    net = Net()
    net.conv(net.input(), "stem", 8, 8, 3, 3)
    net.node("Relu", "stem", "stem_relu")
    net.conv("stem_relu", "a", 8, 8, 3, 3, bias=False)
    net.batch_norm("a", "a_bn", 8)
    net.node("Relu", "a_bn", "a_relu")
    net.conv("a_relu", "b", 8, 8, 3, 3, bias=False)
    net.batch_norm("b", "b_bn", 8)
    net.node("Add", "b_bn stem_relu", "sum")
    net.node("Relu", "sum", "sum_relu")
    net.conv("sum_relu", "y", 8, 8, 1, 1)
    return Network(net.model("y"), {"x", "stem_relu", "a_relu", "sum_relu"})


@network
def downsample_skip():
    """Both inputs of the Add are convolutions': the one on the shorter path gets the pair."""
    net = Net()
    net.conv(net.input(), "stem", 8, 8, 3, 3)
    net.node("Relu", "stem", "stem_relu")
    net.conv("stem_relu", "a", 16, 8, 3, 3, strides=[2, 2])
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 16, 16, 3, 3)
    net.conv("stem_relu", "down", 16, 8, 1, 1, strides=[2, 2])
    net.node("Add", "down b", "sum")
    net.node("Relu", "sum", "sum_relu")
    net.conv("sum_relu", "y", 8, 16, 1, 1)
    return Network(net.model("y"), {"x", "stem_relu", "a_relu", "down", "sum_relu"})


@network
def padded_skip():
    """A skip through Slice and Pad, which move values: it reads the pair that the block's input has anyway."""
    net = Net()
    net.conv(net.input(), "stem", 8, 8, 3, 3)
    net.node("Relu", "stem", "stem_relu")
    net.conv("stem_relu", "a", 16, 8, 3, 3, strides=[2, 2])
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 16, 16, 3, 3)
    for name, values in (("start", [0, 0]), ("stop", [8, 8]), ("axes", [2, 3]), ("step", [2, 2])):
        net.constant(name, np.array(values, np.int64))
    net.constant("pads", np.array([0, 4, 0, 0, 0, 4, 0, 0], np.int64))
    net.node("Slice", "stem_relu start stop axes step", "sliced")
    net.node("Pad", "sliced pads", "padded")
    net.node("Add", "b padded", "sum")
    net.node("Relu", "sum", "sum_relu")
    net.conv("sum_relu", "y", 8, 16, 1, 1)
    return Network(net.model("y"), {"x", "stem_relu", "a_relu", "sum_relu"})


@network
def max_pool():
    """Two convolutions read the pooled tensor, one the tensor before: two pairs of one scale."""
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.node("MaxPool", "a_relu", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "b", 8, 8, 3, 3)
    net.conv("pooled", "c", 8, 8, 1, 1)
    net.conv("a_relu", "d", 8, 8, 1, 1)
    return Network(net.model("b", "c", "d"), {"x", "a_relu", "pooled"})


@network
def concat():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("x", "b", 8, 8, 1, 1)
    net.node("Sigmoid", "b", "b_sigmoid")
    net.node("Concat", "a_relu b_sigmoid", "both", axis=1)
    net.conv("both", "y", 8, 16, 3, 3)
    return Network(net.model("y"), {"x", "both"})


@network
def pooled_concat():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.node("MaxPool", "a_relu", "highest", kernel_shape=[2, 2], strides=[2, 2])
    net.node("AveragePool", "a_relu", "average", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Concat", "highest average", "both", axis=1)
    net.conv("both", "y", 8, 16, 3, 3)
    return Network(net.model("y"), {"x", "both"})


@network
def conv_transpose():
    net = Net()
    net.conv(net.input(), "a", 8, 16, 2, 2, operator="ConvTranspose", strides=[2, 2], pads=[0, 0, 0, 0])
    net.batch_norm("a", "a_bn", 16)
    net.node("Relu", "a_bn", "a_relu")
    net.conv("a_relu", "y", 8, 16, 1, 1)
    return Network(net.model("y"), {"x", "a_relu"}, weights={"a_w": 1})


@network
def grouped_conv_transpose():
    """Its weights hold each group's output channels on axis 1: the batch normalization behind it cannot be folded."""
    net = Net()
    net.conv(net.input(), "a", 8, 6, 3, 3, operator="ConvTranspose", group=2)
    net.batch_norm("a", "a_bn", 12)
    net.node("Relu", "a_bn", "a_relu")
    net.conv("a_relu", "y", 8, 12, 1, 1)
    return Network(net.model("y"), {"x", "a_relu"}, weights={"a_w": 1})


@network
def gemm():
    net = Net()
    net.weight("k_n", 32, 16, fan_in=32)
    net.weight("n_k", 24, 16)
    net.constant("bias", net.random.standard_normal(16).astype(np.float32))
    net.node("Gemm", net.input(shape=("N", 32)) + " k_n bias", "a", beta=0.5)
    net.node("Relu", "a", "a_relu")
    net.node("Gemm", "a_relu n_k", "y", transB=1)
    return Network(net.model("y"), {"x", "a_relu"}, weights={"k_n": 1, "n_k": 0})


@network
def mat_mul():
    """A product with a constant matrix on either side, or a stack of them, has a weight; one of activations none."""
    net = Net()
    net.weight("right", 16, 24, fan_in=16)
    net.weight("left", 16, 16)
    net.weight("stack", 4, 24, 16, fan_in=24)
    net.constant("bias", net.random.standard_normal(24).astype(np.float32))
    net.constant("turned", np.array([0, 1, 3, 2], np.int64))
    net.node("MatMul", net.input(shape=("N", 4, 16, 16)) + " right", "a")
    net.node("Add", "a bias", "biased")
    net.node("MatMul", "left biased", "b")
    net.node("MatMul", "b stack", "c")
    net.node("Transpose", "c", "d", perm=[0, 1, 3, 2])
    net.node("MatMul", "c d", "y")
    weights = {"right": 1, "left": 0}  # the stack has one scale
    return Network(net.model("y"), {"x", "biased", "b"}, {"y/MatMul": "both of its operands"}, weights=weights)


@network
def conv_1d():
    net = Net()
    net.conv(net.input(shape=("N", 8, 32)), "a", 16, 8, 5)
    net.node("Relu", "a", "a_relu")
    net.node("MaxPool", "a_relu", "pooled", kernel_shape=[2], strides=[2])
    net.conv("pooled", "y", 8, 16, 3)
    return Network(net.model("y"), {"x", "pooled"})


@network
def conv_3d():
    net = Net()
    net.conv(net.input(shape=("N", 4, 4, 6, 6)), "a", 8, 4, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "y", 8, 8, 1, 1, 1)
    return Network(net.model("y"), {"x", "a_relu"})


@network
def shared_weights():
    """A head for two scales: both convolutions have the same weight, and each a batch normalization of its own."""
    net = Net()
    net.weight("w", 8, 8, 3, 3)
    net.node("MaxPool", net.input(), "small", kernel_shape=[2, 2], strides=[2, 2])
    for source, to in (("x", "a"), ("small", "b")):
        net.node("Conv", f"{source} w", to, pads=[1, 1, 1, 1])
        net.batch_norm(to, f"{to}_bn", 8)
        net.node("Relu", f"{to}_bn", f"{to}_relu")
    return Network(net.model("a_relu", "b_relu"), {"x", "small"}, weights={"w": 0})


@network
def shared_both_ways():
    """One square matrix, taken as it is and transposed: its scales lie on different axes."""
    net = Net()
    net.weight("w", 16, 16)
    net.node("Gemm", net.input(shape=("N", 16)) + " w", "a")
    net.node("Relu", "a", "a_relu")
    net.node("Gemm", "a_relu w", "y", transB=1)
    return Network(net.model("y"), {"x", "a_relu"})


@network
def constant_weights():
    """Weights that come out of Constant nodes, Transpose and Reshape."""
    net = Net()
    value = numpy_helper.from_array(net.random.standard_normal((16, 8, 3, 3)).astype(np.float32) / 6, "value")
    net.node("Constant", "", "w", value=value)
    net.node("Conv", net.input() + " w", "a", pads=[1, 1, 1, 1])
    net.node("Relu", "a", "a_relu")
    net.node("GlobalAveragePool", "a_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("n_k", 24, 16)
    net.node("Transpose", "n_k", "k_n", perm=[1, 0])
    net.node("MatMul", "flat k_n", "b")
    net.weight("long", 384, fan_in=24)
    net.constant("shape", np.array([24, 16], np.int64))
    net.node("Reshape", "long shape", "matrix")
    net.node("MatMul", "b matrix", "y")
    return Network(net.model("y"), {"x", "flat", "b"})


@network
def opset_8():
    """Clip's bounds and Slice's axes are attributes, initializers are inputs, batch normalization has an attribute
    more."""
    net = Net(opset=8, ir_version=3)
    net.conv(net.input(), "a", 8, 8, 3, 3, bias=False)
    net.batch_norm("a", "a_bn", 8, epsilon=1e-3)
    net.node("Clip", "a_bn", "a_clip", min=0.0, max=6.0)
    net.node("Slice", "a_clip", "part", axes=[2], starts=[0], ends=[4])
    net.conv("part", "y", 8, 8, 1, 1)
    return Network(net.model("y"), {"x", "part"})


@network
def opset_11():
    net = Net(opset=11, ir_version=6)
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    net.conv(net.input(), "a", 8, 8, 3, 3, bias=False)
    net.batch_norm("a", "a_bn", 8)
    net.node("Clip", "a_bn zero six", "a_clip")
    net.node("ReduceMean", "a_clip", "mean", axes=[2, 3], keepdims=0)
    net.node("Unsqueeze", "mean", "mean_4d", axes=[2, 3])
    net.conv("mean_4d", "y", 8, 8, 1, 1)
    return Network(net.model("y"), {"x", "mean_4d"})


@network
def output_in_the_middle():
    """A tensor that is both an output of the model, which stays float, and a convolution's input."""
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "features")
    net.conv("features", "y", 8, 8, 3, 3)
    return Network(net.model("features", "y"), {"x", "features"})


@network
def branch():
    """A convolution inside an If stays in float; names of the branch are not to be taken again outside."""
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.weight("inner_w", 8, 8, 1, 1)
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    other = helper.make_tensor_value_info("x_scale", TensorProto.FLOAT, None)
    inner = helper.make_node("Conv", ["a_relu", "inner_w"], ["inner"], name="inner/Conv")
    scaled = helper.make_node("Sigmoid", ["a_relu"], ["x_scale"], name="x_scale/Sigmoid")
    net.node("ReduceMax", "a_relu", "highest", keepdims=0)
    net.constant("three", np.float32(3))
    net.node("Greater", "highest three", "loud")
    branches = {
        "then_branch": helper.make_graph([inner], "then", [], [output]),
        "else_branch": helper.make_graph([scaled], "else", [], [other]),
    }
    net.node("If", "loud", "chosen", **branches)
    net.conv("chosen", "y", 8, 8, 3, 3)
    return Network(net.model("y"), {"x", "chosen"}, {"inner/Conv": "control flow"})


@network
def taken_names():
    """Names that quantization would choose are taken by tensors, constants and nodes."""
    net = Net()
    net.constant("x_scale", np.float32(0.5))
    net.node("Mul", net.input() + " x_scale", "x_quantized")
    net.conv("x_quantized", "a", 8, 8, 3, 3)
    net.node("Relu", "a", "x_dequantized")
    net.conv("x", "b", 8, 8, 3, 3)
    net.node("Add", "x_dequantized b", "x_zero_point")
    net.nodes[-1].name = "x_QuantizeLinear"
    net.conv("x_zero_point", "y", 8, 8, 1, 1)
    return Network(net.model("y"), {"x", "x_quantized", "x_dequantized", "x_zero_point"})


@network
def unnamed():
    net = Net(named=False)
    net.conv(net.input(), "1", 8, 8, 3, 3)
    net.node("Relu", "1", "2")
    net.conv("2", "3", 8, 8, 3, 3, bias=False)
    return Network(net.model("3"), {"x", "2"})


@network
def two_inputs():
    """Images, and numbers that join them."""
    net = Net()
    net.conv(net.input("image"), "a", 8, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.node("GlobalMaxPool", "a_relu", "highest")
    net.node("Flatten", "highest", "flat")
    net.node("Concat", "flat " + net.input("extra", ("N", 8)), "both", axis=1)
    net.weight("w", 16, 16, fan_in=16)
    net.node("MatMul", "both w", "y")
    return Network(net.model("y"), {"image", "both"})
