"""Opening a model in ONNX Runtime."""

from collections.abc import Sequence
from typing import Any

_LEFT_A_GAP = "is not a graph input, initializer, or output of a previous node"


def opened(source: str | bytes, options: Any, *, without: Sequence[str] = ()) -> Any:
    """A session of ONNX Runtime on the CPU.

    Its fusion of padding (seen in 1.32) takes a Pad that makes a convolution's weights out of constants for one
    of what it reads, and then refuses the model that it has made; such a model is opened without it.

    Args:
        source: A file, or a model's bytes.
        options: ONNX Runtime's session options.
        without: Its optimizations that are left out, by name.

    Raises:
        Exception: As ONNX Runtime raises it.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=[*without]
        )
    except Exception as error:
        if _LEFT_A_GAP not in str(error):
            raise
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=[*without, "Pad_Fusion"]
        )
