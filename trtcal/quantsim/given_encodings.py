"""Encodings that a simulation is given: from files, caches and mappings, to the tensors that it quantizes."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from calibrators.cache.text import CalibrationCache, usable
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, CacheMismatchError, ModelError, RangeError, listed
from calibrators.range import Range
from engines.graph.model import ModelSource, loaded, scale_groups
from engines.graph.operators import COMMUTES
from engines.graph.parameters import completed
from engines.qdq.cache_scales import foreign, shared_scales
from engines.simulation.simulated_model import Simulation
from trtcal.config.toml_file import nearest

Source = str | os.PathLike[str] | Encodings | CalibrationCache | Mapping[str, Encoding | float | None]


@dataclass(frozen=True, slots=True)
class Given:
    """Encodings of a simulation's tensors.

    Attributes:
        encodings: By name; None for a tensor to leave in float.
        notes: What was not taken as it was given, one line each.
    """

    encodings: Mapping[str, Encoding | None]
    notes: tuple[str, ...] = ()


class Tensors:
    """The tensors that a simulation quantizes, by name.

    Attributes:
        activations: In topological order.
        weights: Each with the names of the layers that it belongs to.
    """

    def __init__(self, model: ModelSource, simulation: Simulation) -> None:
        self._simulation = simulation
        self.activations = tuple(dict.fromkeys(layer.activation for layer in simulation.layers))
        self.weights: dict[str, list[str]] = {}
        for layer in simulation.layers:
            if layer.weight is not None:
                self.weights.setdefault(layer.weight, []).append(layer.name)
        self._graph = loaded(model).graph
        self._every = set(_names(self._graph)) | set(_names(simulation.floats.graph))

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.activations, *self.weights)

    def require(self, name: str) -> None:
        """Refuse a name that is none of them.

        Raises:
            ModelError: The message names the nearest one.
        """
        if name in self.activations or name in self.weights:
            return
        if name not in self._every:
            raise ModelError(f"the model has no tensor {name!r}{self._near(name)}")
        shared = [
            member
            for group in scale_groups(self._simulation.floats, through=COMMUTES)
            if name in group.members
            for member in group.members
            if member in self.activations
        ]
        more = f": {listed(shared)} shares its scale, and is" if shared else self._near(name)
        raise ModelError(f"the tensor {name!r} is not quantized{more}; inputs of layers and their weights are")

    def fitted(self, name: str, value: Encoding | None) -> Encoding | None:
        """An encoding, once it is known to fit the tensor of that name.

        Raises:
            ModelError: It does not, or there is no such tensor.
        """
        self.require(name)
        if value is None:
            return None
        if not isinstance(value, Encoding):
            raise ModelError(f"{name} is given a {type(value).__name__}: give a trtcal.Encoding, or None for float")
        if name in self.activations:
            if value.axis is not None:
                raise ModelError(f"{name} is an activation, which has one scale, not {value.scale.size}: give one")
            return value
        try:
            value.quantize(self._simulation.weight(self.weights[name][0]))
        except RangeError as error:
            raise ModelError(f"the encoding does not fit the weight {name}: {error}") from None
        return value

    def given(self, source: Source) -> Given:
        """Encodings out of a file of any format, a cache or a mapping.

        1. Weights and activations are told apart by the model, which also knows the axis of a weight's channels where a
           file does not.
        2. A calibration cache's scales are those that `engines.qdq.write.quantize` writes: tensors that share a scale
           have the largest.
        3. In any other file, a tensor without an encoding has that of the tensors it shares its values with (both sides
           of pooling, reshapes, concatenation): the widest.
        4. A tensor whose scale is 0, or no number, is left in float.

        Raises:
            CacheMismatchError: A name is not the model's.
            TrtcalError: The source cannot be read, or an encoding does not fit its tensor.
        """
        read = _read(source)
        names = (*read.encodings.activations, *read.encodings.weights, *read.encodings.unusable, *read.absent)
        self._require_known(names, read.where)
        found = completed(read.encodings, self._simulation.floats)
        chosen: dict[str, Encoding | None] = {**dict.fromkeys((*found.unusable, *read.absent)), **found.weights}
        if read.cache is not None:
            scales = shared_scales(read.cache, self._simulation.floats)
            chosen |= {name: of_scale(scales[name]) for name in self.activations if usable(scales.get(name))}
        else:
            chosen |= self._spread(found.activations)
        every = set(self.names)
        taken = {name: self.fitted(name, value) for name, value in chosen.items() if name in every}
        notes = self._notes([name for name in names if name not in every], found.unusable, taken)
        return Given(taken, (*read.encodings.notes, *notes))

    def _notes(self, others: list[str], unusable: Iterable[str], taken: Mapping[str, Encoding | None]) -> Iterator[str]:
        zero = [name for name in unusable if name in taken and taken[name] is None]
        odd = [name for name, value in taken.items() if value is not None and self._misses(name, value)]
        told = (
            (others, "{} encoding(s), such as {}'s, are of tensors not quantized here"),
            (zero, "{} scale(s), such as {}'s, are 0 or no number: what reads them stays in float"),
            (
                odd,
                "{} weight(s), such as {}, go badly with their encodings, which cut many off or leave most levels "
                "unused: were they made before batch normalization was folded?",
            ),
        )
        return (line.format(len(names), names[0]) for names, line in told if names)

    def _misses(self, name: str, value: Encoding) -> bool:
        """Whether a weight's encoding is of other values: it cuts off one in ten, or uses a quarter of its levels."""
        if name not in self.weights:
            return False
        weight = self._simulation.weight(self.weights[name][0])
        levels = value.quantize(weight)
        step = value.dequantize(np.ones(weight.shape, np.int32)) - value.dequantize(np.zeros(weight.shape, np.int32))
        cut = np.abs(value.dequantize(levels) - weight) > step
        reach = value.grid.maximum - value.grid.zero_point if value.grid.symmetric else 0
        return value.grid.bits >= 8 and bool(cut.mean() > 0.1 or np.abs(levels).max(initial=0) < reach / 4)

    def _spread(self, own: Mapping[str, Encoding]) -> dict[str, Encoding]:
        """`own`, and what tensors without an encoding have from those that they share their values with."""
        every = {name: own[name] for name in self.activations if name in own}
        for group in scale_groups(self._simulation.floats, through=COMMUTES):
            known = [own[name] for name in group.sources if name in own]
            known = known or [own[name] for name in group.members if name in own]
            shared = _widest(known)
            if shared is not None:
                every |= {name: shared for name in group.members if name in self.activations and name not in own}
        return every

    def _require_known(self, names: Iterable[str], where: str) -> None:
        others = [name for name in names if name not in self._every]
        internal = foreign(dict.fromkeys(others, 0.0), self._graph)
        strange = [name for name in others if not internal.get(name, False)]
        if strange:
            raise CacheMismatchError(
                f"the model has no tensor {strange[0]!r}, which {where} has an encoding of{self._near(strange[0])}"
                + (f", and {len(strange) - 1} more" if len(strange) > 1 else "")
                + ": give those of this model"
            )

    def _near(self, name: str) -> str:
        return nearest(name, self.names, closeness=0.6)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a source holds.

    Attributes:
        where: What messages call it.
        encodings: By name.
        absent: Names of tensors to leave in float.
        cache: Where it is a calibration cache.
    """

    where: str
    encodings: Encodings
    absent: tuple[str, ...] = ()
    cache: CalibrationCache | None = None


def _read(source: Source) -> _Source:
    from trtcal.conversion import read

    if isinstance(source, (str, os.PathLike)):
        file = read(source, whole=True)
        return _Source(str(source), file.encodings, cache=file.encodings.cache if file.format == "tensorrt" else None)
    if isinstance(source, Encodings):
        return _Source("the encodings", source)
    if isinstance(source, CalibrationCache):
        return _Source("the cache", Encodings.of_cache(source), cache=source)
    if isinstance(source, Mapping):
        encodings = Encodings(dict(_encodings(source)))
        return _Source("the mapping", encodings, tuple(name for name, value in source.items() if value is None))
    raise CacheError(
        f"encodings do not come from a {type(source).__name__}: give a path, a cache, or encodings by name"
    )


def _names(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from (*node.input, *node.output)
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name


def _encodings(source: Mapping[str, Encoding | float | None]) -> Iterable[tuple[str, Encoding]]:
    for name, value in source.items():
        if not isinstance(name, str):
            raise CacheError(f"a tensor has a text for a name, not {name!r}")
        if isinstance(value, Encoding):
            yield name, value
        elif value is not None:
            try:
                yield name, of_scale(float(value))
            except (TypeError, ValueError) as error:
                raise RangeError(
                    f"{name} is given {value!r}: give a trtcal.Encoding, or the scale of an INT8 one"
                ) from error


def _widest(known: list[Encoding]) -> Encoding | None:
    """The encoding of all their ranges; None where there are none, or they have different grids."""
    if not known or any(each.grid != known[0].grid or each.axis is not None for each in known):
        return None
    if all(each == known[0] for each in known):
        return known[0]
    ends = [each.dequantize([each.grid.minimum, each.grid.maximum]).tolist() for each in known]
    if known[0].grid.symmetric:
        return max(known, key=lambda each: float(each.scale))
    return Encoding.of_range(
        Range(min(0.0, *(low for low, _ in ends)), max(0.0, *(high for _, high in ends))), known[0].grid
    )
