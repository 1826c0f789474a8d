"""Dynamic quantization: INT8 weights, and the ranges of activations found anew whenever the model runs.

It needs no calibration, and it is for ONNX Runtime: TensorRT has no dynamic INT8.

1. A Conv, Gemm or MatMul with constant FP32 weights becomes a ConvInteger or MatMulInteger of UINT8 activations and
   INT8 weights, whose INT32 sums are cast to float and multiplied by both scales; a bias is added behind in float.
2. An activation is quantized by one DynamicQuantizeLinear, whoever reads it: from its least to its largest value, 0
   included, over all samples of a batch. So a sample's result depends a little on the others in its batch.
3. Weights are symmetric, with a scale per output channel or one.
4. Everything else stays in float: ConvTranspose, which ONNX has not on integers, products of two activations, and what
   could overflow INT32.

By its documentation, ONNX Runtime adds pairs of products in 16 bits on x86 processors without VNNI (before about 2019),
which saturates where large activations meet large weights: accuracy measured elsewhere need not hold there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from calibrators.errors import ModelError, RangeError
from calibrators.tabular import Row, Tabular
from calibrators.weights import WeightMethod
from engines.graph.model import ModelSource
from engines.graph.operators import CONVOLUTIONS, WEIGHTED, label
from engines.graph.writer import GraphWriter
from engines.passes.prepare import prepared, widening_notes
from engines.qdq.placement import Site, planned
from engines.qdq.read import NO_DYNAMIC
from engines.qdq.weights import Granularity, WeightOptions, site_weight

FOR_ONNX_RUNTIME = (
    f"this model is for ONNX Runtime: {NO_DYNAMIC}, and trtcal build refuses it; for TensorRT calibrate, and quantize "
    "with --cache"
)

LARGEST_SUM = 2**31 - 1
"""Of INT32."""

LARGEST_ACTIVATION = 255
"""Of UINT8, and of its distance to any zero point."""


@dataclass(frozen=True, slots=True)
class DynamicModel(Tabular):
    """A dynamically quantized model, and an account of it.

    Attributes:
        model: The model; its weights are int8 where they are quantized.
        activations: The tensors that are quantized at run time.
        quantized: Labels of the operators that compute on integers.
        left_float: Label of each weighted operator that stays in float -> why.
        weights: How its weights are quantized.
        remarks: Further notes.
    """

    model: onnx.ModelProto
    activations: tuple[str, ...]
    quantized: tuple[str, ...]
    left_float: Mapping[str, str]
    weights: WeightOptions
    remarks: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """A row an operator that is quantized or could be, with why it is in float."""
        rows: list[Row] = [{"layer": name, "int8": True, "why": ""} for name in self.quantized]
        return rows + [{"layer": name, "int8": False, "why": why} for name, why in self.left_float.items()]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know of it, one line each; what stays in float is told by `left_float`."""
        return (FOR_ONNX_RUNTIME, *self.remarks)


def quantize_dynamic(
    model: ModelSource, *, weights: WeightMethod = "absmax", granularity: str = "channel"
) -> DynamicModel:
    """Quantize weights to INT8, and have activations quantized when the model runs.

    Args:
        model: A float model, as a path or in memory.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: "channel", a scale per output channel, or "tensor", one per weight.

    Raises:
        ModelError: The model cannot be read, is quantized already, or has no operator to quantize.
        RangeError: There is no such method or granularity; blocks are none here.
    """
    options = WeightOptions(weights, Granularity.parse(granularity))
    if options.granularity.kind == "block":
        raise RangeError(
            "ONNX's products of integers take no scales by blocks: choose channel or tensor, or quantize with a cache"
        )
    graph = prepared(model)
    plan = planned(graph)
    writer = _Integers(graph.graph, options)
    quantized, left = list[str](), dict(plan.left)
    for site in plan.sites:
        if site.weight is None:
            continue
        why = writer.write(site)
        if why:
            left[label(site.node)] = why
        else:
            quantized.append(label(site.node))
    if not quantized:
        name, why = next(iter(left.items()))
        raise ModelError(f"the model has no layer to quantize dynamically; {name} is not one, for {why}")
    common.RemoveUnusedNodesPass()(graph)
    ir.external_data.load_to_model(graph)
    made = ir.to_proto(graph)
    return DynamicModel(made, tuple(writer.activations), tuple(quantized), left, options, widening_notes(graph))


@dataclass(frozen=True, slots=True)
class _Activation:
    """What a DynamicQuantizeLinear gives: levels, and their scale and zero point."""

    levels: ir.Value
    scale: ir.Value
    zero_point: ir.Value


class _Integers:
    """Puts products of integers in the place of float ones."""

    def __init__(self, graph: ir.Graph, options: WeightOptions) -> None:
        self.activations: dict[str, _Activation] = {}
        self._writer = GraphWriter(graph)
        self._options = options

    def write(self, site: Site) -> str:
        """Replace an operator; or say why it stays in float."""
        node = site.node
        if not WEIGHTED[node.op_type].integers:
            return f"ONNX has no {node.op_type} of integers"
        name, found, encoding = site_weight(site, self._options)
        if node.op_type not in CONVOLUTIONS and (site.activation != 0 or found.ndim != 2):
            return "its weight is no matrix on the right, the one form that is quantized dynamically"
        levels, scale = found.astype(np.int8), encoding.scale
        if node.op_type == "Gemm":
            scale = scale * np.float32(node.attributes.get_float("alpha", 1.0))
            levels = levels.T.copy() if node.attributes.get_int("transB", False) else levels
        if _largest_sum(levels, node.op_type) > LARGEST_SUM:
            return "its sums could overflow INT32"
        if node.op_type in CONVOLUTIONS and scale.ndim:
            scale = _along_channels(scale, levels.ndim)
        activation = self._activation(site)
        weight = self._writer.constant(f"{name}_quantized", levels)
        steps = self._writer.constant(f"{name}_scale", np.asarray(scale, np.float32))
        self._replace(node, self._product(node, activation, weight, steps))
        return ""

    def _activation(self, site: Site) -> _Activation:
        name = site.tensor
        if name not in self.activations:
            outputs = self._writer.node(
                "DynamicQuantizeLinear",
                [site.node.inputs[site.activation]],
                name=f"{name}_DynamicQuantizeLinear",
                outputs=[f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"],
                before=site.node,
            )
            self.activations[name] = _Activation(*outputs)
        return self.activations[name]

    def _product(self, node: ir.Node, activation: _Activation, weight: ir.Value, steps: ir.Value) -> ir.Value:
        """The product in float, bias included."""
        operator = WEIGHTED[node.op_type].integers
        kept = dict(node.attributes) if node.op_type in CONVOLUTIONS else {}
        sums = self._node(node, operator, [activation.levels, weight, activation.zero_point], "sums", kept)
        integers = sums.producer()
        if integers is not None and node.name:
            integers.name = node.name  # free: the node itself goes
        floats = self._node(node, "Cast", [sums], "floats", {"to": ir.AttrInt64("to", int(ir.DataType.FLOAT))})
        scale = self._node(node, "Mul", [activation.scale, steps], "scale")
        product = self._node(node, "Mul", [floats, scale], "scaled")
        bias = self._bias(node)
        return product if bias is None else self._node(node, "Add", [product, bias], "biased")

    def _bias(self, node: ir.Node) -> ir.Value | None:
        """What is added to the product: with axes for a convolution's pixels, and Gemm's factor in it."""
        bias, weight = node.inputs[2] if len(node.inputs) > 2 else None, node.inputs[1]
        if bias is None or weight is None or weight.const_value is None:
            return None
        if node.op_type in CONVOLUTIONS:
            rank = len(weight.const_value.shape)
            shape = self._writer.constant(f"axes_of_{rank}", np.array([-1, *[1] * (rank - 2)], np.int64))
            return self._node(node, "Reshape", [bias, shape], "bias")
        beta = node.attributes.get_float("beta", 1.0)
        if beta == 1.0:
            return bias
        return self._node(node, "Mul", [bias, self._writer.constant("beta", np.asarray(beta, np.float32))], "bias")

    def _node(
        self,
        node: ir.Node,
        operator: str,
        inputs: list[ir.Value],
        role: str,
        attributes: Mapping[str, ir.Attr] | None = None,
    ) -> ir.Value:
        """Add a node before the one that is replaced; give its output."""
        output = node.outputs[0].name
        (made,) = self._writer.node(
            operator,
            inputs,
            name=f"{node.name or output}_{operator}_{role}",
            outputs=[f"{output}_{role}"],
            before=node,
            attributes=attributes,
        )
        return made

    def _replace(self, node: ir.Node, result: ir.Value) -> None:
        """Let readers of a node's output, and the model's, have the result under the same name."""
        producer = result.producer()
        assert producer is not None
        ir.convenience.replace_nodes_and_values(self._writer.graph, producer, [node], [], [node.outputs[0]], [result])


def _largest_sum(levels: npt.NDArray[np.int8], operator: str) -> int:
    """The largest magnitude that a product with these weights can have: `[K, N]`, or channels first."""
    others = tuple(range(1, levels.ndim)) if operator in CONVOLUTIONS else (0,)
    return LARGEST_ACTIVATION * int(np.abs(levels.astype(np.int64)).sum(axis=others).max(initial=0))


def _along_channels(scale: npt.NDArray[np.float32], rank: int) -> npt.NDArray[np.float32]:
    return scale.reshape(-1, *[1] * (rank - 2))
