"""The Q/DQ models of many calibration caches: written once, only what differs is put in again.

They say in float what ONNX Runtime's integer kernels compute, the rounding of biases to INT32 included, so that a
session that computes them literally gives what one with integer kernels does, but for rounding in float. That is
several times as fast on processors without instructions for INT8, and does not depend on the batch size.

Scales and biases could be inputs of one model, which a session is fed (ONNX Runtime folds no initializer that is an
input too). But it (1.32) lays out convolutions for the processor's vectors only where biases are constants: such a
session takes 1.2 to 4 times as long to run, more than opening one for each cache.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from calibrators.cache.text import CalibrationCache, usable
from calibrators.encoding import Encoding
from calibrators.errors import CacheError
from engines.graph.model import ModelSource
from engines.graph.operators import label
from engines.qdq import write as qdq
from engines.qdq.cache_scales import ReadCache, none_usable, unusable
from engines.qdq.placement import SMALL
from engines.qdq.read import DEQUANTIZE, QUANTIZE
from engines.qdq.weights import WeightOptions
from engines.simulation.simulated_model import LayerForm, Simulation

Floats = npt.NDArray[np.float32]

_ROUNDED = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose biases ONNX Runtime (1.32) rounds to INT32 between Q/DQ nodes."""

_BETWEEN = ("Relu", "Clip", "LeakyRelu", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice")
"""What may stand between such an operator and the QuantizeLinear behind it."""


@dataclass(frozen=True, slots=True)
class Rescaled:
    """A Q/DQ model whose constants are those of any of some caches.

    Attributes:
        constants: By cache, arrays by initializer: the scale of each quantized activation, of shape (), and each bias
            that integer kernels would round to INT32, as the multiple of scale x weight scale that it is rounded to.
        left_float: Label of each weighted operator or residual Add that stays in float -> why.
    """

    constants: Mapping[str, Mapping[str, Floats]]
    left_float: Mapping[str, str]
    _model: onnx.ModelProto

    def of(self, cache: str) -> onnx.ModelProto:
        """The model of a cache: the same object for all, whose constants are changed, as its weights may be large."""
        values = self.constants[cache]
        for each in self._model.graph.initializer:
            if each.name in values:
                each.CopyFrom(numpy_helper.from_array(values[each.name], each.name))
        return self._model


@dataclass(slots=True)
class _Plan:
    """What a cache makes of a model: the forms of its layers, and why others stay in float."""

    forms: dict[str, LayerForm] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def is_written_as(self, other: "_Plan") -> bool:
        """Whether both are the same nodes on the same integer weights."""
        return self.left == other.left and all(
            form.weight is theirs.weight or form.weight == theirs.weight
            for form, theirs in zip(self.forms.values(), other.forms.values(), strict=True)
        )


def rescaled(model: ModelSource, caches: Mapping[str, CalibrationCache]) -> list[Rescaled]:
    """As few models as do for some caches: one, where each has a usable scale for the same tensors.

    Weights are as `engines.qdq.write.quantize` has them by default, their room for biases included: where that differs
    from one cache to another, so do the models.

    Args:
        model: An FP32 model, as a path or in memory.
        caches: By any name.

    Raises:
        CacheError: A cache has a usable scale for no tensor that needs one.
        ModelError: As `engines.qdq.write.quantize` raises it.
    """
    simulation = Simulation(model)
    weights: dict[str, Encoding] = {}
    groups: list[dict[str, _Plan]] = []
    for name, cache in caches.items():
        plan = _planned(simulation, ReadCache(cache, simulation.floats).scales, weights)
        if not plan.forms:
            qdq.quantize(model, cache)  # refuses it, and says why
        alike = next((each for each in groups if plan.is_written_as(next(iter(each.values())))), None)
        if alike is None:
            groups.append({name: plan})
        else:
            alike[name] = plan
    return [_rescaled(simulation, plans) for plans in groups]


def _planned(simulation: Simulation, scales: Mapping[str, float], weights: dict[str, Encoding]) -> _Plan:
    plan = _Plan(left=dict(simulation.left))
    if not any(usable(scales.get(layer.activation)) for layer in simulation.layers):
        raise CacheError(none_usable(scales, [layer.activation for layer in simulation.layers]))
    for layer in simulation.layers:
        scale = scales.get(layer.activation)
        if layer.small:
            plan.left[layer.name] = SMALL
        elif scale is None or not usable(scale):
            plan.left[layer.name] = f"its input {layer.activation} has {unusable(scale)}"
        else:
            activation, weight = Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32)), None
            if layer.weight is not None:
                if layer.name not in weights:
                    weights[layer.name] = simulation.weight_encoding(layer.name, WeightOptions())
                weight = simulation.with_room(layer.name, weights[layer.name], activation)
            plan.forms[layer.name] = LayerForm(activation, weight)
    return plan


def _rescaled(simulation: Simulation, plans: Mapping[str, _Plan]) -> Rescaled:
    """Write the model of the first plan, and name what differs in those of the others."""
    first = next(iter(plans.values()))
    model = simulation.version(first.forms)
    scales, biases = _scales(model, first), dict(_biases(model, first))
    constants: dict[str, dict[str, Floats]] = {}
    for name, plan in plans.items():
        activations = {layer: _scale(form.activation) for layer, form in plan.forms.items()}
        constants[name] = {tensor: activations[layer] for layer, tensor in scales.items()} | {
            tensor: _on_steps(bias, activations[layer] * _scale(plan.forms[layer].weight))
            for layer, (tensor, bias) in biases.items()
        }
    model.graph.initializer.extend(onnx.TensorProto(name=tensor) for tensor, _ in biases.values())
    return Rescaled(constants, first.left, model)


def _scale(encoding: Encoding | None) -> Floats:
    assert encoding is not None
    return np.asarray(encoding.scale, np.float32)


def _scales(model: onnx.ModelProto, plan: _Plan) -> dict[str, str]:
    """By layer, the name of its activation's scale."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        for name in node.input if label(node) in plan.forms else ():
            maker = makers.get(name)
            if maker is not None and maker.op_type == DEQUANTIZE and maker.input[0] in makers:
                found[label(node)] = maker.input[1]
    return found


def _biases(model: onnx.ModelProto, plan: _Plan) -> Iterator[tuple[str, tuple[str, Floats]]]:
    """By layer, the name of a bias of its own, that is put in the place of the model's, and its values.

    Those between Q/DQ nodes alone: ONNX Runtime computes an operator whose result is not quantized in float.
    """
    constants = {each.name: each for each in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        form = plan.forms.get(label(node))
        if form is None or node.op_type not in _ROUNDED or len(node.input) < 3 or node.input[2] not in constants:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]])
        fits = form.weight is not None and bias.ndim == 1 and form.weight.scale.size in (1, bias.size)
        if fits and bias.dtype == np.float32 and _is_quantized(node.output[0], readers):
            node.input[2] = _free(f"{node.output[0]}_bias_in_steps", {*constants, *readers, *_made(model)})
            yield label(node), (node.input[2], bias)


def _made(model: onnx.ModelProto) -> Iterator[str]:
    return (name for node in model.graph.node for name in node.output)


def _free(name: str, taken: set[str]) -> str:
    return _free(f"{name}_", taken) if name in taken else name


def _is_quantized(tensor: str, readers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Whether all that is made of a tensor is its levels, behind operators of `_BETWEEN` or not."""
    found = readers.get(tensor, [])
    if found and all(each.op_type == QUANTIZE and each.input[0] == tensor for each in found):
        return True
    only = found[0] if len(found) == 1 else None
    return only is not None and only.op_type in _BETWEEN and _is_quantized(only.output[0], readers)


def _on_steps(bias: Floats, step: Floats) -> Floats:
    return np.asarray(np.rint(bias / step) * step, np.float32)
