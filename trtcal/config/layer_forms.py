"""From a configuration and statistics to the forms of a model's layers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.grid import TENSORRT_INT8
from calibrators.methods.names import DEFAULT
from calibrators.ranges import encodings
from calibrators.statistics.file import Statistics
from engines.graph.operators import CONVOLUTIONS
from engines.qdq.placement import SMALL
from engines.simulation.simulated_model import FLOAT, Layer, LayerForm, Simulation
from trtcal.config.layer_settings import LayerSettings, require_untrained


@dataclass(frozen=True, slots=True)
class LayerForms:
    """How a configuration has a model's layers.

    Attributes:
        forms: Of every layer, by name; `FLOAT` for one that stays in float.
        quantized: The names of the layers that are quantized.
        left: The label of each weighted operator or residual Add that is not -> why.
    """

    forms: Mapping[str, LayerForm]
    quantized: tuple[str, ...]
    left: Mapping[str, str]


def layer_forms(
    simulation: Simulation,
    statistics: Statistics,
    method: str = DEFAULT,
    settings: Mapping[str, LayerSettings] | None = None,
) -> LayerForms:
    """The forms of a model's layers, as `engines.qdq.write` would write them.

    Args:
        simulation: The model.
        statistics: Of its activations.
        method: The range method of layers whose settings name none.
        settings: By layer name, as `QuantConfig.settings` gives them; layers without any have the defaults: small
            matrix products are in float.

    Raises:
        ConfigError: A setting is one to train with.
        RangeError: There is no such method, number of bits or granularity.
        ModelError: A weight holds what is no number.
    """
    activations = _Activations(statistics, method)
    forms, left = dict[str, LayerForm](), dict(simulation.left)
    quantized = list[str]()
    require_untrained(settings or {})
    for layer in simulation.layers:
        wanted = (settings or {}).get(layer.name, LayerSettings("float" if layer.small else "int8"))
        form = _form(simulation, layer, wanted, activations)
        if isinstance(form, LayerForm):
            forms[layer.name] = form
            quantized.append(layer.name)
        else:
            forms[layer.name] = LayerForm(half=True) if wanted.precision == "fp16" else FLOAT
            left[layer.name] = form
    return LayerForms(forms, tuple(quantized), left)


class _Activations:
    """The encodings of activations; each method and grid is derived once."""

    def __init__(self, statistics: Statistics, method: str) -> None:
        self._statistics = statistics
        self._method = method
        self._known: dict[tuple[str, int, bool, bool], Mapping[str, Encoding]] = {}

    def of(self, tensor: str, wanted: LayerSettings) -> Encoding | str:
        """A tensor's encoding, or why it has none."""
        if tensor not in self._statistics:
            return "has no statistics"
        method = wanted.activation or self._method
        key = method, wanted.activation_bits, wanted.symmetric, wanted.power_of_two
        if key not in self._known:
            grid = replace(TENSORRT_INT8, bits=wanted.activation_bits, symmetric=wanted.symmetric)
            found = encodings(self._statistics, method, grid)
            if wanted.power_of_two:
                found = {name: encoding.with_powers_of_two() for name, encoding in found.items()}
            self._known[key] = found
        return self._known[key].get(tensor, "was always zero, and has no scale")


def _form(simulation: Simulation, layer: Layer, wanted: LayerSettings, activations: _Activations) -> LayerForm | str:
    """The form of a quantized layer, or why it is not quantized."""
    if wanted.precision == "float" and layer.small:
        return SMALL
    if wanted.precision != "int8":
        return f"the configuration has it in {wanted.precision}"
    activation = activations.of(layer.activation, wanted)
    if isinstance(activation, str):
        return f"its input {layer.activation} {activation}"
    options = wanted.weight_options()
    if options.granularity.kind == "block" and layer.type in CONVOLUTIONS:
        raise ModelError(
            f"{layer.name} is a {layer.type}, and blocks divide the weights of MatMul and Gemm alone: give it another "
            "granularity"
        )
    return LayerForm(activation, None if layer.weight is None else simulation.weight_encoding(layer.name, options))
