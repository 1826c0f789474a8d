"""Quantization-aware training: learnable quantizers in a PyTorch model."""

from collections.abc import Mapping

from torch import nn

from calibrators.errors import ConfigError, ModelError
from trtcal.config.settings import QuantConfig
from trtcal.qat.conversion import converted
from trtcal.qat.faults import UNCONVERTED, UNPREPARED, told
from trtcal.qat.layers import fold_norms
from trtcal.qat.preparation import Operand, prepared, require_float, settled, state_of
from trtcal.qat.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS

QUANTIZER = "lsq"
"""The quantizer of activations for which the configuration has none."""


class QAT:
    """Quantization-aware training: ``quantize``, train the model as before, ``convert``.

    Args:
        config: Settings by layer; `activation` is one of `ACTIVATION_QUANTIZERS`, `weight` one of `WEIGHT_QUANTIZERS`.
        fold_batch_norm: Train with batch normalization folded into the weight before it (`trtcal.qat.folding`), as
            TensorRT computes it; else it is computed as before, behind the quantized layer.
        freeze_batch_norm_after: Training steps after which the folded ones keep their statistics; None for never. From
            then on nothing normalizes what changes: let the learning rate be low by then.
    """

    def __init__(
        self,
        config: QuantConfig | None = None,
        *,
        fold_batch_norm: bool = True,
        freeze_batch_norm_after: int | None = None,
    ) -> None:
        after = freeze_batch_norm_after
        if after is not None and (not isinstance(after, int) or isinstance(after, bool) or after < 0):
            raise ConfigError(f"freeze_batch_norm_after must be a number of steps, 0 or more, or None, not {after!r}")
        self.config = settled(config)
        self.fold_batch_norm, self.freeze_batch_norm_after = fold_batch_norm, freeze_batch_norm_after

    def quantize(self, model: nn.Module, inplace: bool = False) -> nn.Module:
        """A model with learnable quantizers, to be trained; the float model's state dict loads into it.

        What cannot be quantized is left in float and named in a warning. A model with additions or products to quantize
        that are no layers comes back as a `TracedModel` of the same modules; use what is returned, also where
        `inplace`. Layers that read the same tensor in the same settings share its quantizer, where the model's graph
        is known.

        Make the optimizer of its parameters, which are the model's and the quantizers': weight decay shrinks these
        too, unless they are put in a group without. Scales begin with the first batch: run one before copying the
        model, as for a moving average of it.

        Args:
            model: In float, in training mode.
            inplace: Change this model, not a copy.

        Raises:
            ModelError: The model is in evaluation mode, is quantized already, or has nothing to quantize.
            ConfigError: A setting names no quantizer, or PyTorch models cannot have it.
        """
        require_float(model)
        if not model.training:
            raise ModelError("quantization-aware training begins in training mode: call model.train() first")
        with told(*UNPREPARED, model):
            return prepared(
                model,
                self.config,
                kind="qat",
                activation=_activation,
                weight=_weight,
                fold=self._fold,
                shared=True,
                inplace=inplace,
            )

    def convert(self, model: nn.Module, inplace: bool = False) -> nn.Module:
        """A model that simulates integers, with encodings that do not change, in evaluation mode.

        Args:
            model: From `quantize`, trained.
            inplace: Change this model, not a copy.

        Raises:
            ModelError: The model does not come from `quantize`, was not trained, or was converted already.
        """
        if state_of(model).kind != "qat":
            raise ModelError("the model was quantized after training: convert it with PTQ(config).convert(model)")
        with told(*UNCONVERTED, model):
            return converted(model, inplace=inplace)

    def _fold(self, model: nn.Module, norms: Mapping[str, str]) -> None:
        if self.fold_batch_norm:
            fold_norms(model, norms, freeze_after=self.freeze_batch_norm_after)


def _activation(operand: Operand) -> nn.Module:
    name = operand.settings.activation or QUANTIZER
    if name not in ACTIVATION_QUANTIZERS:
        known = ", ".join(ACTIVATION_QUANTIZERS)
        raise ConfigError(f"{operand.name}: {name!r} is no quantizer to train with: choose activation among {known}")
    return ACTIVATION_QUANTIZERS[name](operand.grid, of="activation", name=operand.name)


def _weight(operand: Operand) -> nn.Module:
    name = operand.settings.weight
    if name not in WEIGHT_QUANTIZERS:
        known = ", ".join(WEIGHT_QUANTIZERS)
        raise ConfigError(f"{operand.name}: {name!r} is no quantizer to train with: choose weight among {known}")
    return WEIGHT_QUANTIZERS[name](
        operand.grid, of="weight", axis=operand.axis, channels=operand.channels, name=operand.name
    )
