"""Boxes of annotations: inside they stay, over an edge they are cut, and what is left without area is told."""

import numpy as np
import pytest

from trtcal.tasks.truth.boxes import within

SIZE = np.array([[48, 64]])

BOXES = {
    "inside": ([1.5, 2, 60, 40], [1.5, 2, 60, 40], None),
    "all of it": ([0, 0, 64, 48], [0, 0, 64, 48], None),
    "over by a rounded pixel": ([-1, -0.5, 65, 48.9], [-1, -0.5, 65, 48.9], None),
    "over the left edge": ([-1.1, 2, 60, 40], [0, 2, 60, 40], "outside"),
    "over all edges": ([-9, -9, 99, 99], [0, 0, 64, 48], "outside"),
    "beside": ([70, 2, 80, 40], [64, 2, 64, 40], "without area"),
    "above": ([1, -20, 8, -10], [1, 0, 8, 0], "without area"),
    "touching": ([64, 2, 64.5, 40], [64, 2, 64.5, 40], "without area"),
    "a line": ([5, 2, 5, 40], [5, 2, 5, 40], "without area"),
}


@pytest.mark.parametrize(("box", "left", "told"), BOXES.values(), ids=BOXES)
def test_a_box(box: list[float], left: list[float], told: str | None) -> None:
    boxes, notes = within(np.array([box], float), SIZE, lambda index: f"box {index}")
    assert boxes.tolist() == [left]
    assert len(notes) == (told is not None)
    assert all(
        f"the box of box 0 is {'' if told == 'without area' else 'more than a pixel '}{told}" in note for note in notes
    )


def test_each_image_has_its_own_edges() -> None:
    boxes, notes = within(
        np.array([[0, 0, 20, 20], [0, 0, 20, 20], [5, 5, 40, 40.0]]),
        np.array([[48, 64], [10, 15], [30, 30]]),
        lambda index: f"number {index}",
    )
    assert boxes.tolist() == [[0, 0, 20, 20], [0, 0, 15, 10], [5, 5, 30, 30]]
    assert notes == (
        "2 boxes, such as that of number 1, are more than a pixel outside of the image, and cut at its edges",
    )
