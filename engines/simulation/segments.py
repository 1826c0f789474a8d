"""A model cut into segments that run one after another, and versions of each.

A cut lies between two nodes in topological order. What is given before it and read behind it is passed on; a cut may
pass several tensors on, so that skip connections are no hindrance. What does not depend on an input (weights, constant
shapes) goes into each segment that reads it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from engines.graph.model import captured, input_specs, with_types
from engines.graph.operators import RANDOM, WEIGHTED, label
from engines.simulation.costs import Shape, inferred_shapes
from engines.simulation.simulated_model import Layer

UNKNOWN = 2**24
"""Bytes that a tensor of unknown size is taken for: cut elsewhere if there is any place else."""

UNROUNDED = 16
"""Times as many bytes where what is passed on comes straight from a layer: what follows, a ReLU, ONNX Runtime computes
together with it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a model.

    Attributes:
        model: Its nodes and the constants that they read.
        reads: What it is fed with: tensors of the whole model.
        gives: The whole model's outputs that it computes: the first ones of its own.
        passes: Tensors that later segments read: the rest of its outputs, in this order.
        layers: The labels of its nodes.
        nodes: Those of the whole model that it holds.
    """

    model: onnx.ModelProto
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    passes: tuple[str, ...]
    layers: frozenset[str]
    nodes: tuple[onnx.NodeProto, ...]


def passing(name: str) -> str:
    """The name of the node that passes a tensor on, which nothing but later segments reads."""
    return f"{name}/pass on"


def segments(
    model: onnx.ModelProto, layers: Sequence[Layer], inputs: Mapping[str, Shape], *, each: int
) -> tuple[Segment, ...]:
    """Cut a model where little is passed on.

    Args:
        model: Prepared, with all its data.
        layers: That can be quantized, in topological order.
        inputs: Shapes that the model is run with, by input name.
        each: How many layers a segment has, about.

    Returns:
        One or more, in the order in which they run.
    """
    graph = _Order(model, inputs)
    cuts = _cuts(graph, {layer.name for layer in layers}, each)
    return tuple(graph.segment(start, stop) for start, stop in zip((0, *cuts), (*cuts, len(graph.nodes)), strict=True))


def _cuts(graph: "_Order", layers: set[str], each: int) -> list[int]:
    """Positions of cuts: around every `each` layers, the one where least is passed on."""
    done = np.cumsum([label(node) in layers for node in graph.nodes])
    costs = graph.costs()
    total, found = int(done[-1]) if len(done) else 0, list[int]()
    for wanted in range(each, total - each // 2, each):
        near = np.flatnonzero(np.abs(done - wanted) <= each / 2)  # the cut is behind the node
        near = near[(near + 1 > (found[-1] if found else 0)) & (near + 1 < len(done))]
        best = min(near, key=lambda place: (costs[place], abs(done[place] - wanted), -place), default=None)
        if best is not None and math.isfinite(costs[best]):
            found.append(int(best) + 1)
    return found


class _Order:
    """A model's nodes that depend on its inputs, in order, and who gives and reads what."""

    def __init__(self, model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> None:
        self._model = model
        self._inputs = {spec.name for spec in input_specs(model)}
        self._outputs = [value.name for value in model.graph.output]
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._all = list(model.graph.node)
        self._makers = {name: place for place, node in enumerate(self._all) for name in node.output if name}
        live = set(self._inputs)
        self.nodes = list[onnx.NodeProto]()
        for node in self._all:
            if live & self._read(node) or set(node.output) & set(self._outputs) or node.op_type in RANDOM:
                self.nodes.append(node)
                live.update(filter(None, node.output))
        self._gives = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}
        self._last = {name: place for place, node in enumerate(self.nodes) for name in self._read(node)}
        typed = with_types(model)
        values = (*typed.graph.output, *typed.graph.value_info, *typed.graph.input)
        self._types: dict[str, onnx.ValueInfoProto] = {value.name: value for value in values}
        self._shapes = inferred_shapes(typed, inputs)

    def costs(self) -> list[float]:
        """Of a cut behind each node, by what it passes on; infinite where that has no known type."""
        change = np.zeros(len(self.nodes) + 1)
        unknown = np.zeros(len(self.nodes) + 1)
        for name, place in self._gives.items():
            last = self._last.get(name, place)
            size = self._bytes(name)
            for count, what in ((change, size or 0.0), (unknown, float(size is None))):
                count[place] += what
                count[last] -= what
        passed, untyped = np.cumsum(change[:-1]), np.cumsum(unknown[:-1])
        raw = [node.op_type in WEIGHTED for node in self.nodes]
        return [
            math.inf if untyped[place] > 0.5 else float(passed[place]) * (UNROUNDED if raw[place] else 1)
            for place in range(len(self.nodes))
        ]

    def segment(self, start: int, stop: int) -> Segment:
        """The nodes from `start` to `stop`."""
        own = self.nodes[start:stop]
        given = {name for node in own for name in node.output if name}
        odd = [] if start else [name for name in self._outputs if name not in self._gives]  # an input, or a constant
        read = dict.fromkeys([name for node in own for name in sorted(self._read(node)) if name not in given] + odd)
        reads = tuple(name for name in read if name in self._inputs or name in self._gives)
        gives = tuple(name for name in self._outputs if name in given or name in odd)
        passes = tuple(name for name in self._gives if name in given and self._last.get(name, -1) >= stop)
        nodes, constants = self._needed([name for name in read if name not in reads])
        model = onnx.ModelProto(ir_version=self._model.ir_version)
        model.opset_import.extend(self._model.opset_import)
        graph = model.graph
        graph.name = "segment"
        graph.node.extend([*nodes, *own])
        graph.initializer.extend(constants)
        graph.input.extend(self._typed(name) for name in reads)
        outputs = {value.name: value for value in self._model.graph.output}
        graph.output.extend(outputs[name] for name in gives)
        for name in passes:
            # By another name: it may be an output as well, and what is quantized here changes what others read of it.
            graph.node.append(helper.make_node("Identity", [name], [f"{name}/passed on"], name=passing(name)))
            passed = graph.output.add(name=f"{name}/passed on")
            passed.type.tensor_type.elem_type = self._types[name].type.tensor_type.elem_type
        return Segment(model, reads, gives, passes, frozenset(map(label, own)), tuple(own))

    def _needed(self, names: Sequence[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and initializers that constants are made of."""
        wanted, places, constants = list(names), set[int](), dict[str, onnx.TensorProto]()
        while wanted:
            name = wanted.pop()
            if name in self._constants:
                constants[name] = self._constants[name]
            elif name in self._makers and self._makers[name] not in places:
                places.add(self._makers[name])
                wanted.extend(self._read(self._all[self._makers[name]]))
        return [self._all[place] for place in sorted(places)], list(constants.values())

    def _read(self, node: onnx.NodeProto) -> set[str]:
        """What a node reads, its branches' names from outside among it."""
        return {name for name in (*node.input, *captured(node)) if name}

    def _typed(self, name: str) -> onnx.ValueInfoProto:
        return self._types[name]

    def _bytes(self, name: str) -> float | None:
        """Of a tensor; None where its type is not known, or it is none."""
        kind = self._types[name].type if name in self._types else onnx.TypeProto()
        if not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
            return None
        shape = self._shapes.get(name)
        if shape is None:
            return UNKNOWN
        return math.prod(shape) * helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type).itemsize
