"""The networks that peers quantize as a whole."""

import onnx

from tests.engines.networks import Net


def plain() -> onnx.ModelProto:
    """Convolutions with biases, a max pooling, an average pooling, a matrix product: nothing to fold."""
    net = Net(seed=3)
    net.conv(net.input("image", ("N", 3, 16, 16)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.node("MaxPool", "a_relu", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "b", 16, 8, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.node("GlobalAveragePool", "b_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 16, 16, fan_in=16)
    net.node("MatMul", "flat w", "scores")
    return net.model("scores")
