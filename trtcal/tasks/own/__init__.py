'''Adapters of one's own: ``FILE.toml``, which declares where things stand, and ``module.py:function``, which works.

A file is enough where outputs hold boxes, scores, classes or points as they are meant, up to an activation and a unit.
Each table names an output (needless if there is one), the axis of its channels (as ONNX counts; the last, or 1 of four
axes), and the first and last channel (all)::

    kind = "detect"                # or "keypoints", with a table [points]
    overlap = 0.7                  # leave it out where the graph removes overlapping boxes
    names = ["cat", "dog"]         # optional

    [boxes]
    output = "output0"             # YOLOv8 with boxes from 0 to 1: (N, 4 + classes, anchors)
    axis = 1
    channels = [0, 3]
    format = "centre"              # or "corners" (left, top, right, bottom), "corner-size"
    unit = "normalized"            # or "pixels", of the model's input

    [scores]
    output = "output0"
    axis = 1
    channels = [4, 5]
    activation = "none"            # or "sigmoid", "softmax"
    # background = 0               # a channel that is no class; the others are numbered without it

Further tables: ``[objectness]``, such as ``channels = 4``, which scores are multiplied by; ``[classes]``, numbers of
classes, beside one score for each box; ``[points]`` with ``values = 3`` channels each (x, y, confidence) or 2. With
``kind = "segment"`` there is one table: ``[scores]``, of which the class of the largest is taken at each pixel, or
``[classes]``.

A function is called with outputs by name (arrays, samples first) and the (height, width) of the model's input. It gives
a list with one dict for each sample, or one array of class numbers by row and column (``kind = "segment"``)::

    """Centres and sizes from 0 to 1, two classes."""

    import numpy as np


    def find(outputs, size):
        height, width = size
        found = []
        for rows in outputs["output0"].transpose(0, 2, 1):
            centre, extent = rows[:, :2], rows[:, 2:4]
            boxes = np.hstack([centre - extent / 2, centre + extent / 2]) * [width, height, width, height]
            classes = rows[:, 4:].argmax(axis=1)
            found.append({"boxes": boxes, "scores": rows[:, 4:].max(axis=1), "classes": classes})
        return found


    find.overlap = 0.7            # optional: overlapping boxes of a class are removed
    find.names = ["cat", "dog"]   # optional

Boxes are left, top, right, bottom in the input's pixels. ``find.kind`` is "detect" if it is not set; "segment" takes
``masks`` as well (arrays by row and column, or COCO's), "keypoints" takes ``points`` (n, k, 3: x, y, confidence).

A function with ``better`` is a measure, `OwnMeasure`. It is called with a model's outputs and the float model's of the
same samples, and gives one number for each::

    def distance(outputs, reference_outputs):
        return np.abs(outputs["depth"] - reference_outputs["depth"]).mean(axis=(1, 2, 3))


    distance.better = "lower"
'''

import re
from pathlib import Path

from trtcal.tasks.adapter import Adapter
from trtcal.tasks.own.file import declared
from trtcal.tasks.own.function import OwnMeasure, called

__all__ = ["OwnMeasure", "is_own", "own"]


def is_own(text: str) -> bool:
    """Whether a task is an adapter of one's own, a file or a function, not the name of one of ours."""
    place = text.rpartition(":")[0]
    return text.lower().endswith(".toml") or place.endswith(".py") or bool(re.fullmatch(r"\w+(\.\w+)+:\w+", text))


def own(text: str) -> Adapter | OwnMeasure:
    """What ``FILE.toml``, ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION`` is.

    Raises:
        ConfigError: It cannot be read or loaded, or says what means nothing.
    """
    return declared(Path(text)) if text.lower().endswith(".toml") else called(text)
