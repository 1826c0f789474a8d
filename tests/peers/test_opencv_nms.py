"""OpenCV's non-maximum suppression within classes. Its boxes are left, top, width, height; it computes in float32."""

import numpy as np
import pytest

from tests.peers.installed import needed
from trtcal.tasks.nms import suppressed

cv2 = needed("opencv-python-headless", "cv2")


def drawn(seed: int, count: int, classes: int):
    generator = np.random.default_rng(seed)
    corners = generator.random((count, 2)) * 640
    boxes = np.hstack([corners, corners + 10 + generator.random((count, 2)) * 150]).astype(np.float32)
    return boxes, generator.permutation(count).astype(np.float32) / count, generator.integers(0, classes, count)


@pytest.mark.parametrize("overlap", [0.3, 0.45, 0.7])
@pytest.mark.parametrize("classes", [1, 3, 80])
def test_the_same_boxes_stay_in_the_same_order(classes: int, overlap: float) -> None:
    for seed in range(5):
        boxes, scores, numbers = drawn(seed, 1000, classes)
        sized = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        theirs = cv2.dnn.NMSBoxesBatched(sized.tolist(), scores.tolist(), numbers.tolist(), 0.001, overlap)
        usable = np.flatnonzero(scores > 0.001)
        ours = usable[suppressed(boxes[usable], scores[usable], numbers[usable], overlap, most=1000)]
        assert 50 < len(ours) < 1000
        assert ours.tolist() == list(theirs)
