"""Sampling: which of many samples are taken; it depends on the seed, the samples' names and their labels alone."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def chosen(
    names: Sequence[str], *, count: int | None, seed: int, labels: npt.NDArray[np.int64] | None = None
) -> tuple[int, ...]:
    """The positions of at most `count` samples, ascending; all of them where `count` is None.

    Each sample draws SHA-256(seed, name), and the smallest draws win: no random generator whose stream changes with
    its version. Where labels are known each class gets its share (`shares`).
    """
    if count is None or count >= len(names):
        return tuple(range(len(names)))
    ranked = sorted(range(len(names)), key=lambda position: _draw(seed, names[position]))
    if labels is None:
        return tuple(sorted(ranked[:count]))
    classes, sizes = np.unique(labels, return_counts=True)
    order = sorted(range(len(classes)), key=lambda index: _draw(seed, f"class {classes[index]}"))
    left = dict(zip(classes.tolist(), shares(sizes.tolist(), count, order=order), strict=True))
    taken = []
    for position in ranked:
        label = int(labels[position])
        if left[label]:
            left[label] -= 1
            taken.append(position)
    return tuple(sorted(taken))


def shares(sizes: Sequence[int], count: int, *, order: Sequence[int]) -> list[int]:
    """Split `count` over classes in proportion to their sizes, by largest remainder.

    Every class gets at least one where `count` allows it, and none more than it has.

    Args:
        sizes: Samples in each class, each at least 1.
        count: At most their sum.
        order: The classes' indices; of equal remainders the class that comes first here wins.
    """
    total = sum(sizes)
    least = 1 if count >= len(sizes) else 0
    given = [max(least, count * size // total) for size in sizes]

    def owed(index: int) -> int:
        return count * sizes[index] - given[index] * total

    while sum(given) < count:
        given[max((index for index in order if given[index] < sizes[index]), key=owed)] += 1
    while sum(given) > count:
        given[min((index for index in order if given[index] > least), key=owed)] -= 1
    return given


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()
