"""What a calibration cache says to Q/DQ nodes: shared scales, scales of no use, names that are not the model's."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data
from onnx.numpy_helper import to_array

from calibrators.cache.check import is_internal
from calibrators.cache.text import CalibrationCache, usable
from calibrators.grid import TENSORRT_INT8
from calibrators.statistics.division import divided
from engines.graph.model import FLOAT_TYPES, scale_groups
from engines.graph.operators import AVERAGES, COMMUTES, MOVES

_REPEATS = MOVES | {"Expand", "Tile"}
"""Operators whose outputs have the range of their first input, or less."""


class ReadCache:
    """A cache as Q/DQ nodes read it.

    Args:
        cache: Scales by tensor name.
        model: The prepared model; its weights are not looked at.

    Attributes:
        cache: As given.
        scales: With one for each group of tensors that share it.
        explicit: Those that are its side-car's, and differ from the cache's.
    """

    def __init__(self, cache: Mapping[str, float], model: onnx.ModelProto) -> None:
        self.cache, self._model = cache, model
        self.scales = shared_scales(cache, model)
        sidecar = cache.sidecar if isinstance(cache, CalibrationCache) else None
        self.explicit: Mapping[str, float] = {} if sidecar is None else sidecar.explicit

    def is_shared(self, tensor: str) -> bool:
        """Whether a tensor has the scale of another, as the cache has none or another for itself."""
        return tensor not in self.explicit and self.cache.get(tensor) != self.scales.get(tensor)

    @cached_property
    def averaged(self) -> frozenset[str]:
        """Tensors behind an average pooling that have the scale before it."""
        return frozenset(averaged(self._model, self.scales)) - self.explicit.keys()


def shared_scales(cache: Mapping[str, float], model: onnx.ModelProto) -> dict[str, float]:
    """The cache's scales, with one for each group of tensors that share it: the largest usable one of its sources.

    A group is divided where the cache, or its side-car, has much smaller scales for parts of a tensor
    (`calibrators.statistics.division`).

    A concatenation of which the cache has no scale takes part with that of the constants in it.
    """
    scales = dict(cache)
    if isinstance(cache, CalibrationCache) and cache.sidecar is not None:
        scales.update(cache.sidecar.explicit)
    scales.update((name, scale) for name, scale in _constant_scales(model) if name not in scales)
    for group in scale_groups(model, through=COMMUTES):
        own = {name: scales[name] for name in group.members if usable(scales.get(name)) or scales.get(name) == 0}
        for part in divided(group, own):
            known = [own[name] for name in part.sources if own.get(name)]
            known = known or [own[name] for name in part.members if own.get(name)]
            if known:
                scales.update(dict.fromkeys(part.members, max(known)))
    return scales


def _constant_scales(model: onnx.ModelProto) -> Iterator[tuple[str, float]]:
    """Of each concatenation with constants among its operands, moved or repeated or not, the scale that holds these."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = {
        name: node.input[0] for node in model.graph.node if node.op_type in _REPEATS for name in node.output if name
    }
    for node in model.graph.node:
        if node.op_type == "Concat":
            held = [constants[name] for name in (_first(each, sources) for each in node.input) if name in constants]
            held = [each for each in held if each.data_type in FLOAT_TYPES and not uses_external_data(each)]
            amax = max((float(np.abs(to_array(each)).max(initial=0)) for each in held), default=0.0)
            if amax > 0:
                yield node.output[0], TENSORRT_INT8.symmetric_scale(amax)


def _first(name: str, sources: Mapping[str, str]) -> str:
    while name in sources:
        name = sources[name]
    return name


def averaged(model: onnx.ModelProto, scales: Mapping[str, float]) -> tuple[str, ...]:
    """Tensors that have the scale of what an average pooling reads, and are, or share one with, what it gives."""
    given = {
        node.output[0]
        for node in model.graph.node
        if node.op_type in AVERAGES
        and usable(scales.get(node.input[0]))
        and scales.get(node.input[0]) == scales.get(node.output[0])
    }
    groups = [
        group for group in scale_groups(model, through=COMMUTES) if given & set(group.sources) == set(group.sources)
    ]
    return tuple(dict.fromkeys([*sorted(given), *(name for group in groups for name in group.members)]))


def none_usable(scales: Mapping[str, float], wanted: Sequence[str]) -> str:
    """Why no tensor to quantize has a usable scale."""
    tensors = list(dict.fromkeys(wanted))
    known = {name: scales[name] for name in tensors if name in scales}
    if known and not any(known.values()):
        return (
            f"the cache's scale is zero for every tensor to quantize that it lists ({len(known)} of {len(tensors)}, "
            f"such as {next(iter(known))}): the calibration saw nothing but zeros; calibrate on real images, with the "
            "preprocessing that the model was trained with"
        )
    return (
        f"the cache has a usable scale for none of the {len(tensors)} tensors to quantize, such as {tensors[0]}: "
        "it belongs to another model, or is empty; calibrate this model"
    )


def foreign(cache: Mapping[str, float], graph: onnx.GraphProto) -> dict[str, bool]:
    """The cache's names that are no tensor of the model, and whether TensorRT made them."""
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    known = tensors | {node.name for node in graph.node}
    return {name: is_internal(name, known) for name in cache if name not in tensors}


def unusable(scale: float | None) -> str:
    """What is wrong with a scale, in words."""
    if scale is None:
        return "no scale in the cache"
    return "scale 0 in the cache: it was always zero" if scale == 0 else f"the scale {scale:g} in the cache"
