"""ResNet-20 with weights of 4 bits, one scale for each: rounded in closed form beside AdaRound."""

import json
from pathlib import Path

from benchmarks.analysis.job import TRTCAL, Figures, Job

DATA = Path(__file__).parents[3] / "shared" / "data"


def prepare(folder: Path) -> None:
    """Write the model's ranges and how it is quantized."""
    from benchmarks.recovery import WEIGHTS
    from calibrators.ranges import calibrate
    from engines.collection.collect import collect
    from trtcal.data.images import ImageLoader

    model = DATA / "models" / "cifar10_resnet20.onnx"
    loader = ImageLoader(DATA / "images" / "cifar10_train_512.npz", preprocess="cifar10", count=500)
    calibrate(collect(model, loader)).save(folder / "model.cache")
    (folder / "coarse.toml").write_text(WEIGHTS.format(bits=4))


def judge(old: Path, new: Path) -> Figures:
    """Top-1 of both on the images to judge by, and how many times as fast the step alone is, measuring included."""
    steps = [json.loads((each / "stdout").read_text())["recovery"] for each in (old, new)]
    seconds = [each["steps"][0]["seconds"] for each in steps]
    top1 = [each["steps"][0]["after"]["top1"] for each in steps]
    return {
        "step alone": f"{seconds[0] / seconds[1]:.1f}",
        "top-1 old": f"{top1[0]['hits']}/{top1[0]['total']}",
        "top-1 new": f"{top1[1]['hits']}/{top1[1]['total']}",
    }


def _command(step: str) -> tuple[str, ...]:
    images, model = DATA / "images", DATA / "models" / "cifar10_resnet20.onnx"
    given = ("--cache", "model.cache", "--config", "coarse.toml", "--recover", step, "--preprocess", "cifar10")
    learned = (
        "--images",
        str(images / "cifar10_train_512.npz"),
        "--test-images",
        str(images / "cifar10_test_2000.npz"),
    )
    return (*TRTCAL, "quantize", str(model), *given, *learned, "--json", "-o", "{out}/model.onnx")


JOBS = (Job("rounding of ResNet-20, W4A8", prepare, _command("adaround"), _command("rounding"), 20, judge),)
