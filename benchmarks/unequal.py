"""Networks with unequal channel ranges, made of any with convolutions: the same function, other scales inside."""

import numpy as np
import onnx
from onnx import numpy_helper

THROUGH = frozenset({"Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Identity"})


def unequal(model: onnx.ModelProto, *, spread: float, seed: int = 0) -> onnx.ModelProto:
    """The model with the output channels of convolutions multiplied by 10^u, and what reads them divided by it.

    The function does not change. u is drawn from -spread to spread, anew for each channel of each convolution whose
    output one convolution or Gemm alone reads, through a Relu or pooling.

    Args:
        model: Batch normalization folded; convolutions of one group or depthwise.
        spread: Of u.
        seed: Of u.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    random = np.random.default_rng(seed)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in made.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in made.graph.node:
        reader = _reader(node, readers) if node.op_type == "Conv" else None
        if reader is None:
            continue
        factors = 10 ** random.uniform(-spread, spread, constants[node.input[1]].dims[0])
        for name in node.input[1:3]:
            _scale(constants[name], factors, axis=0)
        _scale(constants[reader.input[1]], 1 / factors, axis=_input_axis(reader, constants, len(factors)))
    return made


def _reader(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> onnx.NodeProto | None:
    found = readers.get(node.output[0], [])
    while len(found) == 1 and found[0].op_type in THROUGH:
        found = readers.get(found[0].output[0], [])
    return found[0] if len(found) == 1 and found[0].op_type in ("Conv", "Gemm") else None


def _input_axis(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], channels: int) -> int:
    """The axis of a weight on which the channels are that it reads: of a depthwise one the same as of its outputs."""
    attributes = {each.name: each.i for each in node.attribute}
    if node.op_type == "Gemm":
        return 1 if attributes.get("transB") else 0
    return 0 if attributes.get("group", 1) == channels else 1


def _scale(tensor: onnx.TensorProto, factors: np.ndarray, *, axis: int) -> None:
    numbers = numpy_helper.to_array(tensor).astype(np.float64)
    shape = [1] * numbers.ndim
    shape[axis] = -1
    repeated = np.repeat(factors, numbers.shape[axis] // len(factors))
    tensor.CopyFrom(numpy_helper.from_array((numbers * repeated.reshape(shape)).astype(np.float32), tensor.name))
