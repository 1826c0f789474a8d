"""Explicit quantization: QuantizeLinear and DequantizeLinear nodes written from a calibration cache.

Where they go (NVIDIA's developer guide, "Explicit Quantization", and what TensorRT-RTX's builder was seen to fuse):

1. every input of a weighted operator (Conv, ConvTranspose, Gemm, MatMul): the activation per tensor, the constant
   weight per output channel;
2. of a residual addition (Add, Sum), the input that is not the fusible convolution's, scaled and shifted by channel or
   not; where both are, the one nearer to the block's start;
3. nowhere else: no pair between a convolution and its batch normalization or activation, none on biases, none of their
   own for operators that only move values (MaxPool, Reshape, Concat, ...), whose sides share one scale.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.cache.text import usable
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, ModelError
from calibrators.tabular import Row, Tabular
from calibrators.weights import WeightMethod
from engines.graph.model import ModelSource, loaded, plain_source
from engines.graph.operators import label
from engines.passes.opset import LOWEST_OPSET
from engines.passes.prepare import UNPROVED, prepared, widening_notes
from engines.qdq.cache_scales import ReadCache, foreign, none_usable, unusable
from engines.qdq.insert import Pairs
from engines.qdq.placement import SMALL, Site, planned
from engines.qdq.save import saving
from engines.qdq.weights import (
    BLOCK_OPSET,
    BLOCKS_NOTE,
    Granularity,
    WeightOptions,
    require_blocks_possible,
    site_weight,
)

LayerChoice = WeightOptions | Encoding | str
"""How a layer's weights are quantized, by options or by an encoding, or why the layer stays in float."""

OWN_PAIRS = (
    "{} tensor(s), such as {}, have a pair for each range that layers want of them: TensorRT quantizes them as often"
)

UNPROVED_NOTE = (
    "that raising the opset and folding constants left the model's function as it was is not proved on a sample: {}"
)


@dataclass(frozen=True, slots=True)
class QuantizedModel(Tabular):
    """A model with Q/DQ nodes, and an account of it.

    Attributes:
        model: The model; its weights are int8 where they are quantized.
        scales: The scale of each quantized activation; of one with several, that of its first reader.
        quantized: Labels of the operators that take quantized inputs.
        left_float: Label of each weighted operator or residual Add that stays in float -> why.
        from_sidecar: Activations whose scale is the side-car's, not the cache's: behind an average pooling, or of much
            smaller values than a tensor they are a part of, where TensorRT's caches repeat that one's scale.
        shared: Activations whose scale is that of a tensor they share one with (through max pooling, reshapes,
            concatenations), as the cache has none of use for themselves, or another.
        averaged: Activations behind an average pooling whose scale repeats the one before it, as TensorRT's caches have
            it, and there is no side-car with a finer one.
        internal: Names in the cache that TensorRT made for tensors of its own, such as copies and layers without a
            name.
        unused: Other names in the cache that the model does not have.
        weights: How its weights are quantized, where `layers` of `quantize` say nothing else.
        layer_scales: The scale of the activation that each quantized operator takes.
        several: Activations with a pair for each of several ranges.
        remarks: Further notes.
        configured: By layer, what a configuration made of it, as `engines.build.layer_plan.LayerPlan.described` tells;
            None without one.
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
    layer_scales: Mapping[str, float] = field(default_factory=dict)
    several: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    configured: Mapping[str, Mapping[str, Any]] | None = None

    def rows(self) -> list[Row]:
        """A row an operator that is quantized or could be, with the scale of its activation, or why it is in float."""
        scales = self.layer_scales
        rows: list[Row] = [
            {"layer": name, "int8": True, "scale": scales.get(name), "why": ""} for name in self.quantized
        ]
        return rows + [
            {"layer": name, "int8": False, "scale": None, "why": why} for name, why in self.left_float.items()
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not simply as the cache has it, one line each; what stays in float is told by `left_float`."""
        told = (
            (
                self.from_sidecar,
                "{} scale(s), such as {}'s, finer than the cache's (kept in its side-car): TensorRT's caches repeat "
                "a tensor's scale behind an average pooling and for small parts of it, which Q/DQ nodes need not",
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
            (self.several, OWN_PAIRS),
        )
        return (*self.remarks, *(line.format(len(names), names[0]) for names, line in told if names))


def quantize(
    model: ModelSource,
    cache: Mapping[str, float],
    *,
    weights: WeightMethod = "absmax",
    granularity: str = "channel",
    layers: Mapping[str, LayerChoice] | None = None,
    caches: Mapping[str, Mapping[str, float]] | None = None,
) -> QuantizedModel:
    """Write a cache's scales into a model as Q/DQ nodes.

    Args:
        model: A float model, as a path or in memory.
        cache: Scales by tensor name, such as a `CalibrationCache`.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: What of a weight shares a scale: "channel", an output channel, as TensorRT wants it; "tensor", all
            of it; "block:N", N neighbours along the axis that MatMul or Gemm sums over, for ONNX Runtime. For blocks
            the model's opset is raised to 21.
        layers: By label (`engines.graph.operators.label`), the layers that are quantized otherwise, or stay in float.
            Small matrix products (`engines.qdq.placement.is_small`) stay in float unless they are among these.
        caches: By label, the cache that the layer's activation has its scale from, instead of `cache`. An activation
            that several layers read with several scales is quantized with each.

    Raises:
        ModelError: The model cannot be read, holds Q/DQ nodes already, or has no operator to quantize; or
            has a convolution, which takes no blocks.
        CacheError: The cache has a usable scale for none of the tensors that need one.
        RangeError: There is no such method or granularity.
    """
    options, choices = WeightOptions(weights, Granularity.parse(granularity)), dict(layers or {})
    blocks = any(_block_size(choice) is not None for choice in (options, *choices.values()))
    graph = prepared(model, opset=BLOCK_OPSET if blocks else LOWEST_OPSET)
    unproved = graph.meta.get(UNPROVED)
    plan = planned(graph)
    chosen = {site: choices.get(label(site.node), SMALL if site.small else options) for site in plan.sites}
    require_blocks_possible(site for site, choice in chosen.items() if _block_size(choice) is not None)
    light, given = ir.to_proto(graph), caches or {}
    main, own = ReadCache(cache, light), {id(each): ReadCache(each, light) for each in given.values()}
    # The tensor, and where its scale comes from: taken down now, as a site's own input changes when it is quantized.
    sources = {
        site: (site.tensor, own[id(given[label(site.node)])] if label(site.node) in given else main) for site in chosen
    }
    if not any(usable(source.scales.get(tensor)) for tensor, source in sources.values()):
        raise CacheError(none_usable(main.scales, [tensor for tensor, _ in sources.values()]))
    pairs, read, left = Pairs(graph.graph), dict[Site, float](), dict(plan.left)
    for site, choice in chosen.items():
        name, (tensor, source) = label(site.node), sources[site]
        scale = source.scales.get(tensor)
        if isinstance(choice, str):
            left[name] = choice
        elif scale is None or not usable(scale):
            left[name] = f"its input {tensor} has {unusable(scale)}"
        else:
            activation = Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32))
            levels = None if site.weight is None else site_weight(site, choice, activation)
            pairs.activation(site, activation)
            if levels is not None:
                pairs.weight(site, *levels)
            read[site] = scale
    if not read:
        raise ModelError(
            f"every layer stays in float ({len(left)}, such as {next(iter(left))}, for {next(iter(left.values()))}): "
            "quantize one at least, or build the float model with --precision fp16"
        )
    common.TopologicalSortPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    ir.external_data.load_to_model(graph)
    others, scales = foreign(cache, loaded(model).graph), dict[str, list[float]]()
    for site, scale in read.items():
        scales.setdefault(sources[site][0], []).append(scale)
    used = [sources[site] for site in read]
    return QuantizedModel(
        ir.to_proto(graph),
        {tensor: found[0] for tensor, found in scales.items()},
        tuple(label(site.node) for site in read),
        left,
        from_sidecar=_once(tensor for tensor, source in used if tensor in source.explicit),
        shared=_once(tensor for tensor, source in used if source.is_shared(tensor)),
        averaged=_once(tensor for tensor, source in used if tensor in source.averaged),
        internal=tuple(name for name, internal in others.items() if internal),
        unused=tuple(name for name, internal in others.items() if not internal),
        weights=options,
        layer_scales={label(site.node): scale for site, scale in read.items()},
        several=tuple(tensor for tensor, found in scales.items() if len(set(found)) > 1),
        remarks=(
            *(BLOCKS_NOTE.format(size) for size in sorted({_block_size(chosen[site]) or 0 for site in read}) if size),
            *([UNPROVED_NOTE.format(unproved)] if unproved else []),
            *widening_notes(graph),
            *(f"the model is written {line}" for line in plain_source(model)[1]),
        ),
    )


def _block_size(choice: LayerChoice) -> int | None:
    if isinstance(choice, str):
        return None
    return choice.granularity.block_size if isinstance(choice, WeightOptions) else choice.block_size


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def quantizable_tensors(model: ModelSource, *, light: bool = False) -> tuple[str, ...]:
    """The activations that `quantize` needs a scale for, in topological order.

    Args:
        model: An FP32 model, as a path or in memory.
        light: Leave its weights in their file, and do not have it checked: it was already.

    Raises:
        ModelError: As `quantize` raises it.
    """
    return tuple(dict.fromkeys(site.tensor for site in planned(prepared(model, light=light)).sites))


def save(quantized: QuantizedModel, path: str | os.PathLike[str]) -> None:
    """Check the model and write it, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
        ModelError: As `engines.qdq.save.saving`.
    """
    with saving(path, quantized.model):
        pass
