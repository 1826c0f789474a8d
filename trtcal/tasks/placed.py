"""Masks and maps of classes of a model's input, in the pixels of the image itself."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import ClassMap, Segmentation
from trtcal.tasks.placement import Placement


def mapped(found: ClassMap, place: Placement) -> ClassMap:
    """A map of classes of the input, or of a part of its size, in the image's own pixels; -1 outside of the input."""
    return ClassMap(_looked_up(found.classes, place, outside=-1))


def masks_placed(masks: Sequence[Segmentation], place: Placement) -> tuple[Segmentation, ...]:
    """Masks of the input in the image's own pixels: polygons by their corners, others by what lies at each pixel."""
    return tuple(_mask(each, place) for each in masks)


def _mask(mask: Segmentation, place: Placement) -> Segmentation:
    if isinstance(mask, Sequence):
        corners = np.array([place.offset[1], place.offset[0]]), np.array([place.scale[1], place.scale[0]])
        return [((np.reshape(each, (-1, 2)) - corners[0]) / corners[1]).ravel().tolist() for each in mask]
    from hotcoco import mask as coding

    pixels = coding.decode(dict(mask)).astype(np.int64)
    return coding.encode(np.asfortranarray(_looked_up(pixels, place, outside=0).astype(np.uint8)))


def _looked_up(values: npt.NDArray[np.int64], place: Placement, *, outside: int) -> npt.NDArray[np.int64]:
    """For each pixel of the image, the value where its centre lies in the input."""
    rows, columns = (
        np.floor(((np.arange(place.size[axis]) + 0.5) * place.scale[axis] + place.offset[axis]) * step).astype(int)
        for axis, step in enumerate(np.divide(values.shape, place.input))
    )
    inside = np.logical_and.outer((rows >= 0) & (rows < values.shape[0]), (columns >= 0) & (columns < values.shape[1]))
    taken = values[np.clip(rows, 0, values.shape[0] - 1)[:, None], np.clip(columns, 0, values.shape[1] - 1)]
    return np.where(inside, taken, outside)
