"""Tensors whose statistics follow exactly from another tensor's, so that they need not be fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from calibrators.statistics.tensor import TensorStatistics
from engines.graph.operators import MOVES


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
    clipped = set[str]()
    for node in proto.graph.node:
        if not node.input or not {node.input[0], node.output[0]} <= names:
            continue
        source = node.input[0]
        ceiling = _ceiling(node, constants)
        if node.op_type == "Relu":
            derived[node.output[0]] = Origin(source, relu=True)
        elif node.op_type in MOVES - {"Slice", "Split", "Dropout"}:
            derived[node.output[0]] = Origin(source)
        elif ceiling is not None and source not in derived and source not in clipped:
            clipped.add(source)
            derived[node.output[0]] = Origin(source, ceiling=ceiling)
    return derived


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
