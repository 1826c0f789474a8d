"""How each layer of a simulation is quantized: by its settings, by statistics, and by encodings that were given."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.errors import ModelError, RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.methods.names import canonical, elsewhere
from calibrators.ranges import encodings, method_named
from calibrators.statistics.file import Statistics
from engines.graph.operators import CONVOLUTIONS
from engines.qdq.weights import WeightOptions
from engines.sessions.exactness import default_is_exact
from engines.sessions.onnxruntime import Arithmetic
from engines.simulation.simulated_model import FLOAT, Layer, LayerForm, Simulation
from trtcal.config.layer_settings import LayerSettings, require_untrained
from trtcal.config.settings import QuantConfig

HALF = LayerForm(half=True)


def method_of(scheme: object) -> str:
    """The range method of a scheme: what AIMET calls it (`calibrators.methods.names`), or its own name.

    Args:
        scheme: A text, or a member of AIMET's enumeration of schemes.

    Raises:
        RangeError: There is no such scheme.
    """
    known = "choose tf, tf_enhanced, percentile (or percentile:99.9), or a range method"
    name = scheme.name if isinstance(scheme, Enum) else scheme
    name = name.removeprefix("QuantScheme.") if isinstance(name, str) else name
    if not isinstance(name, str):
        given = " (an example of the inputs is given as dummy_input=)" if isinstance(name, Mapping) else ""
        raise RangeError(f"a scheme is a text, not of type {type(scheme).__name__}{given}: {known}")
    try:
        method_named(name)
    except RangeError as error:
        raise RangeError(f"there is no scheme {name!r}: {elsewhere(name) or known}") from error
    return canonical(name)


def settled(
    layers: Sequence[Layer], config: QuantConfig, method: str, *, output_bits: int | None, weight_bits: int | None
) -> tuple[dict[str, LayerSettings], tuple[str, ...]]:
    """The settings of each layer, with nothing left open, and notes on the configuration.

    An addition that no rule sets apart has its input quantized as the weighted layers do that read the same tensor, if
    they agree: it then has one encoding.

    Args:
        layers: In topological order.
        config: By layer, name, type and default.
        method: What quantizes activations for which the configuration names none.
        output_bits: Of activations, in place of the configuration's default; None for that.
        weight_bits: Likewise, of weights.

    Raises:
        TrtcalError: There are bits that no grid has.
    """
    default = config.default
    default = default if output_bits is None else replace(default, activation_bits=output_bits)
    default = default if weight_bits is None else replace(default, weight_bits=weight_bits)
    every = [replace(layer, small=False) for layer in layers]  # small products are simulated like any others
    resolved = replace(config, default=default).settings(every)
    found = dict(resolved.layers)
    for layer in layers:
        if layer.weight is None and found[layer.name] == default:
            others = {
                _of_activation(found[other.name])
                for other in layers
                if other.activation == layer.activation and other.weight and found[other.name].precision == "int8"
            }
            if len(others) == 1:
                found[layer.name] = replace(default, **dict(others.pop()))
    for name, each in found.items():
        found[name] = replace(each, activation=each.activation or method)
    return found, resolved.notes


def _of_activation(settings: LayerSettings) -> tuple[tuple[str, Any], ...]:
    keys = ("activation", "activation_bits", "symmetric", "power_of_two")
    return tuple((key, getattr(settings, key)) for key in keys)


@dataclass(frozen=True, slots=True)
class Formed:
    """What becomes of a simulation's layers.

    Attributes:
        forms: By layer name.
        left: Names of the layers that stay in float -> why.
        missing: Activations that have no encoding yet, whose layers are in float meanwhile.
    """

    forms: Mapping[str, LayerForm]
    left: Mapping[str, str]
    missing: tuple[str, ...]


class SimulatedLayers:
    """A simulation's layers with their settings.

    Args:
        simulation: The model.
        settings: By layer name, nothing left open.

    Raises:
        ConfigError: A setting is one to train with.
        ModelError: A convolution's weights are to be divided into blocks.
    """

    def __init__(self, simulation: Simulation, settings: Mapping[str, LayerSettings]) -> None:
        require_untrained(settings)
        self.simulation, self.settings = simulation, settings
        self._weights: dict[tuple[str, WeightOptions], Encoding] = {}
        for layer in simulation.layers:
            if layer.type in CONVOLUTIONS and settings[layer.name].granularity.startswith("block"):
                raise ModelError(
                    f"{layer.name} is a {layer.type}, and blocks divide the weights of MatMul and Gemm alone: set its "
                    "granularity to channel"
                )

    @property
    def integer(self) -> tuple[Layer, ...]:
        """Those to quantize."""
        return tuple(each for each in self.simulation.layers if self.settings[each.name].precision == "int8")

    def formed(
        self, statistics: Statistics | None, *, given: Mapping[str, Encoding | None], bits: Mapping[str, int]
    ) -> Formed:
        """What becomes of each layer.

        Args:
            statistics: Of the activations; None where none were gathered yet.
            given: Encodings of activations and weights by name, which count before the statistics; None for a tensor to
                leave in float.
            bits: Of activations and weights by name, before the settings'.
        """
        wanted = {
            layer.name: self._grid(layer, bits)
            for layer in self.integer
            if layer.activation not in given and statistics is not None and layer.activation in statistics
        }
        computed = {}
        for kind in dict.fromkeys(wanted.values()):
            tensors = {layer.activation for layer in self.integer if wanted.get(layer.name) == kind}
            assert statistics is not None
            method, grid = kind
            found = encodings(statistics, method, replace(grid, power_of_two=False), names=tensors)
            if grid.power_of_two:
                found = {name: encoding.with_powers_of_two() for name, encoding in found.items()}
            computed[kind] = found
        forms, left, missing = dict[str, LayerForm](), dict[str, str](), dict[str, None]()
        for layer in self.simulation.layers:
            tensor, precision = layer.activation, self.settings[layer.name].precision
            activation, why = given.get(tensor), ""
            if precision != "int8":
                why = f"its precision is {precision}"
            elif tensor in given:
                why = "" if activation else f"its input {tensor} was given no encoding"
            elif layer.name in wanted:
                activation = computed[wanted[layer.name]].get(tensor)
                why = "" if activation else f"its input {tensor} was always zero"
            else:
                missing[tensor] = None
                why = f"its input {tensor} has no encoding yet"
            if why:
                forms[layer.name] = HALF if precision == "fp16" else FLOAT
                left[layer.name] = why
            else:
                forms[layer.name] = LayerForm(activation, self._weight(layer, given, bits))
        return Formed(forms, left, tuple(missing))

    def _grid(self, layer: Layer, bits: Mapping[str, int]) -> tuple[str, Grid]:
        settings = self.settings[layer.name]
        width = bits.get(layer.activation, settings.activation_bits)
        assert settings.activation is not None
        grid = Grid(width, signed=settings.symmetric, symmetric=settings.symmetric, power_of_two=settings.power_of_two)
        return settings.activation, grid

    def _weight(self, layer: Layer, given: Mapping[str, Encoding | None], bits: Mapping[str, int]) -> Encoding | None:
        if layer.weight is None or layer.weight in given:
            return None if layer.weight is None else given[layer.weight]
        settings = self.settings[layer.name]
        options = settings.weight_options(bits.get(layer.weight))
        if (layer.name, options) not in self._weights:
            self._weights[layer.name, options] = self.simulation.weight_encoding(layer.name, options)
        return self._weights[layer.name, options]


def arithmetic_of(forms: Iterable[LayerForm]) -> Arithmetic:
    """How ONNX Runtime is to run layers of these forms.

    TensorRT's INT8 as it runs the exported model with default options, where that is right; else to the letter, since
    it rounds biases between Q/DQ nodes to whole products of both scales, which TensorRT does not, and which coarser
    scales feel.
    """
    for form in forms:
        weight, activation = form.weight, form.activation
        if activation is not None and replace(activation.grid, power_of_two=False) != TENSORRT_INT8:
            return "literal"
        if weight is not None and (weight.grid.bits, weight.grid.signed, weight.grid.symmetric) != (8, True, True):
            return "literal"
    return "default" if default_is_exact() else "int8"


def by_tensor(layers: Sequence[Layer], forms: Mapping[str, LayerForm]) -> Encodings:
    """The encodings of activations and weights by name, as files hold them.

    Raises:
        ModelError: Layers read one tensor through different encodings.
    """
    activations, weights = dict[str, Encoding](), dict[str, Encoding]()
    readers: dict[str, str] = {}
    for layer in layers:
        form = forms[layer.name]
        for name, value, kept in (
            (layer.activation, form.activation, activations),
            (layer.weight, form.weight, weights),
        ):
            if name is None or value is None:
                continue
            if kept.setdefault(name, value) != value:
                raise ModelError(
                    f"{readers[name]} and {layer.name} read {name} through different encodings, and a file or what is "
                    "frozen holds one: give them the same settings"
                )
            readers.setdefault(name, layer.name)
    return Encodings(activations, weights)
