"""Any number of samples through something that takes only so many at a time."""

from collections.abc import Callable, Mapping

import numpy as np

from calibrators.batches import Array
from calibrators.errors import DataError, ModelError


def sample_count(name: str, feed: Mapping[str, Array]) -> int:
    """How many samples the arrays of one run hold, on their first axis.

    Args:
        name: What runs them, for messages.
        feed: Arrays by input name, each of one axis or more.

    Raises:
        DataError: There are none, or not as many for every input.
    """
    samples = {key: len(array) for key, array in feed.items()}
    count = next(iter(samples.values()), 0)
    if len(set(samples.values())) > 1 or count == 0:
        sizes = ", ".join(f"{size} for {key}" for key, size in samples.items()) or "none"
        raise DataError(f"{name} takes one or more samples, as many for every input, not {sizes}")
    return count


def run_in_chunks(
    name: str,
    run: Callable[[dict[str, Array]], dict[str, Array]],
    feed: Mapping[str, Array],
    *,
    fewest: int,
    most: int,
) -> dict[str, Array]:
    """Run samples at most `most` at a time, and put the outputs together.

    The last sample is repeated until a run has `fewest`, and what the repeats give is cut off.

    Args:
        name: What runs them, for messages.
        run: Outputs by name, for arrays by input name.
        feed: Arrays by input name, the same number of samples, one or more, on the first axis of each.
        fewest: Samples that a run must have.
        most: Samples that a run can have.

    Raises:
        ModelError: An output cannot be cut into samples.
    """
    count = sample_count(name, feed)
    if fewest <= count <= most:
        return run(dict(feed))
    chunks: list[dict[str, Array]] = []
    for start in range(0, count, most):
        given = min(most, count - start)
        size = max(given, fewest)
        outputs = run({key: filled(array[start : start + given], size) for key, array in feed.items()})
        for key, value in outputs.items():
            if value.ndim == 0 or len(value) != size:
                takes = f"{fewest}" if fewest == most else f"{fewest} to {most}"
                raise ModelError(
                    f"output {key} of {name} has no axis of samples ({shapes_of({key: value})} for {size} "
                    f"sample(s)), and it takes {takes} at a time: run it with a batch size of {takes}"
                )
        chunks.append({key: value[:given] for key, value in outputs.items()})
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}


def filled(array: Array, size: int) -> Array:
    """`array` with its last sample repeated until there are `size`."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def shapes_of(arrays: Mapping[str, Array]) -> str:
    """Names and shapes, for messages."""
    return ", ".join(f"{name}:{'x'.join(map(str, array.shape)) or 'a number'}" for name, array in arrays.items())
