#!/usr/bin/env bash
# pycocotools and hotcoco count a detection whose box holds NaN as right: NaN is not below the least overlap, so it
# matches any object of its class. One would expect it to overlap nothing, or an error. (hotcoco refuses NaN scores.)
# For a user: a detector that an FP16 or INT8 engine breaks, so that it gives NaN boxes, may score as well as before.
# Look for NaN before measuring: numpy.isfinite(boxes).all(axis=1), and move such boxes where nothing is.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pycocotools==2.0.11 hotcoco==1.3.0 numpy==2.4.6

"$work/venv/bin/python" - <<'END'
import contextlib
import io
from importlib.metadata import version

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

truth = {
    "images": [{"id": 1, "width": 64, "height": 64}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
    ],
}
NAN = float("nan")
boxes = {
    "right": [0, 0, 10, 10],
    "left is NaN": [NAN, 0, 10, 10],
    "all are NaN": [NAN] * 4,
    "moved away": [-1e6, -1e6, 1, 1],
}


def measured(coco, evaluation, load, box):
    with contextlib.redirect_stdout(io.StringIO()):
        found = getattr(coco, load)([{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5}])
        judged = evaluation(coco, found, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return round(float(judged.stats[0]), 6)


with contextlib.redirect_stdout(io.StringIO()):
    reference = COCO()
    reference.dataset = truth
    reference.createIndex()
libraries = {
    "pycocotools": lambda box: measured(reference, COCOeval, "loadRes", box),
    "hotcoco": lambda box: measured(hotcoco.COCO(truth), hotcoco.COCOeval, "load_res", box),
}
print("pycocotools", version("pycocotools"), "and hotcoco", version("hotcoco"))
print("expected in both: mAP 1.0 for the right box, 0.0 for the others")
results = {name: {kind: library(box) for kind, box in boxes.items()} for name, library in libraries.items()}
for name, values in results.items():
    print(f"{name}:", values)
if results["pycocotools"] != {"right": 1.0, "left is NaN": 1.0, "all are NaN": 1.0, "moved away": 0.0}:
    raise SystemExit("changed: pycocotools no longer finds boxes of NaN, or finds what was moved away")
if results["hotcoco"] != {"right": 1.0, "left is NaN": 1.0, "all are NaN": 0.0, "moved away": 0.0}:
    raise SystemExit("changed: hotcoco no longer finds a box whose left edge is NaN, or finds what was moved away")
END
