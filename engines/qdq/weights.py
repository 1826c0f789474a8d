"""How fine the scales of weights are, and the INT8 weights of an operator."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError
from calibrators.grid import TENSORRT_WEIGHTS, Grid
from calibrators.weights import WeightMethod, weight_encoding, weight_method_named
from engines.graph.operators import CONVOLUTIONS, label, summed_axis
from engines.qdq.biases import with_room_for_bias
from engines.qdq.placement import Site

BLOCK_OPSET = 21
"""DequantizeLinear takes blocks from this opset on."""

BLOCKS_NOTE = (
    "weights have a scale per block of {}: this model is for ONNX Runtime; TensorRT has no INT8 weights by blocks, and "
    "trtcal build refuses it"
)


@dataclass(frozen=True, slots=True)
class Granularity:
    """What of a weight shares a scale.

    Attributes:
        kind: "channel", one scale per output channel, as TensorRT wants it; "tensor", one for the whole weight;
            "block", one per output channel and so many of the values that are summed up.
        block_size: So many; None for the others.
    """

    kind: Literal["channel", "tensor", "block"] = "channel"
    block_size: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Granularity":
        """Undo `str`: channel, tensor, or block:N such as block:32.

        Raises:
            RangeError: It is none of these.
        """
        if text == "channel":
            return cls()
        if text == "tensor":
            return cls("tensor")
        match = re.fullmatch(r"block:([1-9][0-9]{0,8})", text)
        if match is None:
            raise RangeError(
                f"there is no granularity {text!r} of weights: choose channel, tensor or block:N, such as block:32"
            )
        return cls("block", int(match[1]))

    def __str__(self) -> str:
        return self.kind if self.block_size is None else f"block:{self.block_size}"


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """How weights are quantized.

    Attributes:
        method: Of `calibrators.weights.weight_encoding`.
        granularity: What shares a scale.
        bits: Of the levels; fewer than 8 make coarser INT8 weights, more are for simulation alone.
        power_of_two: Scales are powers of two: each the next one that holds the range, or by "mse" the best of them.
    """

    method: WeightMethod = "absmax"
    granularity: Granularity = Granularity()
    bits: int = 8
    power_of_two: bool = False

    @property
    def grid(self) -> Grid:
        """The levels: -127 to 127 for 8 bits, as TensorRT has them."""
        return replace(TENSORRT_WEIGHTS, bits=self.bits, power_of_two=self.power_of_two)

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", weight_method_named(self.method))
        replace(TENSORRT_WEIGHTS, bits=self.bits)  # refuses bits that no grid has


def require_blocks_possible(sites: Iterable[Site]) -> None:
    """Refuse blocks for operators of which some are something else than matrix products.

    Raises:
        ModelError: An operator is a convolution.
    """
    for site in sites:
        if site.weight is not None and site.node.op_type in CONVOLUTIONS:
            raise ModelError(
                f"{label(site.node)} is a {site.node.op_type}, and blocks divide the weights of MatMul and Gemm alone: "
                "take --granularity channel"
            )


def site_weight(
    site: Site, choice: WeightOptions | Encoding, activation: Encoding | None = None
) -> tuple[str, npt.NDArray[np.int32], Encoding]:
    """Name, levels and encoding of the weight that a site has, by options or on a given encoding.

    Beside a quantized activation, scales leave room for the operator's bias (`with_room_for_bias`).

    Raises:
        ModelError: It holds what is no number, or the encoding does not fit it.
    """
    assert site.weight is not None
    weight = site.node.inputs[site.weight.input]
    assert weight is not None and weight.const_value is not None and weight.name is not None
    floats = weight.const_value.numpy()
    convolves = site.node.op_type in CONVOLUTIONS
    summed = summed_axis(site.weight.axis, floats.ndim, convolves=convolves)
    # ONNX Runtime (1.32) fails at a stack of matrices with a scale per column: it would have them for each matrix.
    axes = {"channel": site.weight.axis if convolves or floats.ndim == 2 else None, "tensor": None, "block": summed}
    try:
        encoding = (
            choice
            if isinstance(choice, Encoding)
            else weight_encoding(
                floats,
                axis=axes[choice.granularity.kind],
                grid=choice.grid,
                method=choice.method,
                block_size=choice.granularity.block_size,
            )
        )
        if activation is not None:
            encoding = with_room_for_bias(site.node, encoding, activation)
        return weight.name, encoding.quantize(floats), encoding
    except RangeError as error:
        raise ModelError(f"{weight.name}, the weight of {label(site.node)}: {error}") from None
