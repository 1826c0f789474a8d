"""How a layer is quantized: the settings that there are, and what they may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import cast, get_args

from calibrators.errors import ConfigError, RangeError
from calibrators.methods.names import elsewhere
from calibrators.ranges import METHODS, method_named
from calibrators.weights import WeightMethod, instead_of_weight_method
from engines.build.layer_plan import LayerPrecision as Precision
from engines.qdq.weights import Granularity, WeightOptions
from trtcal.config.quantizer_names import TRAINED_ACTIVATIONS, TRAINED_WEIGHTS, activation_named, weight_named
from trtcal.config.toml_file import nearest

__all__ = ["CLOSENESS", "KEYS", "LayerSettings", "Precision"]

CLOSENESS = 0.4
"""Of a word to the valid one that a message proposes."""


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How a layer is quantized.

    Attributes:
        precision: "int8" quantizes it, on the grids below.
        activation: The range method of its input; None takes the cache's, or a simulation's scheme. To train with
            (`trtcal.qat.QAT`), a quantizer: lsq, lsq+, pact, learned-range, moving-average-absmax. What other tools
            call these (`calibrators.methods.names`) is understood, and kept under the name that it has here.
        weight: How scales of its weight are chosen; to train with, absmax, lsq, lsq+ or learned-range.
        activation_bits: 2 to 16; TensorRT has 8.
        weight_bits: 2 to 16; fewer than 8 are INT8 weights of fewer levels.
        symmetric: Whether its input has zero point 0, as TensorRT wants it.
        granularity: What of its weight shares a scale: "channel", "tensor" or "block:N".
        power_of_two: Whether its scales, of input and weight, are powers of two: the next one that holds the range.

    Raises:
        ConfigError: A value means nothing; the message names the key.
    """

    precision: Precision = "int8"
    activation: str | None = None
    weight: str = "absmax"
    activation_bits: int = 8
    weight_bits: int = 8
    symmetric: bool = True
    granularity: str = "channel"
    power_of_two: bool = False

    def __post_init__(self) -> None:
        for key, named in (("activation", activation_named), ("weight", weight_named)):
            if isinstance(given := getattr(self, key), str):  # else it is refused below
                object.__setattr__(self, key, named(given))
        _require_word("precision", self.precision, get_args(Precision))
        _require_word("weight", self.weight, (*get_args(WeightMethod), *TRAINED_WEIGHTS))
        for key in ("activation_bits", "weight_bits"):
            bits = getattr(self, key)
            if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= 16:
                raise ConfigError(f"{key} must be a whole number from 2 to 16, not {bits!r}")
        for key in ("symmetric", "power_of_two"):
            if not isinstance(getattr(self, key), bool):
                raise ConfigError(f"{key} must be true or false, not {getattr(self, key)!r}")
        if self.activation is not None and self.activation not in TRAINED_ACTIVATIONS:
            known = (*METHODS, "absmax", "percentile:99.9", *TRAINED_ACTIVATIONS)
            _require_known("activation", self.activation, known, method_named)
        _require_known("granularity", self.granularity, ("channel", "tensor", "block:32"), Granularity.parse)

    def weight_options(self, bits: int | None = None) -> WeightOptions:
        """How scales of its weight are found without training, with another number of bits where one is given."""
        method = cast(WeightMethod, self.weight)  # others are refused by `require_untrained`
        return WeightOptions(method, Granularity.parse(self.granularity), bits or self.weight_bits, self.power_of_two)


KEYS = tuple(each.name for each in fields(LayerSettings))


def require_untrained(layers: Mapping[str, LayerSettings]) -> None:
    """Refuse, of quantized layers by name, settings that only training can honour.

    Raises:
        ConfigError: One names a quantizer to train with; the message names the layer.
    """
    for name, each in layers.items():
        trained = {each.activation} & {*TRAINED_ACTIVATIONS} | {each.weight} & {*TRAINED_WEIGHTS}
        if trained and each.precision == "int8":
            raise ConfigError(
                f"{trained.pop()!r}, which the configuration has for {name}, is a quantizer to train a PyTorch model "
                "with: train with trtcal.qat.QAT, or choose a range method"
            )


def _require_word(key: str, value: object, valid: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in valid:
        near = nearest(str(value), valid, closeness=CLOSENESS)
        if key == "weight":
            near = instead_of_weight_method(str(value)) or near
        raise ConfigError(f"{key} must be one of {', '.join(valid)}, not {value!r}{near}")


def _require_known(key: str, value: object, valid: tuple[str, ...], known: Callable[[str], object]) -> None:
    """Refuse a word that `known` refuses, and say which of `valid` is nearest."""
    if not isinstance(value, str):
        name = activation_named(value.__name__ if isinstance(value, type) else type(value).__name__)
        such = name if name in valid else valid[0]  # other tools, and `trtcal.qat`, have a class of each
        raise ConfigError(f"{key} must be text, such as {such!r}, not {value!r}")
    try:
        known(value)
    except RangeError as error:
        near = "" if elsewhere(value) else nearest(value, valid, closeness=CLOSENESS)
        raise ConfigError(f"{key}: {error}{near}") from error
