"""Inputs that a model can be run with here: numbers that NumPy has, with an axis of samples."""

import onnx
from onnx import TensorProto

from calibrators.batches import TensorSpec
from calibrators.errors import ModelError
from engines.graph.model import input_specs
from engines.graph.operators import label


def runnable_inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """The model's inputs.

    Raises:
        ModelError: One takes text or bfloat16, or a single number.
    """
    specs = input_specs(model)
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
        if not spec.shape:
            raise ModelError(
                f"the model's input {spec.name} is a single number, without an axis of samples: make it an "
                "initializer, or an input of shape Nx1"
            )
    return specs


def in_bfloat16(model: onnx.ModelProto) -> str:
    """The label of the first node that bfloat16 comes from or goes to; empty where there is none."""
    narrow = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    for node in model.graph.node:
        casts = any(each.name == "to" and each.i == TensorProto.BFLOAT16 for each in node.attribute)
        if casts or (narrow & set(node.input) and node.op_type != "Cast"):
            return label(node)
    return ""
