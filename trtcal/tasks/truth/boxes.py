"""Boxes of annotations, held against the images that they are in."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import Floats

ROUNDING = 1.0
"""Pixels by which a box may reach over its image's edge and stay as it is: annotations are rounded."""


def within(boxes: Floats, sizes: npt.NDArray[np.int64], called: Callable[[int], str]) -> tuple[Floats, tuple[str, ...]]:
    """Cut boxes at the edges of their images, and say so.

    A box without area, or wholly outside, stays as one without area: no detection matches it, and it counts as missed,
    as in pycocotools.

    Args:
        boxes: Left, top, right, bottom in pixels, of shape (n, 4).
        sizes: Height and width of the image of each, of shape (n, 2).
        called: What a box is called in a note, by its number.

    Returns:
        The boxes, and a note for each thing that should be known.
    """
    edges = np.tile(sizes[:, ::-1], 2).astype(np.float64)
    over = np.any((boxes < -ROUNDING) | (boxes > edges + ROUNDING), axis=1)
    cut = np.where(over[:, None], np.clip(boxes, 0.0, edges), boxes)
    seen = np.all((cut[:, 2:] > np.maximum(cut[:, :2], 0.0)) & (cut[:, :2] < edges[:, :2]), axis=1)
    notes = []
    outside = over & seen
    if outside.any():
        notes.append(f"{_some(outside, called)} more than a pixel outside of the image, and cut at its edges")
    if not seen.all():
        notes.append(f"{_some(~seen, called)} without area in the image: nothing matches such, it counts as missed")
    return cut, tuple(notes)


def _some(which: npt.NDArray[np.bool_], called: Callable[[int], str]) -> str:
    count, first = int(which.sum()), called(int(which.argmax()))
    return f"the box of {first} is" if count == 1 else f"{count} boxes, such as that of {first}, are"
