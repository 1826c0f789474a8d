"""Outputs of a row of channels an anchor or a detection, as the YOLO family has them, and the anchors' grids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from calibrators.errors import ModelError
from trtcal.tasks.adapter import Part, Shapes, shapes_of
from trtcal.tasks.decoding.boxes import cells
from trtcal.tasks.decoding.outputs import told
from trtcal.tasks.placement import Size

USUAL = (8, 16, 32)
"""The strides of the grids of most detectors."""

_STRIDES = (
    USUAL,
    (8, 16, 32, 64),
    (8, 16, 32, 64, 128),
    (4, 8, 16, 32),
    (4, 8, 16, 32, 64),
    (4, 8, 16),
    (8, 16),
    (16, 32),
)
"""Others are those of large inputs (to 64, 128), of small objects (from 4) and of tiny models (two grids).

Any grids at all would be too many: the 300 queries of other detectors are as many as some have cells.
"""


def strides_of(count: int, size: Size) -> tuple[int, ...]:
    """The strides of the grids that have that many cells in all, in an input of that size; empty where none have."""
    return next((strides for strides in _STRIDES if cells(*size, strides) == count), ())


@dataclass(frozen=True, slots=True)
class Layout:
    """The one output of three axes: samples, and rows with their channels in either order.

    Attributes:
        channels: Their meaning, such as "4 + classes".
        axis: Of the channels, 1 or 2.
        least: How many channels there are at least.
        most: How many at most; None where there may be any number.
        each: Rows a cell of the grids, one grid after the other; 0 where rows are no anchors of grids.
    """

    channels: str
    axis: int
    least: int
    most: int | None = None
    each: int = 1

    def misfit(self, shapes: Shapes, size: Size) -> str:
        """Why there is no such output, or several have three axes; empty where there is one."""
        name = _of_three_axes(shapes)
        if name and self._fits(shapes[name], size):
            return ""
        rows = str(self.each * cells(*size, USUAL)) if self.each else "detections"
        wanted = ", ".join(["N", *([self.channels, rows] if self.axis == 1 else [rows, self.channels])])
        of_size = f" for an input of {size[0]}x{size[1]}" if self.each else ""
        return f"one output of ({wanted}){of_size}, not {told(shapes)}"

    def rows(self, outputs: Mapping[str, Array], size: Size) -> npt.NDArray[Any]:
        """The output's channels on the last axis: shape (N, rows, channels).

        Raises:
            ModelError: There is no such output.
        """
        shapes = shapes_of(outputs)
        why = self.misfit(shapes, size)
        if why:
            raise ModelError(f"the model's outputs do not fit: {why}")
        array = outputs[_of_three_axes(shapes)]
        return array if self.axis == 2 else np.swapaxes(array, 1, 2)

    def count(self, shapes: Shapes) -> int | None:
        """How many channels there are; None where that is free."""
        return shapes[_of_three_axes(shapes)][self.axis]

    def parts(self, shapes: Shapes, *ends: tuple[str, int]) -> Sequence[Part]:
        """Parts of the output in order, each a name and the channel it ends before; up to 0, counted from the end."""
        count = self.count(shapes)
        if count is None:
            return ()
        bounds = [0, *(end if end > 0 else count + end for _, end in ends)]
        output = _of_three_axes(shapes)
        return [Part(name, output, self.axis, bounds[i], bounds[i + 1] - 1) for i, (name, _) in enumerate(ends)]

    def _fits(self, shape: tuple[int | None, ...], size: Size) -> bool:
        channels, rows = shape[self.axis], shape[3 - self.axis]
        if channels is not None and not self.least <= channels <= (self.most or channels):
            return False
        if rows is None:
            return True
        if self.each:
            return rows % self.each == 0 and bool(strides_of(rows // self.each, size))
        return not any(_are_anchors(count, size) for count in (rows, channels) if count is not None)


def _are_anchors(count: int, size: Size) -> bool:
    """Whether so many are not detections or channels, but the anchors of grids: of three, as 300 are those of two."""
    return any(len(strides_of(count // each, size)) >= len(USUAL) for each in (1, 3) if count % each == 0)


def _of_three_axes(shapes: Shapes) -> str:
    """The name of the only output of three axes; empty where none or several have three."""
    names = [name for name, shape in shapes.items() if len(shape) == 3]
    return names[0] if len(names) == 1 else ""


def _size(size: int | None) -> str:
    return "?" if size is None else str(size)
