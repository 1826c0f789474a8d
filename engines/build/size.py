"""Whether an INT8 engine is larger than the FP32 one of the same model."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from calibrators.errors import TrtcalError
from engines.build.request import BuildRequest
from engines.inspection.drawbacks import larger_than
from engines.passes.apart import told_apart
from engines.passes.without_quantizers import without_quantizers
from engines.structure.findings import Finding

if TYPE_CHECKING:
    import onnx

FLOAT_BYTES = 4

PHASE = "Building FP32, for its size"


def size_findings(
    request: BuildRequest, size: int, *, phase: Callable[[str], None] | None = None
) -> tuple[Finding, ...]:
    """That an INT8 engine of `size` bytes is larger than an FP32 one, if it is.

    An FP32 engine is no smaller than the weights in FP32. Where the INT8 engine is not either, the FP32 one is built to
    tell, unless that takes a GPU and minutes: then the weights are what it is compared with.
    """
    weights = _weight_bytes(request.graph)
    if request.precision != "int8" or size <= weights:
        return ()
    floats = None if request.backend.times_kernels else _float_size(request, phase)
    if floats is None:
        return (larger_than(size, weights, "the weights alone in FP32"),)
    return (larger_than(size, floats, "an FP32 one of the same model"),) if size > floats else ()


def _float_size(request: BuildRequest, phase: Callable[[str], None] | None) -> int | None:
    """Bytes of the FP32 engine; None where it cannot be built."""
    if phase is not None:
        phase(PHASE)
    try:
        plan = request.backend.build(
            told_apart(without_quantizers(request.graph)),
            profiles=request.profiles,
            compute_capabilities=request.compute_capabilities,
            options=request.options,
            log=[],
        )
    except TrtcalError:
        return None
    return len(plan.data)


def _weight_bytes(graph: "onnx.ModelProto") -> int:
    """Of a model's FP32 constants, and of what INT8 ones are in FP32."""
    import onnx

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8)
    return sum(FLOAT_BYTES * math.prod(tensor.dims) for tensor in graph.graph.initializer if tensor.data_type in kinds)
