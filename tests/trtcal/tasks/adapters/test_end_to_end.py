"""End-to-end detections with masks and points: rows that a graph picks, against the same rows taken by hand."""

import numpy as np
import pytest
from hotcoco import mask as rle

from calibrators.errors import ModelError
from tests.trtcal.tasks.adapters.heads import Head
from trtcal.tasks.adapters.yolo.end_to_end_pose import ADAPTER as POSE
from trtcal.tasks.adapters.yolo.end_to_end_segment import ADAPTER as SEGMENT
from trtcal.tasks.adapters.yolo.yolov10 import ADAPTER as DETECT

SIZE = (64, 96)
KEPT = 20


def picked(rows: np.ndarray) -> np.ndarray:
    """The rows of the highest scores (channel 4), in ONNX Runtime: as an end-to-end graph leaves them."""
    graph = Head()
    scores = graph.add("Gather", "rows", np.array(4), axis=2)
    _, places = graph.add("TopK", scores, np.array([KEPT]), outputs=2, axis=1)
    where = graph.add("Expand", graph.add("Unsqueeze", places, np.array([2])), np.array([1, 1, rows.shape[2]]))
    graph.add("GatherElements", "rows", where, name="output0", axis=1)
    return graph.run({"rows": rows}, ["output0"])["output0"]


def rows(extra: int) -> np.ndarray:
    """Two samples of 60 rows: a box, a score, a class and more; corners between pixels' edges."""
    generator = np.random.default_rng(0)
    corners = generator.random((2, 60, 2)) * 50
    others = [corners + 5 + generator.random((2, 60, 2)) * 40, generator.random((2, 60, 1))]
    classes = generator.integers(0, 3, (2, 60, 1))
    return np.concatenate([corners, *others, classes, generator.normal(size=(2, 60, extra))], axis=2).astype(np.float32)


def best(sample: np.ndarray) -> np.ndarray:
    return np.array(sorted(sample.tolist(), key=lambda row: -row[4])[:KEPT])


def test_masks_are_sums_of_prototypes_within_their_boxes():
    given = rows(3)
    columns = np.broadcast_to(np.arange(24), (16, 24))
    prototypes = np.stack([np.ones((16, 24)), columns - 11.5, -columns + 11.5]).astype(np.float32)
    outputs = {"output0": picked(given), "output1": np.stack([prototypes, prototypes])}
    for sample, found in zip(given, SEGMENT.decode(outputs, SIZE), strict=True):
        expected = best(sample)
        assert np.abs(found.boxes - expected[:, :4]).max() < 0.01
        assert found.classes.tolist() == expected[:, 5].tolist()
        for row, mask in zip(expected, found.masks, strict=True):
            # prototypes are linear, so that between cells they are what they are at a pixel's centre; flat at the sides
            across = np.clip((np.arange(96) + 0.5) / 4 - 0.5, 0, 23) - 11.5
            there = row[6] + (row[7] - row[8]) * across > 0
            y, x = np.mgrid[: SIZE[0], : SIZE[1]]
            within = (x >= row[0]) & (x < row[2]) & (y >= row[1]) & (y < row[3])
            assert np.array_equal(rle.decode(mask), within & there)


def test_points_stay_with_their_boxes():
    given = rows(6)
    for sample, found in zip(given, POSE.decode({"output0": picked(given)}, SIZE), strict=True):
        expected = best(sample)
        assert np.abs(found.boxes - expected[:, :4]).max() < 0.01
        assert np.abs(found.points - expected[:, 6:].reshape(KEPT, 2, 3)).max() < 0.01


def test_what_is_not_a_number_is_not_found():
    prototypes = np.zeros((2, 3, 16, 24), np.float32)
    for adapter, extra in [(SEGMENT, 3), (POSE, 6)]:
        outputs = {"output0": rows(extra)} if adapter is POSE else {"output0": rows(extra), "output1": prototypes}
        outputs["output0"][:, :, -1] = np.nan
        assert [len(one) for one in adapter.decode(outputs, SIZE)] == [0, 0]


def test_which_outputs_fit():
    both = {"output0": (1, 300, 38), "output1": (1, 32, 160, 160)}
    assert SEGMENT.misfit(both, (640, 640)) == ""
    assert SEGMENT.misfit({**both, "output0": (1, 300, 40)}, (640, 640)).startswith(
        "one output of (N, detections, 6 + 32 coefficients), not output0 (N, 300, 40)"
    )
    assert SEGMENT.misfit({**both, "output0": (1, 116, 8400)}, (640, 640))
    assert SEGMENT.misfit({"output0": (1, 300, 38)}, (640, 640)).startswith("one output of prototypes of (N, coeff")
    assert POSE.misfit({"output0": (1, 300, 57)}, (640, 640)) == ""
    assert POSE.misfit({"output0": (1, 300, 56)}, (640, 640)).endswith("57 channels for 17 points, not 56 channels")
    assert POSE.misfit({"output0": (1, 300, 6)}, (640, 640)).startswith("one output of (N, detections, 6 + 3 points)")
    assert POSE.misfit({"output0": (1, 56, 8400)}, (640, 640)), "channels and anchors of yolov8"
    assert DETECT.misfit({"output0": (1, 300, 57)}, (640, 640))
    with pytest.raises(ModelError, match="do not fit: one output of"):
        SEGMENT.decode({"output0": np.zeros((1, 300, 38))}, (640, 640))
    with pytest.raises(ModelError, match="do not fit: one output of"):
        POSE.decode({"output0": np.zeros((1, 300, 56))}, (640, 640))


def test_parts():
    parts = SEGMENT.parts({"output0": (1, 300, 38), "output1": (1, 32, 160, 160)})
    assert [(part.name, part.first, part.last) for part in parts][2:] == [("classes", 5, 5), ("coefficients", 6, 37)]
    assert [part.last for part in POSE.parts({"output0": (1, 300, 57)})] == [3, 4, 5, 56]
