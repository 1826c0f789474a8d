"""Explicit quantization: QuantizeLinear and DequantizeLinear nodes written from a calibration cache.

Where they go (NVIDIA's developer guide, "Explicit Quantization", and what TensorRT-RTX's builder was seen to fuse):

1. every input of a weighted operator (Conv, ConvTranspose, Gemm, MatMul): the activation per tensor, the constant
   weight per output channel;
2. of a residual Add, the input that is not the fusible convolution's; where both are, the one nearer to the block's
   start;
3. nowhere else: no pair between a convolution and its batch normalization or activation, none on biases, none of their
   own for operators that only move values (MaxPool, Reshape, Concat, ...), whose sides share one scale.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.cache import CalibrationCache, usable
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, ModelError
from calibrators.files import write_whole
from calibrators.weights import WeightMethod
from engines.graph import ModelSource, loaded
from engines.graph_writer import GraphWriter
from engines.passes.prepare import LOWEST_OPSET, prepared
from engines.placement import Site, label, planned
from engines.qdq_caches import averaged, foreign, none_usable, shared_scales, unusable
from engines.qdq_weights import (
    BLOCK_OPSET,
    BLOCKS_NOTE,
    Granularity,
    WeightOptions,
    require_blocks_possible,
    site_weight,
)

LARGEST_FILE = 2**31 - 2**20
"""Bytes that fit in one ONNX file: protobuf's limit, with room for the graph."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A model with Q/DQ nodes, and an account of it.

    Attributes:
        model: The model; its weights are int8 where they are quantized.
        scales: The scale of each quantized activation.
        quantized: Labels of the operators that take quantized inputs.
        left_float: Label of each weighted operator or residual Add that stays in float -> why.
        from_sidecar: Activations whose scale is the side-car's, not the cache's: behind an average pooling, where
            TensorRT's caches repeat the scale before it.
        shared: Activations whose scale is that of a tensor they share one with (through max pooling, reshapes,
            concatenations), as the cache has none of use for themselves, or another.
        averaged: Activations behind an average pooling whose scale repeats the one before it, as TensorRT's caches have
            it, and there is no side-car with a finer one.
        internal: Names in the cache that TensorRT made for tensors of its own, such as copies and layers without a
            name.
        unused: Other names in the cache that the model does not have.
        weights: How its weights are quantized.
    """

    model: onnx.ModelProto
    scales: Mapping[str, float]
    quantized: tuple[str, ...]
    left_float: Mapping[str, str]
    from_sidecar: tuple[str, ...]
    shared: tuple[str, ...]
    averaged: tuple[str, ...]
    internal: tuple[str, ...]
    unused: tuple[str, ...]
    weights: WeightOptions

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not simply as the cache has it, one line each; what stays in float is told by `left_float`."""
        told = (
            (
                self.from_sidecar,
                "{} scale(s), such as {}'s, taken from the side-car: TensorRT's caches repeat the scale before an "
                "average pooling behind it, which Q/DQ nodes need not",
            ),
            (
                self.shared,
                "{} scale(s), such as {}'s, taken from a tensor that shares one (pooling, concatenation): the cache "
                "has another there, or none",
            ),
            (
                self.averaged,
                "{} scale(s), such as {}'s, taken from before an average pooling, as TensorRT's caches have it: "
                "calibrate with trtcal for finer ones, which its side-cars hold",
            ),
            (
                self.internal,
                "{} name(s) in the cache, such as {}, dropped: TensorRT's own, of no tensor of the model",
            ),
            (self.unused, "{} name(s) in the cache, such as {}, not in the model"),
        )
        size = self.weights.granularity.block_size
        blocks = () if size is None else (BLOCKS_NOTE.format(size),)
        return (*blocks, *(line.format(len(names), names[0]) for names, line in told if names))


def quantize(
    model: ModelSource, cache: Mapping[str, float], *, weights: WeightMethod = "absmax", granularity: str = "channel"
) -> QuantizedModel:
    """Write a cache's scales into a model as Q/DQ nodes.

    Args:
        model: An FP32 model, as a path or in memory.
        cache: Scales by tensor name, such as a `CalibrationCache`.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: What of a weight shares a scale: "channel", an output channel, as TensorRT wants it; "tensor", all
            of it; "block:N", N neighbours along the axis that MatMul or Gemm sums over, for ONNX Runtime. For blocks
            the model's opset is raised to 21.

    Raises:
        ModelError: The model cannot be read, holds Q/DQ nodes already, is not FP32, or has no operator to quantize; or
            has a convolution, which takes no blocks.
        CacheError: The cache has a usable scale for none of the tensors that need one.
        RangeError: There is no such method or granularity.
    """
    options = WeightOptions(weights, Granularity.parse(granularity))
    blocks = options.granularity.kind == "block"
    graph = prepared(model, opset=BLOCK_OPSET if blocks else LOWEST_OPSET)
    plan = planned(graph)
    if blocks:
        require_blocks_possible(plan)
    light = ir.to_proto(graph)
    scales = shared_scales(cache, light)
    wanted = [site.tensor for site in plan.sites]
    if not any(usable(scales.get(name)) for name in wanted):
        raise CacheError(none_usable(scales, wanted))
    pairs = _Pairs(graph.graph, options)
    quantized, left = list[str](), dict(plan.left)
    for site, tensor in zip(plan.sites, wanted, strict=True):
        scale = scales.get(tensor)
        if scale is not None and usable(scale):
            pairs.write(site, scale)
            quantized.append(label(site.node))
        else:
            left[label(site.node)] = f"its input {tensor} has {unusable(scale)}"
    common.TopologicalSortPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    ir.external_data.load_to_model(graph)
    explicit = cache.sidecar.explicit if isinstance(cache, CalibrationCache) and cache.sidecar is not None else {}
    others = foreign(cache, loaded(model).graph)
    return QuantizedModel(
        ir.to_proto(graph),
        pairs.scales,
        tuple(quantized),
        left,
        from_sidecar=tuple(name for name in pairs.scales if name in explicit),
        shared=tuple(name for name, scale in pairs.scales.items() if name not in explicit and cache.get(name) != scale),
        averaged=tuple(name for name in averaged(light, scales) if name in pairs.scales and name not in explicit),
        internal=tuple(name for name, internal in others.items() if internal),
        unused=tuple(name for name, internal in others.items() if not internal),
        weights=options,
    )


def quantizable_tensors(model: ModelSource, *, light: bool = False) -> tuple[str, ...]:
    """The activations that `quantize` needs a scale for, in topological order.

    Args:
        model: An FP32 model, as a path or in memory.
        light: Leave its weights in their file, and do not have it checked: it was already.

    Raises:
        ModelError: As `quantize` raises it.
    """
    return tuple(dict.fromkeys(site.tensor for site in planned(prepared(model, light=light)).sites))


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """A quantized model's file, once the ONNX checker has found nothing wrong with it.

    Raises:
        ModelError: The checker refuses the model, or one file cannot hold it.
    """
    if model.ByteSize() > LARGEST_FILE:
        raise ModelError("the quantized model is over 2 GB, more than an ONNX file holds: quantize a smaller model")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"the quantized model is not valid ({str(error).splitlines()[0]}): report the model"
        ) from error
    return bytes(model.SerializeToString())


def save(quantized: QuantizedModel, path: str | os.PathLike[str]) -> None:
    """Check the model and write it, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
        ModelError: As `checked_bytes`.
    """
    write_whole(path, checked_bytes(quantized.model))


class _Pairs:
    """Puts the pairs into a graph: one QuantizeLinear per activation, one DequantizeLinear per reader."""

    def __init__(self, graph: ir.Graph, weights: WeightOptions) -> None:
        self.scales: dict[str, float] = {}
        self._writer = GraphWriter(graph)
        self._weights = weights
        self._quantized: dict[str, ir.Value] = {}

    def write(self, site: Site, scale: float) -> None:
        """Quantize an operator's activation, and its weight where it has one."""
        name = site.tensor
        encoding = Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32))
        if name not in self._quantized:
            tensor = site.node.inputs[site.activation]
            self._quantized[name] = self._node("QuantizeLinear", tensor, name, encoding, site.node)
            self.scales[name] = scale
        activation = self._node("DequantizeLinear", self._quantized[name], name, encoding, site.node)
        weight = self._weight(site) if site.weight is not None else None
        site.node.replace_input_with(site.activation, activation)
        if weight is not None and site.weight is not None:
            site.node.replace_input_with(site.weight.input, weight)

    def _weight(self, site: Site) -> ir.Value:
        """The int8 weight of a site, dequantized."""
        name, levels, encoding = site_weight(site, self._weights)
        constant = self._writer.constant(f"{name}_quantized", levels)
        weight = self._node("DequantizeLinear", constant, name, encoding, site.node)
        return weight if encoding.block_size is None else self._apart(weight, levels.shape, name, site.node)

    def _apart(self, weight: ir.Value, shape: tuple[int, ...], name: str, reader: ir.Node) -> ir.Value:
        """A weight behind a Reshape to the shape it has.

        ONNX Runtime (1.31) puts a DequantizeLinear into the matrix product behind it and forgets the blocks on the way:
        the product then fails. It does not look behind a Reshape.
        """
        target = self._writer.constant(f"{name}_shape", np.array(shape, np.int64))
        (reshaped,) = self._writer.node(
            "Reshape", [weight, target], name=f"{name}_Reshape", outputs=[f"{name}_reshaped"], before=reader
        )
        return reshaped

    def _node(self, operator: str, value: ir.Value | None, name: str, encoding: Encoding, reader: ir.Node) -> ir.Value:
        """Add a QuantizeLinear or DequantizeLinear before its reader; give its output."""
        step = self._writer.constant(f"{name}_scale", encoding.scale)
        zero_point = self._writer.constant(f"{name}_zero_point", encoding.zero_point.astype(np.int8))
        attributes = {"axis": encoding.axis, "block_size": encoding.block_size}
        (output,) = self._writer.node(
            operator,
            [value, step, zero_point],
            name=f"{name}_{operator}",
            outputs=[f"{name}_{'quantized' if operator == 'QuantizeLinear' else 'dequantized'}"],
            before=reader,
            attributes={key: number for key, number in attributes.items() if number is not None},
        )
        return output
