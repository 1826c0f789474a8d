#!/usr/bin/env bash
# In pycocotools an annotation with id 0 is never found: the match is kept as the annotation's id, and 0 stands for no
# match. The detection of it counts as wrong, too. One would expect any number to be a name.
# For a user: numbering annotations by enumerate() costs one object; in a small test set that is points of mAP. Number
# them from 1. Images and categories may have 0.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6

"$work/venv/bin/python" - <<'END'
import contextlib
import io
from importlib.metadata import version

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = [[0, 0, 10, 10], [20, 20, 10, 10]]


def measured(first):
    """Of detections that are the annotations."""
    rows = [{"image_id": 0, "category_id": 0, "bbox": box} for box in BOXES]
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = {
            "images": [{"id": 0, "width": 64, "height": 64}],
            "categories": [{"id": 0, "name": "cat"}],
            "annotations": [row | {"id": i, "area": 100, "iscrowd": 0} for i, row in enumerate(rows, first)],
        }
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes([row | {"score": 0.5} for row in rows]), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return round(float(judged.stats[0]), 3)


print("pycocotools", version("pycocotools"))
print("expected: mAP 1.0 of two perfect detections, however the annotations are numbered")
zero, one = measured(0), measured(1)
print("numbered from 0:", zero)
print("numbered from 1:", one)
if zero == 1.0:
    raise SystemExit("changed: pycocotools now finds annotation 0")
if one != 1.0:
    raise SystemExit("changed: numbering from 1 no longer helps")
END
