"""Semantic segmentation: a class for each pixel, from one of three kinds of output.

- Scores (N, classes, rows, columns), or (N, rows, columns, classes) as TensorFlow has them: the class of the largest.
  A map smaller than the input is first brought to its size, bilinearly between the centres of pixels, as
  open-mmlab/mmsegmentation has it (`models/segmentors/base.py`, `postprocess_result`, `align_corners=False`) and
  `post_process_semantic_segmentation` of Hugging Face's SegFormer.
- One map (N, 1, rows, columns) or (N, rows, columns) of probabilities or logits: class 1 where they are above 0.5, or
  above 0 where some are below 0, which logits are. It is brought to the input's size likewise.
- One map of whole numbers: they are the classes, and the map keeps its size.

Of several such outputs the first is taken: torchvision's ``out`` comes before its ``aux``. A pixel with a score that is
not a number has no class (-1).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.outputs import are_logits, checked, told
from trtcal.tasks.found import Classes, ClassMap, Floats
from trtcal.tasks.placement import Size

UNKNOWN = -1


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[ClassMap]:
    """The class map of each sample, of the input's size at least; labels are of the size they have."""
    name = _chosen(checked(outputs, size, misfit), size)
    assert name is not None  # where `misfit` is empty
    output = outputs[name]
    if output.ndim == 3:
        output = output[:, None]
    elif not _channels_first(output.shape, size):
        output = output.transpose(0, 3, 1, 2)
    return [ClassMap(_of_one(sample[0], size) if len(sample) == 1 else _of_many(sample, size)) for sample in output]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why there is no class map in these."""
    if _chosen(shapes, size) is None:
        return (
            "output of (N, classes, rows, columns) or (N, rows, columns), rows to columns as "
            f"{size[0]} to {size[1]}, not {told(shapes)}"
        )
    return ""


def classes(shapes: Shapes) -> int | None:
    """How many maps there are, 2 of one that may be binary; None where shapes do not tell maps from rows."""
    maps = next((shape for shape in shapes.values() if len(shape) == 4), None)
    if maps is None or any(size is None for size in maps[1:]):
        return None
    _, count, rows, columns = maps
    return count if count is not None and 1 < count < min(rows or 0, columns or 0) else None


def resized(found: ClassMap, size: Size) -> ClassMap:
    """Of another size: each pixel takes the class of the one in which its centre lies."""
    rows, columns = (
        np.minimum((np.arange(to) + 0.5) * of / to, of - 1).astype(np.int64)
        for to, of in zip(size, found.classes.shape, strict=True)
    )
    return ClassMap(found.classes[rows[:, None], columns])


def _of_many(maps: Array, size: Size) -> Classes:
    """The class of the largest score, the first of equal ones; one class at a time, as 150 large maps are much."""
    best = _large(maps[0], size)
    largest = np.zeros(best.shape, np.int64)
    strange = np.isnan(best)
    for number in range(1, len(maps)):
        scores = _large(maps[number], size)
        np.copyto(largest, number, where=scores > best)
        np.fmax(best, scores, out=best)
        strange |= np.isnan(scores)
    largest[strange] = UNKNOWN
    return largest


def _of_one(plane: Array, size: Size) -> Classes:
    values = np.asarray(plane, np.float64)
    known = np.isfinite(values)
    if plane.dtype.kind in "iub" or not (are_logits(values) or (values[known] % 1).any()):
        return np.where(known, np.nan_to_num(values), UNKNOWN).astype(np.int64)
    scores = _large(plane, size)
    found = (scores > (0.0 if are_logits(values) else 0.5)).astype(np.int64)
    found[np.isnan(scores)] = UNKNOWN
    return found


def _large(plane: Array, size: Size) -> Floats:
    """A map of the input's size, if it is smaller; float64, its own copy."""
    values = np.array(plane, np.float64)
    if values.shape[0] * values.shape[1] >= size[0] * size[1]:
        return values
    return _along(_along(values.T, size[1]).T, size[0])


def _along(values: Floats, to: int) -> Floats:
    """Between rows, linearly: row i of `to` lies at ``(i + 0.5) rows / to - 0.5``, at the nearest one outside."""
    rows = len(values)
    places = np.clip((np.arange(to) + 0.5) * rows / to - 0.5, 0, rows - 1)
    above = places.astype(np.int64)
    share = (places - above)[:, None]
    lower = values[np.minimum(above + 1, rows - 1)]
    lower *= share
    upper = values[above]
    upper *= 1 - share
    return np.add(upper, lower, out=lower)


def _chosen(shapes: Shapes, size: Size) -> str | None:
    """The first map; none beside rows of three axes, whose maps are prototypes of masks."""
    if any(len(shape) == 3 and not _is_map(shape, size) for shape in shapes.values()):
        return None
    return next((name for name, shape in shapes.items() if _is_map(shape, size)), None)


def _is_map(shape: Sequence[int | None], size: Size) -> bool:
    if len(shape) == 3:
        return _in_proportion(shape[1:], size)
    return len(shape) == 4 and (_channels_first(shape, size) or _in_proportion(shape[1:3], size))


def _channels_first(shape: Sequence[int | None], size: Size) -> bool:
    return _in_proportion(shape[2:], size)


def _in_proportion(plane: Sequence[int | None], size: Size) -> bool:
    """Whether rows and columns are to each other as the input's, to one of them; a single pixel is no map."""
    rows, columns = plane
    if rows is None or columns is None:
        return rows is None or rows > 1 or columns is None
    return rows * columns > 1 and abs(rows * size[1] - columns * size[0]) <= max(size)


ADAPTER = Adapter(
    name="semantic",
    kind="segment",
    decode=decode,
    misfit=misfit,
    classes=classes,
    summary="a class for each pixel: scores by class, one binary map, or labels",
)
