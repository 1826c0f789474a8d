"""The ONNX checker's word on a model, but for outputs without a shape, which every runtime takes."""

import os
from pathlib import Path

import onnx


def check(source: Path | onnx.ModelProto) -> None:
    """Let the ONNX checker judge a file, with its external data beside it, or a model in memory.

    Raises:
        Exception: The checker's own, where it refuses the model.
    """
    try:
        onnx.checker.check_model(os.fspath(source) if isinstance(source, Path) else source)
    except onnx.checker.ValidationError as error:
        if "Field 'shape' of 'type' is required but missing" not in str(error):
            raise
        copy = onnx.ModelProto()
        copy.CopyFrom(source if isinstance(source, onnx.ModelProto) else onnx.load(source))
        for value in (*copy.graph.input, *copy.graph.output):
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(copy)
