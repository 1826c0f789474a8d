"""What ONNX Runtime says when it refuses a model, made one line with what to do about it."""

import re

from calibrators.errors import one_line

LONGEST = 300
"""Characters of ONNX Runtime's own words that are passed on."""

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PLACE = re.compile(r"^\S+\.(?:cc|h|cpp):\d+ .*?\) (?=[A-Z])")
_PREFIX = re.compile(r"^(?:Load model from .*? failed: ?|This is an invalid model\. |Fatal error: |Exception: )+")


def refusal(error: Exception) -> str:
    """Why ONNX Runtime does not load a model, and what to do.

    Its code, its source files and the model's path, which whoever asks knows, are left out.
    """
    text = one_line(error)
    for part in (_CODE, _PREFIX, _PLACE, _PREFIX):
        text = part.sub("", text)
    return f"ONNX Runtime refuses it ({text[:LONGEST].rstrip(' .') or type(error).__name__}): {_remedy(text)}"


def _remedy(text: str) -> str:
    if "not a registered function/op" in text or "No Op registered" in text:
        return "it has no such operator; export the model with standard ONNX operators"
    if re.search(r"\b[Oo]pset \d+ is under development|IR version", text):
        return "update onnxruntime, or export the model with an older opset"
    return "export the model again"
