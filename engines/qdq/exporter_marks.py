"""Q/DQ nodes where an exporter has left marks: nodes that pass their input on, and say how it is quantized.

So a model that was quantized elsewhere, as in PyTorch, is written as it was simulated there: at the same places, with
the same levels, whatever its scales come from.

1. A mark on a constant weight becomes integer levels and a DequantizeLinear; a Transpose behind it is computed at once.
2. Any other mark becomes a QuantizeLinear, one for each tensor and encoding, and a DequantizeLinear for each reader.
3. Batch normalization behind an operator without marks is folded; constants are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from engines.graph.operators import label
from engines.graph.writer import GraphWriter
from engines.passes.opset import LOWEST_OPSET
from engines.passes.prepare import prepared
from engines.qdq.biases import with_room_for_bias
from engines.qdq.insert import WIDE_OPSET, Pairs, in_int8
from engines.qdq.placement import Site, Weight

DOMAIN, OPERATOR, KEY = "trtcal", "Quantized", "key"
"""A mark is a node of this domain and operator, whose integer attribute is its place in the list of marks."""

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Mark:
    """How what passes a mark is quantized.

    Attributes:
        name: What passes, for messages.
        encoding: How.
        weight: Whether that is a weight.
    """

    name: str
    encoding: Encoding
    weight: bool = False


@dataclass(frozen=True, slots=True)
class _Operand:
    """A constant weight that a node reads: on which input, its name, its values, how it is quantized."""

    node: ir.Node
    input: int
    name: str
    values: Floats
    encoding: Encoding


class MarkedModel:
    """A float model with marks.

    Args:
        model: As it was exported.
        marks: By the number that its nodes have.

    Attributes:
        floats: The float model without marks, its weights on their levels: quantized and back.
        weights: How its weights are quantized, by the names that they have there.
        activations: How its tensors are; the first encoding, where readers have several.
        several: Names of those tensors.
        quantized: Labels of the nodes that read something quantized.

    Raises:
        ModelError: A mark is inside of a branch or a loop.
    """

    def __init__(self, model: onnx.ModelProto, marks: Sequence[Mark]) -> None:
        wide = any(not each.weight and each.encoding.grid.bits > 8 for each in marks)
        graph = prepared(model, opset=WIDE_OPSET if wide else LOWEST_OPSET)
        common.ClearMetadataAndDocStringPass()(graph)
        _require_reachable(graph)
        self._marks = tuple(marks)
        self._model = ir.to_proto(graph)
        self.weights: Mapping[str, Encoding] = {}
        self.activations: Mapping[str, Encoding] = {}
        self.several: tuple[str, ...] = ()
        self.quantized: tuple[str, ...] = ()
        self.floats = self._floats()

    def qdq(self, *, tensorrt: bool) -> onnx.ModelProto:
        """The model with Q/DQ nodes.

        Args:
            tensorrt: Write every level as INT8 with zero point 0, as TensorRT wants it, and clip to a narrower grid
                before; else only activations below 8 bits that fit, and the others in the integer type of their grid,
                with its zero point.

        Raises:
            ModelError: INT8 with zero point 0 has no room for a grid.
        """
        stored = [_stored(each, tensorrt=tensorrt) for each in self._marks]
        graph, operands = self._weights_apart()
        pairs = Pairs(graph.graph)
        for each in operands:
            site = Site(each.node, 0, Weight(each.input, each.encoding.axis or 0))
            encoding = self._with_room(each)
            held = in_int8(encoding) if tensorrt else None
            levels = encoding.quantize(each.values)
            if held is not None:
                levels = levels - _along(encoding, levels.ndim)
            pairs.weight(site, each.name, levels, held or encoding)
        for mark in _marks(graph):
            source, key = mark.inputs[0], _key(mark)
            for reader, place in list(mark.outputs[0].uses()):
                reader.replace_input_with(place, source)
                pairs.activation(Site(reader, place), self._marks[key].encoding, stored=stored[key])
        return _finished(graph)

    def _with_room(self, weight: _Operand) -> Encoding:
        """A weight's encoding, with room for the bias beside it where its node's activation is quantized."""
        read = weight.node.inputs[0]
        mark = None if read is None else read.producer()
        if mark is None or not _is_mark(mark):
            return weight.encoding
        return with_room_for_bias(weight.node, weight.encoding, self._marks[_key(mark)].encoding)

    def _floats(self) -> onnx.ModelProto:
        graph, operands = self._weights_apart()
        writer = GraphWriter(graph.graph)
        weights, found, several, quantized = {}, dict[str, Encoding](), list[str](), list[str]()
        for each in operands:
            value = writer.constant(each.name, each.encoding.fake_quantize(each.values))
            assert value.name is not None
            each.node.replace_input_with(each.input, value)
            weights[value.name] = each.encoding
            quantized.append(label(each.node))
        for mark in _marks(graph):
            source, encoding = mark.inputs[0], self._marks[_key(mark)].encoding
            assert source is not None and source.name is not None
            if found.setdefault(source.name, encoding) != encoding:
                several.append(source.name)
            for reader, place in list(mark.outputs[0].uses()):
                reader.replace_input_with(place, source)
                quantized.append(label(reader))
        self.weights, self.activations, self.several = weights, found, tuple(dict.fromkeys(several))
        wanted = {name for name in quantized if name}
        self.quantized = tuple(label(node) for node in graph.graph if label(node) in wanted and not _is_mark(node))
        return _finished(graph)

    def _weights_apart(self) -> tuple[ir.Model, list[_Operand]]:
        """The model without its marked weights, and these; marks on activations are left."""
        graph = ir.from_proto(self._model)
        _free_outputs(graph)
        operands = list[_Operand]()
        for node in _marks(graph):
            mark, source = self._marks[_key(node)], node.inputs[0]
            constant = None if source is None or not mark.weight else ir.convenience.get_const_tensor(source)
            if source is not None and constant is not None:
                values = np.asarray(constant.numpy(), np.float32)
                operands += _read(node.outputs[0], str(source.name), values, mark.encoding)
        nothing = ir.Value(name="nothing")  # where None stood last, it would be cut off
        for each in operands:
            each.node.replace_input_with(each.input, nothing)
        common.RemoveUnusedNodesPass()(graph)
        return graph, operands


def _read(value: ir.Value, name: str, values: Floats, encoding: Encoding) -> Iterator[_Operand]:
    """Who reads a weight, be it transposed."""
    for node, place in list(value.uses()):
        if node.op_type == "Transpose" and node.domain in ("", "ai.onnx"):
            order = list(node.attributes.get_ints("perm", list(reversed(range(values.ndim)))))
            axis = None if encoding.axis is None else order.index(encoding.axis % values.ndim)
            moved = replace(encoding, axis=axis)
            yield from _read(node.outputs[0], f"{name}_transposed", values.transpose(order), moved)
        else:
            yield _Operand(node, place, name, values, encoding)


def _stored(mark: Mark, *, tensorrt: bool) -> Encoding | None:
    if not tensorrt:
        return None
    held = in_int8(mark.encoding)
    if held is None:
        grid = mark.encoding.grid
        why = f"{grid.bits} bits" if grid.bits > 8 else f"{grid.bits} bits and a zero point in or beside their middle"
        raise ModelError(
            f"{mark.name} has {why}, which TensorRT's INT8 cannot hold: quantize it with 8 bits and symmetric=True, or "
            "export for ONNX Runtime (target='onnxruntime')"
        )
    return held


def _along(encoding: Encoding, rank: int) -> npt.NDArray[np.int32]:
    """Zero points in the shape that goes with a tensor's of that rank."""
    if encoding.axis is None:
        return encoding.zero_point
    shape = [1] * rank
    shape[encoding.axis] = -1
    return encoding.zero_point.reshape(shape)


def _free_outputs(graph: ir.Model) -> None:
    """Put an Identity behind each mark that gives an output of the model, so that it has a reader."""
    outputs = graph.graph.outputs
    for place, value in enumerate(list(outputs)):
        producer = value.producer()
        if producer is not None and _is_mark(producer):
            node = ir.node("Identity", [value], name=f"{value.name}_Identity")
            node.outputs[0].name, value.name = value.name, f"{value.name}_marked"
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.graph.insert_after(producer, node)
            outputs[place] = node.outputs[0]


def _finished(graph: ir.Model) -> onnx.ModelProto:
    for check in (
        common.TopologicalSortPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ShapeInferencePass(),
    ):
        check(graph)
    return ir.to_proto(graph)


def _require_reachable(graph: ir.Model) -> None:
    for node in ir.traversal.RecursiveGraphIterator(graph.graph):
        if _is_mark(node) and node.graph is not graph.graph:
            raise ModelError(
                f"{node.outputs[0].name} is quantized inside of a branch or a loop of the model, where TensorRT has no "
                "INT8: leave that layer in float"
            )


def _marks(graph: ir.Model) -> list[ir.Node]:
    return [node for node in graph.graph if _is_mark(node)]


def _is_mark(node: ir.Node) -> bool:
    return node.op_type == OPERATOR and node.domain == DOMAIN


def _key(mark: ir.Node) -> int:
    return mark.attributes[KEY].as_int()
