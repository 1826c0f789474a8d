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
from engines.pairs import Pairs
from engines.passes.prepare import LOWEST_OPSET, prepared
from engines.placement import label, planned
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


LayerChoice = WeightOptions | Encoding | str
"""How a layer's weights are quantized, by options or by an encoding, or why the layer stays in float."""


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
    model: ModelSource,
    cache: Mapping[str, float],
    *,
    weights: WeightMethod = "absmax",
    granularity: str = "channel",
    layers: Mapping[str, LayerChoice] | None = None,
) -> QuantizedModel:
    """Write a cache's scales into a model as Q/DQ nodes.

    Args:
        model: An FP32 model, as a path or in memory.
        cache: Scales by tensor name, such as a `CalibrationCache`.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: What of a weight shares a scale: "channel", an output channel, as TensorRT wants it; "tensor", all
            of it; "block:N", N neighbours along the axis that MatMul or Gemm sums over, for ONNX Runtime. For blocks
            the model's opset is raised to 21.
        layers: By label (`engines.placement.label`), the layers that are quantized otherwise, or stay in float.

    Raises:
        ModelError: The model cannot be read, holds Q/DQ nodes already, is not FP32, or has no operator to quantize; or
            has a convolution, which takes no blocks.
        CacheError: The cache has a usable scale for none of the tensors that need one.
        RangeError: There is no such method or granularity.
    """
    options, choices = WeightOptions(weights, Granularity.parse(granularity)), dict(layers or {})
    blocks = any(map(_in_blocks, (options, *choices.values())))
    graph = prepared(model, opset=BLOCK_OPSET if blocks else LOWEST_OPSET)
    plan = planned(graph)
    if blocks:
        require_blocks_possible(plan)
    light = ir.to_proto(graph)
    scales = shared_scales(cache, light)
    wanted = [site.tensor for site in plan.sites]
    if not any(usable(scales.get(name)) for name in wanted):
        raise CacheError(none_usable(scales, wanted))
    pairs, written = Pairs(graph.graph), dict[str, float]()
    quantized, left = list[str](), dict(plan.left)
    for site, tensor in zip(plan.sites, wanted, strict=True):
        name, scale = label(site.node), scales.get(tensor)
        choice = choices.get(name, options)
        if isinstance(choice, str):
            left[name] = choice
        elif scale is None or not usable(scale):
            left[name] = f"its input {tensor} has {unusable(scale)}"
        else:
            levels = None if site.weight is None else site_weight(site, choice)
            pairs.activation(site, Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32)))
            if levels is not None:
                pairs.weight(site, *levels)
            written[tensor] = scale
            quantized.append(name)
    if not quantized:
        raise ModelError(
            f"every layer stays in float ({len(left)}, such as {next(iter(left))}): quantize one at least, or build "
            "the float model with --precision fp16"
        )
    common.TopologicalSortPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    ir.external_data.load_to_model(graph)
    explicit = cache.sidecar.explicit if isinstance(cache, CalibrationCache) and cache.sidecar is not None else {}
    others = foreign(cache, loaded(model).graph)
    return QuantizedModel(
        ir.to_proto(graph),
        written,
        tuple(quantized),
        left,
        from_sidecar=tuple(name for name in written if name in explicit),
        shared=tuple(name for name, scale in written.items() if name not in explicit and cache.get(name) != scale),
        averaged=tuple(name for name in averaged(light, scales) if name in written and name not in explicit),
        internal=tuple(name for name, internal in others.items() if internal),
        unused=tuple(name for name, internal in others.items() if not internal),
        weights=options,
    )


def _in_blocks(choice: LayerChoice) -> bool:
    size = choice.granularity.block_size if isinstance(choice, WeightOptions) else getattr(choice, "block_size", None)
    return size is not None


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
