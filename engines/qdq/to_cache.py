"""The way back from Q/DQ nodes to a cache: the scales that a model holds, as those of the float model's tensors.

Any tool's Q/DQ model will do whose activations have one symmetric 8-bit scale per tensor, which is all that TensorRT's
calibration caches can say.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.cache.text import usable
from calibrators.errors import ModelError
from engines.graph.model import (
    FLOAT_TYPES,
    SHAPE_SIZED,
    ModelSource,
    activations,
    load_model,
    loaded,
    scale_groups,
    with_types,
)
from engines.graph.operators import COMMUTES, QUANTIZERS, label
from engines.qdq.read import DEQUANTIZE, QUANTIZE, Graph, Quantizer

RENAMED = "_QuantizeLinear_Input"
"""What ONNX Runtime's quantizer calls a tensor before its Q/DQ nodes when the model's output has its name."""


@dataclass(frozen=True, slots=True)
class QdqScales:
    """What the Q/DQ nodes of a model say of its activations.

    Attributes:
        scales: By the name that a tensor has in the float model, in topological order; each is a float32.
        derived: Those among them that no node quantizes: the other sides of operators that only move or choose values
            (MaxPool, Reshape, Concat, ...), which have the same scale.
        weights: How many constants (weights, biases) are quantized, which caches do not list.
        notes: What a reader should know of how this was read, one line each.
    """

    scales: Mapping[str, float]
    derived: tuple[str, ...]
    weights: int
    notes: tuple[str, ...] = ()


def qdq_scales(model: ModelSource) -> QdqScales:
    """Read the scales of the activations out of a model with Q/DQ nodes.

    UINT8 with zero point 128, or 127 as older versions of ONNX Runtime have it, is read as INT8 with zero point 0.
    Where the tensors that share a scale disagree about it, each keeps its own and none is derived.

    Raises:
        ModelError: The model cannot be read or has no Q/DQ nodes on activations; or a tensor's are of a kind that no
            cache can hold: asymmetric, per channel, of another type than INT8, with a computed or useless scale, or
            with several. The message names the tensor.
    """
    proto = loaded(model) if isinstance(model, onnx.ModelProto) else load_model(model, check=False)
    source = "the model" if isinstance(model, onnx.ModelProto) else str(model)
    require_qdq(proto, source)
    graph = Graph(proto)
    view = FloatView(proto, graph)
    refusals: dict[str, str] = {}
    own: dict[str, float] = {}
    silent = list[str]()
    constants = set[str]()
    for node in proto.graph.node:
        if node.op_type not in (QUANTIZE, DEQUANTIZE):
            continue
        pair = graph.quantizer(node) if node.op_type == DEQUANTIZE else quantize_alone(graph, node)
        if pair.constant:
            constants.add(pair.tensor)
            continue
        name = view.name(pair.tensor if node.op_type == QUANTIZE or pair.quantize is not None else node.output[0])
        refusal = _refusal(pair, node) or _conflict(own.get(name), pair)
        if refusal:
            refusals.setdefault(name, refusal)
        elif pair.scales is not None:
            own[name] = _scale(pair.scales)
            if pair.zero_point is None and not pair.type:
                silent.append(name)
    if refusals:
        name, why = next(iter(refusals.items()))
        more = f" (and {len(refusals) - 1} more such tensors)" if len(refusals) > 1 else ""
        raise ModelError(f"no calibration cache comes of {source}: its tensor {name} {why}{more}")
    if not own:
        raise ModelError(f"{source} quantizes weights only: a calibration cache holds scales of activations")
    scales = _with_derived(view.model, own)
    derived = tuple(name for name in scales if name not in own)
    return QdqScales(scales, derived, len(constants), tuple(_notes(proto, tuple(dict.fromkeys(silent)))))


def require_qdq(proto: onnx.ModelProto, source: str) -> None:
    """Refuse a model without Q/DQ nodes, with malformed ones, or quantized in another way."""
    kinds = {node.op_type for node in proto.graph.node}
    kinds = {kind for kind in kinds if kind in QUANTIZERS or kind.startswith("QLinear") or QUANTIZE in kind}
    fused = sorted(kinds - {QUANTIZE, DEQUANTIZE})
    if fused:
        raise ModelError(
            f"{source} has {fused[0]} nodes: TensorRT, and this conversion, read QuantizeLinear and DequantizeLinear "
            "nodes with constant scales only; quantize the float model in the Q/DQ format"
        )
    if not kinds:
        raise ModelError(f"{source} has no Q/DQ nodes, and so no scales: give a quantized model")
    for node in proto.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE) and not (
            len(node.input) > 1 and all(node.input[:2]) and any(node.output)
        ):
            raise ModelError(
                f"{source} is not a valid ONNX model: {node.op_type} {label(node)} lacks its input, scale or output; "
                "export it again"
            )


def quantize_alone(graph: Graph, quantize: onnx.NodeProto) -> Quantizer:
    """Describe a QuantizeLinear as if it were dequantized right away with its own scale and zero point."""
    dequantize = onnx.NodeProto()
    dequantize.CopyFrom(quantize)
    dequantize.op_type, dequantize.input[0] = DEQUANTIZE, quantize.output[0]
    return graph.quantizer(dequantize)


def _refusal(pair: Quantizer, node: onnx.NodeProto) -> str:
    """Why a cache cannot hold what a pair, described by its `node`, says; empty where it can."""
    if pair.scales is None:
        return "has a scale that is computed, not constant: fold the model's constants first"
    if pair.scales.size != 1:
        return f"is quantized per channel ({pair.scales.size} scales), a cache holds one per tensor: quantize it so"
    if pair.type not in ("INT8", "UINT8", ""):
        return f"is quantized to {pair.type}, a cache holds INT8 scales: quantize activations to INT8"
    if asymmetry := _asymmetry(pair, node):
        return asymmetry
    scale = _scale(pair.scales)
    if not usable(scale):
        return f"has the scale {scale:g}, which is none: calibrate again, or leave the tensor in float"
    return ""


def _asymmetry(pair: Quantizer, node: onnx.NodeProto) -> str:
    if pair.zero_point is None:
        computed = any(node.input[2:])
        return "has a zero point that is computed, not constant: fold the model's constants first" if computed else ""
    if pair.zero_point.size != 1:
        return f"has one scale and {pair.zero_point.size} zero points: export the model again"
    zero_point = int(pair.zero_point.reshape(-1)[0])
    if zero_point in ((127, 128) if pair.type == "UINT8" else (0,)):
        return ""
    return (
        f"is quantized asymmetrically ({pair.type or 'UINT8'}, zero point {zero_point}), "
        "TensorRT's INT8 is symmetric: quantize activations symmetrically"
    )


def _conflict(known: float | None, pair: Quantizer) -> str:
    scale = None if pair.scales is None else _scale(pair.scales)
    if known is None or scale == known:
        return ""
    return f"has several scales ({known:.6g} and {scale:.6g}), a cache holds one per tensor: give it one"


def _scale(scales: npt.NDArray[np.generic]) -> float:
    """The only scale, as a float32; infinite where that does not hold it."""
    with np.errstate(over="ignore"):
        return float(np.float32(scales.reshape(-1)[0]))


def _with_derived(model: onnx.ModelProto, own: Mapping[str, float]) -> dict[str, float]:
    """`own`, and what shares a scale with it, in topological order."""
    scales = dict(own)
    for group in scale_groups(model, through=COMMUTES):
        known = {own[name] for name in group.members if name in own}
        if len(known) == 1:
            scales.update(dict.fromkeys(group.members, known.pop()))
    ordered = {name: scales[name] for name in activations(model) if name in scales}
    return ordered | scales


def _notes(proto: onnx.ModelProto, silent: tuple[str, ...]) -> Iterator[str]:
    if silent:
        yield (
            f"{len(silent)} tensors, such as {silent[0]}, are quantized without a zero point: read as TensorRT reads "
            "them, INT8 with zero point 0, where ONNX means UINT8"
        )
    inner = sum(node.op_type in (QUANTIZE, DEQUANTIZE) for node in _inner_nodes(proto.graph))
    if inner:
        yield f"{inner} Q/DQ nodes inside branches of control flow were not read: caches list no tensors of branches"


def _inner_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.node
                yield from _inner_nodes(inner)


class FloatView:
    """The graph as it was before quantization, as far as names and shared scales go.

    1. A Q/DQ pair is left out: what read its result reads the tensor itself.
    2. A pair whose result is an output of the model becomes an Identity, or, where ONNX Runtime's quantizer has renamed
       the tensor before it, gives the tensor its name back.
    3. A Cast between floats, which stands between FP16 and FP32, is left out in the same way; one that makes an output
       of the model gives the tensor before it that name.

    Attributes:
        model: The graph without Q/DQ nodes on activations.
    """

    def __init__(self, proto: onnx.ModelProto, graph: Graph) -> None:
        self._aliases: dict[str, str] = {}
        self._identities: dict[str, str] = {}
        self._left_out = set[str]()
        types, named = _types(proto), graph.outputs | {value.name for value in proto.graph.input}
        for node in proto.graph.node:
            before, after = _unchanged(node, graph, types)
            if not after:
                continue
            self._left_out.add(after)
            if after not in graph.outputs:
                self._aliases[after] = before
            elif before == after + RENAMED or (node.op_type == "Cast" and before not in {*named, *self._aliases}):
                self._aliases[before] = after
            else:
                self._identities[after] = before
        self.model = onnx.ModelProto()
        self.model.ir_version = proto.ir_version
        self.model.opset_import.extend(proto.opset_import)
        self.model.graph.name = proto.graph.name
        self.model.graph.input.extend(proto.graph.input)
        self.model.graph.output.extend(proto.graph.output)
        for tensor in proto.graph.initializer:  # of large ones, weights, type and shape are enough
            small = math.prod(tensor.dims) <= SHAPE_SIZED
            kept = tensor if small else onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            self.model.graph.initializer.append(kept)
        self.model.graph.node.extend(self._nodes(proto, graph))

    def name(self, tensor: str) -> str:
        """The float model's name for a tensor."""
        while tensor in self._aliases:
            tensor = self._aliases[tensor]
        return tensor

    def _nodes(self, proto: onnx.ModelProto, graph: Graph) -> Iterator[onnx.NodeProto]:
        for node in proto.graph.node:
            result = node.output[0] if node.output else ""
            if result in self._identities:
                yield onnx.helper.make_node("Identity", [self.name(self._identities[result])], [result])
            elif result in self._left_out:
                continue
            elif node.op_type != QUANTIZE or node.input[0] not in graph.activations:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.input[:] = [self.name(name) for name in node.input]
                copy.output[:] = [self.name(name) for name in node.output]
                yield copy


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = with_types(proto).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}


def _unchanged(node: onnx.NodeProto, graph: Graph, types: Mapping[str, int]) -> tuple[str, str]:
    """What a Cast between floats, or the DequantizeLinear of a pair, gives again, and under which name; or nothing."""
    if node.op_type == DEQUANTIZE:
        maker = graph.producers.get(node.input[0])
        if maker is not None and maker.op_type == QUANTIZE and maker.input[0] in graph.activations:
            return maker.input[0], node.output[0]
    if node.op_type == "Cast" and {types.get(node.input[0]), types.get(node.output[0])} <= FLOAT_TYPES:
        return node.input[0], node.output[0]
    return "", ""
