"""Encodings that a simulation is given: from files, caches and mappings, to the tensors that it quantizes."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from calibrators.cache import CalibrationCache
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.codecs.losses import listed
from calibrators.encoding import Encoding
from calibrators.errors import CacheMismatchError, ModelError, RangeError
from calibrators.range import Range
from engines.graph import COMMUTES, ModelSource, loaded, scale_groups
from engines.parameters import completed
from engines.qdq_caches import foreign, shared_scales
from engines.simulation import Simulation
from trtcal.toml_file import nearest

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
        if value is None or not isinstance(value, Encoding):
            if value is None:
                return None
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
        2. A calibration cache's scales are those that `engines.qdq.quantize` writes: tensors that share a scale have
           the largest.
        3. In any other file, a tensor without an encoding has that of the tensors it shares its values with (both sides
           of pooling, reshapes, concatenation): the widest.
        4. A tensor whose scale is 0, or no number, is left in float.

        Raises:
            CacheMismatchError: A name is not the model's.
            TrtcalError: The source cannot be read, or an encoding does not fit its tensor.
        """
        from trtcal.conversion import read

        absent: dict[str, None] = {}
        cache: CalibrationCache | None = None
        if isinstance(source, (str, os.PathLike)):
            where, file = str(source), read(source, whole=True)
            found, cache = file.encodings, file.encodings.cache if file.format == "tensorrt" else None
        elif isinstance(source, Encodings):
            where, found = "the encodings", source
        elif isinstance(source, CalibrationCache):
            where, found, cache = "the cache", Encodings.of_cache(source), source
        else:
            where, found = "the mapping", Encodings(dict(_encodings(source)))
            absent = {name: None for name, value in source.items() if value is None}
        self._require_known((*found.activations, *found.weights, *found.unusable, *absent), where)
        notes = list(found.notes)
        found = completed(found, self._simulation.floats)
        chosen: dict[str, Encoding | None] = {**dict.fromkeys(found.unusable), **absent, **found.weights}
        if cache is not None:
            scales = shared_scales(cache, self._simulation.floats)
            chosen |= {name: _of_scale(scales[name]) for name in self.activations if name in scales}
        else:
            chosen |= self._spread(found.activations)
        names = {*found.activations, *found.weights, *found.unusable, *absent}
        unquantized = [name for name in names if name not in self.activations and name not in self.weights]
        for name in [name for name in chosen if name not in self.activations and name not in self.weights]:
            del chosen[name]
        if unquantized:
            notes.append(
                f"{len(unquantized)} encoding(s), such as {min(unquantized)}'s, are of tensors not quantized here"
            )
        zero = [name for name in found.unusable if name in chosen and chosen[name] is None]
        if zero:
            notes.append(
                f"{len(zero)} scale(s), such as {zero[0]}'s, are 0 or no number: what reads them stays in float"
            )
        return Given({name: self.fitted(name, value) for name, value in chosen.items()}, tuple(notes))

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
        return nearest(name, self.names, closeness=0.4)


def _names(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from (*node.input, *node.output)
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name


def _encodings(source: Mapping[str, Encoding | float | None]) -> Iterable[tuple[str, Encoding]]:
    for name, value in source.items():
        if isinstance(value, Encoding):
            yield name, value
        elif value is not None:
            try:
                yield name, of_scale(float(value))
            except (TypeError, ValueError) as error:
                raise RangeError(
                    f"{name} is given {value!r}: give a trtcal.Encoding, or the scale of an INT8 one"
                ) from error


def _of_scale(scale: float) -> Encoding | None:
    from calibrators.cache import usable

    return of_scale(scale) if usable(scale) else None


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
