"""Inputs that a model can be run with here: numbers that NumPy has, with an axis of samples."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from calibrators.batches import TensorSpec
from calibrators.errors import ModelError
from engines.graph.model import input_specs, with_types
from engines.graph.operators import WEIGHTED, label


def runnable_inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The model's inputs.

    Raises:
        ModelError: One takes text or bfloat16, or a single number, or has no shape.
    """
    specs = input_specs(model)
    shapeless = {value.name for value in model.graph.input if not value.type.tensor_type.HasField("shape")}
    for spec in specs:
        if spec.dtype.kind == "O":
            reader = next((label(node) for node in model.graph.node if spec.name in node.input), "what reads it")
            raise ModelError(
                f"the model's input {spec.name} takes text, which no engine does: cut the model behind {reader}, so "
                "that its inputs are numbers"
            )
        if spec.dtype.kind not in "fiub":
            raise ModelError(
                f"the model's input {spec.name} takes {spec.dtype}, which ONNX Runtime does not run on a CPU: export "
                "the model in float32 or FP16"
            )
        if spec.name in shapeless:
            raise ModelError(
                f"the model does not state the shape of its input {spec.name}: give it one, such as Nx3x224x224 with "
                "a free number of samples, or export the model again"
            )
        if not spec.shape:
            raise ModelError(
                f"the model's input {spec.name} is a single number, without an axis of samples: make it an "
                "initializer, or an input of shape Nx1"
            )
    return specs


def require_single_precision(model: onnx.ModelProto) -> None:
    """Refuse a model whose weighted operators all compute in float64: no engine does, and none of them is quantized.

    Raises:
        ModelError: It is one.
    """
    if not any(_is_double(tensor) for tensor in _constants(model)):
        return
    graph = with_types(model).graph
    types = {each.name: each.type.tensor_type.elem_type for each in (*graph.value_info, *graph.input, *graph.output)}
    types.update((tensor.name, tensor.data_type) for tensor in model.graph.initializer)
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED and len(node.input) > 1]
    if weighted and all(types.get(node.input[1]) == TensorProto.DOUBLE for node in weighted):
        raise ModelError(
            f"the model computes in float64 (at {label(weighted[0])}), which is never quantized, and TensorRT does not "
            "have: export it in float32"
        )


def _constants(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    yield from (item.t for node in model.graph.node for item in node.attribute if item.HasField("t"))


def _is_double(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.DOUBLE)


def in_bfloat16(model: onnx.ModelProto) -> str:
    """The label of the first node that bfloat16 comes from or goes to; empty where there is none."""
    narrow = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    for node in model.graph.node:
        casts = any(each.name == "to" and each.i == TensorProto.BFLOAT16 for each in node.attribute)
        if casts or (narrow & set(node.input) and node.op_type != "Cast"):
            return label(node)
    return ""
