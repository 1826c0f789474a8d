"""What INT8 costs an engine where it gains nothing: by the GPU it is for, by zeros that it stores, by its size."""

import math
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from engines.graph.operators import CONVOLUTIONS, label
from engines.inspection.inspect import Operator
from engines.inspection.kernels import Kernel
from engines.structure.findings import Finding

if TYPE_CHECKING:
    import onnx

TURING = "7.5"
"""The compute capability that TensorRT-RTX (1.7) has no INT8 convolutions for."""

NOTABLE = 0.05
"""The share of an engine from which on stored zeros are said."""


def on_turing(operators: Iterable[Operator], capabilities: Collection[str]) -> Iterator[Finding]:
    """Quantized convolutions that run in float as the engine is to run on 7.5, too."""
    floats = [
        operator.node
        for operator in operators
        if operator.quantized and operator.op_type in CONVOLUTIONS and operator.precision not in ("INT8", None)
    ]
    if TURING not in capabilities or not floats:
        return
    others = [each for each in capabilities if each != TURING]
    remedy = "build with --precision fp16"
    if others:
        remedy = f"build for {', '.join(others)} alone, and for 7.5 with --precision fp16"
    message = (
        f"{len(floats)} quantized convolution(s), such as {floats[0]}, run in float"
        + (f", on {', '.join(others)} too," if others else "")
        + f" as TensorRT-RTX has no INT8 ones for compute capability 7.5: {remedy}"
    )
    yield Finding("warning", "turing", tuple(floats), message)


def stored_zeros(model: "onnx.ModelProto", kernels: Iterable[Kernel], size: int) -> Iterator[Finding]:
    """Zeros that fill up the channels of a convolution's input to 4 for each group, and are stored for each pixel.

    TensorRT-RTX (1.7) makes them when it runs where a size of the input is free. Such a constant is read by the
    generated kernel that quantizes what the convolution reads.

    Args:
        model: The model that was built.
        kernels: The engine's.
        size: Of the engine, in bytes.
    """
    groups = {label(node): _groups(node) for node in model.graph.node if node.op_type in CONVOLUTIONS}
    stored: dict[str, int] = {}
    for kernel in kernels:
        found = [tensor for tensor in kernel.constants if tensor.type == "Int8"] if kernel.generated else []
        name = max((each for each in kernel.nodes if each in groups), key=groups.__getitem__, default=None)
        if found and name is not None:
            stored[name] = stored.get(name, 0) + sum(math.prod(tensor.shape) for tensor in found)
    total = sum(stored.values())
    if total >= NOTABLE * size:
        message = (
            f"{megabytes(total)} of the engine are zeros that fill up the input channels of {len(stored)} "
            f"convolution(s), such as {max(stored, key=stored.__getitem__)}, to 4 for each group: they are stored as "
            "the batch size is fixed; build for several batch sizes (--shapes, and a free batch axis in the model), or "
            "leave these layers in float (--config)"
        )
        yield Finding("warning", "stored-zeros", tuple(stored), message)


def larger_than(size: int, other: int, what: str) -> Finding:
    """That an INT8 engine is larger than `what`, of `other` bytes."""
    message = (
        f"the INT8 engine has {megabytes(size)}, {what} {megabytes(other)}: its kernels take more room than its "
        "weights save, so it is of use only if it is faster (trtcal benchmark, on the GPU)"
    )
    return Finding("warning", "larger-than-fp32", (), message)


def megabytes(size: int) -> str:
    """Bytes for readers: two digits at least."""
    return f"{size / 1e6:.1f} MB" if size >= 10**6 else f"{size / 1e6:.2f} MB"


def _groups(node: "onnx.NodeProto") -> int:
    return next((item.i for item in node.attribute if item.name == "group"), 1)
