"""What each group of layers can be switched to: levels of precision, their settings, forms and costs."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

from calibrators.errors import ModelError
from calibrators.statistics.file import Statistics
from engines.simulation.costs import FLOAT_BITS, HALF_BITS, operand_bits
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from engines.simulation.switching_groups import SwitchGroup, switch_groups
from trtcal.config.layer_forms import layer_forms
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.precision.prediction import Levels

Candidate = Literal["int8", "fp16", "fp32"]

CONFIGURED = 0
"""The lowest level: as the configuration has a layer."""

LEVELS: Mapping[Candidate, int] = {"int8": 1, "fp16": 2, "fp32": 3}
"""The others. INT8 is a level of its own where the configuration has coarser grids: weights of 4 bits, or one scale for
a whole weight. It means 8 bits and a scale per output channel."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """A group of layers that switch together, and what they can be switched to.

    Attributes:
        layers: Their names.
        ties: Why they switch together.
        levels: Rising, and so are their costs: a level at which the group costs more than at a higher one is none.
        names: Of each level: "config", "int8", "fp16" or "fp32". The lowest is "int8" where the configuration says no
            less.
        costs: Of the group, by level.
        forms: By level, of its layers.
        settings: By level, what is set of each layer that the configuration has otherwise.
    """

    layers: tuple[str, ...]
    ties: tuple[str, ...]
    levels: tuple[int, ...]
    names: Mapping[int, str]
    costs: Mapping[int, float]
    forms: Mapping[int, Mapping[str, LayerForm]]
    settings: Mapping[int, Mapping[str, Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Ladders:
    """All that can be chosen of a model.

    Attributes:
        groups: What can be switched, in topological order.
        fixed: Forms of the layers that cannot, as the configuration leaves them in float.
        fixed_cost: Theirs.
        left: Label of each operator that stays in float whatever is chosen -> why.
        whole: The cost of all layers at each level's own precision, by "int8", "fp16" and "fp32".
    """

    groups: tuple[Ladder, ...]
    fixed: Mapping[str, LayerForm]
    fixed_cost: float
    left: Mapping[str, str]
    whole: Mapping[str, float]

    def forms(self, levels: Levels) -> dict[str, LayerForm]:
        """The forms of all layers at a choice of levels."""
        forms = dict(self.fixed)
        for group, level in zip(self.groups, levels, strict=True):
            forms |= group.forms[level]
        return forms

    def cost(self, group: int, level: int) -> float:
        """Of a group, by its index, at a level."""
        return self.groups[group].costs[level]

    def total(self, levels: Levels) -> float:
        """The cost of all layers at a choice of levels."""
        return self.fixed_cost + sum(self.cost(group, level) for group, level in enumerate(levels))

    def counts(self, levels: Levels) -> dict[str, int]:
        """How many operators are at each level, by its name: layers with weights, and residual additions."""
        found: dict[str, int] = {}
        for name in ("config", *LEVELS):
            for group, level in zip(self.groups, levels, strict=True):
                if group.names[level] == name:
                    found[name] = found.get(name, 0) + len(group.layers)
        return found

    def config(self, configured: QuantConfig, levels: Levels) -> QuantConfig:
        """The configuration with a rule for each layer that is at a higher level than its own says."""
        config = deepcopy(configured)
        for group, level in zip(self.groups, levels, strict=True):
            for layer, settings in group.settings[level].items():
                config.add_layer_config(layer, **settings)
        return config


Costs = Mapping[str, Mapping[str, float]]
"""By layer name: its cost in "int8", "fp16" and "fp32"; in "config", where that is another one."""


def ladders(
    simulation: Simulation,
    statistics: Statistics,
    *,
    method: str,
    configured: Mapping[str, LayerSettings],
    costs: Costs,
    candidates: Sequence[Candidate],
) -> Ladders:
    """What each group of a model's layers can be switched to.

    Args:
        simulation: The model.
        statistics: Of its activations.
        method: The range method of layers whose settings name none.
        configured: The settings that the search begins with, of every layer.
        costs: Of every layer.
        candidates: The levels to choose from, beside the configuration's own.

    Raises:
        ModelError: There is no layer to switch.
        RangeError: As `trtcal.config.layer_forms.layer_forms` raises it.
    """
    own = layer_forms(simulation, statistics, method, configured)
    free = [layer for layer in simulation.layers if layer.name in set(own.quantized)]
    if not free:
        name, why = next(iter(own.left.items()))
        raise ModelError(f"every layer stays in float, such as {name}, for {why}: there is nothing to choose")
    finer = {**configured, **{layer.name: at_least_int8(configured[layer.name]) for layer in free}}
    better = layer_forms(simulation, statistics, method, finer)
    coarse = {layer.name for layer in free if own.forms[layer.name] != better.forms[layer.name]}
    rungs = {CONFIGURED: _Rung("config", own.forms, {})}
    if "int8" in candidates:
        differing = {name: _difference(configured[name], finer[name]) for name in coarse}
        rungs[LEVELS["int8"]] = _Rung("int8", better.forms, differing)
    floats: dict[Candidate, LayerForm] = {"fp16": LayerForm(half=True), "fp32": FLOAT}
    for name, form in floats.items():
        if name in candidates:
            settings = {layer: {"precision": name} for layer in own.quantized}
            rungs[LEVELS[name]] = _Rung(name, dict.fromkeys(own.quantized, form), settings)
    groups = tuple(
        _ladder(group, rungs, costs, coarse=not coarse.isdisjoint(group.layers))
        for group in switch_groups(simulation.floats, free)
    )
    fixed = {name: form for name, form in own.forms.items() if name not in own.quantized}
    return Ladders(
        groups,
        fixed,
        sum(costs[name]["fp32" if configured[name].precision == "fp32" else "fp16"] for name in fixed),
        own.left,
        {name: sum(each[name] for each in costs.values()) for name in LEVELS},
    )


def at_least_int8(settings: LayerSettings) -> LayerSettings:
    """Settings that are no coarser than TensorRT's INT8: 8 bits, and weights with a scale per output channel."""
    return replace(
        settings,
        activation_bits=max(settings.activation_bits, 8),
        weight_bits=max(settings.weight_bits, 8),
        granularity="channel" if settings.granularity == "tensor" else settings.granularity,
    )


def modelled(macs: Mapping[str, int], configured: Mapping[str, LayerSettings]) -> dict[str, dict[str, float]]:
    """Costs by the model: multiply-accumulates times the width of their operands in bits."""
    widths = {"int8": 8, "fp16": HALF_BITS, "fp32": FLOAT_BITS}
    return {
        name: {
            "config": count * operand_bits(configured[name].activation_bits, configured[name].weight_bits),
            **{precision: count * operand_bits(bits, bits) for precision, bits in widths.items()},
        }
        for name, count in macs.items()
    }


@dataclass(frozen=True, slots=True)
class _Rung:
    """A level, whatever the group: its name, and each layer's form and settings of its own."""

    name: str
    forms: Mapping[str, LayerForm]
    settings: Mapping[str, Mapping[str, object]]


def _ladder(group: SwitchGroup, rungs: Mapping[int, _Rung], costs: Costs, *, coarse: bool) -> Ladder:
    possible = [level for level in rungs if level != LEVELS["int8"] or coarse]
    totals = {
        level: sum(costs[layer].get(rungs[level].name, costs[layer]["int8"]) for layer in group.layers)
        for level in possible
    }
    names = {level: rungs[level].name for level in possible}
    names[CONFIGURED] = "config" if coarse else "int8"
    return Ladder(
        layers=group.layers,
        ties=group.ties,
        levels=tuple(low for low in possible if all(totals[low] <= totals[high] for high in possible if high > low)),
        names=names,
        costs=totals,
        forms={level: {layer: rungs[level].forms[layer] for layer in group.layers} for level in possible},
        settings={
            level: {layer: rungs[level].settings[layer] for layer in group.layers if layer in rungs[level].settings}
            for level in possible
        },
    )


def _difference(before: LayerSettings, after: LayerSettings) -> dict[str, object]:
    keys = ("activation_bits", "weight_bits", "granularity")
    return {key: getattr(after, key) for key in keys if getattr(before, key) != getattr(after, key)}
