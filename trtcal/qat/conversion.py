"""From observers and trained quantizers to encodings that do not change."""

import copy
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from calibrators.encoding import Encoding
from calibrators.errors import DataError, ModelError, RangeError
from trtcal.qat.batches import SampleAxes
from trtcal.qat.layers import QuantizedLayer, bake_norms
from trtcal.qat.observers import Observer
from trtcal.qat.plan import QuantizationWarning
from trtcal.qat.preparation import INPUTS, WEIGHT, QuantizedFunction, state_of
from trtcal.qat.quantizer import FixedQuantizer


def quantized_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The quantized layers and functions of a model, by path: what has an `input_quantizer`."""
    for name, module in model.named_modules():
        if isinstance(getattr(module, INPUTS[0], None), nn.Module):
            yield name, module


def converted(model: nn.Module, *, inplace: bool) -> nn.Module:
    """A model in evaluation mode whose quantizers have encodings that do not change.

    Raises:
        ModelError: It was converted already, or has quantizers without a range.
        DataError: It was not calibrated.
    """
    state = state_of(model)
    if state.converted:
        raise ModelError("the model was converted already: quantize the float model again to convert it otherwise")
    if hasattr(model, "module") and not hasattr(model, "trtcal_state"):
        model = model.module
    observers = [module for module in model.modules() if isinstance(module, Observer)]
    if observers and not any(each.statistics().samples for each in observers):
        raise DataError(
            "no data were run through the model: calibrate it with batches, as model(batch), before convert"
        )
    made = model if inplace else copy.deepcopy(model)
    found = {name: _encodings(name, module) for name, module in quantized_modules(made)}
    fixed: dict[nn.Module, nn.Module] = {}
    for name, module in dict(quantized_modules(made)).items():
        encodings = found[name]
        if isinstance(encodings, str):
            state_of(made).left[name] = encodings
            warnings.warn(f"{name} stays in float: {encodings}", QuantizationWarning, stacklevel=4)
        for attribute in (*INPUTS, WEIGHT):
            old = getattr(module, attribute, None)
            if old is None:
                continue
            if isinstance(encodings, str):
                new: nn.Module = nn.Identity()
            elif attribute != WEIGHT and old in fixed:
                new = fixed[old]
            else:
                new = fixed[old] = FixedQuantizer(encodings[attribute], name=getattr(old, "name", name))
                new.to(_device(made))
            setattr(module, attribute, new)
    bake_norms(made)
    for key in [key for key, hook in made._forward_pre_hooks.items() if isinstance(hook, SampleAxes)]:
        made._forward_pre_hooks.pop(key)
        made._forward_pre_hooks_with_kwargs.pop(key, None)
    state_of(made).converted = True
    return made.eval()


def _encodings(name: str, module: nn.Module) -> dict[str, Encoding] | str:
    """What the quantizers of a layer or function have come to, or why it stays in float."""
    found: dict[str, Encoding] = {}
    try:
        for attribute in INPUTS:
            if hasattr(module, attribute):
                found[attribute] = getattr(module, attribute).encoding()
    except RangeError:
        return "its input was 0 throughout: there is no scale for it"
    if isinstance(module, QuantizedLayer):
        found[WEIGHT] = module.weight_encoding()
    elif hasattr(module, WEIGHT):
        weight = None if isinstance(module, QuantizedFunction) else module.weight.detach()
        found[WEIGHT] = module.weight_quantizer.encoding(weight)
    return found


def _device(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return torch.device("cpu") if tensor is None else tensor.device
