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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.cache import CalibrationCache, usable
from calibrators.cache_check import is_internal
from calibrators.errors import CacheError, ModelError, RangeError
from calibrators.files import write_whole
from calibrators.weights import weight_encoding
from engines.graph import AVERAGES, COMMUTES, ModelSource, loaded, scale_groups
from engines.passes.prepare import prepared
from engines.placement import Site, label, planned

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


def quantize(model: ModelSource, cache: Mapping[str, float]) -> QuantizedModel:
    """Write a cache's scales into a model as Q/DQ nodes.

    Args:
        model: An FP32 model, as a path or in memory.
        cache: Scales by tensor name, such as a `CalibrationCache`.

    Raises:
        ModelError: The model cannot be read, holds Q/DQ nodes already, is not FP32, or has no operator to quantize.
        CacheError: The cache has a usable scale for none of the tensors that need one.
    """
    graph = prepared(model)
    plan = planned(graph)
    light = ir.to_proto(graph)
    scales = shared_scales(cache, light)
    wanted = [site.tensor for site in plan.sites]
    if not any(usable(scales.get(name)) for name in wanted):
        raise CacheError(_of_no_use(scales, wanted))
    writer = _Writer(graph.graph)
    quantized, left = list[str](), dict(plan.left)
    for site, tensor in zip(plan.sites, wanted, strict=True):
        scale = scales.get(tensor)
        if scale is not None and usable(scale):
            writer.write(site, scale)
            quantized.append(label(site.node))
        else:
            left[label(site.node)] = f"its input {tensor} has {_unusable(scale)}"
    common.TopologicalSortPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    ir.external_data.load_to_model(graph)
    explicit = cache.sidecar.explicit if isinstance(cache, CalibrationCache) and cache.sidecar is not None else {}
    foreign = _foreign(cache, loaded(model).graph)
    return QuantizedModel(
        ir.to_proto(graph),
        writer.scales,
        tuple(quantized),
        left,
        from_sidecar=tuple(name for name in writer.scales if name in explicit),
        shared=tuple(
            name for name, scale in writer.scales.items() if name not in explicit and cache.get(name) != scale
        ),
        averaged=tuple(name for name in _averaged(light, scales) if name in writer.scales and name not in explicit),
        internal=tuple(name for name, internal in foreign.items() if internal),
        unused=tuple(name for name, internal in foreign.items() if not internal),
    )


def quantizable_tensors(model: ModelSource) -> tuple[str, ...]:
    """The activations that `quantize` needs a scale for, in topological order.

    Raises:
        ModelError: As `quantize` raises it.
    """
    return tuple(dict.fromkeys(site.tensor for site in planned(prepared(model)).sites))


def checked_bytes(quantized: QuantizedModel) -> bytes:
    """The model's file, once the ONNX checker has found nothing wrong with it.

    Raises:
        ModelError: The checker refuses the model, or one file cannot hold it.
    """
    if quantized.model.ByteSize() > LARGEST_FILE:
        raise ModelError("the quantized model is over 2 GB, more than an ONNX file holds: quantize a smaller model")
    try:
        onnx.checker.check_model(quantized.model)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"the quantized model is not valid ({str(error).splitlines()[0]}): report the model"
        ) from error
    return bytes(quantized.model.SerializeToString())


def save(quantized: QuantizedModel, path: str | os.PathLike[str]) -> None:
    """Check the model and write it, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
        ModelError: As `checked_bytes`.
    """
    write_whole(path, checked_bytes(quantized))


def shared_scales(cache: Mapping[str, float], model: onnx.ModelProto) -> dict[str, float]:
    """The cache's scales, with one for each group of tensors that share it: the largest usable one of its sources."""
    scales = dict(cache)
    if isinstance(cache, CalibrationCache) and cache.sidecar is not None:
        scales.update(cache.sidecar.explicit)
    for group in scale_groups(model, through=COMMUTES):
        known = [scales[name] for name in group.sources if usable(scales.get(name))]
        known = known or [scales[name] for name in group.members if usable(scales.get(name))]
        if known:
            scales.update(dict.fromkeys(group.members, max(known)))
    return scales


def _averaged(model: onnx.ModelProto, scales: Mapping[str, float]) -> tuple[str, ...]:
    """Tensors that have the scale of what an average pooling reads, and are, or share one with, what it gives."""
    given = {
        node.output[0]
        for node in model.graph.node
        if node.op_type in AVERAGES
        and usable(scales.get(node.input[0]))
        and scales.get(node.input[0]) == scales.get(node.output[0])
    }
    groups = [
        group for group in scale_groups(model, through=COMMUTES) if given & set(group.sources) == set(group.sources)
    ]
    return tuple(dict.fromkeys([*sorted(given), *(name for group in groups for name in group.members)]))


def _of_no_use(scales: Mapping[str, float], wanted: Sequence[str]) -> str:
    """Why no tensor to quantize has a usable scale."""
    tensors = list(dict.fromkeys(wanted))
    known = {name: scales[name] for name in tensors if name in scales}
    if known and not any(known.values()):
        return (
            f"the cache's scale is zero for every tensor to quantize that it lists ({len(known)} of {len(tensors)}, "
            f"such as {next(iter(known))}): the calibration saw nothing but zeros; calibrate on real images, with the "
            "preprocessing that the model was trained with"
        )
    return (
        f"the cache has a usable scale for none of the {len(tensors)} tensors to quantize, such as {tensors[0]}: "
        "it belongs to another model, or is empty; calibrate this model"
    )


def _foreign(cache: Mapping[str, float], graph: onnx.GraphProto) -> dict[str, bool]:
    """The cache's names that are no tensor of the model, and whether TensorRT made them."""
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    known = tensors | {node.name for node in graph.node}
    return {name: is_internal(name, known) for name in cache if name not in tensors}


def _unusable(scale: float | None) -> str:
    if scale is None:
        return "no scale in the cache"
    return "scale 0 in the cache: it was always zero" if scale == 0 else f"the scale {scale:g} in the cache"


class _Writer:
    """Puts the pairs into a graph: one QuantizeLinear per activation, one DequantizeLinear per reader."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.scales: dict[str, float] = {}
        self._quantized: dict[str, ir.Value] = {}
        self._constants: dict[str, list[tuple[npt.NDArray[np.generic], ir.Value]]] = {}
        self._taken: set[str | None] = {*graph.initializers, *(value.name for value in graph.inputs)}
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self._taken |= {node.name, *(value.name for value in node.outputs)}
            if node.graph is not graph and node.graph is not None:
                self._taken |= {*node.graph.initializers, *(value.name for value in node.graph.inputs)}

    def write(self, site: Site, scale: float) -> None:
        """Quantize an operator's activation, and its weight where it has one."""
        name, step = site.tensor, np.asarray(scale, np.float32)
        if name not in self._quantized:
            tensor = site.node.inputs[site.activation]
            self._quantized[name] = self._node("QuantizeLinear", tensor, name, step, None, site.node)
            self.scales[name] = scale
        activation = self._node("DequantizeLinear", self._quantized[name], name, step, None, site.node)
        weight = self._weight(site) if site.weight is not None else None
        site.node.replace_input_with(site.activation, activation)
        if weight is not None and site.weight is not None:
            site.node.replace_input_with(site.weight.input, weight)

    def _weight(self, site: Site) -> ir.Value:
        """The int8 weight of a site, dequantized."""
        assert site.weight is not None
        weight = site.node.inputs[site.weight.input]
        assert weight is not None and weight.const_value is not None and weight.name is not None
        floats = weight.const_value.numpy()
        try:
            encoding = weight_encoding(floats, axis=site.weight.axis)
        except RangeError as error:
            raise ModelError(f"{weight.name}, the weight of {label(site.node)}: {error}") from None
        levels = self._constant(f"{weight.name}_quantized", encoding.quantize(floats).astype(np.int8))
        return self._node("DequantizeLinear", levels, weight.name, encoding.scale, encoding.axis, site.node)

    def _node(
        self,
        operator: str,
        value: ir.Value | None,
        name: str,
        scale: npt.NDArray[np.float32],
        axis: int | None,
        reader: ir.Node,
    ) -> ir.Value:
        """Add a QuantizeLinear or DequantizeLinear before its reader; give its output."""
        step = self._constant(f"{name}_scale", scale)
        zero_point = self._constant(f"{name}_zero_point", np.zeros(scale.shape, np.int8))
        node = ir.node(
            operator,
            [value, step, zero_point],
            attributes={} if axis is None else {"axis": axis},
            name=self._free(f"{name}_{operator}"),
        )
        node.outputs[0].name = self._free(f"{name}_{'quantized' if operator == 'QuantizeLinear' else 'dequantized'}")
        self.graph.insert_before(reader, node)
        return node.outputs[0]

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer; the same one where it was made before for the same tensor."""
        for made, known in self._constants.setdefault(name, []):
            if np.array_equal(made, array):
                return known
        value = ir.Value(name=self._free(name), const_value=ir.tensor(array, name=name))
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self.graph.register_initializer(value)
        self._constants[name].append((array, value))
        return value

    def _free(self, name: str) -> str:
        """A name that nothing in the graph has yet."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate
