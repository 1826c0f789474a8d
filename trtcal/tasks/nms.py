"""Non-maximum suppression: of boxes that overlap and have one class, the one of the highest score stays."""

LEAST = 0.001
"""Scores above it count: Ultralytics' validation keeps them (`conf=0.001`), and a curve over all scores needs them."""

CANDIDATES = 30_000
"""The most boxes before overlaps are removed, as in Ultralytics (`max_nms`)."""

MOST = 300
"""The most detections in an image afterwards: Ultralytics' `max_det`. COCO's measures look at the first 100 a class."""
