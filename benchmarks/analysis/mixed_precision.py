"""Mixed precision: the same target by both commits; what the choices cost, and whether they hold on other images."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.analysis.job import TRTCAL, Figures, Job

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TOML = 'channels = "RGB"\nmean = 127\nstd = 128\n[resize]\nmode = "exact"\n'


def classifier(folder: Path) -> None:
    """ResNet-20, images to calibrate on, half of the test images to judge by, and the other half to hold it to."""
    _link(folder, SHARED / "models" / "cifar10_resnet20.onnx")
    _link(folder, SHARED / "images" / "cifar10_train_512.npz", "calibration.npz")
    with np.load(SHARED / "images" / "cifar10_test_2000.npz") as arrays:
        for name, part in (("test.npz", slice(0, None, 2)), ("others.npz", slice(1, None, 2))):
            np.savez(folder / name, **{key: value[part] for key, value in arrays.items()})


def detector(folder: Path, count: int = 80) -> None:
    """UltraFace, and cut-outs of photographs: to calibrate on, to judge by and to hold it to."""
    _link(folder, SHARED / "models" / "ultraface_rfb_320.onnx")
    (folder / "faces.toml").write_text(TOML)
    photographs = sorted((SHARED / "images" / "faces").iterdir())
    for seed, name in enumerate(("calibration", "test", "others")):
        (folder / name).mkdir()
        random = np.random.default_rng(seed)
        for number in range(count):
            cut = _cut_out(Image.open(photographs[number % len(photographs)]).convert("RGB"), random)
            cut.save(folder / name / f"{number:03}.png")


def judge(model: str, images: Sequence[str], sqnr: float, old: Path, new: Path) -> Figures:
    """Both costs in percent of FP32, and the SQNR of both choices on images that neither has seen, in dB."""
    found = {"old": old, "new": new}
    figures: dict[str, object] = {}
    for name, folder in found.items():
        told = json.loads((folder / "stdout").read_text())
        figures[f"{name} cost %"] = round(100 * told["result"]["cost"] / told["cost_of_whole"]["fp32"], 2)
        figures[f"{name} evaluations"] = told["evaluations"]
        figures[f"{name} dB on others"] = round(_elsewhere(old.parent, folder / "quant.toml", model, images), 2)
    figures["target"] = f"{sqnr:g} dB"
    return figures


def _elsewhere(folder: Path, settings: Path, model: str, images: Sequence[str]) -> float:
    """The SQNR of a choice on the other images, by the measure of this commit."""
    from engines.simulation.simulated_model import Simulation
    from trtcal.analysis.judging import calibrated
    from trtcal.analysis.step import unshown
    from trtcal.analysis.trials import Trials
    from trtcal.config.layer_forms import layer_forms
    from trtcal.config.settings import QuantConfig
    from trtcal.data.split import ImageChoice

    calibration, others, preprocess = images
    preset = folder / preprocess if preprocess.endswith(".toml") else preprocess
    choice = ImageChoice(folder / calibration, test_images=folder / others, preprocess=preset, test_count=2000)
    judging = calibrated(folder / model, choice, step=unshown)
    simulation = Simulation(folder / model)
    config = QuantConfig.load(settings).settings(simulation.layers)
    forms = layer_forms(simulation, judging.statistics, "entropy", config.layers).forms
    return Trials(simulation, judging.parts.test, task=judging.task).score(forms).sqnr


def _cut_out(photograph: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of a photograph, perhaps mirrored, lighter or darker."""
    share = random.uniform(0.5, 1)
    width, height = (int(side * share) for side in photograph.size)
    left, top = (
        int(random.integers(0, side - part + 1)) for side, part in zip(photograph.size, (width, height), strict=True)
    )
    part = photograph.crop((left, top, left + width, top + height))
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part
    return ImageEnhance.Brightness(part).enhance(random.uniform(0.7, 1.3)).resize((320, 240))


def _link(folder: Path, source: Path, name: str = "") -> None:
    (folder / (name or source.name)).symlink_to(source)


def _job(name: str, model: str, images: Sequence[str], test: str, sqnr: float, *options: str) -> Job:
    calibration, _, preprocess = images
    given = ("--images", calibration, "--test-images", test, "--preprocess", preprocess, "--target-sqnr", f"{sqnr:g}")
    command = (*TRTCAL, "mixed-precision", model, *given, *options, "--json", "-o", "{out}/quant.toml")
    prepare = classifier if test.endswith(".npz") else detector
    return Job(name, prepare, command, command, 8.0, partial(judge, model, images, sqnr))


JOBS = (
    _job(
        "mixed precision of ResNet-20",
        "cifar10_resnet20.onnx",
        ("calibration.npz", "others.npz", "cifar10"),
        "test.npz",
        33,
    ),
    _job(
        "mixed precision of UltraFace",
        "ultraface_rfb_320.onnx",
        ("calibration", "others", "faces.toml"),
        "test",
        42,
    ),
)
"""What an older commit calls SQNR may be that of the whole, not of the worst part: its choice is then the cheaper one
and misses the target by this commit's measure, which is told."""
