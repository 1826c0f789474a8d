"""A Q/DQ model as the float model that it simulates: each pair is an Identity, and weights are floats."""

from typing import TYPE_CHECKING

from engines.passes.float_weights import with_float_weights

if TYPE_CHECKING:
    import onnx


def without_quantizers(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Take the pairs out of a model; `model` itself is not changed.

    Weights come back as the levels say, rounded. A DequantizeLinear of anything but a QuantizeLinear or INT8 weights
    stays.
    """
    import onnx

    floats = onnx.ModelProto()
    floats.CopyFrom(with_float_weights(model))
    nodes = floats.graph.node
    quantized = {node.output[0]: node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized:
            source = quantized[node.input[0]]
            node.op_type = "Identity"
            del node.input[:], node.attribute[:]
            node.input.append(source)
    read = {name for node in nodes for name in node.input} | {value.name for value in floats.graph.output}
    kept = [node for node in nodes if node.op_type != "QuantizeLinear" or node.output[0] in read]
    del floats.graph.node[:]
    floats.graph.node.extend(kept)
    return floats
