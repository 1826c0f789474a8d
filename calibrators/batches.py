"""Batches: what loaders yield, and how they meet a model's inputs."""

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
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        *,
        names: Sequence[str] = (),
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(arrays)
        self.names = tuple(names) or tuple(f"sample {index}" for index in range(self.size))
        self.labels = labels

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(next(iter(self.values()))) if self else 0


def fitted(batches: Batches, inputs: Iterable[TensorSpec]) -> Batches:
    """The batches for a model with these inputs: a loader that has a `for_model` fits its preprocessing to them."""
    fit = getattr(batches, "for_model", None)
    return batches if fit is None else fit(tuple(inputs))


def bind(batch: Mapping[str, Array] | Array, inputs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Give every model input its array: by name, or a lone array to a lone input.

    Raises:
        DataError: Names, shapes or kinds of number do not fit; the message names the input and both shapes.
    """
    specs = {spec.name: spec for spec in inputs}
    arrays = dict(batch) if isinstance(batch, Mapping) else {IMAGE: np.asarray(batch)}
    if len(arrays) == 1 and len(specs) == 1 and set(arrays) <= {IMAGE}:
        arrays = {next(iter(specs)): next(iter(arrays.values()))}
    missing, unknown = sorted(set(specs) - set(arrays)), sorted(set(arrays) - set(specs))
    if missing or unknown:
        raise DataError(
            f"the data holds {_listed(arrays)}, but the model's inputs are {_listed(specs)}: "
            "name each array as its input"
        )
    return {name: _fitted(array, specs[name]) for name, array in arrays.items()}


def _fitted(array: Array, spec: TensorSpec) -> Array:
    fits = array.ndim == len(spec.shape) and all(
        not isinstance(wanted, int) or wanted == got or axis == 0
        for axis, (wanted, got) in enumerate(zip(spec.shape, array.shape, strict=True))
    )
    if not fits:
        got = "x".join(map(str, array.shape))
        raise DataError(
            f"the model takes {spec}, not {got}: change the preprocessing (size, layout, channels) or the data"
        )
    if array.dtype != spec.dtype:
        if array.dtype.kind != np.dtype(spec.dtype).kind:
            raise DataError(f"input {spec.name} takes {spec.dtype}, not {array.dtype}: change the data or `dtype`")
        array = array.astype(spec.dtype)
    return np.ascontiguousarray(array)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
