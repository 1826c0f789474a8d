"""What PyTorch, ONNX, ONNX Runtime or a model's own code raises, in one line that says where and what to do."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from calibrators.errors import DataError, ModelError, TrtcalError, one_line

LONGEST = 300
"""Characters of another's words that are passed on: some libraries print whole graphs."""

LIBRARIES = sys.stdlib_module_names | {
    "torch", "trtcal", "engines", "calibrators", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy"
}  # fmt: skip
"""Modules whose lines are not where a user looks for a fault of a model; of code that is generated, there are none."""

UNPREPARED = (
    "the model cannot be quantized",
    "if the float model runs, leave what is named in float (QuantConfig.skip), or report the model",
)
UNCONVERTED = (
    "the model cannot be converted",
    "if it runs on a batch, leave what is named in float (QuantConfig.skip), or report the model",
)
UNEXPORTED = (
    "the model cannot be exported",
    "leave what is named in float (QuantConfig.skip) or write it otherwise, or report the model",
)
"""What of a model cannot be done, and what to do."""


@contextmanager
def told(what: str, advice: str, model: nn.Module | None = None) -> Iterator[None]:
    """Make a `ModelError` of whatever others raise within.

    Args:
        what: What cannot be done: "the model cannot be exported".
        advice: What to do.
        model: That may be at fault: its module is named, in whose forward it happened.

    Raises:
        ModelError: Of another exception, which is its cause.
    """
    try:
        yield
    except (TrtcalError, MemoryError, Warning):  # a warning is raised where Python was asked to
        raise
    except Exception as error:
        raise ModelError(f"{what} ({said(error, model)}): {advice}") from error


def said(error: BaseException, model: nn.Module | None = None) -> str:
    """What an exception says and where it was raised, as in "ValueError in layer1.0 (net.py, line 12): ...".

    Args:
        error: That of a library stands for its first cause: what is wrapped around that is graphs and advice for
            developers of the library.
        model: Its modules are told by their paths.
    """
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    place = raised_in(cause, model)
    return f"{type(cause).__name__}{f' in {place}' if place else ''}: {one_line(cause, LONGEST)}"


def raised_in(error: BaseException, model: nn.Module | None = None) -> str:
    """Where an exception was raised: the innermost module of a model and line of its code; empty where neither is."""
    paths = {} if model is None else {id(module): path for path, module in model.named_modules()}
    module = line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        module = paths.get(id(frame.f_locals.get("self")), "") or module
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package and package not in LIBRARIES:
            line = f"{Path(frame.f_code.co_filename).name}, line {number}"
    return f"{module} ({line})" if module and line else module or line


def require_values(x: object, name: str) -> None:
    """Refuse what no quantizer or observer can look into.

    Raises:
        DataError: It is no tensor, or a sparse one, or one without values.
    """
    if not isinstance(x, Tensor):
        raise DataError(f"{name} is of type {type(x).__name__}: give the model tensors, as its forward wants them")
    if x.layout != torch.strided:
        raise DataError(f"{name} is a sparse tensor, which is not quantized: call to_dense() on it, or skip the layer")
    if x.is_meta:
        raise DataError(f"{name} is on the device meta and has no values: move the model and its batches to another")
