"""Quantization in PyTorch, after training or while training. Needs the extra [torch].

After training: ``observed = PTQ(config).quantize(model.eval())``, run batches through it, ``PTQ().convert(observed)``.

While training: ``quantized = QAT(config).quantize(model.train())``, make the optimizer of its parameters, train it as
before (with `require_finite` around the loss, `pact_penalty` in it for PACT; `freeze_batch_norm` and
`disable_observers` for the last epochs), then ``QAT().convert(quantized)``.

Both end in `export_onnx`. The configuration is a `trtcal.QuantConfig`; `encodings` and `left_in_float` tell what became
of a model.
"""

from trtcal.machine.torch_library import require_torch

require_torch()

from trtcal.qat.checks import require_finite
from trtcal.qat.conversion import encodings, left_in_float
from trtcal.qat.export import Exported, export_onnx
from trtcal.qat.layers import (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConv3d,
    QuantizedConvTranspose1d,
    QuantizedConvTranspose2d,
    QuantizedConvTranspose3d,
    QuantizedLayer,
    QuantizedLinear,
)
from trtcal.qat.observers import Observer, WeightObserver
from trtcal.qat.plan import QuantizationWarning
from trtcal.qat.preparation import quantized_modules
from trtcal.qat.ptq import PTQ
from trtcal.qat.quantizer import FixedQuantizer, Quantizer
from trtcal.qat.quantizers import LSQ, PACT, Absmax, LearnedRange, LSQPlus, MovingAverageAbsmax
from trtcal.qat.switches import (
    disable_observers,
    disable_quantizers,
    enable_observers,
    enable_quantizers,
    freeze_batch_norm,
    pact_penalty,
)
from trtcal.qat.tracing import TracedModel
from trtcal.qat.training import QAT

__all__ = [
    "Absmax",
    "Exported",
    "FixedQuantizer",
    "LSQ",
    "LSQPlus",
    "LearnedRange",
    "MovingAverageAbsmax",
    "Observer",
    "PACT",
    "PTQ",
    "QAT",
    "QuantizationWarning",
    "QuantizedConv1d",
    "QuantizedConv2d",
    "QuantizedConv3d",
    "QuantizedConvTranspose1d",
    "QuantizedConvTranspose2d",
    "QuantizedConvTranspose3d",
    "QuantizedLayer",
    "QuantizedLinear",
    "Quantizer",
    "TracedModel",
    "WeightObserver",
    "disable_observers",
    "disable_quantizers",
    "enable_observers",
    "enable_quantizers",
    "encodings",
    "export_onnx",
    "freeze_batch_norm",
    "left_in_float",
    "pact_penalty",
    "quantized_modules",
    "require_finite",
]
