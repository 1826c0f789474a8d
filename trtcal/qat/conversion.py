"""From observers and trained quantizers to encodings that do not change."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from calibrators.encoding import Encoding
from calibrators.errors import DataError, ModelError, RangeError
from trtcal.qat.batches import SampleAxes
from trtcal.qat.functions import constants
from trtcal.qat.layers import QuantizedLayer, bake_norms
from trtcal.qat.observers import Observer
from trtcal.qat.plan import QuantizationWarning
from trtcal.qat.preparation import (
    INPUTS,
    WEIGHT,
    QuantizedFunction,
    copied,
    device_of,
    quantized_modules,
    state_of,
    unwrapped,
)
from trtcal.qat.quantizer import FixedQuantizer, Follower
from trtcal.qat.tracing import TracedModel

ZEROS = "its input was 0 throughout: there is no scale for it"


def encodings(model: nn.Module) -> dict[str, dict[str, Encoding]]:
    """The encodings of a quantized model's layers and functions.

    Returns:
        By path; then "input_quantizer", of the product of two activations also "second_quantizer", and
        "weight_quantizer" where there is a weight. What had nothing but zeros for an input has none.

    Raises:
        ModelError: A quantizer has no range yet.
        DataError: An observer has seen nothing yet.
    """
    found = _all_encodings(unwrapped(model))
    return {name: each for name, each in found.items() if each is not None}


def left_in_float(model: nn.Module) -> Mapping[str, str]:
    """Name of each layer or function of a quantized model that stays in float -> why."""
    return dict(state_of(model).left)


def converted(model: nn.Module, *, inplace: bool) -> nn.Module:
    """A model in evaluation mode whose quantizers have encodings that do not change.

    Raises:
        ModelError: It was converted already, or has quantizers without a range.
        DataError: It was not calibrated.
    """
    if state_of(model).converted:
        raise ModelError("the model was converted already: quantize the float model again to convert it otherwise")
    model = unwrapped(model)
    observers = [module for module in model.modules() if isinstance(module, Observer)]
    if observers and not any(each.statistics().samples for each in observers):
        raise DataError(
            "no data were run through the model: calibrate it with batches, as model(batch), before convert"
        )
    made = model if inplace else copied(model)
    modules = dict(quantized_modules(made))
    found = _all_encodings(made)
    fixed: dict[nn.Module, FixedQuantizer] = {}
    for name, each in found.items():
        if each is None:
            state_of(made).left[name] = ZEROS
            warnings.warn(f"{name} stays in float: {ZEROS}", QuantizationWarning, stacklevel=3)
            _leave(modules[name])
        else:
            _fix(modules[name], each, fixed, device_of(made, modules[name]))
    bake_norms(made)
    _forget_batches(made)
    state_of(made).converted = True
    return made.eval()


def _all_encodings(model: nn.Module) -> dict[str, dict[str, Encoding] | None]:
    modules = dict(quantized_modules(model))
    weights: Mapping[str, Tensor] = {}
    if isinstance(model, TracedModel):
        weights = constants(model, model.graph, [f"{name}.{WEIGHT}" for name in modules])
    return {name: _encodings(module, weights.get(f"{name}.{WEIGHT}")) for name, module in modules.items()}


def _encodings(module: nn.Module, weight: Tensor | None) -> dict[str, Encoding] | None:
    """What the quantizers of a layer or function have come to; None where they have seen only zeros.

    Args:
        module: The layer or function.
        weight: Of a function, which has none itself: as it is now.
    """
    found: dict[str, Encoding] = {}
    try:
        for attribute in INPUTS:
            if isinstance(quantizer := getattr(module, attribute, None), nn.Module):
                found[attribute] = quantizer.encoding()
    except RangeError:
        return None
    if isinstance(module, QuantizedLayer):
        found[WEIGHT] = module.weight_encoding()
    elif isinstance(quantizer := getattr(module, WEIGHT, None), nn.Module):
        weight = weight if isinstance(module, QuantizedFunction) else module.weight.detach()
        found[WEIGHT] = quantizer.encoding(weight)
    return found


def _leave(module: nn.Module) -> None:
    for attribute in (*INPUTS, WEIGHT):
        if hasattr(module, attribute):
            setattr(module, attribute, nn.Identity())


def _fix(
    module: nn.Module, found: Mapping[str, Encoding], fixed: dict[nn.Module, FixedQuantizer], device: torch.device
) -> None:
    """Replace quantizers by fixed ones: one that several share by one."""
    for attribute, encoding in found.items():
        old = getattr(module, attribute)
        old = old.leader if isinstance(old, Follower) else old
        if old not in fixed:
            fixed[old] = FixedQuantizer(encoding, name=old.name).to(device)
            fixed[old].enabled = getattr(old, "enabled", True)
        setattr(module, attribute, fixed[old])


def _forget_batches(model: nn.Module) -> None:
    for key in [key for key, hook in model._forward_pre_hooks.items() if isinstance(hook, SampleAxes)]:
        model._forward_pre_hooks.pop(key)
        model._forward_pre_hooks_with_kwargs.pop(key, None)
