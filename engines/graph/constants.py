"""Constants of a model in memory, by name: to read and to replace without reading the graph again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx


def constant(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    """The initializer of that name, which there is."""
    return np.asarray(onnx.numpy_helper.to_array(_tensor(model, name)))


def replace_constant(model: onnx.ModelProto, name: str, numbers: npt.NDArray[Any]) -> None:
    """Give the initializer of that name as many other numbers; it keeps its type and shape."""
    tensor = _tensor(model, name)
    known = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(numbers.astype(known.dtype).reshape(known.shape), name))


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with these tensors for its outputs, and no others; what they do not need is not run."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.ClearField("output")
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    return changed


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    (found,) = (each for each in model.graph.initializer if each.name == name)
    assert isinstance(found, onnx.TensorProto)
    return found
