"""Layers that must switch together: which cannot compute in different types without further Q/DQ nodes between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from engines.graph.model import scale_groups
from engines.graph.operators import COMMUTES
from engines.simulation.simulated_model import Layer


@dataclass(frozen=True, slots=True)
class SwitchGroup:
    """Layers that switch together.

    Attributes:
        layers: Their names, in topological order.
        ties: Why, a line for each rule that binds some of them; nothing for a layer on its own.
    """

    layers: tuple[str, ...]
    ties: tuple[str, ...] = ()


def switch_groups(model: onnx.ModelProto, layers: Sequence[Layer]) -> tuple[SwitchGroup, ...]:
    """Divide a model's layers into groups that switch together, in topological order of their first layers.

    1. Layers that read the same tensor: it is quantized once, for all of them. Were one of them left in float, the
       tensor would be written twice, as INT8 and as float.
    2. Layers that read tensors which share a scale, because an operator between them only moves or pools values
       (`engines.graph.model.COMMUTES`) or concatenates them: Q/DQ nodes pass through it, so that one side in float and
       the other in INT8 is one tensor in two types again.
    3. A residual addition and the convolution it is fused into, batch normalization or not between them: the addition
       reads its other input in INT8 only inside an INT8 convolution. Beside a convolution in float, its pair would be a
       round trip through INT8, and beside one in INT8 a skip in float keeps the block's input in float.

    Mostly this gives blocks: a ResNet's (the skip reads what the first convolution reads, and is added to what the last
    one gives), an inverted residual's ends without its depthwise middle, the query, key and value projections of an
    attention. The layers of a plain chain, such as depthwise and pointwise convolutions, are each a group of one.

    Args:
        model: The prepared float model (`Simulation.floats`).
        layers: Its layers (`Simulation.layers`), or those of them that may switch.
    """
    leader = {layer.name: layer.name for layer in layers}
    said = list[tuple[str, str]]()

    def lead(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    def tie(names: Sequence[str], why: str) -> None:
        for name in names[1:]:
            leader[lead(name)] = lead(names[0])
        said.append((names[0], why))

    for names, why in _ties(model, layers):
        tie(names, why)
    members: dict[str, list[str]] = {}
    for layer in layers:
        members.setdefault(lead(layer.name), []).append(layer.name)
    return tuple(
        SwitchGroup(tuple(names), tuple(why for name, why in said if lead(name) == first))
        for first, names in members.items()
    )


def _ties(model: onnx.ModelProto, layers: Sequence[Layer]) -> Iterable[tuple[list[str], str]]:
    """The names of layers that each rule binds, two or more, and why."""
    readers: dict[str, list[str]] = {}
    for layer in layers:
        readers.setdefault(layer.activation, []).append(layer.name)
    for tensor, names in readers.items():
        if len(names) > 1:
            yield names, f"{_listed(names)} read {tensor}"
    for group in scale_groups(model, through=COMMUTES):
        tensors = [tensor for tensor in group.members if tensor in readers]
        if len(tensors) > 1:
            names = [readers[tensor][0] for tensor in tensors]
            yield names, f"{_listed(tensors)}, which {_listed(names)} read, share a scale"
    known = {layer.name for layer in layers}
    for layer in layers:
        if layer.partner in known:
            why = f"{layer.name} is a residual addition's skip, fused into {layer.partner}"
            yield [str(layer.partner), layer.name], why


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
