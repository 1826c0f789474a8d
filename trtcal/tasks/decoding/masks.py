"""Masks as COCO's run-length encoding."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import Classes


def encoded(
    mask: npt.NDArray[np.bool_], *, size: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)
) -> Any:
    """A mask, or a window of one, as COCO has it: {"size": [height, width], "counts": bytes}.

    Args:
        mask: Of shape (rows, columns).
        size: Height and width of the whole, if this is a window of it.
        corner: Row and column at which the window begins.
    """
    from hotcoco import mask as rle

    height, width = size or mask.shape
    counts: list[int] = np.diff(np.concatenate([[0], _changes(mask, height, corner), [height * width]])).tolist()
    if counts[-1] == 0:  # the mask goes on to the last pixel
        counts.pop()
    return rle.fr_py_objects({"size": [height, width], "counts": counts}, height, width)


def _changes(mask: npt.NDArray[np.bool_], height: int, corner: tuple[int, int]) -> Classes:
    """Where the mask begins and ends, pixels being counted down one column after the other."""
    framed = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    framed[:, 1:-1] = mask.T
    columns, rows = np.nonzero(np.diff(framed, axis=1))
    places = (columns + corner[1]) * height + rows + corner[0]
    same = np.flatnonzero(places[1:] == places[:-1])  # it goes on at the top of the next column
    return np.delete(places, np.concatenate([same, same + 1]))
