"""`trtcal compare`: eleven range methods on 200 images by both commits, and how far their scores are apart."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.analysis.job import TRTCAL, Figures, Job

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

METHODS = "entropy,minmax,percentile,mean,mse,sqnr,aciq,emd,emd-moments,lsq-scale,best"
"""Those that the oldest commit has: later ones may have more."""

CALIBRATION, TEST = 100, 200


def synthetic(folder: Path, name: str) -> None:
    """A network of `benchmarks.models` with random weights, and images made from seeds."""
    import onnx

    from benchmarks.images import INPUT, SyntheticImages
    from benchmarks.models import MODELS

    onnx.save(MODELS[name](), folder / "model.onnx")
    for seed, (file, count) in enumerate((("calibration.npz", CALIBRATION), ("test.npz", TEST))):
        images = np.concatenate([batch[INPUT] for batch in SyntheticImages(count, seed=seed)])
        np.savez(folder / file, **{INPUT: images})


def resnet20(folder: Path) -> None:
    """The trained ResNet-20, and CIFAR-10."""
    (folder / "model.onnx").symlink_to(SHARED / "models" / "cifar10_resnet20.onnx")
    (folder / "calibration.npz").symlink_to(SHARED / "images" / "cifar10_train_512.npz")
    (folder / "test.npz").symlink_to(SHARED / "images" / "cifar10_test_2000.npz")


def judge(old: Path, new: Path) -> Figures:
    """Whether both take the same method, and how far the SQNR of any method is apart, in dB."""
    one, other = (json.loads((folder / "stdout").read_text()) for folder in (old, new))
    old_db, new_db = ({each["method"]: each["sqnr_db"] for each in found["methods"]} for found in (one, other))
    return {
        "methods": len(new_db),
        "old winner": one["winner"],
        "new winner": other["winner"],
        "dB apart at most": round(max(abs(old_db[name] - new_db[name]) for name in old_db), 3),
    }


def _job(name: str, prepare: Callable[[Path], None], preprocess: str) -> Job:
    images = ("--images", "calibration.npz", "--count", str(CALIBRATION), "--preprocess", preprocess)
    test = ("--test-images", "test.npz", "--test-count", str(TEST))
    command = (*TRTCAL, "compare", "model.onnx", *images, *test, "--methods", METHODS, "--json")
    return Job(name, prepare, command, command, 4.0, judge)


JOBS = (
    _job("compare on ResNet-20", resnet20, "cifar10"),
    _job("compare on MobileNetV2", partial(synthetic, name="mobilenetv2"), "none"),
)
"""An older commit's SQNR may be that of all outputs together, which is the same where there is one of one kind."""
