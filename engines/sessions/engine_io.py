"""What an engine takes and gives, and the shapes that it was built for, as the engine itself says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibrators.batches import Array, TensorSpec
from calibrators.errors import EngineError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The shapes that an optimization profile allows an input.

    Attributes:
        minimum: The smallest, size by size.
        optimum: The one that kernels were chosen for.
        maximum: The largest.
    """

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __str__(self) -> str:
        """As `trtcal build --shapes` has it."""
        texts = ["x".join(map(str, shape)) for shape in (self.minimum, self.optimum, self.maximum)]
        return texts[0] if len(set(texts)) == 1 else "..".join(texts)

    def holds(self, shape: Sequence[int], *, from_axis: int = 0) -> bool:
        """Whether each size of `shape`, from `from_axis` on, is allowed."""
        sizes = zip(self.minimum, shape, self.maximum, strict=True)
        return all(low <= size <= high for low, size, high in list(sizes)[from_axis:])


@dataclass(frozen=True, slots=True)
class Choice:
    """How to run a number of samples.

    Attributes:
        profile: The index of the optimization profile.
        fewest: Samples that a run must have.
        most: Samples that a run can have.
    """

    profile: int
    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class EngineIO:
    """An engine's inputs and outputs.

    Attributes:
        inputs: In the engine's order; a size is an integer where every profile fixes it at the same number.
        outputs: The same.
        profiles: By optimization profile, the range of each input.
        on_host: Outputs that TensorRT writes to the host's memory.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[Mapping[str, Range], ...]
    on_host: frozenset[str] = frozenset()

    def choose(self, feed: Mapping[str, Array], *, name: str) -> Choice:
        """The profile for these arrays: of those that allow what follows the first axis, the one of fewest runs.

        Of profiles alike in that, the one that repeats fewest samples counts, then the one whose optimum is nearest.

        Args:
            feed: Arrays by input name, the same number of samples in each.
            name: The engine's, for messages.

        Raises:
            EngineError: No profile allows the shapes; the message has the ranges of all.
        """
        count = len(next(iter(feed.values())))
        found: list[tuple[tuple[int, int, int], Choice]] = []
        for index, ranges in enumerate(self.profiles):
            fewest = max(ranges[key].minimum[0] for key in feed)
            most = min(ranges[key].maximum[0] for key in feed)
            if 0 < most >= fewest and all(ranges[key].holds(array.shape, from_axis=1) for key, array in feed.items()):
                runs, last = math.ceil(count / most), count % most or most
                best = next(ranges[key].optimum[0] for key in feed)
                rank = (runs, max(0, fewest - last), abs(best - min(count, most)))
                found.append((rank, Choice(index, fewest, most)))
        if not found:
            raise EngineError(self._outside(feed, name))
        return min(found, key=lambda each: each[0])[1]

    def require(self, feed: Mapping[str, Array], *, name: str) -> None:
        """Refuse arrays that no profile takes in one run, as they are.

        Raises:
            EngineError: No profile allows the shapes; the message has the ranges of all.
        """
        if not any(all(ranges[key].holds(array.shape) for key, array in feed.items()) for ranges in self.profiles):
            raise EngineError(self._outside(feed, name))

    def _outside(self, feed: Mapping[str, Array], name: str) -> str:
        shapes = ", ".join(f"{key}:{'x'.join(map(str, array.shape))}" for key, array in feed.items())
        ranges = [", ".join(f"{key}:{each}" for key, each in profile.items()) for profile in self.profiles]
        allowed = ranges[0] if len(ranges) == 1 else "; ".join(f"profile {i}: {text}" for i, text in enumerate(ranges))
        return f"{name} was built for {allowed}, not {shapes}: give that, or build it again with --shapes that allow it"


def read_io(trt: Any, engine: Any, *, name: str) -> EngineIO:
    """Ask an engine for its inputs, outputs and profiles.

    Args:
        trt: Its TensorRT module.
        engine: An `ICudaEngine`.
        name: The engine's, for messages.

    Raises:
        EngineError: trtcal cannot feed an input or take an output: a shape tensor, a format or a type that NumPy lacks.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {key: engine.get_tensor_mode(key) for key in names}
    inputs = [key for key in names if modes[key] == trt.TensorIOMode.INPUT]
    outputs = [key for key in names if modes[key] == trt.TensorIOMode.OUTPUT]
    shapes = {key: tuple(engine.get_tensor_shape(key)) for key in names}
    for key in inputs:
        if engine.is_shape_inference_io(key) or not shapes[key]:
            raise EngineError(
                f"{name}: input {key} holds a shape or a single number, not samples; make it a constant of the model "
                "and build the engine again"
            )
    for key in names:
        if engine.get_tensor_format(key) != trt.TensorFormat.LINEAR:
            layout = str(engine.get_tensor_format(key)).rpartition(".")[2]
            raise EngineError(
                f"{name}: {key} is in the format {layout}; build the engine with linear inputs and outputs"
            )
    profiles = tuple(
        {key: _range(engine, key, shapes[key], index) for key in inputs}
        for index in range(max(1, engine.num_optimization_profiles))
    )
    host = trt.TensorLocation.HOST
    return EngineIO(
        inputs=tuple(
            TensorSpec(key, _sizes([each[key] for each in profiles]), _dtype(engine, key, name)) for key in inputs
        ),
        outputs=tuple(
            TensorSpec(key, tuple(size if size >= 0 else None for size in shapes[key]), _dtype(engine, key, name))
            for key in outputs
        ),
        profiles=profiles,
        on_host=frozenset(key for key in outputs if engine.get_tensor_location(key) == host),
    )


_DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""By TensorRT's name; its other types are none of NumPy's."""


def _dtype(engine: Any, key: str, name: str) -> np.dtype[np.generic]:
    given = engine.get_tensor_dtype(key).name
    if given not in _DTYPES:
        raise EngineError(
            f"{name}: {key} is {given}, a type that NumPy does not have; build the engine with inputs and outputs in "
            "FLOAT or HALF"
        )
    return np.dtype(_DTYPES[given])


def _range(engine: Any, key: str, shape: Shape, profile: int) -> Range:
    if -1 not in shape:  # TensorRT has profiles for dynamic inputs only.
        return Range(shape, shape, shape)
    return Range(*(tuple(each) for each in engine.get_tensor_profile_shape(key, profile)))


def _sizes(ranges: Sequence[Range]) -> tuple[int | None, ...]:
    """A size where all ranges fix it at the same number, else None."""
    columns = [
        {each[axis] for part in ranges for each in (part.minimum, part.maximum)}
        for axis in range(len(ranges[0].minimum))
    ]
    return tuple(next(iter(sizes)) if len(sizes) == 1 else None for sizes in columns)
