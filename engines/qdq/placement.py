"""Where quantization goes in a graph: the operators whose inputs get Q/DQ nodes, and why the others do not."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from calibrators.errors import ModelError
from engines.graph.float_layers import IN_A_BRANCH, constants_of, why_float
from engines.graph.operators import ADDITIONS, CONVOLUTIONS, MOVES, QUANTIZERS, RANDOM, WEIGHTED, label, weight_axis

FEWEST = 16
"""Rows and columns of a matrix that is worth INT8. Integer kernels take channels by 16, so smaller ones gain little
(NVIDIA's ModelOpt leaves out the same); and eight bits hurt positions times a few frequencies, or scores, the most."""

WHY_SMALL = f"its constant operand has fewer than {FEWEST} rows or columns, where INT8 costs accuracy and gains little"
"""Why a small product stays in float."""

SMALL = f'{WHY_SMALL}; a rule with precision = "int8" asks for it'
"""Likewise, where a configuration can ask for it."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant operand: which input it is, and the axis of its output channels."""

    input: int
    axis: int


@dataclass(frozen=True, slots=True)
class Site:
    """An operator to quantize.

    Attributes:
        node: The operator.
        activation: Which input is the activation.
        weight: Its constant operand, or None for a residual's skip input.
        partner: Of a skip input: the convolution that the addition is fused into.
        small: Whether it is a product that stays in float unless it is asked for (`is_small`).
    """

    node: ir.Node
    activation: int
    weight: Weight | None = None
    partner: ir.Node | None = None
    small: bool = False

    @property
    def tensor(self) -> str:
        """The activation's name."""
        value = self.node.inputs[self.activation]
        assert value is not None and value.name is not None
        return value.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What to quantize.

    Attributes:
        sites: In topological order, `small` ones included.
        left: The label of each weighted operator that stays in float -> why.
    """

    sites: tuple[Site, ...]
    left: Mapping[str, str]


def planned(model: ir.Model) -> Plan:
    """Find the operators to quantize in a prepared model.

    Raises:
        ModelError: The model holds Q/DQ nodes already, or has no operator to quantize.
    """
    graph = model.graph
    if any(node.op_type in QUANTIZERS for node in graph):
        raise ModelError("the model is quantized already: give the float model")
    live = _live(graph)
    sites, left = list[Site](), dict[str, str]()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type in WEIGHTED and node.domain in ("", "ai.onnx"):
            site = IN_A_BRANCH if node.graph is not graph else _weighted(node, live)
            if isinstance(site, Site):
                sites.append(site)
            else:
                left[label(node)] = site
        elif (reason := why_float(node, constants_of(node))) and _is_live(node, graph, live):
            left[label(node)] = reason
    if not sites:
        why = next(iter(left.items()), None)
        found = f"; {why[0]} is not one, for {why[1]}" if why else ""
        raise ModelError(
            f"the model has no layer to quantize ({', '.join(WEIGHTED)} with constant FP32 weights){found}"
        )
    fusible = {site.node for site in sites if site.node.op_type in CONVOLUTIONS}
    skips = [skip for node in graph if (skip := _skip(node, live, fusible)) is not None]
    order = {node: place for place, node in enumerate(graph)}
    return Plan(tuple(sorted([*sites, *skips], key=lambda site: order[site.node])), left)


def _is_live(node: ir.Node, graph: ir.Graph, live: set[ir.Value]) -> bool:
    return node.graph is not graph or any(value in live for value in node.inputs)


def _live(graph: ir.Graph) -> set[ir.Value]:
    """Values that depend on an input's values, not only on its shape."""
    live = set(graph.inputs)
    for node in graph:
        if node.op_type not in ("Shape", "Size") and any(value in live for value in _read(node)):
            live.update(node.outputs)
    return live


def _read(node: ir.Node) -> Iterator[ir.Value | None]:
    """A node's inputs, and what the branches of a control-flow node take from outside."""
    yield from node.inputs
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                yield from inner.inputs


def _weighted(node: ir.Node, live: set[ir.Value]) -> Site | str:
    """The site of a weighted operator, or why it has none."""
    if len(node.inputs) < 2:
        return "it has no weights"
    data, weight = node.inputs[0], node.inputs[1]
    if data not in live:
        return _left(node, data) if weight in live else "it works on constants and shapes alone"
    constant = weight.const_value if weight is not None else None
    if weight in live:
        convolves = node.op_type in CONVOLUTIONS
        return "its weights are computed at run time" if convolves else "both of its operands are activations"
    if constant is None:
        return _computed(weight)
    return _by_channel(node, constant)


def _by_channel(node: ir.Node, constant: ir.TensorProtocol) -> Site | str:
    """The site of an operator with a constant weight, by the axis of its output channels."""
    if constant.dtype != ir.DataType.FLOAT:
        return f"its weights are {constant.dtype.name}"
    if node.op_type in CONVOLUTIONS:
        return Site(node, 0, Weight(1, weight_axis(node)))
    rank = len(constant.shape)
    if rank < 2:
        return "its constant operand is a vector: with one output channel, INT8 gains nothing"
    if node.op_type == "Gemm" and node.attributes.get_int("transA", False):
        return "it transposes its activation"
    return Site(node, 0, Weight(1, weight_axis(node, rank=rank)), small=is_small(constant.shape.numpy()))


def _left(node: ir.Node, operand: ir.Value | None) -> Site | str:
    """The site of an operator whose left operand depends on no input, and whose right one is an activation."""
    constant = operand.const_value if operand is not None else None
    if node.op_type != "MatMul":
        return f"its first operand is the constant one, which trtcal knows of MatMul, not of {node.op_type}"
    if constant is None:
        return _computed(operand)
    rank = len(constant.shape)
    if constant.dtype != ir.DataType.FLOAT:
        return f"its weights are {constant.dtype.name}"
    if rank < 2:
        return "its constant operand is a vector: with one output channel, INT8 gains nothing"
    return Site(node, 1, Weight(0, weight_axis(node, place=0, rank=rank)), small=is_small(constant.shape.numpy()))


def _computed(weight: ir.Value | None) -> str:
    """Why a weight that depends on no input's values is no constant: what folding constants has left."""
    values = [] if weight is None else list(_distances(weight))
    makers = [maker for value in values if (maker := value.producer()) is not None]
    random = next((maker for maker in makers if maker.op_type in RANDOM), None)
    if random is not None:
        return f"its weights are random numbers, which {random.op_type} makes at run time"
    if any(value.is_graph_input() for value in values):
        return "its weights are computed at run time, from an input's shape"
    return "its weights are computed at run time" + (f", by {makers[-1].op_type}" if makers else "")


def is_small(matrix: Sequence[int]) -> bool:
    """Whether a product with a constant operand of this shape, a matrix or a stack of them, is too small for INT8."""
    return min(matrix[-2:]) < FEWEST


def _skip(node: ir.Node, live: set[ir.Value], fusible: set[ir.Node]) -> Site | None:
    """The input of a residual addition to quantize, so that the addition fuses into the convolution of the other.

    Of a Sum of more than two, TensorRT adds up the first two first.
    """
    first, second = (*node.inputs, None, None)[:2]
    if node.op_type not in ADDITIONS or not {first, second} <= live:
        return None
    if first is None or second is None or first is second or _different(first.shape, second.shape):
        return None
    fuses = [_fused(value, fusible) for value in (first, second)]
    if not any(fuses):
        return None
    place = _nearer(first, second) if all(fuses) else fuses.index(None)
    return replace(_before_moves(node, place), partner=fuses[1 - place])


def _before_moves(node: ir.Node, place: int) -> Site:
    """The site of an input, moved back before operators that only move or pad its values for no other reader.

    There it is quantized where the block's first convolution wants it quantized anyway; behind a Slice or Pad, a pair
    of its own would only be a round trip through INT8. Not before what takes some of the channels: theirs may be values
    much smaller than the others.
    """
    value = node.inputs[place]
    producer = value.producer() if value is not None else None
    if value is None or producer is None or len(value.uses()) != 1 or value.is_graph_output():
        return Site(node, place)
    alone = all(other is value or not (other.uses() or other.is_graph_output()) for other in producer.outputs)
    if alone and not _takes_channels(producer) and (producer.op_type in MOVES or _pads_with_zero(producer)):
        return _before_moves(producer, 0)
    return Site(node, place)


def _takes_channels(node: ir.Node) -> bool:
    """Whether a node may give some channels, on axis 1, and not others."""
    if node.op_type != "Slice":
        return node.op_type == "Split"
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    known = axes.const_value if axes is not None else None
    data = node.inputs[0]
    if known is None or data is None or data.shape is None:
        return True
    return any(axis % len(data.shape) == 1 for axis in known.numpy().reshape(-1).tolist())


def _pads_with_zero(node: ir.Node) -> bool:
    if node.op_type != "Pad" or node.attributes.get_string("mode", "constant") != "constant":
        return False
    constant = node.inputs[2] if len(node.inputs) > 2 else None
    return constant is None or (constant.const_value is not None and not constant.const_value.numpy().any())


def _fused(value: ir.Value, fusible: set[ir.Node]) -> ir.Node | None:
    """The convolution that gives a value, scaled and shifted by channel or not, where nothing else reads it."""
    producer = value.producer()
    if producer is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    if producer in fusible:
        return producer
    scaled = _scaled(producer)
    return None if scaled is None else _fused(scaled, fusible)


def _scaled(node: ir.Node) -> ir.Value | None:
    """What a node scales or shifts by constants, one for each channel or one for all; as it is, if need be."""
    if node.op_type in ("BatchNormalization", "Dropout", "Identity"):
        return node.inputs[0]
    if node.op_type not in ("Add", "Div", "Mul", "Sub") or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is not None and _is_by_channel(second, first):
        return first
    return second if node.op_type in ("Add", "Mul") and second is not None and _is_by_channel(first, second) else None


def _is_by_channel(constant: ir.Value | None, data: ir.Value) -> bool:
    """Whether a value is a constant that varies along axis 1 of `data` at most."""
    if constant is None or constant.const_value is None or data.shape is None:
        return False
    sizes = constant.const_value.shape.numpy()
    channels = len(sizes) + 1 - len(data.shape)
    return len(sizes) <= len(data.shape) and all(size == 1 for axis, size in enumerate(sizes) if axis != channels)


def _nearer(first: ir.Value, second: ir.Value) -> int:
    """Which of two values has the shorter path back to where they part; the second where both are as near."""
    near, far = _distances(first), _distances(second)
    common = near.keys() & far.keys()
    if not common:
        return 1
    origin = min(common, key=lambda value: (near[value] + far[value], value.name or ""))
    return 0 if near[origin] < far[origin] else 1


def _distances(value: ir.Value) -> dict[ir.Value, int]:
    """Nodes between a value and each value it comes from."""
    distances, waiting = {value: 0}, deque([value])
    while waiting:
        current = waiting.popleft()
        producer = current.producer()
        for origin in producer.inputs if producer is not None else ():
            if origin is not None and origin not in distances and not origin.is_initializer():
                distances[origin] = distances[current] + 1
                waiting.append(origin)
    return distances


def _different(first: ir.Shape | None, second: ir.Shape | None) -> bool:
    """Whether two shapes are not the same, as far as they are known: beside a free size, a 1 is one to be repeated."""
    if first is None or second is None:
        return False
    return len(first) != len(second) or any(
        (1 in pair and axis > 0) if None in pair else pair[0] != pair[1]
        for axis, pair in enumerate(zip(map(_size, first), map(_size, second), strict=True))
    )


def _size(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) else None
