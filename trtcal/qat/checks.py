"""Whether training is still sound."""

from typing import Any

import torch
from torch import Tensor, nn

from calibrators.errors import DataError
from trtcal.qat.faults import told
from trtcal.qat.quantizer import FixedQuantizer, Quantizer

_UNRUNNABLE = "the loss is no finite number, and the model does not run on the batch to find out where that comes from"


def require_finite(loss: Tensor, model: nn.Module, *inputs: Any) -> Tensor:
    """The loss, if it is a finite number.

    Args:
        loss: Of a batch, before its backward pass.
        model: A quantized model.
        inputs: The batch. If it is given, a loss that is no number is traced to the first layer that reads one.

    Raises:
        DataError: The loss is NaN or infinite; the message says where that comes from.
        ModelError: It is, and the model does not run on the inputs.
    """
    if not isinstance(loss, Tensor):
        raise DataError(f"the loss is a tensor, before its backward pass, not of type {type(loss).__name__}")
    if bool(torch.isfinite(loss).all()):
        return loss
    what = "NaN" if bool(torch.isnan(loss).any()) else "infinite"
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DataError(
                f"the loss is {what}, as {name} is: go back to an earlier state, and train with a lower learning rate"
            )
    where = _first(model, inputs) if inputs else ""
    spoilt = next((name for name, each in model.named_buffers() if not bool(torch.isfinite(each).all())), None)
    state = "all parameters are finite" if spoilt is None else f"{spoilt} has become so, too, and is to be restored"
    raise DataError(f"the loss is {what}{where}; {state}: look at the batch, its labels and the loss")


def _first(model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """The first tensor to be quantized that is not finite, in words."""
    found: list[str] = []

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        if not found and not bool(torch.isfinite(given[0]).all()):
            found.append(module.name)

    handles = [
        module.register_forward_pre_hook(look)
        for module in model.modules()
        if isinstance(module, (Quantizer, FixedQuantizer))
    ]
    before = {module: module.training for module in model.modules()}
    try:
        with told(_UNRUNNABLE, "give what its forward takes, or no batch", model), torch.no_grad():
            model.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in before.items():
            module.training = mode
    return f", and so is {found[0]}" if found else ", and no layer reads one that is"
