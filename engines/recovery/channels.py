"""Where the channels of a layer are read: the way from its output to the layers that take them, one by one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from engines.graph.operators import WEIGHTED, label
from engines.recovery.affine import Affine

SAMPLES, CHANNELS = 0, 1
"""The axes of what a convolution gives."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that reads the channels of another.

    Attributes:
        layer: It.
        repeat: How many of its inputs are one channel: the positions in a map that was flattened.
    """

    layer: Affine
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Clipping:
    """A Clip between 0 and a constant.

    Attributes:
        node: It.
        highest: The constant.
        behind: Axes of its input behind the one with the channels.
    """

    node: ir.Node
    highest: float
    behind: int


@dataclass(frozen=True, slots=True)
class Way:
    """From a layer's output to all that reads it.

    Attributes:
        readers: The layers at its ends.
        clips: What it cuts off, which does not keep channels to scale as everything else on it does.
    """

    readers: tuple[Reader, ...] = ()
    clips: tuple[Clipping, ...] = ()

    def __add__(self, other: "Way") -> "Way":
        return Way(self.readers + other.readers, self.clips + other.clips)


@dataclass(frozen=True, slots=True)
class View:
    """How a layer's channels lie in a tensor behind it.

    Attributes:
        channels: How many there are.
        axis: Theirs, counted from the front; None for the last one of an unknown rank.
        rank: Axes of the tensor; None where that is not known.
        flattened: Whether all positions of a channel stand side by side on their axis.
    """

    channels: int
    axis: int | None
    rank: int | None
    flattened: bool = False

    @property
    def last(self) -> bool:
        """Whether the channels are on the last axis."""
        return self.axis is None or (self.rank is not None and self.axis == self.rank - 1)

    @property
    def mapped(self) -> bool:
        """Whether positions of a map lie behind the channels, as behind a convolution."""
        return self.axis == CHANNELS and self.rank is not None and self.rank > CHANNELS + 1


def way_from(layer: Affine, layers: Mapping[ir.Node, Affine]) -> Way | str:
    """Where the channels of a layer's output are read, if every operator on the way keeps them apart and to scale.

    Such an operator f has f(x / s) = f(x) / s for any s > 0 per channel.

    Args:
        layer: The layer.
        layers: All of them, by node.

    Returns:
        The way, or why there is none.
    """
    if layer.convolves:
        rank = len(layer.weight.const_value.shape)  # type: ignore[union-attr]
        return _behind(layer.output, View(layer.outputs, CHANNELS, rank), layers)
    shape = layer.node.outputs[0].shape
    axes = 2 if layer.node.op_type == "Gemm" else None if shape is None else len(shape)
    return _behind(layer.output, View(layer.outputs, None if axes is None else axes - 1, axes), layers)


def bounds_of(clip: ir.Node) -> tuple[float, float] | None:
    """The constant bounds of a Clip, infinite where it has none; None where they are not constant."""
    ends = [-np.inf, np.inf]
    for place in (1, 2):
        value = clip.inputs[place] if len(clip.inputs) > place else None
        if value is not None:
            if value.const_value is None or value.const_value.size != 1:
                return None
            ends[place - 1] = float(value.const_value.numpy().reshape(()))
    return ends[0], ends[1]


def _behind(value: ir.Value, view: View, layers: Mapping[ir.Node, Affine]) -> Way | str:
    if value.is_graph_output():
        return f"its output {value.name} is the model's too"
    way = Way()
    for use in value.uses():
        found = _through(use.node, use.idx, value, view, layers)
        if isinstance(found, str):
            return found
        way += found
    return way if way.readers else f"nothing reads {value.name}"


def _through(node: ir.Node, place: int, value: ir.Value, view: View, layers: Mapping[ir.Node, Affine]) -> Way | str:
    """The way on through a node that reads a value at some place."""
    producer = value.producer()
    if producer is None or node.graph is not producer.graph:
        return f"{label(node)} reads {value.name} inside a branch of control flow"
    if node in layers:
        reader = _reader(layers[node], place, view)
        return reader if isinstance(reader, str) else Way((reader,))
    if node.op_type in WEIGHTED:
        return f"{label(node)} reads {value.name}, and is no layer of constant weights and one bias per channel"
    passing = _PASSING.get(node.op_type)
    if passing is None or node.domain not in ("", "ai.onnx"):
        return f"{label(node)} ({node.op_type}) reads {value.name}, and does not keep channels apart and to scale"
    seen = passing(node, view) if place == 0 else None
    if seen is None or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
        return f"{label(node)} ({node.op_type}) reads {value.name} in a way that may mix channels or their scales"
    return _on(_behind(node.outputs[0], seen, layers), node, view)


def _on(behind: Way | str, node: ir.Node, view: View) -> Way | str:
    """The way behind a node, with its clipping if it is a Clip from above."""
    bounds = bounds_of(node) if node.op_type == "Clip" else None
    if isinstance(behind, str) or bounds is None or bounds[1] == np.inf:
        return behind
    axes = 0 if view.axis is None or view.rank is None else view.rank - 1 - view.axis
    return replace(behind, clips=(Clipping(node, bounds[1], axes), *behind.clips))


def _reader(layer: Affine, place: int, view: View) -> Reader | str:
    if place != layer.site.activation:
        return f"{layer.name} reads it otherwise than as its activation"
    if layer.convolves:
        fits = view.mapped and not view.flattened and view.rank == len(layer.weight.const_value.shape)  # type: ignore[union-attr]
    else:
        fits = view.last and (layer.node.op_type == "MatMul" or view.rank in (2, None))
    times, rest = divmod(layer.inputs, view.channels)
    if not fits or rest or (times != 1 and not view.flattened):
        return f"{layer.name} reads its channels on another axis"
    return Reader(layer, times)


def _same(node: ir.Node, view: View) -> View:
    return view


def _clip(node: ir.Node, view: View) -> View | None:
    """From 0 to something above it."""
    bounds = bounds_of(node)
    if bounds is None or bounds[1] == np.inf:
        return view if bounds is not None and bounds[0] in (0.0, -np.inf) else None
    return view if bounds[0] == 0.0 < bounds[1] and not view.flattened else None


def _slopes(node: ir.Node, view: View) -> View | None:
    """PRelu: x or slope x; a constant slope of any shape that does not add axes."""
    slope = node.inputs[1]
    if slope is None or slope.const_value is None:
        return None
    rank = len(slope.const_value.shape)
    return view if rank <= 1 or (view.rank is not None and rank <= view.rank) else None


def _pooling(node: ir.Node, view: View) -> View | None:
    return view if view.mapped and not view.flattened else None


def _padding(node: ir.Node, view: View) -> View | None:
    """Of positions only, and by nothing that is added: zeros, or what is there already."""
    pads, axes = _constant(node, 1), _constant(node, 3)
    if not view.mapped or pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None and axes is None):
        return None
    filling = _constant(node, 2)
    if len(node.inputs) > 2 and node.inputs[2] is not None and (filling is None or filling.any()):
        return None
    rank = view.rank or 0
    padded = range(rank) if axes is None else (int(axis) % rank for axis in axes)
    amounts = dict(zip(padded, pads.reshape(2, -1).T, strict=True))
    return None if any(np.any(amounts.get(axis, 0)) for axis in (SAMPLES, CHANNELS)) else view


def _averaging(node: ir.Node, view: View) -> View | None:
    """ReduceMean or ReduceMax over positions."""
    named = node.attributes.get_ints("axes", ()) or ()
    given = _constant(node, 1)
    axes = [int(axis) for axis in (named if given is None else given)]
    if not view.mapped or view.rank is None or not axes:
        return None
    places = {axis % view.rank for axis in axes}
    if places & {SAMPLES, CHANNELS}:
        return None
    kept = node.attributes.get_int("keepdims", 1)
    return view if kept else replace(view, rank=view.rank - len(places))


def _squeezing(node: ir.Node, view: View) -> View | None:
    axes = _constant(node, 1)
    if not view.mapped or view.rank is None or axes is None:
        return None
    places = {int(axis) % view.rank for axis in axes}
    return None if places & {SAMPLES, CHANNELS} else replace(view, rank=view.rank - len(places))


def _flattening(node: ir.Node, view: View) -> View | None:
    if view.axis != CHANNELS or view.rank is None or node.attributes.get_int("axis", 1) != CHANNELS:
        return None
    return view if view.rank == 2 else replace(view, rank=2, flattened=True)


def _reshaping(node: ir.Node, view: View) -> View | None:
    """As Flatten, where it can be told that it keeps samples apart."""
    wanted, source = _constant(node, 1), node.inputs[0]
    if view.axis != CHANNELS or view.rank is None or wanted is None or len(wanted) != 2:
        return None
    first, second = (int(size) for size in wanted)
    sizes = [] if source is None or source.shape is None else list(source.shape)
    behind = [each for each in sizes[CHANNELS:] if isinstance(each, int)]
    size = math.prod(behind) if sizes and len(behind) == len(sizes) - CHANNELS else None
    samples = sizes[SAMPLES] if sizes and isinstance(sizes[SAMPLES], int) else None
    copies = first == 0 and not node.attributes.get_int("allowzero", 0)
    fixed = first == samples and second in (-1, size)
    keeps = copies or fixed or (first == -1 and second == size)
    return replace(view, rank=2, flattened=view.flattened or view.rank > 2) if keeps else None


def _constant(node: ir.Node, place: int) -> npt.NDArray[np.generic] | None:
    value = node.inputs[place] if len(node.inputs) > place else None
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())


_PASSING: Mapping[str, Callable[[ir.Node, View], View | None]] = {
    **dict.fromkeys(("Identity", "Relu", "LeakyRelu", "Dropout"), _same),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"), _pooling),
    **dict.fromkeys(("ReduceMean", "ReduceMax"), _averaging),
    "Clip": _clip,
    "Flatten": _flattening,
    "PRelu": _slopes,
    "Pad": _padding,
    "Reshape": _reshaping,
    "Squeeze": _squeezing,
}
"""What an operator makes of a view; None where it may mix channels, or what is not to scale."""
