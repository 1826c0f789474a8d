"""Networks of the world: doubles of tensors and layers made from an ONNX model."""

from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto

from tests.contract.doubles import Live, give, spec_of


@dataclass
class NetworkParts:
    """What a network is made of."""

    name: str = ""
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    layers: list[Any] = field(default_factory=list)
    quantized: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether an input has a size that is not fixed."""
        return any(-1 in tuple(tensor.shape) for tensor in self.inputs)


_TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.DOUBLE: "FLOAT",
}

_LAYERS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Relu": "ACTIVATION",
    "Sigmoid": "ACTIVATION",
    "Clip": "ACTIVATION",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "Resize": "RESIZE",
    "Shape": "SHAPE",
    "Constant": "CONSTANT",
    "Gather": "GATHER",
    "Cast": "CAST",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "BatchNormalization": "SCALE",
    "Attention": "ATTENTION_INPUT",
}


def parts_of(trt: Any, model: onnx.ModelProto) -> NetworkParts:
    """The network that the parser makes of a model, one layer for each node."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    parts = NetworkParts(name=graph.name)
    parts.inputs = [_tensor(trt, value, is_input=True) for value in graph.input if value.name not in constants]
    parts.outputs = [_tensor(trt, value, is_input=False) for value in graph.output]
    tensors = {tensor.name: tensor for tensor in (*parts.inputs, *parts.outputs)}
    for name in (name for node in graph.node for name in node.output if name and name not in tensors):
        tensors[name] = _double(trt, name, trt.float32, [], is_input=False, is_output=False)
    parts.layers = [_layer(trt, node, tensors) for node in graph.node]
    parts.quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node)
    return parts


def _tensor(trt: Any, value: onnx.ValueInfoProto, *, is_input: bool) -> Any:
    kind = value.type.tensor_type
    name = _TYPES[kind.elem_type]
    if not hasattr(trt.DataType, name):  # what TensorRT 8 has no type for comes as 32 bits
        name = "INT32" if name == "INT64" else "FLOAT"
    shape = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
    return _double(trt, value.name, getattr(trt.DataType, name), shape, is_input=is_input, is_output=not is_input)


def _double(trt: Any, name: str, dtype: Any, shape: list[int], *, is_input: bool, is_output: bool) -> Any:
    tensor = spec_of(trt.ITensor)
    give(
        tensor,
        lenient=True,
        name=name,
        dtype=dtype,
        shape=trt.Dims(shape),
        is_network_input=is_input,
        is_network_output=is_output,
        is_shape_tensor=False,
        is_execution_tensor=True,
        dynamic_range=None,
        location=trt.TensorLocation.DEVICE,
        allowed_formats=1,
    )
    if hasattr(trt.ITensor, "set_dynamic_range"):
        tensor.set_dynamic_range.side_effect = lambda min, max: give(tensor, dynamic_range=(min, max)) or True
    return tensor


def _layer(trt: Any, node: onnx.NodeProto, tensors: dict[str, Any]) -> Any:
    layer = spec_of(trt.ILayer)
    inputs = [tensors[name] for name in node.input if name in tensors]  # weights belong to the layer
    outputs = [tensors[name] for name in node.output if name]
    types: dict[int, Any] = {}
    precision: list[Any] = []
    give(
        layer,
        lenient=True,
        name=node.name,
        metadata="",
        type=getattr(trt.LayerType, _LAYERS.get(node.op_type, "ELEMENTWISE"), trt.LayerType.ELEMENTWISE),
        num_inputs=len(inputs),
        num_outputs=len(outputs),
        precision=Live(lambda: precision[-1] if precision else trt.float32, precision.append),
        precision_is_set=Live(lambda: bool(precision)),
    )
    if node.op_type == "Attention" and hasattr(trt, "IAttention"):
        layer.__dict__["_given"]["attention"] = spec_of(trt.IAttention, decomposable=False)
    layer.get_output.side_effect = lambda index: outputs[index] if index < len(outputs) else None
    layer.get_input.side_effect = lambda index: inputs[index] if index < len(inputs) else None
    if hasattr(trt.ILayer, "set_output_type"):
        layer.set_output_type.side_effect = lambda index, dtype: types.update({index: dtype})
        layer.reset_output_type.side_effect = lambda index: types.pop(index, None) and None
        layer.output_type_is_set.side_effect = lambda index: index in types
        layer.reset_precision.side_effect = precision.clear
    if hasattr(trt.ILayer, "get_output_type"):
        layer.get_output_type.side_effect = lambda index: types.get(index, outputs[index].dtype)
    return layer
