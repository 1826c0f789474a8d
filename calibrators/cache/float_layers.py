"""Layers that a calibration found better left in float, as the side-car of its cache holds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

FLOAT_BUDGET = 5.0
"""Percent of a model's multiply-accumulates that may stay in float unasked."""


FIRST = 4.0
"""How many times the budget the first layer may have, where it alone stays in float."""


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """A layer to leave in float.

    Attributes:
        share: Its multiply-accumulates, in percent of the model's.
        reason: Why, in words.
        partner: Of the skip input of an addition: the layer that the addition is fused into, with which it goes.
    """

    share: float
    reason: str
    partner: str = ""


def within(layers: Mapping[str, FloatLayer], budget: float) -> dict[str, str]:
    """Of the layers those that a budget has room for, in their order: what brings most comes first.

    Args:
        layers: By name.
        budget: Percent of the multiply-accumulates; the first layer alone may have `FIRST` times as many.

    Returns:
        The reason, by name.
    """
    if budget <= 0:
        return {}
    taken: dict[str, str] = {}
    room = budget
    only = [layer.partner for layer in layers.values()].count("") == 1
    for name, layer in layers.items():
        if layer.partner in taken if layer.partner else layer.share <= (FIRST * budget if only else room):
            taken[name] = layer.reason
            room -= layer.share
    return taken


def float_layers_of(values: object) -> dict[str, FloatLayer] | None:
    """From JSON; None where it is something else."""
    if not isinstance(values, Mapping):
        return None
    found: dict[str, FloatLayer] = {}
    for name, value in values.items():
        if isinstance(value, FloatLayer):
            found[name] = value
            continue
        if not isinstance(value, Mapping) or not isinstance(reason := value.get("reason"), str):
            return None
        share, partner = value.get("share"), value.get("partner", "")
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not isfinite(share) or share < 0:
            return None
        if not isinstance(partner, str):
            return None
        found[name] = FloatLayer(float(share), reason, partner)
    return found
