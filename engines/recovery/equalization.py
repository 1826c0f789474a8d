"""Cross-layer equalization: channels of unequal range rescaled between layers, so that one scale fits them all.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1. A
layer's output channel i may be divided by any s[i] > 0 and the weights that read it multiplied by s[i] where everything
between f has f(x / s) = f(x) / s.

1. Two layers, f between them: ``s[i] = r1[i] / sqrt(r1[i] r2[i])``, with r1[i] = max|W1| over what gives channel i and
   r2[i] = max|W2| over what reads it; W1 and b1 are divided by s, W2 multiplied. Both ranges become sqrt(r1 r2).
2. Depthwise convolutions between, which give each channel from itself: with r0, r1, ..., rn along the way each range
   becomes their geometric mean g, hence ``s1 = r0 / g, s2 = r0 r1 / g^2, ...``.
3. Layers that read the same channels count as one: r2[i] is the largest of theirs, and all are multiplied.
4. A channel with a range of 0, or one that is no finite number, keeps its scale: s[i] = 1.
5. Again, from the first layer to the last, until no s is further from 1 than `SETTLED`, or `SWEEPS` times.
6. A Clip between 0 and a constant h is in the way (f is not to scale). It stops the two layers from being equalized
   (`clips="stop"`), is replaced by Relu, which is another function ("relu"), or by Relu and Min with h / s[i] for each
   channel, which is the same function in one operator more ("channel"): TensorRT-RTX 1.7 computes it in the kernel that
   requantizes anyway; of other TensorRTs it is not known.
7. No layers are equalized across an output of the model, an addition, a concatenation or any other operator that mixes
   channels, nor where a weight is read by others too. Each layer that is left is named, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from engines.graph.operators import label
from engines.graph.writer import GraphWriter
from engines.recovery.affine import Affine, affines, bias_of, floats_of, matrices, set_bias, set_weight, weight_of
from engines.recovery.channels import Clipping, Way, way_from

Clips = Literal["stop", "relu", "channel"]

SETTLED = 1e-3
"""Ranges that differ by a thousandth are equal, next to the steps of any grid up to 8 bits."""

SWEEPS = 50

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Equalized:
    """What the pass made.

    Attributes:
        model: With the same names of nodes and tensors; the same function, up to rounding, unless `clips` is "relu".
        sets: Names of layers whose ranges were made equal: the first gives the channels, depthwise convolutions follow,
            the last ones read them.
        skipped: By name of a layer whose output channels keep their scale: why.
        clips: How many Clips were replaced.
        sweeps: How often the layers were gone through.
    """

    model: onnx.ModelProto
    sets: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str]
    clips: int
    sweeps: int


def equalized(model: onnx.ModelProto, *, clips: Clips = "stop") -> Equalized:
    """Equalize a prepared float model (`engines.passes.prepare`) by the rules above; `model` itself is not changed.

    Args:
        model: Batch normalization folded.
        clips: What to do about a Clip between layers.

    Raises:
        ModelError: As `engines.qdq.placement.planned` raises it.
    """
    graph = ir.from_proto(model)
    layers, others = affines(graph)
    ways, skipped = _ways(layers, clips)
    sets = _sets(layers, ways)
    states = {name: _State.of(layers[name]) for name in dict.fromkeys(name for each in sets for name in each.names)}
    sweeps = 0
    while sets and sweeps < SWEEPS:
        sweeps += 1
        if max(each.equalize(states) for each in sets) < np.log2(1 + SETTLED):
            break
    writer = GraphWriter(graph.graph)
    replaced = 0
    for name, way in ways.items():
        for clip in way.clips:
            _without(clip, np.exp2(states[name].outputs) if clips == "channel" else None, writer)
            replaced += 1
    for name, state in states.items():
        _rescale(layers[name], state, writer)
    return Equalized(ir.to_proto(graph), tuple(each.names for each in sets), {**others, **skipped}, replaced, sweeps)


def _ways(layers: Mapping[str, Affine], clips: Clips) -> tuple[dict[str, Way], dict[str, str]]:
    """By name of a layer whose output channels may be rescaled, the way behind it; why not, of the others."""
    nodes = {layer.node: layer for layer in layers.values()}
    found, skipped = dict[str, Way](), dict[str, str]()
    for name, layer in layers.items():
        way = _way(layer, nodes, clips)
        if isinstance(way, str):
            skipped[name] = way
        else:
            found[name] = way
    return found, skipped


def _way(layer: Affine, nodes: Mapping[ir.Node, Affine], clips: Clips) -> Way | str:
    if layer.shared:
        return f"its weight {layer.weight.name} is read by others too"
    way = way_from(layer, nodes)
    if isinstance(way, str):
        return way
    if way.clips and clips == "stop":
        return f"{label(way.clips[0].node)} (Clip) cuts off its output at {way.clips[0].highest:g}"
    shared = [each.layer for each in way.readers if each.layer.shared]
    return f"{shared[0].name}, which reads it, has a weight that others read too" if shared else way


@dataclass(slots=True)
class _State:
    """A layer while it is rescaled.

    Attributes:
        kernels: log2 of max|W| over taps, shape (groups, outputs, inputs), as W is now; -inf where it is 0.
        outputs: log2 of what its output channels have been divided by.
        inputs: log2 of what its input channels have been multiplied by.
    """

    kernels: _Numbers
    outputs: _Numbers
    inputs: _Numbers

    @classmethod
    def of(cls, layer: Affine) -> "_State":
        with np.errstate(divide="ignore", invalid="ignore"):
            kernels = np.log2(np.abs(matrices(floats_of(layer), layer)).max(axis=3).astype(np.float64))
        return cls(kernels, np.zeros(layer.outputs), np.zeros(layer.inputs))

    def given(self) -> _Numbers:
        """log2 of the range of the weights that give each output channel."""
        return np.asarray(self.kernels.max(axis=2).reshape(-1))

    def read(self, repeat: int) -> _Numbers:
        """log2 of the range of the weights that read each channel, of which `repeat` inputs are one."""
        return np.asarray(self.kernels.max(axis=1).reshape(-1, repeat).max(axis=1))

    def divide(self, factors: _Numbers) -> None:
        """Divide the output channels."""
        self.outputs += factors
        groups, outputs, _ = self.kernels.shape
        self.kernels -= factors.reshape(groups, outputs, 1)

    def multiply(self, factors: _Numbers) -> None:
        """Multiply the input channels."""
        self.inputs += factors
        groups, _, inputs = self.kernels.shape
        self.kernels += factors.reshape(groups, 1, inputs)


@dataclass(frozen=True, slots=True)
class _Set:
    """Layers along a way: the first gives channels, depthwise convolutions pass them on, the last ones read them."""

    chain: tuple[str, ...]
    ends: tuple[tuple[str, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.chain, *(name for name, _ in self.ends))

    def equalize(self, states: Mapping[str, _State]) -> float:
        """Make the ranges equal; give the largest |log2 s|."""
        ranges = [states[name].given() for name in self.chain]
        ranges.append(np.max([states[name].read(repeat) for name, repeat in self.ends], axis=0))
        with np.errstate(invalid="ignore"):
            mean = np.mean(ranges, axis=0)
        factors, largest = np.zeros_like(mean), 0.0
        for name, given in zip(self.chain, ranges[:-1], strict=True):
            before = factors
            with np.errstate(invalid="ignore"):
                factors = np.where(np.isfinite(mean), factors + given - mean, 0.0)
            if name != self.chain[0]:
                states[name].multiply(before)
            states[name].divide(factors)
            largest = max(largest, float(np.abs(factors).max()))
        for name, repeat in self.ends:
            states[name].multiply(np.repeat(factors, repeat))
        return largest


def _sets(layers: Mapping[str, Affine], ways: Mapping[str, Way]) -> list[_Set]:
    """What is made equal together; no layer's output is in two."""
    after = {name: _passed_on(way, ways) for name, way in ways.items()}
    inner = set(after.values())
    found = []
    for name in ways:
        if name in inner:
            continue
        chain = [name]
        while (following := after[chain[-1]]) is not None:
            chain.append(following)
        ends = tuple((each.layer.name, each.repeat) for each in ways[chain[-1]].readers)
        found.append(_Set(tuple(chain), ends))
    return found


def _passed_on(way: Way, ways: Mapping[str, Way]) -> str | None:
    """The depthwise convolution that alone reads a way's channels, if its own can be rescaled, too."""
    if len(way.readers) != 1:
        return None
    layer = way.readers[0].layer
    return layer.name if layer.depthwise and layer.name in ways else None


def _rescale(layer: Affine, state: _State, writer: GraphWriter) -> None:
    """Write what the ranges were made equal by into a layer, in one rounding."""
    groups, outputs, inputs, _ = layer.shape
    by = state.inputs.reshape(groups, 1, inputs, 1) - state.outputs.reshape(groups, outputs, 1, 1)
    with np.errstate(over="ignore"):  # what float32 cannot hold shows in what the model then gives
        set_weight(layer, weight_of((matrices(floats_of(layer), layer) * np.exp2(by)).astype(np.float32), layer))
        bias = bias_of(layer)
        if bias is not None and state.outputs.any():
            set_bias(layer, bias * np.exp2(-state.outputs), writer)


def _without(clip: Clipping, scale: _Numbers | None, writer: GraphWriter) -> None:
    """Put Relu in the place of a Clip at h; and Min with h / s behind it, if there is an s by which x was divided."""
    node, output = clip.node, clip.node.outputs[0]
    given = output.name or label(node)
    (last,) = writer.node("Relu", [node.inputs[0]], name=f"{given}_Relu", outputs=[f"{given}_relu"], before=node)
    if scale is not None:
        highest = (clip.highest / scale).astype(np.float32).reshape(-1, *[1] * clip.behind)
        ends = writer.constant(f"{given}_highest", highest)
        (last,) = writer.node("Min", [last, ends], name=f"{given}_Min", outputs=[f"{given}_min"], before=node)
    last.shape, last.type = output.shape, output.type
    for use in tuple(output.uses()):
        use.node.replace_input_with(use.idx, last)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    last.name = given
