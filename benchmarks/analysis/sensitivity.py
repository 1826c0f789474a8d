"""`trtcal sensitivity` of ResNet-50 and MobileNetV2, on 16 images."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.analysis.job import TRTCAL, Figures, Job

IMAGES = 16
"""To calibrate on, and as many to judge by."""

TITLES = {"resnet50": "ResNet-50", "mobilenetv2": "MobileNetV2"}

SENSITIVITY = (
    *TRTCAL, "sensitivity", "model.onnx", "--images", "images", "--count", str(IMAGES), "--test-count", str(IMAGES),
    "--preprocess", "imagenet", "--by", "SQNR", "--json",
)  # fmt: skip


def prepare(model: str, folder: Path) -> None:
    """Write a model of the benchmarks and images for it."""
    import onnx

    from benchmarks.images import write_files
    from benchmarks.models import MODELS

    onnx.save(MODELS[model](), folder / "model.onnx")
    (folder / "images").mkdir()
    write_files(folder / "images", 2 * IMAGES)


def judge(old: Path, new: Path) -> Figures:
    """How alike the rankings are: SQNR of each layer alone."""
    every, few = (_alone(folder / "stdout") for folder in (old, new))
    names = list(every)
    ranks = [np.argsort(np.argsort([each[name] for name in names])) for each in (every, few)]
    worst = [set(sorted(names, key=each.__getitem__)[:5]) for each in (every, few)]
    return {
        "rank correlation": round(float(np.corrcoef(ranks)[0, 1]), 4),
        "of the five worst the same": len(worst[0] & worst[1]),
        "largest difference in dB": round(max(abs(every[name] - few[name]) for name in names), 2),
    }


def _alone(file: Path) -> dict[str, float]:
    layers = json.loads(file.read_text())["sensitivity"]["layers"]
    return {each["layer"]: float(each["alone"]["sqnr_db"]) for each in layers}


JOBS = tuple(
    Job(f"sensitivity of {title}", partial(prepare, model), SENSITIVITY, SENSITIVITY, 15, judge)
    for model, title in TITLES.items()
)
