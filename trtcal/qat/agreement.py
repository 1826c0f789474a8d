"""Whether an exported model computes what PyTorch does, for any number of samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from calibrators.errors import ModelError, one_line
from engines.sessions.onnxruntime_errors import refusal
from trtcal.qat.faults import said
from trtcal.qat.marking import Case
from trtcal.qat.quantizer import FixedQuantizer
from trtcal.qat.switches import disable_quantizers

TOLERANCE = 1e-3
"""Of the largest output: sums in another order differ by less, and another model by more."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a PyTorch model.

    Attributes:
        inputs: By name.
        outputs: In order.
    """

    inputs: Mapping[str, Array]
    outputs: Sequence[Array]


def runs(model: nn.Module, case: Case) -> list[Run]:
    """What a converted model computes of an example, and of twice as many samples where their number is free.

    Weights are quantized; activations are not, as one of them next to the middle of two levels may go to either.

    Raises:
        ModelError: It does not run on twice as many.
    """
    enabled = [each for each in model.modules() if isinstance(each, FixedQuantizer) and each.enabled]
    disable_quantizers(model, "activation")
    try:
        made = [_run(model, case, case.arguments)]
        doubled = {id(leaf) for name, leaf in case.inputs.items() if 0 in case.axes.get(name, {})}
        if doubled:
            twice = tree_map(
                lambda leaf: torch.cat([leaf, leaf]) if id(leaf) in doubled else leaf, dict(case.arguments)
            )
            try:
                made.append(_run(model, case, twice))
            except Exception as error:
                raise ModelError(
                    f"the model does not run on twice the samples of the example ({said(error, model)}): "
                    "give dynamic_axes={} to export it for as many as there are"
                ) from error
    finally:
        for each in enabled:
            each.enabled = True
    return made


def require_agreement(model: onnx.ModelProto, expected: Sequence[Run]) -> None:
    """Refuse a model that ONNX Runtime computes otherwise than PyTorch did.

    Args:
        model: Without quantized activations.
        expected: Of the PyTorch model; the second run, if there is one, of twice as many samples.

    Raises:
        ModelError: It fails, or differs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"the exported model cannot be opened: {refusal(error)}") from error
    read = {each.name for each in session.get_inputs()}
    for place, run in enumerate(expected):
        twice = ": its forward computes a size from the samples in Python; give dynamic_axes={}" if place else ""
        try:
            outputs = session.run(None, {name: value for name, value in run.inputs.items() if name in read})
        except Exception as error:
            reason = one_line(error)[-200:]
            what = "twice the samples of the example" if place else "the example"
            raise ModelError(f"ONNX Runtime fails on {what} in the exported model ({reason}){twice}") from error
        for wanted, found in zip(run.outputs, outputs, strict=True):
            _require_equal(wanted, found, twice)


def _require_equal(wanted: Array, found: Array, hint: str) -> None:
    if wanted.shape != found.shape:
        raise ModelError(
            f"the exported model gives an output of shape {found.shape} where PyTorch gives {wanted.shape}{hint}"
        )
    if not wanted.size:
        return
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    largest = np.abs(np.where(np.isfinite(wanted), wanted, 0)).max()
    error = np.where(same, 0, np.abs(wanted - found)).max()
    if not error <= TOLERANCE * max(largest, 1e-6):
        raise ModelError(
            f"the exported model's outputs differ from PyTorch's by {error:g} (the largest is {largest:g}){hint}: "
            "what its forward decides from values or in Python does not go into ONNX"
        )


def _run(model: nn.Module, case: Case, arguments: Mapping[str, Any]) -> Run:
    with torch.no_grad():
        outputs = tree_leaves(model(*arguments.values()))
    leaves = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
    inputs = {name: leaf.numpy() for name, leaf in zip(case.inputs, leaves, strict=True)}
    return Run(inputs, [each.detach().numpy() for each in outputs])
