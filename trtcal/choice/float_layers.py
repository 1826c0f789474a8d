"""Layers that are left in float unasked: those that cost the outputs most, for few multiply-accumulates.

What each layer in INT8 alone adds to the outputs' noise is measured. Noise of different layers adds up, nearly, so that
what is left of it without some layers can be predicted. Layers are chosen by that, and the choice is confirmed by a
run: one that does not help is not kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from calibrators.cache.float_layers import FIRST, FLOAT_BUDGET, FloatLayer
from engines.simulation.simulated_model import FLOAT, Layer, LayerForm
from trtcal.analysis.trials import Trials
from trtcal.choice.kinds import Kinds
from trtcal.choice.knapsack import Floats, Noise, chosen_within
from trtcal.measure.measures import Score, or_least

WORTH = 0.2
"""dB of the worst output that each layer must bring, as predicted, to be left in float."""

CONFIRMED = 0.3
"""dB that the layers must bring together, as measured."""


@dataclass(frozen=True, slots=True)
class FloatLayers:
    """The layers that are left in float, and what that brings.

    Attributes:
        layers: By name, what costs the outputs most first; with them the skip inputs of additions that are fused into
            them. Empty where none helps.
        before: The score with all layers in INT8.
        after: Without these.
        no_room: Layers that would bring something more and that the budget has no room for: the dB of the worst output
            that each is predicted to bring, what brings most first.
    """

    layers: Mapping[str, FloatLayer]
    before: Score
    after: Score
    no_room: Mapping[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the model's multiply-accumulates that are theirs, in percent."""
        return sum(layer.share for layer in self.layers.values())


def choose_float_layers(
    trials: Trials,
    confirming: Trials,
    forms: Mapping[str, LayerForm],
    macs: Mapping[str, int],
    *,
    budget: float = FLOAT_BUDGET,
    kinds: Kinds | None = None,
) -> FloatLayers:
    """Choose layers to leave in float.

    Args:
        trials: Measures versions of the model: each layer alone.
        confirming: Measures the few versions that are left on more images.
        forms: Of its layers as they are quantized.
        macs: Multiply-accumulates of each layer (`engines.simulation.costs.macs`).
        budget: Percent of them that may be in float; or the first layer alone, with `FIRST` times as many at most.
        kinds: Tells what kind of layer each is, for the reasons.
    """
    whole = trials.score(forms)
    layers = trials.simulation.layers
    total = sum(macs.values()) or 1
    shares = {name: 100 * count / total for name, count in macs.items()}
    weighted = [layer.name for layer in layers if layer.weight is not None and forms.get(layer.name, FLOAT) != FLOAT]
    able = [name for name in weighted if shares[name] <= (FIRST * budget if name == weighted[0] else budget)]
    if budget <= 0 or len(weighted) < 2 or whole.identical:
        return FloatLayers({}, whole, whole)
    alone = {name: trials.score({name: forms[name]}) for name in able}
    noise = _noise(whole, alone, shares)
    proposed = _proposed(noise, budget)
    whole = confirming.score(forms) if proposed else whole
    tried = {names: confirming.score(without(forms, names, layers)) for names in proposed}
    best = max(tried, key=lambda names: or_least(tried[names].sqnr), default=())
    if not best or not or_least(tried[best].sqnr) >= or_least(whole.sqnr) + CONFIRMED:
        return FloatLayers({}, whole, whole, _without_room(noise, (), budget))
    described = kinds or Kinds.of(trials.simulation)
    found: dict[str, FloatLayer] = {}
    for name in sorted(best, key=lambda name: or_least(alone[name].sqnr)):
        found[name] = FloatLayer(shares[name], _reason(described.of_layer(name), alone[name], shares[name]))
        for skip in layers:
            if skip.partner == name and skip.name in forms:
                found[skip.name] = FloatLayer(0.0, f"an addition to what {name} gives, which stays in float", name)
    return FloatLayers(found, whole, tried[best], _without_room(noise, best, budget))


def without(forms: Mapping[str, LayerForm], names: Iterable[str], layers: Sequence[Layer]) -> dict[str, LayerForm]:
    """The forms with some layers in float, and with them the skip inputs of additions that are fused into them."""
    left = set(names)
    left |= {layer.name for layer in layers if layer.partner in left}
    return {name: FLOAT if name in left else form for name, form in forms.items()}


def _proposed(noise: Noise, budget: float) -> dict[tuple[str, ...], None]:
    """The sets of layers that are worth a run: the best within the budget, and the first where it alone is more."""
    sets = [chosen_within(noise, budget, worth=WORTH)]
    if noise.names and noise.costs[0] > budget and noise.gain((0,)) >= WORTH:
        sets.append((0,))
    return {tuple(noise.names[place] for place in places): None for places in sets if places}


def _without_room(noise: Noise, names: Sequence[str], budget: float) -> dict[str, float]:
    """What else would bring something, beside the layers of these names, and is too large for what they leave."""
    chosen = tuple(noise.names.index(name) for name in names)
    room = budget - sum(noise.costs[place] for place in chosen)
    gains = {
        name: noise.gain((*chosen, place)) - noise.gain(chosen)
        for place, name in enumerate(noise.names)
        if place not in chosen and noise.costs[place] > room
    }
    return {name: gains[name] for name in sorted(gains, key=lambda name: -gains[name]) if gains[name] >= WORTH}


def _noise(whole: Score, alone: Mapping[str, Score], shares: Mapping[str, float]) -> Noise:
    groups = [name for name, part in whole.groups.items() if part.signal > 0]
    return Noise(
        tuple(alone),
        np.array([shares[name] for name in alone]),
        np.array([_relative(score, groups) for score in alone.values()]).reshape(len(alone), len(groups)),
        _relative(whole, groups),
    )


def _relative(score: Score, groups: Sequence[str]) -> Floats:
    """Noise energy over signal energy, by group."""
    parts = score.groups
    return np.array([parts[name].noise / parts[name].signal if name in parts else 0.0 for name in groups])


def _reason(kind: str, alone: Score, share: float) -> str:
    return (
        f"{kind}: in INT8 it alone brings {alone.worst} down to {alone.sqnr:.1f} dB, and it has {share:.2g} % of the "
        "multiply-accumulates"
    )
