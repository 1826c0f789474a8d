"""Simulated quantization: versions of a float model in which any layers compute on integers or in FP16.

What is simulated is what `engines.qdq.write` writes: the same sites, the same nodes. A version with every layer in
INT8, as TensorRT has it, is the Q/DQ model itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError
from engines.graph.model import ModelSource
from engines.graph.operators import CONVOLUTIONS, label, summed_axis
from engines.passes.opset import LOWEST_OPSET
from engines.passes.prepare import prepared
from engines.qdq.biases import with_room_for_bias
from engines.qdq.insert import WIDE_OPSET, Levels, Pairs
from engines.qdq.placement import Site, planned
from engines.qdq.weights import BLOCK_OPSET, WeightOptions, site_weight

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that can be quantized: an operator with constant weights, or the skip input of a residual addition.

    Attributes:
        name: The node's label (`engines.graph.operators.label`).
        type: Its operator.
        activation: The tensor that it reads.
        output: The tensor that it gives.
        weight: The name of its weight; None for a skip input.
        shape: The weight's; () for a skip input.
        axis: The weight's output channels; None for a skip input.
        partner: Of a skip input: the name of the convolution that the addition is fused into.
        small: Whether it is a product that stays in float unless a configuration asks for it.
    """

    name: str
    type: str
    activation: str
    output: str
    weight: str | None = None
    shape: tuple[int, ...] = ()
    axis: int | None = None
    partner: str | None = None
    small: bool = False

    @property
    def left(self) -> bool:
        """Whether its weight is the left operand of a product: then channels are on the last axis but one."""
        return self.type == "MatMul" and self.axis == len(self.shape) - 2

    @property
    def summed(self) -> int:
        """The axis of its weight that it sums over."""
        assert self.axis is not None
        return summed_axis(self.axis, len(self.shape), convolves=self.type in CONVOLUTIONS)


@dataclass(frozen=True, slots=True)
class LayerForm:
    """How a layer's operands reach it.

    Attributes:
        activation: Through this encoding; None leaves it in float.
        weight: Likewise; None where there is none.
        half: What is left in float is rounded to FP16.
    """

    activation: Encoding | None = None
    weight: Encoding | None = None
    half: bool = False


FLOAT = LayerForm()
"""As it is."""


class Simulation:
    """A float model of which versions are made; it is read and prepared once.

    Args:
        model: An FP32 model, as a path or in memory.

    Attributes:
        layers: What can be quantized, in topological order.
        left: The label of each weighted operator that stays in float -> why.
        floats: The prepared float model: functions inlined, batch normalization folded. Its tensors keep their names.

    Raises:
        ModelError: As `engines.qdq.write.quantize` raises it.
    """

    def __init__(self, model: ModelSource) -> None:
        self._model = model
        graph = prepared(model)
        plan = planned(graph)
        ir.external_data.load_to_model(graph)
        self._sites = {label(site.node): site for site in plan.sites}
        self._levels: dict[str, tuple[Encoding, Levels]] = {}
        self.layers = tuple(map(layer_of, plan.sites))
        self.left = plan.left
        self.floats = ir.to_proto(graph)
        self._prepared = {LOWEST_OPSET: self.floats}

    def weight(self, name: str) -> Floats:
        """The float weight of the layer of that name; of float32 or float64, as the model has it.

        Raises:
            ModelError: There is no such layer, or it has no weight.
        """
        site = self._site(name)
        value = None if site.weight is None else site.node.inputs[site.weight.input]
        if value is None or value.const_value is None:
            raise ModelError(f"{name} has no weight: it is an addition, of which one input can be quantized")
        return np.asarray(value.const_value.numpy())

    def weight_encoding(self, name: str, options: WeightOptions) -> Encoding:
        """The encoding that options give the weight of the layer of that name.

        Raises:
            ModelError: There is no such layer, it has no weight, or its weight holds what is no number.
        """
        self.weight(name)
        return site_weight(self._site(name), options)[2]

    def with_room(self, name: str, encoding: Encoding, activation: Encoding) -> Encoding:
        """The encoding that a layer's weight has beside a quantized activation: `with_room_for_bias`.

        Raises:
            ModelError: There is no such layer.
        """
        return with_room_for_bias(self._site(name).node, encoding, activation)

    def version(self, forms: Mapping[str, LayerForm], *, outputs: Sequence[str] = ()) -> onnx.ModelProto:
        """The model with some layers in another form.

        Args:
            forms: By layer name; layers that are not named are left in float.
            outputs: Tensors of the float model to give as outputs too.

        Raises:
            ModelError: There is no layer of a name, or an encoding does not fit the weight.
        """
        for name in forms:
            self._site(name)
        graph = ir.from_proto(self.floats_for(forms))
        pairs = Pairs(graph.graph)
        for site in planned(graph).sites:
            self._write(pairs, site, forms.get(label(site.node), FLOAT))
        common.TopologicalSortPass()(graph)
        common.RemoveUnusedNodesPass()(graph)
        model = ir.to_proto(graph)
        known = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in known)
        return model

    def floats_for(self, forms: Mapping[str, LayerForm]) -> onnx.ModelProto:
        """The prepared float model of an opset that has what the forms need."""
        wide = any(form.activation is not None and form.activation.grid.bits > 8 for form in forms.values())
        blocks = any(form.weight is not None and form.weight.block_size is not None for form in forms.values())
        return self._at(WIDE_OPSET if wide else BLOCK_OPSET if blocks else LOWEST_OPSET)

    def version_of(
        self, part: onnx.ModelProto, forms: Mapping[str, LayerForm], also: Mapping[str, Encoding]
    ) -> onnx.ModelProto:
        """A stretch of `floats_for(forms)`, as `engines.simulation.segments` cuts it, with its layers in their forms.

        Args:
            part: The stretch.
            forms: By layer name.
            also: By their names: nodes that are no layers, and what their first input is quantized with.

        Raises:
            ModelError: An encoding does not fit the weight.
        """
        graph = ir.from_proto(part)
        pairs = Pairs(graph.graph)
        for node in tuple(graph.graph):
            if (form := forms.get(label(node), FLOAT)) != FLOAT:
                self._write(pairs, replace(self._site(label(node)), node=node), form)
            elif (encoding := also.get(node.name or "")) is not None:
                pairs.activation(Site(node, 0), encoding)
        common.TopologicalSortPass()(graph)
        common.RemoveUnusedNodesPass()(graph)
        return ir.to_proto(graph)

    def _write(self, pairs: Pairs, site: Site, form: LayerForm) -> None:
        if form.half:
            pairs.half(site)
        if form.activation is not None:
            pairs.activation(site, form.activation)
            if form.weight is None:
                pairs.keep_weight(site)
        if form.weight is not None:
            weight = form.weight
            if form.activation is not None:
                weight = with_room_for_bias(self._site(label(site.node)).node, weight, form.activation)
            pairs.weight(site, _weight_name(site), self._levels_of(label(site.node), weight), weight)

    def _levels_of(self, name: str, encoding: Encoding) -> Levels:
        known = self._levels.get(name)
        if known is None or known[0] != encoding:
            try:
                known = encoding, encoding.quantize(self.weight(name))
            except RangeError as error:
                raise ModelError(f"the encoding of {name}'s weight does not fit it: {error}") from None
            self._levels[name] = known
        return known[1]

    def _at(self, opset: int) -> onnx.ModelProto:
        if opset not in self._prepared:
            graph = prepared(self._model, opset=opset)
            ir.external_data.load_to_model(graph)
            self._prepared[opset] = ir.to_proto(graph)
        return self._prepared[opset]

    def _site(self, name: str) -> Site:
        if name not in self._sites:
            raise ModelError(
                f"the model has no layer {name} to quantize: trtcal inspect MODEL.onnx lists its operators"
            )
        return self._sites[name]


def layer_of(site: Site) -> Layer:
    """What is told of a site."""
    node = site.node
    name, kind, output = label(node), node.op_type, str(node.outputs[0].name)
    if site.weight is None:
        return Layer(name, kind, site.tensor, output, partner=None if site.partner is None else label(site.partner))
    value = node.inputs[site.weight.input]
    assert value is not None and value.const_value is not None
    shape = tuple(value.const_value.shape.numpy())
    return Layer(name, kind, site.tensor, output, _weight_name(site), shape, site.weight.axis, small=site.small)


def _weight_name(site: Site) -> str:
    assert site.weight is not None
    value = site.node.inputs[site.weight.input]
    assert value is not None and value.name is not None
    return value.name
