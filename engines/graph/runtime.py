"""ONNX Runtime as the judge of a model: does it open, and what does it compute, node by node as written."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibrators.errors import ModelError, one_line

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, npt.NDArray[Any]]

DTYPES: dict[str, type[np.generic]] = {  # ONNX Runtime's names
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class Judge:
    """A model opened in ONNX Runtime, nothing optimized.

    Args:
        model: A file, with its external data beside it, or a model in memory that holds all its data.

    Raises:
        ModelError: ONNX Runtime cannot open it; the message is its reason alone.
    """

    def __init__(self, model: "str | os.PathLike[str] | onnx.ModelProto") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = os.fspath(model) if isinstance(model, (str, os.PathLike)) else model.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(_reason(error)) from error

    @property
    def inputs(self) -> Sequence[Any]:
        """Each with a name, a shape and a type, which may be one of `DTYPES`."""
        return tuple(self._session.get_inputs())

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Outputs by name; what is no array is left out.

        Raises:
            ModelError: ONNX Runtime fails; the message is its reason alone.
        """
        names = [value.name for value in self._session.get_outputs()]
        try:
            values = self._session.run(names, dict(feed))
        except Exception as error:
            raise ModelError(_reason(error)) from error
        return {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}


def _reason(error: Exception) -> str:
    """ONNX Runtime's own words, without the code in front."""
    text = one_line(error)
    return (text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text).rstrip(".")
