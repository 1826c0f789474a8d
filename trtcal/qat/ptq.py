"""Post-training quantization of PyTorch models: observe, then simulate integers."""

from collections.abc import Mapping

from torch import nn

from calibrators.errors import ConfigError, ModelError
from calibrators.methods.names import DEFAULT
from calibrators.weights import WeightMethod
from trtcal.config.quantizer_names import TRAINED_ACTIVATIONS, TRAINED_WEIGHTS
from trtcal.config.settings import QuantConfig
from trtcal.qat.batches import SampleAxes
from trtcal.qat.conversion import converted
from trtcal.qat.faults import UNCONVERTED, UNPREPARED, told
from trtcal.qat.layers import bake_norms, fold_norms
from trtcal.qat.observers import Observer, WeightObserver
from trtcal.qat.preparation import Operand, prepared, require_float, settled, state_of

METHOD = DEFAULT
"""The range method of activations for which the configuration has none."""


class PTQ:
    """Post-training quantization: ``quantize``, run data through the model, ``convert``.

    Args:
        config: Settings by layer; `activation` is a range method, of `calibrators.ranges.METHODS`, `weight` "absmax"
            or "mse".
    """

    def __init__(self, config: QuantConfig | None = None) -> None:
        self.config = settled(config)

    def quantize(self, model: nn.Module, inplace: bool = False) -> nn.Module:
        """A model with observers; it computes what the float one does. Batch normalization is folded.

        What cannot be quantized is left in float and named in a warning. A model with additions or products to quantize
        that are no layers comes back as a `TracedModel` of the same modules; use what is returned, also where
        `inplace`.

        Args:
            model: In float, in evaluation mode.
            inplace: Change this model, not a copy.

        Raises:
            ModelError: The model is in training mode, is quantized already, or has nothing to quantize.
            ConfigError: A setting is for training, or PyTorch models cannot have it.
        """
        require_float(model)
        if any(module.training for module in model.modules()):
            raise ModelError("post-training quantization observes a model in evaluation mode: call model.eval() first")
        axes = SampleAxes()

        def activation(operand: Operand) -> nn.Module:
            method = operand.settings.activation or METHOD
            if method in TRAINED_ACTIVATIONS:
                raise ConfigError(
                    f"{operand.name}: {method!r} is a quantizer to train with (QAT): PTQ takes a range method"
                )
            return Observer(method, operand.grid, name=operand.name, axes=axes)

        with told(*UNPREPARED, model):
            made = prepared(
                model,
                self.config,
                kind="ptq",
                activation=activation,
                weight=_weight,
                fold=_fold,
                shared=False,
                inplace=inplace,
            )
            made.register_forward_pre_hook(axes, with_kwargs=True)
        return made

    def convert(self, model: nn.Module, inplace: bool = False) -> nn.Module:
        """A model that simulates integers: activations and weights are quantized, with encodings that do not change.

        Args:
            model: From `quantize`, calibrated: batches were run through it.
            inplace: Change this model, not a copy.

        Raises:
            ModelError: The model does not come from `quantize`, or was converted already.
            DataError: No data were run through it, or none reached a layer.
        """
        if state_of(model).kind != "ptq":
            raise ModelError("the model was quantized to be trained: convert it with QAT(config).convert(model)")
        with told(*UNCONVERTED, model):
            return converted(model, inplace=inplace)


def _weight(operand: Operand) -> nn.Module:
    method = operand.settings.weight
    if method in TRAINED_WEIGHTS:
        raise ConfigError(f"{operand.name}: {method!r} is a quantizer to train with (QAT): PTQ takes 'absmax' or 'mse'")
    known: WeightMethod = "mse" if method == "mse" else "absmax"
    return WeightObserver(known, operand.grid, axis=operand.axis, name=operand.name)


def _fold(model: nn.Module, norms: Mapping[str, str]) -> None:
    """Fold batch normalizations into the layers before them, for good."""
    fold_norms(model, norms)
    bake_norms(model)
