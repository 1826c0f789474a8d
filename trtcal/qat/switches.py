"""Switches for a whole model: what quantizes, what observes, what batch normalization does."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from calibrators.errors import ConfigError
from trtcal.qat.folding import FoldedBatchNorm
from trtcal.qat.observers import Observer
from trtcal.qat.preparation import INPUTS, WEIGHT
from trtcal.qat.quantizer import FixedQuantizer, Quantizer
from trtcal.qat.quantizers import PACT

Which = Literal["all", "activation", "weight"]


def enable_quantizers(model: nn.Module, which: Which = "all") -> None:
    """Let tensors be quantized, after `disable_quantizers`.

    Args:
        model: A quantized model.
        which: "activation" and "weight" are only those of these.
    """
    _switch(model, "enabled", which, on=True)


def disable_quantizers(model: nn.Module, which: Which = "all") -> None:
    """Let tensors pass in float: the model computes what the float one would. Learned scales keep their values.

    What is disabled stays so in `convert`, and is not quantized in what `export_onnx` writes.
    """
    _switch(model, "enabled", which, on=False)


def enable_observers(model: nn.Module, which: Which = "all") -> None:
    """Let observers count, and quantizers take and follow ranges from what they see, after `disable_observers`."""
    _switch(model, "observing", which, on=True)


def disable_observers(model: nn.Module, which: Which = "all") -> None:
    """Leave ranges as they are, but for what is learned: of training, usually the last epochs."""
    _switch(model, "observing", which, on=False)


def freeze_batch_norm(model: nn.Module) -> None:
    """Have batch normalization that is folded keep its statistics from now on."""
    for module in model.modules():
        if isinstance(module, FoldedBatchNorm):
            module.freeze_after = module.steps


def pact_penalty(model: nn.Module) -> Tensor:
    """``sum(alpha^2)`` over a model's PACT quantizers, to be added to the loss with a factor; 0 where there is none."""
    penalties = [module.penalty() for module in model.modules() if isinstance(module, PACT)]
    return torch.stack(penalties).sum() if penalties else torch.zeros(())


def _switch(model: nn.Module, switch: Literal["enabled", "observing"], which: Which, *, on: bool) -> None:
    if which not in get_args(Which):
        raise ConfigError(f"there are no {which!r} quantizers: choose among {', '.join(get_args(Which))}")
    wanted = {"all": (*INPUTS, WEIGHT), "activation": INPUTS, "weight": (WEIGHT,)}[which]
    for module in model.modules():
        for attribute in wanted:
            found = getattr(module, attribute, None)
            if isinstance(found, (Quantizer, FixedQuantizer, Observer)) and hasattr(found, switch):
                setattr(found, switch, on)
