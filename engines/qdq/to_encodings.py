"""All that a model's Q/DQ nodes say of its tensors, weights and zero points too, for the formats that can hold it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError, listed
from calibrators.grid import Grid
from engines.graph.model import ModelSource, activations, load_model, loaded, scale_groups
from engines.graph.operators import COMMUTES
from engines.qdq.read import DEQUANTIZE, QUANTIZE, Graph, Quantizer
from engines.qdq.to_cache import FloatView, quantize_alone, require_qdq

STORED = "_quantized"
"""What ONNX Runtime's quantizer, and `engines.qdq.write`, append to the name of a weight that is stored quantized."""


def qdq_encodings(model: ModelSource) -> Encodings:
    """Read the encodings of activations and weights out of a model with Q/DQ nodes, by the float model's names.

    1. A tensor has the scale, zero point, axis and blocks of its QuantizeLinear or DequantizeLinear, on the grid of its
       integer type; symmetric where the zero point is in the grid's middle.
    2. Without a zero point a type is INT8, as TensorRT reads it.
    3. The other sides of operators that only move or choose values have the same encoding, where all agree about it.
    4. What has a computed scale or no integer type of 2 to 16 bits (INT32 biases, FLOAT8) is left out, and noted.

    Raises:
        ModelError: The model cannot be read or has no Q/DQ nodes; or a tensor has several encodings, or an impossible
            one. The message names it.
    """
    proto = loaded(model) if isinstance(model, onnx.ModelProto) else load_model(model, check=False)
    source = "the model" if isinstance(model, onnx.ModelProto) else str(model)
    require_qdq(proto, source)
    graph = Graph(proto)
    view = FloatView(proto, graph)
    found = _Found(source)
    for node in proto.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            pair = graph.quantizer(node) if node.op_type == DEQUANTIZE else quantize_alone(graph, node)
            if pair.constant:
                stored = pair.quantize is None and node.op_type == DEQUANTIZE
                found.add(pair.tensor.removesuffix(STORED) if stored else pair.tensor, pair)
            else:
                name = pair.tensor if node.op_type == QUANTIZE or pair.quantize is not None else node.output[0]
                found.add(view.name(name), pair)
    return Encodings(_with_derived(view.model, found.activations), found.weights, notes=tuple(found.notes()))


@dataclass
class _Found:
    source: str
    activations: dict[str, Encoding] = field(default_factory=dict)
    weights: dict[str, Encoding] = field(default_factory=dict)
    left_out: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, name: str, pair: Quantizer) -> None:
        value = _encoding(pair, f"{self.source}: its tensor {name}")
        if isinstance(value, str):
            self.left_out.setdefault(value, {})[name] = None
            return
        kept, other = (self.weights, self.activations) if pair.constant else (self.activations, self.weights)
        if name in other or kept.setdefault(name, value) != value:
            raise ModelError(f"{self.source}: its tensor {name} has several encodings, a file holds one: give it one")

    def notes(self) -> Iterator[str]:
        for why, names in self.left_out.items():
            yield f"left out: {listed(names)} ({why})"


def _encoding(pair: Quantizer, where: str) -> Encoding | str:
    """An encoding, or why there is none."""
    if pair.scales is None:
        return "a computed scale"
    match = re.fullmatch("(U?)INT([0-9]+)", pair.type or "INT8")
    if match is None or not 2 <= int(match[2]) <= 16:
        return pair.type
    bits, signed = int(match[2]), not match[1]
    shape = () if pair.axis is None else pair.scales.shape
    zero_point = np.zeros(shape, np.int32)
    if pair.zero_point is not None:
        if pair.zero_point.size not in (1, pair.scales.size):
            raise ModelError(
                f"{where} has {pair.scales.size} scales and {pair.zero_point.size} zero points: export it again"
            )
        zero_point = np.broadcast_to(pair.zero_point.astype(np.int32).reshape(-1), pair.scales.size).reshape(shape)
    middle = 0 if signed else 1 << (bits - 1)
    grid = Grid(bits, signed, bool((zero_point == middle).all()))
    size = pair.block_size if pair.axis is not None else None
    try:
        with np.errstate(over="ignore"):
            return Encoding(pair.scales.astype(np.float32).reshape(shape), zero_point, grid, pair.axis, size)
    except RangeError as error:
        raise ModelError(f"{where} has an encoding that is none: {error}") from error


def _with_derived(model: onnx.ModelProto, own: dict[str, Encoding]) -> dict[str, Encoding]:
    """`own`, and what shares its encoding, in topological order."""
    every = dict(own)
    for group in scale_groups(model, through=COMMUTES):
        known = [own[name] for name in group.members if name in own]
        if known and all(value == known[0] and value.axis is None for value in known):
            every.update(dict.fromkeys(group.members, known[0]))
    return {name: every[name] for name in activations(model) if name in every} | every
