"""What tests of simulated quantization share: a network that NumPy repeats, and plain ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime

from engines.sessions.exactness import default_is_exact
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net


def plain(path, batch):
    """What ONNX Runtime makes of a file with default options; where these are wrong, with trtcal's."""
    if not default_is_exact():
        with OnnxRuntimeSession(path) as session:
            return session.run(batch)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(batch)), strict=True))


def two_products(seed=0):
    """y = relu(x @ a) @ b: no bias, and nothing between the two that rounds."""
    net = Net(seed=seed)
    net.input("x", ("N", 6))
    for name, shape in (("a", (6, 5)), ("b", (5, 4))):
        net.constant(name, net.random.normal(0, 1, shape).astype(np.float32))
    net.node("MatMul", "x a", "product")
    net.node("Relu", "product", "rectified")
    net.node("MatMul", "rectified b", "y")
    return net.model("y")


def weights_of(model):
    return {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
