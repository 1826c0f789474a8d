"""Tensors whose statistics follow exactly from another tensor's, so that they need not be fetched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from calibrators.statistics.tensor import TensorStatistics
from engines.graph.model import FLOAT_TYPES
from engines.graph.operators import MOVES, WEIGHTED

MASK_SIZED = 2**16
"""Elements of a constant that is looked at for -inf: a mask of 256 x 256."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How statistics follow exactly from another tensor's: by a ReLU, a clip to [0, ceiling], or values only moved."""

    source: str
    relu: bool = False
    ceiling: float | None = None

    def statistics(
        self, gathered: Mapping[str, TensorStatistics], clipped: Mapping[str, TensorStatistics]
    ) -> TensorStatistics:
        """The tensor's, from those by name of the tensors that were run, and of these behind their ceilings."""
        if self.ceiling is not None:
            return clipped[self.source]
        return gathered[self.source].after_relu() if self.relu else gathered[self.source]


def derived_of(proto: onnx.ModelProto, wanted: Sequence[str]) -> dict[str, Origin]:
    """Tensors that are never asked of ONNX Runtime, since fetching one costs about as much as counting its values."""
    names, derived = set(wanted), dict[str, Origin]()
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in proto.graph.node
        if node.op_type == "Constant" and node.attribute
    }
    clipped, masked = set[str](), _masked(proto, constants)
    for node in proto.graph.node:
        if not node.input or not {node.input[0], node.output[0]} <= names:
            continue
        source = node.input[0]
        if source in masked and node.op_type in ("Clip", "Relu"):
            continue  # what it gives may be finite where the source is not
        ceiling = _ceiling(node, constants)
        if node.op_type == "Relu":
            derived[node.output[0]] = Origin(source, relu=True)
        elif node.op_type in MOVES - {"Slice", "Split", "Dropout"}:
            derived[node.output[0]] = Origin(source)
        elif ceiling is not None and source not in derived and source not in clipped:
            clipped.add(source)
            derived[node.output[0]] = Origin(source, ceiling=ceiling)
    return derived


def _masked(proto: onnx.ModelProto, constants: Mapping[str, onnx.TensorProto]) -> set[str]:
    """Tensors that may be -inf by design: logarithms, and masks, as far as element by element they go on."""
    infinite = {name for name, tensor in constants.items() if _holds_infinity(tensor)}
    for node in proto.graph.node:
        states = node.op_type == "Constant" and any(math.isinf(each.f) for each in node.attribute)
        if states or node.op_type == "Log" or (node.op_type not in _BOUNDED and not infinite.isdisjoint(node.input)):
            infinite.update(node.output)
    return infinite


_BOUNDED = frozenset({"Relu", "Clip", "Sigmoid", "Softmax", "Tanh"} | WEIGHTED.keys())
"""Operators behind which there is no -inf, or a fault."""


def _holds_infinity(tensor: onnx.TensorProto) -> bool:
    """Large constants are weights, and may be left in the file."""
    if tensor.data_type not in FLOAT_TYPES or math.prod(tensor.dims) > MASK_SIZED or uses_external_data(tensor):
        return False
    return bool(np.isinf(numpy_helper.to_array(tensor)).any())


def _ceiling(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> float | None:
    """The upper bound of a Clip from 0 up, such as ReLU6; None for any other node."""
    if node.op_type != "Clip":
        return None
    bounds = {attribute.name: attribute.f for attribute in node.attribute}
    for place, name in ((1, "min"), (2, "max")):
        if len(node.input) > place and node.input[place] in constants:
            tensor = constants[node.input[place]]
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                bounds[name] = float(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
    low, high = bounds.get("min"), bounds.get("max")
    return high if low == 0.0 and high is not None and 0.0 < high < float("inf") else None
