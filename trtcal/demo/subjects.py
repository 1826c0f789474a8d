"""What the demo can show: a bundled model, its images, and how it is measured on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from trtcal.demo import DETECTOR, MODEL, SEGMENTER
from trtcal.demo.digits import load_split, write_images
from trtcal.demo.drawing import write_pictures
from trtcal.demo.measuring import Read, boxes_in, classes_in, findings, measured
from trtcal.demo.places import Places
from trtcal.demo.scene_files import write_annotations, write_class_maps, write_scenes
from trtcal.demo.scenes import Scene, make_scenes
from trtcal.tasks.result import TaskResult

if TYPE_CHECKING:
    from engines.sessions.onnxruntime import Session
    from trtcal.measure.accuracy import Report

IMAGES = 500
"""Images to calibrate on: the default of `trtcal calibrate`."""

SCENES = 500
"""Scenes to judge by."""

CALIBRATION_SEED, TEST_SEED = 0, 2
"""Of scenes; those that the networks are trained on have another (`tools/train_detector.py`)."""

Task = Literal["classify", "detect", "segment"]

Measured: TypeAlias = "Report | Mapping[str, TaskResult]"
"""Of digits a report; of scenes what was measured by file name, the FP32 model's first."""

Models: TypeAlias = "Mapping[str, Session]"
"""By file name, the FP32 model first."""

Progress = Callable[[int], None]
"""Is told how many images are done since the last call."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the demo shows.

    Attributes:
        model: The bundled FP32 model.
        name: What the model's files are called.
        images: What it looks at, in a word.
        tested: How many images it is judged by.
        passes: How often they are gone over.
        write: Writes images to calibrate on and images to judge by.
        measure: What both models make of the latter.
        about: What the demo's folder says of itself. Its first line tells the folder from that of another subject.
    """

    model: Path
    name: str
    images: str
    tested: int
    passes: int
    write: Callable[[Places], None]
    measure: Callable[[Models, Places, Progress], Measured]
    about: str


def _write_digits(places: Places) -> None:
    split = load_split()
    write_images(split.train[:IMAGES], places.calibration)
    write_images(split.test, places.test)


def _measure_digits(models: Models, places: Places, progress: Progress) -> Measured:
    import trtcal

    inputs = models[places.fp32.name].inputs
    test = trtcal.ImageLoader(places.test, preprocess="unit", inputs=inputs)
    return trtcal.evaluate(models, test, reference=places.fp32.name, class_names=test.class_names, progress=progress)


def judged_scenes(count: int) -> list[Scene]:
    """The first scenes that the demo's models are judged by: their digits are in none that they were trained on."""
    return list(make_scenes(load_split().test, count, seed=TEST_SEED))


def _write_scenes(places: Places) -> None:
    scenes = judged_scenes(SCENES)
    write_scenes(list(make_scenes(load_split().train, IMAGES, seed=CALIBRATION_SEED)), places.calibration)
    write_scenes(scenes, places.test)
    write_annotations(scenes, places.annotations)
    write_class_maps(scenes, places.masks)


def _measure_scenes(read: Read) -> Callable[[Models, Places, Progress], Measured]:
    """Measures by what `read` finds in outputs, and draws it."""

    def measure(models: Models, places: Places, progress: Progress) -> Measured:
        scenes = judged_scenes(SCENES)
        found = {name: findings(model, scenes, read, progress) for name, model in models.items()}
        fp32, int8 = found.values()
        write_pictures(scenes, fp32, int8, places.pictures)
        return measured(found, scenes)

    return measure


_ABOUT = """Written by `trtcal demo{option}`, which replaces its own files when it is run again.

{images}
{name}.onnx          the FP32 model
{name}.cache         its calibration cache, in TensorRT's format
{name}.int8.onnx     the model with Q/DQ nodes
{name}.fp32.engine   TensorRT-RTX engines, to run on an NVIDIA GPU
{name}.int8.engine
*.json               beside a file: what it was made from, and how

The images are {made}: E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998, licensed under CC BY 4.0. The model was trained on others of
them; the {tested} in test/ it has never seen.
"""

_DIGITS = """calibration/         images to calibrate on, a folder per class
test/                images to measure accuracy on"""

_SCENES = """calibration/         images to calibrate on
test/                images to measure accuracy on
annotations.json     what is in test/: boxes and masks of its digits, as COCO has them
masks/               what is in test/: the class of each pixel; 0 is ground, 1 to 10 are the digits 0 to 9
pictures/            six images of test/, with what both models find in them"""


def _about_scenes(task: Task) -> str:
    return _ABOUT.format(
        option=f" --task {task}",
        images=_SCENES,
        name="scenes",
        made="made from the handwritten digits of scikit-learn",
        tested="digits",
    )


SUBJECTS: Mapping[Task, Subject] = {
    "classify": Subject(
        model=MODEL,
        name="digits",
        images="digits",
        tested=600,
        passes=1,
        write=_write_digits,
        measure=_measure_digits,
        about=_ABOUT.format(
            option="",
            images=_DIGITS,
            name="digits",
            made="the handwritten digits of scikit-learn, enlarged",
            tested="images",
        ),
    ),
    "detect": Subject(
        model=DETECTOR,
        name="scenes",
        images="scenes",
        tested=SCENES,
        passes=2,
        write=_write_scenes,
        measure=_measure_scenes(boxes_in),
        about=_about_scenes("detect"),
    ),
    "segment": Subject(
        model=SEGMENTER,
        name="scenes",
        images="scenes",
        tested=SCENES,
        passes=2,
        write=_write_scenes,
        measure=_measure_scenes(classes_in),
        about=_about_scenes("segment"),
    ),
}
"""By `--task`."""
