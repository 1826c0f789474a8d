"""What to quantize, and how: settings by layer, name and operator type."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from calibrators.errors import TrtcalError
from calibrators.weights import WeightMethod
from engines.simulation import Layer

Precision = Literal["int8", "fp16", "fp32", "float"]
"""What a layer computes in; "float" is whatever the build takes for what is not quantized."""


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How a layer is quantized.

    Attributes:
        precision: "int8" quantizes it, on the grids below.
        activation: The range method of its input; None takes the cache's, or a simulation's scheme.
        weight: How scales of its weight are chosen.
        activation_bits: 2 to 16; TensorRT has 8.
        weight_bits: 2 to 16; fewer than 8 are INT8 weights of fewer levels.
        symmetric: Whether its input has zero point 0, as TensorRT wants it.
        granularity: What of its weight shares a scale: "channel", "tensor" or "block:N".
    """

    precision: Precision = "int8"
    activation: str | None = None
    weight: WeightMethod = "absmax"
    activation_bits: int = 8
    weight_bits: int = 8
    symmetric: bool = True
    granularity: str = "channel"


KEYS = tuple(each.name for each in fields(LayerSettings))


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings for some layers.

    Attributes:
        kind: What it goes by.
        pattern: A layer's name; a name or glob; an operator.
        settings: By field of `LayerSettings`; what is not set is left to less specific rules.
    """

    kind: Literal["layer", "name", "type"]
    pattern: str
    settings: Mapping[str, Any]

    def fits(self, layer: Layer) -> bool:
        """Whether it is for a layer."""
        if self.kind == "name":
            return fnmatchcase(layer.name, self.pattern)
        return self.pattern == (layer.name if self.kind == "layer" else layer.type)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a configuration says of a model's layers.

    Attributes:
        layers: By layer name.
        unused: Rules that no layer fits, as a reader would write them.
    """

    layers: Mapping[str, LayerSettings]
    unused: tuple[str, ...] = ()


@dataclass(slots=True)
class QuantConfig:
    """Settings for a model's layers: of one layer before those of names, before those of types, before the default.

    Field by field, the most specific rule that sets it counts, whatever the order of the calls; of rules of one kind
    the first that was added, and an exact name before a glob.
    """

    default: LayerSettings = LayerSettings()
    rules: list[Rule] = field(default_factory=list)

    def add_layer_config(self, layer: str | Iterable[str], **settings: Any) -> "QuantConfig":
        """Settings of one layer or several, by their names."""
        return self._add("layer", layer, settings)

    def add_name_config(self, pattern: str | Iterable[str], **settings: Any) -> "QuantConfig":
        """Settings of the layers whose names fit, exactly or as a glob."""
        return self._add("name", pattern, settings)

    def add_type_config(self, kind: str | Iterable[str], **settings: Any) -> "QuantConfig":
        """Settings of the layers of an operator type, such as "Conv"."""
        return self._add("type", kind, settings)

    def settings(self, layers: Sequence[Layer]) -> Resolved:
        """What it says of a model's layers."""
        found = {layer.name: self._of(layer) for layer in layers}
        unused = [rule for rule in self.rules if not any(map(rule.fits, layers))]
        return Resolved(found, tuple(f"{rule.kind} {rule.pattern}" for rule in unused))

    def _of(self, layer: Layer) -> LayerSettings:
        order = {"layer": 0, "name": 1, "type": 3}
        fitting = sorted(
            (rule for rule in self.rules if rule.fits(layer)),
            key=lambda rule: order[rule.kind] + (rule.kind == "name" and rule.pattern != layer.name),
        )
        chosen: dict[str, Any] = {}
        for rule in reversed(fitting):
            chosen |= rule.settings
        return replace(self.default, **chosen)

    def _add(
        self, kind: Literal["layer", "name", "type"], patterns: str | Iterable[str], settings: Mapping[str, Any]
    ) -> "QuantConfig":
        for key in settings:
            if key not in KEYS:
                raise TrtcalError(f"there is no setting {key!r} of layers: choose among {', '.join(KEYS)}")
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            self.rules.append(Rule(kind, pattern, dict(settings)))
        return self
