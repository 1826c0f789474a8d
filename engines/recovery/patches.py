"""What a layer reads for single values of its output: columns x with y = W x + b, whatever its operator (im2col)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from calibrators.errors import ModelError
from engines.graph.operators import label
from engines.recovery.affine import Affine, floats_of

Singles = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def places_of(layer: Affine, shape: Sequence[int]) -> int:
    """How many vectors over the channels an output of that shape holds: sample by sample, position by position."""
    return math.prod(shape) // layer.outputs


def given(layer: Affine, y: npt.NDArray[Any], places: Places) -> Singles:
    """What a layer gives at some places of its output: shape (groups, outputs, places)."""
    groups, outputs, _, _ = layer.shape
    moved = np.moveaxis(y, 1 if layer.convolves else -1, 0)
    return np.asarray(moved.reshape(groups, outputs, -1)[:, :, places], np.float32)


def columns(layer: Affine, x: npt.NDArray[Any], shape: Sequence[int], places: Places) -> Singles:
    """What a layer reads for some places of its output, zero where that is padding.

    Args:
        layer: The layer.
        x: Its activation, samples first where it convolves.
        shape: Of its output for x.
        places: As `places_of` counts them.

    Returns:
        Of shape (groups, inputs * taps, places), rows in the order of `engines.recovery.affine.matrices`.

    Raises:
        ModelError: Its attributes are none that this takes apart.
    """
    groups, _, inputs, taps = layer.shape
    if not layer.convolves:
        return np.ascontiguousarray(x.reshape(-1, inputs)[places].T[None], np.float32)
    sizes, spread = x.shape[2:], shape[2:]
    samples, *positions = np.unravel_index(places, (len(x), *spread))
    found, inside = np.zeros((len(places), taps), np.int64), np.ones((len(places), taps), bool)
    kernel = floats_of(layer).shape[2:]
    offsets = np.indices(kernel).reshape(len(kernel), -1)
    for axis, way in enumerate(_axes(layer.node, kernel, sizes, spread)):
        at, here = _read(layer, way, positions[axis][:, None], offsets[axis][None])
        inside &= here & (at >= 0) & (at < sizes[axis])
        found = found * sizes[axis] + np.clip(at, 0, sizes[axis] - 1)
    flat = x.reshape(len(x), groups, inputs, -1)
    read = np.where(inside[:, :, None, None], flat[samples[:, None], :, :, found], 0)  # places, taps, groups, inputs
    return np.ascontiguousarray(read.transpose(2, 3, 1, 0).reshape(groups, inputs * taps, -1), np.float32)


@dataclass(frozen=True, slots=True)
class _Axis:
    """How a convolution goes along one axis of its input.

    Attributes:
        stride: Of the output in the input; of a ConvTranspose, of the input in the output.
        dilation: Between taps.
        begin: Padding before the first value.
    """

    stride: int
    dilation: int
    begin: int


def _read(layer: Affine, axis: _Axis, position: Places, tap: Places) -> tuple[Places, npt.NDArray[np.bool_]]:
    """Which value of the input each tap meets at each position of the output, and whether there is one."""
    if layer.node.op_type == "Conv":
        at = position * axis.stride - axis.begin + tap * axis.dilation
        return at, np.ones(at.shape, bool)
    spread = position + axis.begin - tap * axis.dilation
    return spread // axis.stride, spread % axis.stride == 0


def _axes(node: ir.Node, kernel: Sequence[int], sizes: Sequence[int], spread: Sequence[int]) -> list[_Axis]:
    rank = len(kernel)
    strides, dilations = (tuple(node.attributes.get_ints(name, ()) or (1,) * rank) for name in ("strides", "dilations"))
    pads = tuple(node.attributes.get_ints("pads", ()) or (0,) * 2 * rank)
    automatic = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if "output_shape" in node.attributes or (node.op_type != "Conv" and automatic.startswith("SAME")):
        raise ModelError(f"{label(node)} states its output's size, not its padding: it cannot be taken apart")
    found = []
    for axis in range(rank):
        begin = pads[axis] if automatic == "NOTSET" else 0
        if automatic.startswith("SAME"):
            reach = (spread[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            missing = max(reach - sizes[axis], 0)
            begin = (missing + (automatic == "SAME_LOWER")) // 2
        found.append(_Axis(strides[axis], dilations[axis], begin))
    return found
