"""INT8 behind operators that compute in it: what a weighted operator reads there is quantized, too."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from engines.graph.operators import MOVES, PASSES
from engines.qdq.read import Graph, Quantizer


def passed_on(
    nodes: Iterable[onnx.NodeProto], graph: Graph, quantizers: Mapping[str, Quantizer]
) -> dict[str, Quantizer]:
    """By tensor, what quantizes it, directly or before operators that INT8 passes through.

    1. Operators of `engines.graph.operators.PASSES`, and a Pad with zeros or by reflection, pass a pair with one scale
       on.
    2. A Concat does where all of its inputs have the same one.
    3. Of weights, those that only move values do; the channels' axis moves along with a Transpose.

    Args:
        nodes: In topological order.
        graph: Of these nodes.
        quantizers: By the tensors that DequantizeLinear nodes give.
    """
    found = dict(quantizers)
    for node in nodes:
        read = [found.get(name) for name in node.input]
        if node.op_type == "Concat":
            passed = read[0] if read and all(_same(read[0], each) for each in read) else None
        else:
            passed = _passed(node, graph, read[0]) if read and read[0] is not None else None
        if passed is not None:
            outputs = node.output if node.op_type == "Split" else node.output[:1]
            found.update((name, passed) for name in outputs if name not in found)
    return found


def _passed(node: onnx.NodeProto, graph: Graph, quantizer: Quantizer) -> Quantizer | None:
    """What quantizes a node's output where that is its first input's, or None."""
    if quantizer.block_size is not None or quantizer.scales is None:
        return None
    if quantizer.per_channel:
        return _moved(node, graph, quantizer) if quantizer.constant and node.op_type in MOVES else None
    passes = node.op_type in PASSES or graph.pads_with_zero(node) or _reflects(node)
    return quantizer if passes else None


def _moved(node: onnx.NodeProto, graph: Graph, quantizer: Quantizer) -> Quantizer | None:
    """A weight's scales per channel behind a node that moves its values."""
    if node.op_type in ("Identity", "Dropout"):
        return quantizer
    if node.op_type == "Transpose" and quantizer.axis is not None:
        order = next((list(item.ints) for item in node.attribute if item.name == "perm"), None)
        tensor = graph.constants.get(quantizer.tensor)
        if order is None and tensor is not None:
            order = list(reversed(range(len(tensor.dims))))
        return replace(quantizer, axis=None if order is None else order.index(quantizer.axis % len(order)))
    shape = graph.value(node.input[1]) if node.op_type == "Reshape" else None
    assert quantizer.scales is not None
    first = shape is not None and quantizer.axis == 0 and shape[:1] == quantizer.scales.size
    return replace(quantizer, axis=0 if first else None)


def _reflects(node: onnx.NodeProto) -> bool:
    return node.op_type == "Pad" and any(item.name == "mode" and item.s == b"reflect" for item in node.attribute)


def _same(one: Quantizer | None, other: Quantizer | None) -> bool:
    """Whether two tensors have one scale and zero point, each a single one."""
    if (
        one is None
        or other is None
        or one.per_channel
        or other.per_channel
        or one.scales is None
        or other.scales is None
    ):
        return False
    zeros = [0 if each.zero_point is None else np.asarray(each.zero_point).reshape(-1)[0] for each in (one, other)]
    return bool(one.type == other.type and one.scales.item() == other.scales.item() and zeros[0] == zeros[1])
