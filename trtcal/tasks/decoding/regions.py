"""Connected regions of a binary map, and the smallest rectangle around each."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trtcal.tasks.found import Classes, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Rectangle:
    """A rectangle in any direction.

    Attributes:
        centre: x and y, float64 of shape (2,).
        along: Direction of the first side, of length 1, float64 of shape (2,).
        sides: Their lengths.
    """

    centre: Floats
    along: Floats
    sides: tuple[float, float]

    @property
    def across(self) -> Floats:
        """Direction of the second side."""
        return np.array([-self.along[1], self.along[0]])

    @property
    def corners(self) -> Floats:
        """The four corners, one after the other, each x and y: float64 of shape (4, 2)."""
        first, second = self.along * self.sides[0] / 2, self.across * self.sides[1] / 2
        return self.centre + np.stack([-first - second, first - second, first + second, second - first])

    def grown(self, by: float) -> "Rectangle":
        """With all sides further out by so much."""
        return replace(self, sides=(self.sides[0] + 2 * by, self.sides[1] + 2 * by))


def mean_within(plane: Floats, corners: Floats) -> float:
    """The mean of a map within a convex polygon of corners (n, 2; column, row), which are cut down to whole pixels.

    Pixels are within that are inside, or that a line along an edge would be drawn through: no further from it than half
    a pixel, down or across, whichever the edge is less inclined to. So OpenCV's `fillPoly` has it, but for a few pixels
    at sharp corners.
    """
    most = np.array([plane.shape[1] - 1, plane.shape[0] - 1])
    low = np.clip(np.floor(corners.min(axis=0)), 0, most).astype(np.int64)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, most).astype(np.int64)
    whole = np.trunc(corners - low)
    x, y = np.arange(high[0] - low[0] + 1), np.arange(high[1] - low[1] + 1)[:, None]
    first, last = whole.min(axis=0), whole.max(axis=0)
    inside = (x >= first[0]) & (x <= last[0]) & (y >= first[1]) & (y <= last[1])
    edges = np.roll(whole, -1, axis=0) - whole
    turn = np.sign(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]) or 1.0
    for corner, edge in zip(whole, edges, strict=True):
        side = turn * (edge[0] * (y - corner[1]) - edge[1] * (x - corner[0]))
        inside &= 2 * side >= -np.abs(edge).max()
    values = plane[low[1] : high[1] + 1, low[0] : high[0] + 1][inside]
    return float(values.mean()) if values.size else 0.0


def outlines(binary: npt.NDArray[np.bool_], most: int) -> list[Classes]:
    """The first and last pixels of each region in each of its rows: (column, row) pairs, int64 of shape (n, 2).

    Pixels belong to one region where they touch, at corners too. The largest regions come first, equal ones in the
    order of their first pixels, and no more than `most` of them.
    """
    steps = np.diff(np.pad(binary, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    _, regions = np.unique(_joined(rows, starts, stops, binary.shape[1] + 2), return_inverse=True)
    areas = np.bincount(regions, weights=stops - starts)
    largest = np.argsort(-areas, kind="stable")[:most]
    order = np.argsort(regions, kind="stable")
    cuts = np.searchsorted(regions[order], np.arange(len(areas) + 1))
    ends = np.concatenate([np.stack([starts, rows], axis=1), np.stack([stops - 1, rows], axis=1)], axis=1)[order]
    return [ends[cuts[region] : cuts[region + 1]].reshape(-1, 2) for region in largest]


def smallest_rectangle(points: npt.ArrayLike) -> Rectangle:
    """Of the least area around points (n, 2): it has a side along an edge of their convex hull.

    That is what OpenCV's `minAreaRect` finds by rotating calipers (H. Freeman and R. Shapira, 1975).
    """
    hull = _hull(np.asarray(points))
    edges = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    along = edges[lengths > 0] / lengths[lengths > 0, None] if lengths.any() else np.array([[1.0, 0.0]])
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    reach, depth = hull @ along.T, hull @ across.T
    sides = np.stack([np.ptp(reach, axis=0), np.ptp(depth, axis=0)], axis=1)
    best = int(np.argmin(sides[:, 0] * sides[:, 1]))
    middle = [(each[:, best].min() + each[:, best].max()) / 2 for each in (reach, depth)]
    centre = along[best] * middle[0] + across[best] * middle[1]
    return Rectangle(centre, along[best], (float(sides[best, 0]), float(sides[best, 1])))


def _joined(rows: Classes, starts: Classes, stops: Classes, wide: int) -> Classes:
    """The first run of each run's region, of runs of pixels in the order of rows and columns."""
    first = np.searchsorted(rows * wide + stops, (rows + 1) * wide + starts, side="left")
    last = np.searchsorted(rows * wide + starts, (rows + 1) * wide + stops, side="right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for one, other in zip(upper.tolist(), lower.tolist(), strict=True):
        above, below = sorted((root(one), root(other)))
        parents[below] = above
    return np.array([root(run) for run in parents], np.int64)


def _hull(points: npt.NDArray[np.generic]) -> Floats:
    """The corners of the convex hull, in order (A. M. Andrew, 1979)."""
    ordered = np.unique(points, axis=0).astype(np.float64).tolist()
    if len(ordered) < 3:
        return np.array(ordered)
    halves = [_half(ordered), _half(ordered[::-1])]
    return np.array(halves[0][:-1] + halves[1][:-1])


def _half(points: list[list[float]]) -> list[list[float]]:
    kept: list[list[float]] = []
    for x, y in points:
        while len(kept) > 1 and _turn(kept[-2], kept[-1], x, y) <= 0:
            kept.pop()
        kept.append([x, y])
    return kept


def _turn(one: list[float], two: list[float], x: float, y: float) -> float:
    return (two[0] - one[0]) * (y - one[1]) - (two[1] - one[1]) * (x - one[0])
