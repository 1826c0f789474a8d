"""Masks of annotations: boxes and areas as pycocotools has them."""

import numpy as np
import pytest

from calibrators.errors import DataError
from trtcal.tasks.truth.segmentations import are_numbers, area, checked, extent

SIZE = (60, 80)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_as_they_are_drawn(seed: int) -> None:
    from pycocotools import mask

    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 12))
    middle, radius = rng.uniform(25, 35, 2), rng.uniform(10, 20)
    polygon = (middle + radius * np.stack([np.cos(turns), np.sin(turns)], 1)).ravel().tolist()
    drawn = mask.frPyObjects([polygon], *SIZE)[0]
    left, top, width, height = mask.toBbox(drawn)
    assert np.abs(np.array(extent([polygon])) - [left, top, left + width, top + height]).max() <= 1
    around = np.abs(np.diff(np.reshape([*polygon, *polygon[:2]], (-1, 2)), axis=0)).sum()
    assert abs(area([polygon]) - mask.area(drawn)) < around  # of pixels at the edge, one or the other
    assert abs(area([polygon]) - mask.area(drawn)) < 0.1 * area([polygon])


def test_runs() -> None:
    from pycocotools import mask

    pixels = np.zeros(SIZE, np.uint8, order="F")
    pixels[10:20, 30:60] = 1
    runs = mask.encode(pixels)
    for counts in (runs["counts"].decode(), [30 * 60 + 10, *[10, 50] * 29, 10, 20 * 60 + 40]):
        found = checked({"size": list(SIZE), "counts": counts}, SIZE)
        assert area(found) == 300
        assert extent(found) == (30, 10, 60, 20)


def test_the_mask_of_several_polygons() -> None:
    segmentation = [[0, 0, 10, 0, 10, 10, 0, 10], [20, 0, 30, 0, 20, 10]]
    assert checked(segmentation, SIZE) == segmentation
    assert area(segmentation) == 150
    assert extent(segmentation) == (0, 0, 30, 10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, 1e300, "1", None, True, [1]])
def test_what_is_no_number(value: object) -> None:
    assert not are_numbers([1, 2.5, value])
    assert not are_numbers([value])
    with pytest.raises(DataError, match="a polygon is of finite numbers, not"):
        checked([[1, 2, 3, 4, 5.5, value]], SIZE)
