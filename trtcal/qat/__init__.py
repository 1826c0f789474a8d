"""Quantization in PyTorch, after training or while training. Needs the extra [torch]."""

from trtcal.torch_library import require_torch

require_torch()

from trtcal.qat.conversion import quantized_modules  # noqa: E402
from trtcal.qat.layers import QuantizedLayer  # noqa: E402
from trtcal.qat.observers import Observer, WeightObserver  # noqa: E402
from trtcal.qat.plan import QuantizationWarning  # noqa: E402
from trtcal.qat.ptq import PTQ  # noqa: E402
from trtcal.qat.quantizer import FixedQuantizer, Quantizer  # noqa: E402
from trtcal.qat.tracing import TracedModel  # noqa: E402
from trtcal.qat.training import QAT  # noqa: E402

__all__ = [
    "PTQ",
    "QAT",
    "FixedQuantizer",
    "Observer",
    "QuantizationWarning",
    "QuantizedLayer",
    "Quantizer",
    "TracedModel",
    "WeightObserver",
    "quantized_modules",
]
