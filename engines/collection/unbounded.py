"""Activations that may be infinite: attention masks of -inf before a Softmax, and whatever else needs no range."""

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.errors import ModelError
from calibrators.statistics.file import ScaleGroup
from engines.collection.derived_statistics import Origin
from engines.graph.model import ModelSource, activations, output_specs, scale_groups
from engines.graph.operators import AVERAGES, COMMUTES

GROUPINGS = (COMMUTES | AVERAGES, COMMUTES)
"""Which operators share a scale in a cache, and between Q/DQ nodes."""


def needed_for_quantization(model: ModelSource, proto: onnx.ModelProto) -> set[str]:
    """The activations that Q/DQ nodes need a range of, and those whose ranges decide theirs.

    Raises:
        ModelError: As `engines.qdq.write.quantize` raises it.
    """
    from engines.qdq.write import quantizable_tensors

    needed = set(quantizable_tensors(model, light=True))
    every = (group for through in GROUPINGS for group in scale_groups(proto, through=through))
    groups = [group for group in every if needed & set(group.members)]
    return needed.union(name for group in groups for name in _deciding(group))


def _deciding(group: ScaleGroup) -> Iterator[str]:
    """What may decide a group's scales: its sources, and what operators take of one tensor alone."""
    yield from group.sources
    yield from (name for name, before in group.origins if len(before) == 1)


class Unbounded:
    """Which infinite activations are no fault.

    1. One that Q/DQ nodes quantize is a fault. What shares a scale with it is none: a masked tensor before a MaxPool,
       an operand of a concatenation; the range of what is quantized is then its own.
    2. Of the others, -inf is none: it says "never", as in masks and in scores of what was left out.
    3. +inf is none either, unless an output of the model shares it. A Where, a comparison or a Clip has dealt with it
       before.

    Args:
        model: A path, or a model in memory.
        proto: The model, as `loaded` gives it.
        derived: Tensors whose statistics follow from others': what holds for them holds for those.
    """

    def __init__(self, model: ModelSource, proto: onnx.ModelProto, derived: Mapping[str, Origin]) -> None:
        self._model, self._proto, self._derived = model, proto, derived

    def meant(self, name: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """An activation's values, but -inf where ONNX Runtime's max pooling, of -inf alone, gives the least float."""
        if name not in self._pooled or not values.size:
            return values
        least = np.finfo(values.dtype).min
        return np.where(values <= least, -np.inf, values) if values.min() <= least else values

    def is_fault(self, name: str, values: npt.NDArray[np.floating]) -> bool:
        """Whether an activation with infinite values among these is one."""
        return name in self._quantized or (name in self._outputs and bool(np.isposinf(values).any()))

    def origin(self, name: str, infinite: Collection[str]) -> str:
        """Where infinity comes from: the first of the infinite activations that lead to one of them."""
        makers = {output: node for node in self._proto.graph.node for output in node.output}
        while name in makers:
            read = [self._source(each) for each in makers[name].input]
            before = next((each for each in read if each in infinite and each != name), None)
            if before is None:
                break
            name = before
        return name

    def _source(self, name: str) -> str:
        while name in self._derived:
            name = self._derived[name].source
        return name

    @cached_property
    def _pooled(self) -> set[str]:
        pools = (node for node in self._proto.graph.node if node.op_type in ("GlobalMaxPool", "MaxPool"))
        return {node.output[0] for node in pools}

    @cached_property
    def _quantized(self) -> set[str]:
        """Found when it is first asked for, which is seldom."""
        from engines.qdq.write import quantizable_tensors

        try:
            return self._with_sources(set(quantizable_tensors(self._model, light=True)))
        except ModelError:  # there is nothing to quantize: no activation is known not to matter
            return self._with_sources(set(activations(self._proto)))

    @cached_property
    def _outputs(self) -> set[str]:
        return self._with_sources({spec.name for spec in output_specs(self._proto)})

    def _with_sources(self, names: set[str]) -> set[str]:
        found, waiting = set(names), list(names)
        while waiting:
            origin = self._derived.get(waiting.pop())
            if origin is not None and origin.source not in found:
                found.add(origin.source)
                waiting.append(origin.source)
        return found
