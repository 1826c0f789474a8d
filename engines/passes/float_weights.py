"""Weights of a Q/DQ model in float, quantized by a QuantizeLinear, instead of INT8 constants.

TensorRT 8 refuses INT8 constants ("invalid weights type of Int8", in the reports that users have filed); float ones
with Q and DQ nodes behind them are what its guide describes, and the builder folds them into the same INT8 weights. The
levels come out as they were: the quotient of level * scale by the scale is less than half a step from the level.

1. INT8 constant -> DequantizeLinear becomes float constant -> QuantizeLinear -> DequantizeLinear, with the scale, zero
   point (0, where it has none) and axis of the DequantizeLinear.
2. All else stays; so does blocked quantization (`block_size`), which TensorRT 8 has not.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def with_float_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Rewrite `model` by the rules above; `model` itself is not changed, and is what comes back where none applies."""
    import onnx_ir as ir
    from onnx_ir.passes import common

    graph_model = ir.serde.deserialize_model(model)
    graph = graph_model.graph
    found = [node for node in graph if node.op_type == "DequantizeLinear" and _is_weight(node)]
    if not found:
        return model
    taken = {value.name for node in graph for value in node.outputs} | set(graph.initializers)
    for node in found:
        levels, scale, zero = (*node.inputs, None)[:3]
        assert levels is not None and levels.name is not None
        constant = _constant(graph, _fresh(f"{levels.name}_float", taken), _floats(node))
        if zero is None:  # without one, QuantizeLinear gives UINT8
            numbers = ir.convenience.get_const_tensor(scale) if scale is not None else None
            assert numbers is not None  # `_is_weight` has asked
            zeros = np.zeros(numbers.shape.numpy(), np.int8)
            zero = _constant(graph, _fresh(f"{levels.name}_zero", taken), zeros)
        axis = {"axis": node.attributes["axis"].as_int()} if "axis" in node.attributes else {}
        name = _fresh(f"{levels.name}_levels", taken)
        quantizer = ir.node("QuantizeLinear", [constant, scale, zero], axis, name=name)
        quantizer.outputs[0].name = name
        graph.insert_before(node, quantizer)
        node.replace_input_with(0, quantizer.outputs[0])
    common.RemoveUnusedNodesPass()(graph_model)
    return ir.serde.serialize_model(graph_model)


def _is_weight(node: "ir.Node") -> bool:
    import onnx_ir as ir

    levels, scale = (ir.convenience.get_const_tensor(value) if value is not None else None for value in node.inputs[:2])
    blocked = "block_size" in node.attributes and node.attributes["block_size"].as_int() > 0
    return levels is not None and levels.dtype == ir.DataType.INT8 and scale is not None and not blocked


def _floats(node: "ir.Node") -> np.ndarray:
    """What `node` gives: (level - zero point) * scale, in the type of the scale."""
    import onnx_ir as ir

    constants = [ir.convenience.get_const_tensor(value) for value in node.inputs if value is not None]
    levels, scale, *zero = [tensor.numpy() for tensor in constants if tensor is not None]
    shape = [1] * levels.ndim
    if scale.size > 1:
        shape[node.attributes["axis"].as_int() if "axis" in node.attributes else 1] = scale.size
    centred = levels.astype(scale.dtype)
    if zero:
        centred = centred - zero[0].astype(scale.dtype).reshape(shape if zero[0].size > 1 else [1] * levels.ndim)
    return np.asarray(centred * scale.reshape(shape), scale.dtype)


def _constant(graph: "ir.Graph", name: str, numbers: np.ndarray) -> "ir.Value":
    import onnx_ir as ir

    value = ir.Value(name=name, const_value=ir.tensor(numbers, name=name))
    graph.register_initializer(value)
    return value


def _fresh(name: str, taken: "set[str | None]") -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
