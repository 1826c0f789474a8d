"""Batches of the size that TensorRT calibrates with, from batches of any size."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from calibrators.batches import Array, Batch, Batches, TensorSpec, bind
from calibrators.errors import DataError


class Once(Iterable[Mapping[str, Array] | Array]):
    """The batches of a generator, which can be gone through a single time.

    Raises:
        DataError: While iterating: it has been iterated already.
    """

    def __init__(self, batches: Iterator[Mapping[str, Array] | Array]) -> None:
        self._batches: Iterator[Mapping[str, Array] | Array] | None = batches

    def require_unread(self) -> None:
        """Refuse to go on where the batches have been read."""
        if self._batches is None:
            raise DataError(
                "the calibration batches are a generator that has been read already: give what can be read again, "
                "such as a list or a trtcal.ImageLoader"
            )

    def __iter__(self) -> Iterator[Mapping[str, Array] | Array]:
        self.require_unread()
        batches, self._batches = self._batches, None
        return iter(batches or ())


def batch_size(specs: Sequence[TensorSpec]) -> int:
    """The samples per batch of inputs with fixed shapes.

    Raises:
        DataError: There is no input, a size is not fixed, or the inputs hold different numbers of samples.
    """
    for spec in specs:
        if not spec.shape or not all(isinstance(size, int) and size > 0 for size in spec.shape):
            raise DataError(
                f"calibration needs a fixed shape with samples on its first axis, and input {spec} has none: "
                "state it in the calibration profile"
            )
    sizes = {spec.shape[0]: spec for spec in specs}
    if len(sizes) != 1:
        listed = ", ".join(map(str, specs)) or "no input"
        raise DataError(f"a calibration profile has one batch size for all inputs, and this one has {listed}")
    (size,) = sizes
    return int(size or 0)


def samples_of(batches: Batches) -> int | None:
    """How many samples there are, where that is known before they are read: of a loader with `count`, of a list."""
    count = getattr(batches, "count", None)
    if isinstance(count, int):
        return count
    if not isinstance(batches, (list, tuple)):
        return None
    arrays = [next(iter(batch.values()), ()) if isinstance(batch, Mapping) else batch for batch in batches]
    return sum(len(array) for array in arrays) if all(np.ndim(array) for array in arrays) else None


def recut(batches: Batches, specs: Sequence[TensorSpec]) -> Generator[dict[str, Array], None, None]:
    """Every sample once, in order, in batches of exactly the shapes of `specs`.

    Samples are independent of each other, so where a batch ends means nothing. What is yielded stays as it is only
    until the next batch is asked for.

    Raises:
        DataError: There is no sample; a batch does not fit `specs`; a value is NaN or infinite; the samples do not fill
            the last batch. It is raised after all the batches that could be filled.
    """
    size = batch_size(specs)
    parts: list[dict[str, Array]] = []
    held = count = 0
    for batch in batches:
        arrays = bind(batch, specs)
        given = _samples(arrays)
        _require_finite(arrays, batch.names if isinstance(batch, Batch) else (), count)
        count += given
        start = 0
        while start < given:
            end = min(start + size - held, given)
            parts.append({name: array[start:end] for name, array in arrays.items()})
            held, start = held + end - start, end
            if held == size:
                yield parts[0] if len(parts) == 1 else _joined(parts)
                parts, held = [], 0
        if parts and given:  # a loader may use its arrays again
            parts[-1] = {name: array.copy() for name, array in parts[-1].items()}
    require_whole(count, size)


def require_whole(samples: int, size: int) -> None:
    """Refuse samples that do not fill batches of `size`: none is left out in silence, and none counted twice."""
    if not samples:
        raise DataError("there is no sample to calibrate on: give at least one image")
    if rest := samples % size:
        fewer = f"{samples - rest} or " if samples > size else ""
        fitting = next(divisor for divisor in range(min(size, samples), 0, -1) if samples % divisor == 0)
        raise DataError(
            f"{samples} samples do not fill batches of {size}, the batch size that TensorRT calibrates with here: "
            f"{rest} would be left over; give {fewer}{samples - rest + size} samples, or calibrate in batches of "
            f"{fitting}"
        )


def _samples(arrays: Mapping[str, Array]) -> int:
    sizes = {len(array) for array in arrays.values()}
    if len(sizes) != 1:
        raise DataError(
            f"the inputs of a batch hold different numbers of samples ({sorted(sizes)}): give one per sample each"
        )
    return sizes.pop()


def _require_finite(arrays: Mapping[str, Array], names: Sequence[str], before: int) -> None:
    """Refuse what would spoil every range of the cache. `before` samples went before these."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = next(index for index, sample in enumerate(array) if not np.isfinite(sample).all())
            sample = next(islice(names, index, None), f"sample {before + index}")
            raise DataError(
                f"input {name} is NaN or infinite for {sample}: mend its preprocessing, or leave the sample out"
            )


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
