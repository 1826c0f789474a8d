"""Models of other libraries, given where an ONNX model is wanted; known without importing those."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from calibrators.errors import ModelError

_TENSORFLOW = "a TensorFlow or Keras model: write it as ONNX with tf2onnx, and give the file"

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "a PyTorch model: quantize it with trtcal.qat, or export it with torch.onnx.export and give the file",
        "tensorflow": _TENSORFLOW,
        "keras": _TENSORFLOW,
        "tf_keras": _TENSORFLOW,
        "paddle": "a Paddle model: export it with paddle.onnx.export, and give the file",
        "onnxruntime": "an object of ONNX Runtime: give the model's file",
        "onnx_ir": "a model of onnx_ir: give onnx_ir.to_proto(model)",
    }
)
"""By the package of an object's class, or of one that it is derived from: what it is, and what to do."""


def path_of(model: object) -> Path:
    """The path of a model's file.

    Raises:
        ModelError: It is no path; the message says what it is.
    """
    if isinstance(model, (str, os.PathLike)):
        return Path(model)
    told = kind_of(model) or f"an object of type {type(model).__name__}"
    raise ModelError(f"an ONNX model is wanted, as the path of its file or an onnx.ModelProto, not {told}")


def kind_of(model: object) -> str:
    """What an object of another library is, and what to do with it; empty for any other."""
    packages = [each.__module__.partition(".")[0] for each in type(model).__mro__]
    told = next((KINDS[package] for package in packages if package in KINDS), "")
    return told and f"{type(model).__name__}, {told}"
