"""The layers of a float or Q/DQ model that can be quantized, by the names that they have in both."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from engines.graph import model as models
from engines.graph.model import ModelSource
from engines.passes.prepare import prepared, quiet
from engines.qdq.placement import planned
from engines.qdq.read import DEQUANTIZE, QUANTIZE
from engines.simulation.simulated_model import Layer, layer_of


def layers_of(model: ModelSource) -> tuple[Layer, ...]:
    """What can be quantized, or is, in topological order; large weights are not read.

    Args:
        model: A path, or a model in memory; one with Q/DQ nodes has the layers of the float model that it was made of.

    Raises:
        ModelError: The model cannot be read, is FP16, or has no operator to quantize.
    """
    light = models.loaded(model)
    graph = _float_view(light) if models.is_quantized(light) else prepared(model, light=True)
    return tuple(map(layer_of, planned(graph).sites))


def _float_view(model: onnx.ModelProto) -> ir.Model:
    """The graph without its Q/DQ nodes, with zeros for the weights that they dequantize."""
    view = ir.from_proto(model)
    with quiet():
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(view)
        common.ShapeInferencePass()(view)
    for node in tuple(view.graph):
        source = node.inputs[0] if node.op_type in (QUANTIZE, DEQUANTIZE) else None
        if source is None:
            continue
        if node.op_type == DEQUANTIZE and source.const_value is not None:
            source = _zeros(source.const_value)
        if node.outputs[0].is_graph_output():
            node.op_type = "Identity"
        else:
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            view.graph.remove(node, safe=True)
    return view


def _zeros(weight: ir.TensorProtocol) -> ir.Value:
    """A constant of a weight's shape, which nobody is going to read."""
    shape = weight.shape.numpy()
    numbers = ir.LazyTensor(
        lambda: ir.tensor(np.zeros(shape, np.float32)), dtype=ir.DataType.FLOAT, shape=ir.Shape(shape)
    )
    return ir.Value(name=f"{weight.name} in float", const_value=numbers)
