"""Run-length encodings against pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco

from trtcal.tasks.decoding.masks import encoded


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (5, 7), (40, 60)])
def test_the_same_as_pycocotools(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encoded(mask) == theirs


@pytest.mark.parametrize("corner", [(0, 0), (3, 4), (0, 9), (8, 0)])
@pytest.mark.parametrize("shape", [(3, 2), (12, 3), (4, 1), (0, 3), (3, 0)])
def test_a_window_of_a_larger_mask(shape, corner):
    height, width = max(shape[0] + corner[0], 1), 12
    window = np.random.default_rng(1).random(shape) < 0.8
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1]] = window
    assert encoded(window, size=(height, width), corner=corner) == coco.encode(whole)
