"""What a configuration comes to in TensorRT: a plan of its layers, or why there is none."""

from collections.abc import Iterator, Mapping, Sequence

from calibrators.errors import ConfigError
from engines.build.layer_plan import LayerPlan, some
from engines.simulation.simulated_model import Layer
from trtcal.config.layer_settings import LayerSettings, require_untrained
from trtcal.config.rules import Resolved

TENSORRT_BITS = 8


def plan_of(resolved: Resolved, layers: Sequence[Layer]) -> LayerPlan:
    """The plan of a model's layers.

    Raises:
        ConfigError: One is to be quantized as TensorRT cannot.
    """
    int8 = {name: settings for name, settings in resolved.layers.items() if settings.precision == "int8"}
    weighted = {layer.name: int8[layer.name] for layer in layers if layer.weight is not None and layer.name in int8}
    _require_possible(int8, weighted)
    return LayerPlan(
        {name: settings.precision for name, settings in resolved.layers.items() if name not in resolved.small},
        {name: settings.weight_options() for name, settings in weighted.items()},
        {name: settings.activation for name, settings in int8.items() if settings.activation is not None},
        tuple(_notes(resolved, weighted)),
        frozenset(name for name, settings in int8.items() if settings.power_of_two),
        stated=resolved.stated,
    )


def _require_possible(int8: Mapping[str, LayerSettings], weighted: Mapping[str, LayerSettings]) -> None:
    """Refuse what only a simulation can do, or training."""
    require_untrained(int8)
    for found, what, has in (
        ([name for name, each in int8.items() if each.activation_bits != TENSORRT_BITS], "activation_bits", "8"),
        ([name for name, each in int8.items() if not each.symmetric], "symmetric = false", "zero point 0 alone"),
        ([name for name, each in weighted.items() if each.weight_bits > TENSORRT_BITS], "weight_bits", "8 at most"),
    ):
        if found:
            raise ConfigError(
                f"{what} of {some(found)}: TensorRT's INT8 has {has}; change the configuration, or simulate the "
                "model with trtcal.QuantSim, which can do it"
            )


def _notes(resolved: Resolved, weighted: Mapping[str, LayerSettings]) -> Iterator[str]:
    yield from resolved.notes
    for bits in sorted({each.weight_bits for each in weighted.values()} - {TENSORRT_BITS}):
        names = [name for name, each in weighted.items() if each.weight_bits == bits]
        yield (
            f"{len(names)} layer(s), {some(names)}, have weights of {bits} bits: INT8 weights that use "
            f"{2**bits - 1} levels, which TensorRT computes like any others"
        )
