"""Where an image lies in a model's input: the way back from the input's pixels to the image's own."""

from dataclasses import dataclass

import numpy as np

from trtcal.tasks.found import Floats

Size = tuple[int, int]
"""Height and width, in pixels."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How an image was resized, padded and cropped into a model's input.

    A point (x, y) of the image lies at ``(x * scale[1] + offset[1], y * scale[0] + offset[0])`` of the input. Both
    count from the left and top edge of the first pixel, not from its centre.

    Attributes:
        size: Of the image itself, as it is looked at (EXIF orientation applied).
        input: Of the model's input.
        scale: Input pixels per pixel of the image, vertically and horizontally.
        offset: Where the image's top and left edge lie in the input, in input pixels; below 0 where it was cropped.
    """

    size: Size
    input: Size
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def whole(cls, size: Size) -> "Placement":
        """Of an image that is the input, as arrays are."""
        return cls(size, size)

    def boxes(self, boxes: Floats) -> Floats:
        """Boxes of the input (n, 4; left, top, right, bottom) in the image's own pixels, cut at its edges."""
        height, width = self.size
        return np.clip((boxes - self._shift(2)) / self._scale(2), 0.0, np.array([width, height, width, height], float))

    def points(self, points: Floats) -> Floats:
        """Points of the input (..., 3; x, y, confidence) in the image's own pixels; they may lie outside."""
        placed = points.copy()
        placed[..., :2] = (points[..., :2] - self._shift(1)) / self._scale(1)
        return placed

    def _shift(self, corners: int) -> Floats:
        return np.array([self.offset[1], self.offset[0]] * corners)

    def _scale(self, corners: int) -> Floats:
        return np.array([self.scale[1], self.scale[0]] * corners)
