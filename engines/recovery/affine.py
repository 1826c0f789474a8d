"""Layers as y = W x + b: their weights in one form, and their biases wherever the graph keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from engines.graph.data_sizes import data_sized
from engines.graph.operators import CONVOLUTIONS, label
from engines.graph.writer import GraphWriter
from engines.qdq.placement import Site, Weight, planned

Floats = npt.NDArray[np.floating[Any]]

_MATRICES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose weights `matrices` and `weight_of` know."""

_ADDEND = 2
"""Which input of Conv, ConvTranspose and Gemm is the bias."""


@dataclass(frozen=True, slots=True)
class Affine:
    """A layer with constant weights, y = W x + b.

    Attributes:
        site: The operator.
        adding: The Add behind it that brings its bias, where it has none of its own.
        shape: Of its weight as `matrices` has it: groups, outputs and inputs of each, taps.
    """

    site: Site
    adding: ir.Node | None
    shape: tuple[int, int, int, int]

    @property
    def node(self) -> ir.Node:
        """The operator."""
        return self.site.node

    @property
    def name(self) -> str:
        """Its label."""
        return label(self.site.node)

    @property
    def output(self) -> ir.Value:
        """y, the bias included."""
        return (self.adding or self.node).outputs[0]

    @property
    def weight(self) -> ir.Value:
        """W, as the graph has it."""
        assert self.site.weight is not None
        value = self.node.inputs[self.site.weight.input]
        assert value is not None and value.const_value is not None
        return value

    @property
    def convolves(self) -> bool:
        """Whether its channels are on axis 1; those of a matrix product are on the last."""
        return self.node.op_type in CONVOLUTIONS

    @property
    def outputs(self) -> int:
        """Channels of y."""
        return self.shape[0] * self.shape[1]

    @property
    def inputs(self) -> int:
        """Channels of x."""
        return self.shape[0] * self.shape[2]

    @property
    def depthwise(self) -> bool:
        """Whether each channel of y comes from the one of x with its number alone."""
        return self.convolves and self.shape[1] == self.shape[2] == 1

    @property
    def shared(self) -> bool:
        """Whether something else reads its weight too."""
        return len(self.weight.uses()) != 1 or self.weight.is_graph_output()


def affines(model: ir.Model) -> tuple[dict[str, Affine], Mapping[str, str]]:
    """The layers of a prepared model that are y = W x + b, by name in topological order; of the others, why not.

    Raises:
        ModelError: As `engines.qdq.placement.planned` raises it.
    """
    plan = planned(model)
    found, others = dict[str, Affine](), dict(plan.left)
    for site in plan.sites:
        if site.weight is not None:
            layer = _affine(site)
            if isinstance(layer, str):
                others[label(site.node)] = layer
            else:
                found[label(site.node)] = layer
    return found, others


def affines_of_fixed_size(model: onnx.ModelProto, graph: ir.Model) -> tuple[dict[str, Affine], Mapping[str, str]]:
    """`affines` but for those that read as many rows as the data say: the quantized model's stand beside no others.

    Args:
        model: A prepared model.
        graph: The same.

    Raises:
        ModelError: As `affines` raises it.
    """
    found, others = affines(graph)
    sized = data_sized(model)
    varying = {name: sized[layer.site.tensor] for name, layer in found.items() if layer.site.tensor in sized}
    fixed = {name: layer for name, layer in found.items() if name not in varying}
    return fixed, {
        **others,
        **{name: f"the size of what it reads depends on the data ({at})" for name, at in varying.items()},
    }


def matrices(weight: Floats, layer: Affine) -> Floats:
    """A weight with outputs before inputs, whatever its operator: shape (groups, outputs, inputs, taps)."""
    groups, outputs, inputs, taps = layer.shape
    if layer.node.op_type == "Conv":
        return weight.reshape(layer.shape)
    if layer.node.op_type == "ConvTranspose":
        return weight.reshape(groups, inputs, outputs, taps).swapaxes(1, 2)
    return (weight if _transposed(layer.node) else weight.T).reshape(layer.shape)


def weight_of(rows: Floats, layer: Affine) -> Floats:
    """Undo `matrices`."""
    shape = tuple(layer.weight.const_value.shape)  # type: ignore[union-attr]
    if layer.node.op_type == "Conv":
        return rows.reshape(shape)
    if layer.node.op_type == "ConvTranspose":
        return rows.swapaxes(1, 2).reshape(shape)
    _, outputs, inputs, _ = layer.shape
    return rows.reshape(outputs, inputs) if _transposed(layer.node) else rows.reshape(outputs, inputs).T


def floats_of(layer: Affine) -> Floats:
    """Its weight, in the graph's form."""
    constant = layer.weight.const_value
    assert constant is not None
    return np.asarray(constant.numpy())


def bias_of(layer: Affine) -> npt.NDArray[np.float64] | None:
    """b, one number per channel of y; None where there is none."""
    value = _own_bias(layer.node) if layer.adding is None else layer.adding.inputs[_constant_side(layer.adding)]
    if value is None:
        return None
    numbers = _numbers(value)
    beta = layer.node.attributes.get_float("beta", 1.0) if layer.node.op_type == "Gemm" and not layer.adding else 1.0
    return beta * np.broadcast_to(numbers.astype(np.float64).reshape(-1), layer.outputs)


def bias_name(layer: Affine) -> str | None:
    """The name of the constant that holds its bias; None where there is none."""
    adding = layer.adding
    value = _own_bias(layer.node) if adding is None else adding.inputs[_constant_side(adding)]
    return None if value is None else value.name


def set_weight(layer: Affine, weight: Floats) -> None:
    """Give a layer another weight of the same shape; for one that is not `shared`."""
    _put(layer.weight, weight)


def set_bias(layer: Affine, bias: npt.NDArray[np.float64], writer: GraphWriter) -> None:
    """Give a layer another bias, one number per channel of y; a matrix product without one gets an Add behind it.

    The tensor that the layer gave keeps its name, bias included; a node without a name gets its label for one.
    """
    numbers = bias.astype(np.float32)
    if layer.adding is not None:
        side = _constant_side(layer.adding)
        if layer.convolves:
            numbers = numbers.reshape(-1, *[1] * (floats_of(layer).ndim - 2))
        layer.adding.replace_input_with(side, _renewed(layer.adding.inputs[side], numbers, writer))
    elif layer.node.op_type == "MatMul":
        _add_behind(layer, numbers, writer)
    else:
        if layer.node.op_type == "Gemm" and "beta" in layer.node.attributes:
            del layer.node.attributes["beta"]
        value = _renewed(_own_bias(layer.node), numbers, writer, name=f"{layer.weight.name}_bias")
        if len(layer.node.inputs) <= _ADDEND:
            layer.node.resize_inputs(_ADDEND + 1)
        layer.node.replace_input_with(_ADDEND, value)


def give_biases(model: ir.Model, layers: Iterable[Affine]) -> dict[str, Affine]:
    """Give each layer a bias of its own, one number per channel, of 0 where there was none.

    Returns:
        The layers as they are then, by name.
    """
    writer, names = GraphWriter(model.graph), set[str]()
    for layer in layers:
        bias = bias_of(layer)
        set_bias(layer, np.zeros(layer.outputs) if bias is None else bias, writer)
        names.add(layer.name)
    found, _ = affines(model)
    return {name: layer for name, layer in found.items() if name in names}


def _affine(site: Site) -> Affine | str:
    node, weight = site.node, site.weight
    assert weight is not None
    value = node.inputs[weight.input]
    assert value is not None and value.const_value is not None
    if unknown := _unknown(node, weight, value.const_value.shape):
        return unknown
    shape = _shape(node, value.const_value.shape.numpy())
    own = _own_bias(node)
    if own is None:
        return Affine(site, _adding(node, len(value.const_value.shape), shape[0] * shape[1]), shape)
    if own.const_value is None:
        return "its bias is no constant"
    if own.const_value.dtype != ir.DataType.FLOAT or not _by_channel(own.const_value.shape, shape[0] * shape[1], -1):
        return "its bias is not one number per channel"
    return Affine(site, None, shape)


def _unknown(node: ir.Node, weight: Weight, shape: ir.ShapeProtocol) -> str:
    """Why the weight of a node has no form of `matrices`; empty if it has."""
    if node.op_type not in _MATRICES:
        return f"the steps that change weights do not know {node.op_type}"
    if node.op_type not in CONVOLUTIONS and (weight.input != 1 or len(shape) != 2):
        return "its weight is no matrix on the right"
    return "its weight is empty" if 0 in shape.numpy() else ""


def _shape(node: ir.Node, sizes: Sequence[int]) -> tuple[int, int, int, int]:
    groups = int(node.attributes.get_int("group", 1)) if node.op_type in CONVOLUTIONS else 1
    taps = int(np.prod(sizes[2:], dtype=np.int64))
    if node.op_type == "Conv":
        return groups, sizes[0] // groups, sizes[1], taps
    if node.op_type == "ConvTranspose":
        return groups, sizes[1], sizes[0] // groups, taps
    return (1, *sizes, 1) if _transposed(node) else (1, *sizes[::-1], 1)  # type: ignore[return-value]


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def _own_bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[_ADDEND] if node.op_type != "MatMul" and len(node.inputs) > _ADDEND else None


def _adding(node: ir.Node, rank: int, channels: int) -> ir.Node | None:
    """The only reader of a node's output, if it is an Add of one constant per channel."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return None
    reader = uses[0].node
    if reader.op_type != "Add" or reader.domain not in ("", "ai.onnx") or reader.graph is not node.graph:
        return None
    other = reader.inputs[1 - uses[0].idx]
    constant = other.const_value if other is not None else None
    if constant is None or constant.dtype != ir.DataType.FLOAT:
        return None
    if node.op_type in CONVOLUTIONS:
        fits = len(constant.shape) <= rank and _by_channel(constant.shape, channels, 1 - rank)
    else:
        ranks = 2 if node.op_type == "Gemm" else len(output.shape) if output.shape is not None else 1
        fits = len(constant.shape) <= ranks and _by_channel(constant.shape, channels, -1)
    return reader if fits else None


def _by_channel(shape: ir.ShapeProtocol, channels: int, axis: int) -> bool:
    """Whether a constant is broadcast along all axes but `axis`, counted from the end, on which the channels are."""
    sizes = [int(size) for size in shape]  # type: ignore[arg-type]
    at = len(sizes) + axis
    return all(size == 1 or (place == at and size == channels) for place, size in enumerate(sizes))


def _constant_side(adding: ir.Node) -> int:
    constants = (value is not None and value.const_value is not None for value in adding.inputs)
    return list(constants).index(True)


def _numbers(value: ir.Value | None) -> Floats:
    assert value is not None and value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _put(value: ir.Value, numbers: Floats) -> None:
    array = np.ascontiguousarray(numbers, np.float32)
    value.const_value = ir.tensor(array, name=value.name)
    value.shape = ir.Shape(array.shape)


def _renewed(value: ir.Value | None, numbers: Floats, writer: GraphWriter, *, name: str = "") -> ir.Value:
    """A constant with these numbers: the one there is, if nothing else reads it."""
    if value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        _put(value, numbers)
        return value
    own = writer.free(name or f"{value.name if value is not None else ''}_own")
    return writer.constant(own, numbers)


def _add_behind(layer: Affine, numbers: Floats, writer: GraphWriter) -> None:
    node, output = layer.node, layer.node.outputs[0]
    node.name = layer.name
    given = output.name
    output.name = writer.free(f"{given}_without_bias")
    adding = ir.node(
        "Add", [output, _renewed(None, numbers, writer, name=f"{given}_bias")], name=writer.free(f"{node.name}_bias")
    )
    (added,) = adding.outputs
    added.name, added.shape, added.type = given, output.shape, output.type
    graph = node.graph
    assert graph is not None
    graph.insert_after(node, adding)
    for use in tuple(output.uses()):
        if use.node is not adding:
            use.node.replace_input_with(use.idx, added)
    for place, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[place] = added
