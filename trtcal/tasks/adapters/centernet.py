"""CenterNet: the middle of each object is a peak in a heat map of its class.

xingyizhou/CenterNet, `src/lib/models/decode.py`, `ctdet_decode`, whose outputs are ``hm`` (N, classes, rows, columns),
``wh`` (N, 2, rows, columns) and ``reg`` (N, 2, rows, columns), each a quarter of the input's size; open-mmlab's
mmdetection has the same (`center_heatmap_pred`, `wh_pred`, `offset_pred`). A peak is a place that none of its eight
neighbours exceeds. With its column and row ``p``, in the map's pixels::

    centre = p + reg, or p + 0.5 without that output        corners = centre ∓ wh / 2

``wh`` and ``reg`` are horizontal first. A heat map holds probabilities, or logits, which have values below 0. Where
there are two classes, too, names tell the outputs apart, else their order does.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from trtcal.tasks.adapter import Adapter, Shapes
from trtcal.tasks.decoding.boxes import sigmoid, top
from trtcal.tasks.decoding.nms import MOST
from trtcal.tasks.decoding.outputs import alike, are_logits, checked, corners, of_rank, says, told
from trtcal.tasks.found import Floats, Found
from trtcal.tasks.placement import Size

HEAT, SIZES, OFFSETS = ("hm", "heat", "cls", "score", "prob"), ("wh", "size", "dim"), ("reg", "off")
"""What the names of the outputs hold."""


class _Roles(NamedTuple):
    heat: str
    sizes: str
    offsets: str | None


def decode(outputs: Mapping[str, Array], size: Size) -> Sequence[Found]:
    """What was found in each sample."""
    roles = _roles(checked(outputs, size, misfit))
    assert roles is not None  # where `misfit` is empty
    samples = range(len(outputs[roles.heat]))
    offsets = [None if roles.offsets is None else outputs[roles.offsets][sample] for sample in samples]
    return [
        _found(outputs[roles.heat][sample], outputs[roles.sizes][sample], offsets[sample], size) for sample in samples
    ]


def misfit(shapes: Shapes, size: Size) -> str:
    """Why these are no outputs of a CenterNet."""
    if _roles(shapes) is None:
        return (
            "maps of one size: (N, classes, rows, columns) heat, (N, 2, rows, columns) sizes, and perhaps "
            f"(N, 2, rows, columns) offsets, not {told(shapes)}"
        )
    return ""


def classes(shapes: Shapes) -> int | None:
    """As many as heat maps."""
    roles = _roles(shapes)
    return None if roles is None else shapes[roles.heat][1]


def _found(heat: Array, sizes: Array, offsets: Array | None, size: Size) -> Found:
    chances = sigmoid(heat) if are_logits(heat) else np.asarray(heat, np.float64)
    count, height, width = chances.shape
    peaks = np.where(_is_peak(chances), chances, 0.0).reshape(count, -1).T
    rows, columns = np.divmod(np.arange(height * width), width)
    centres = np.stack([columns, rows]) + (0.5 if offsets is None else np.asarray(offsets, np.float64).reshape(2, -1))
    halves = np.asarray(sizes, np.float64).reshape(2, -1) / 2
    boxes = np.concatenate([centres - halves, centres + halves]).T
    return top(boxes * corners(size) / corners((height, width)), peaks, most=MOST)


def _is_peak(chances: Floats) -> npt.NDArray[np.bool_]:
    """Whether a place is as high as the highest of its nine; NaN is none, and hides no other."""
    known = np.nan_to_num(chances, nan=-np.inf, posinf=np.inf)
    padded = np.pad(known, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    height, width = chances.shape[1:]
    across = np.maximum(np.maximum(padded[:, :, :width], padded[:, :, 1 : width + 1]), padded[:, :, 2:])
    return np.asarray(known == np.maximum(np.maximum(across[:, :height], across[:, 1 : height + 1]), across[:, 2:]))


def _roles(shapes: Shapes) -> _Roles | None:
    maps = of_rank(shapes, 4)
    planes = [shape[2:] for shape in maps.values()]
    if len(maps) not in {2, 3} or any(not alike(*sizes) for sizes in zip(*planes, strict=True)):
        return None
    heat = _one(maps, HEAT, [name for name, shape in maps.items() if shape[1] != 2])
    pairs = [name for name in maps if name != heat]
    if heat is None or any(not alike(maps[name][1], 2) for name in pairs):
        return None
    if len(pairs) == 1:
        return _Roles(heat, pairs[0], None)
    turned = says(pairs[0], OFFSETS) or says(pairs[1], SIZES)
    sizes, offsets = pairs[::-1] if turned and not says(pairs[0], SIZES) else pairs
    return _Roles(heat, sizes, offsets)


def _one(maps: Shapes, words: Sequence[str], wider: Sequence[str]) -> str | None:
    """The heat map: what has not two channels; where all have two, by name, else the first. None where several are."""
    if wider:
        return wider[0] if len(wider) == 1 else None
    return next((name for name in maps if says(name, words)), next(iter(maps)))


ADAPTER = Adapter(
    name="centernet",
    kind="detect",
    decode=decode,
    misfit=misfit,
    classes=classes,
    summary="CenterNet: heat map, sizes and offsets",
)
