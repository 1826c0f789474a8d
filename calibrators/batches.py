"""Batches: what loaders yield, and how they meet a model's inputs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibrators.errors import DataError

IMAGE = "image"
"""The key of an array whose model input is not known yet."""

Array = npt.NDArray[np.generic]
Batches = Iterable[Mapping[str, Array] | Array]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output.

    Attributes:
        name: As in the model.
        shape: An integer where the size is fixed, a name (or None) where it is free.
        dtype: As NumPy has it.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[np.generic]

    def __str__(self) -> str:
        sizes = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}:{sizes}"


class Batch(dict[str, Array]):
    """Arrays by input name, samples on the first axis, with the samples' names and labels.

    Args:
        arrays: By input name; a single array of images may stand under `IMAGE`.
        names: One per sample, for messages: a file name, or a position in an array.
        labels: Class numbers, int64 of shape (samples,), where they are known.

    Raises:
        DataError: An array has no axis of samples, or names or labels are not as many as the samples.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        *,
        names: Sequence[str] = (),
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(arrays)
        for name, array in self.items():
            if np.ndim(array) == 0:
                raise DataError(f"array {name} of a batch is a single number: samples are on its first axis")
        self.names = tuple(names) or tuple(f"sample {index}" for index in range(self.size))
        self.labels = labels
        if len(self.names) != self.size:
            raise DataError(f"a batch of {self.size} samples has {len(self.names)} names: give one per sample")
        if labels is not None and len(labels) != self.size:
            raise DataError(f"a batch of {self.size} samples has {len(labels)} labels: give one per sample")

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(next(iter(self.values()))) if self else 0


def fitted(batches: Batches, inputs: Iterable[TensorSpec]) -> Batches:
    """The batches for a model with these inputs: a loader that has a `for_model` fits its preprocessing to them.

    Raises:
        DataError: They are no iterable of batches but one batch, a path or something else, or do not fit the model.
    """
    if isinstance(batches, np.ndarray):
        raise DataError("the data is one array: give an iterable of batches, such as [array]")
    if isinstance(batches, Mapping):
        raise DataError(f"the data is one batch ({_listed(batches)}): give an iterable of batches, such as [batch]")
    if isinstance(batches, (str, os.PathLike)):
        raise DataError(f"the data is a path, {os.fspath(batches)!r}: open it with trtcal.ImageLoader")
    if not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise DataError(f"the data is of type {type(batches).__name__}: give an iterable of batches, such as [array]")
    fit = getattr(batches, "for_model", None)
    return batches if fit is None else fit(tuple(inputs))


def bind(batch: Mapping[str, Array] | Array, inputs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Give every model input its array: by name, or a lone array to a lone input.

    Raises:
        DataError: Names, shapes, kinds of number or a number's size do not fit; the message names the input.
    """
    specs = {spec.name: spec for spec in inputs}
    given = batch if isinstance(batch, Mapping) else {IMAGE: batch}
    odd = next((name for name in given if not isinstance(name, str)), None)
    if odd is not None:
        raise DataError(f"a batch holds an array under {odd!r}, which is no name: name each array as its input")
    arrays = {name: _array(array, name) for name, array in given.items()}
    if len(arrays) == 1 and len(specs) == 1 and set(arrays) <= {IMAGE}:
        arrays = {next(iter(specs)): next(iter(arrays.values()))}
    missing, unknown = sorted(set(specs) - set(arrays)), sorted(set(arrays) - set(specs))
    if missing or unknown:
        raise DataError(
            f"the data holds {_listed(arrays)}, but the model's inputs are {_listed(specs)}: "
            "name each array as its input"
        )
    return {name: _fitted(array, specs[name]) for name, array in arrays.items()}


def _array(values: npt.ArrayLike, name: str) -> Array:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(f"what a batch holds as {name} is no array: its parts differ in size; give an array") from error


def _fitted(array: Array, spec: TensorSpec) -> Array:
    fits = array.ndim == len(spec.shape) and all(
        not isinstance(wanted, int) or wanted == got or axis == 0
        for axis, (wanted, got) in enumerate(zip(spec.shape, array.shape, strict=True))
    )
    if not fits:
        got = "x".join(map(str, array.shape)) or "a single number"
        if array.ndim == len(spec.shape) + 1 and all(map(_alike, spec.shape, array.shape[1:])):
            raise DataError(
                f"the model takes {spec}, without an axis of samples, and the data has one ({got}): export the model "
                "with such an axis, of size 1 or free"
            )
        raise DataError(
            f"the model takes {spec}, not {got}: change the preprocessing (size, layout, channels) or the data"
        )
    if array.dtype != spec.dtype:
        if array.dtype.kind != np.dtype(spec.dtype).kind:
            raise DataError(f"input {spec.name} takes {spec.dtype}, not {array.dtype}: change the data or `dtype`")
        array = _converted(array, spec)
    return np.ascontiguousarray(array)


def _alike(wanted: int | str | None, got: int) -> bool:
    return not isinstance(wanted, int) or wanted == got


def _converted(array: Array, spec: TensorSpec) -> Array:
    """In another width of the same kind of number, where every value fits in it."""
    if array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(str(spec.dtype))
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            wrong = low if low < limits.min else high
            raise DataError(f"input {spec.name} takes {spec.dtype}, which does not hold {wrong}: change the data")
    try:
        with np.errstate(over="raise"):
            return array.astype(spec.dtype)
    except FloatingPointError as error:
        raise DataError(
            f"input {spec.name} takes {spec.dtype}, and the data holds numbers too large for it: change the data"
        ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
