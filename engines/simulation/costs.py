"""What layers cost: multiply-accumulates from shapes, and the model of cost that is made of them."""

import math
from collections.abc import Iterable, Mapping

import onnx
from onnx import shape_inference

from engines.graph.model import input_specs, loaded
from engines.graph.operators import CONVOLUTIONS
from engines.simulation.simulated_model import Layer

Shape = tuple[int, ...]

HALF_BITS = 16
"""Of FP16."""

FLOAT_BITS = 32
"""Of FP32."""


def operand_bits(activation: int, weight: int) -> float:
    """The width of a multiplication in the model of cost: the mean of its operands' widths.

    8 for INT8, 16 for FP16, 32 for FP32, and 6 for weights of 4 bits beside activations of 8. TensorRT runs INT8
    weights of fewer levels no faster than others: there a profile tells more.
    """
    return (activation + weight) / 2


def macs(layers: Iterable[Layer], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Multiply-accumulates of each layer, by its name: of one run, at the shapes given.

    - Conv: (elements of its output) x (input channels / groups) x (kernel elements)
    - ConvTranspose: (elements of its input) x (output channels / groups) x (kernel elements); those that its padding
      cuts off count
    - Gemm, MatMul: (elements of its output) x (length of the sum)
    - the skip input of a residual addition: 0

    Biases do not count.

    Args:
        layers: A model's.
        shapes: Of the tensors that convolutions and products give, and transposed convolutions read.

    Raises:
        KeyError: A shape is missing (`sized` tells which).
    """
    return {layer.name: _macs(layer, shapes) for layer in layers}


def sized(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The tensors whose shapes `macs` needs."""
    return tuple(dict.fromkeys(name for layer in layers if (name := _sized(layer)) is not None))


def inferred_shapes(model: onnx.ModelProto, inputs: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
    """The shapes of a model's tensors, as far as inference can tell them.

    Args:
        model: Any model.
        inputs: Shapes of its inputs; one that is not named has its own, with a free first axis taken for a batch of 1.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(loaded(model))
    known = dict(inputs or {})
    for spec in input_specs(fixed):
        if spec.name not in known and spec.shape:
            first, *rest = (size if isinstance(size, int) else -1 for size in spec.shape)
            known[spec.name] = (abs(first), *rest)
    for value in fixed.graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, known.get(value.name, ()), strict=False):
            if size >= 0:
                dimension.dim_value = size
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception:  # noqa: BLE001 - a custom operator, or a model over 2 GB
        inferred = fixed
    graph = inferred.graph
    found = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    return {name: shape for name, shape in found.items() if shape is not None}


def _sized(layer: Layer) -> str | None:
    if layer.weight is None:
        return None
    return layer.activation if layer.type == "ConvTranspose" else layer.output


def _macs(layer: Layer, shapes: Mapping[str, Shape]) -> int:
    tensor = _sized(layer)
    if tensor is None:
        return 0
    elements = math.prod(shapes[tensor])
    if layer.type in CONVOLUTIONS:
        return elements * math.prod(layer.shape[1:])
    return elements * layer.shape[layer.summed]


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(dimension.HasField("dim_value") for dimension in kind.shape.dim):
        return None
    return tuple(dimension.dim_value for dimension in kind.shape.dim)
