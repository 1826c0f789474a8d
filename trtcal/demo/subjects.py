"""What the demo can show: a bundled model, its images, and how it is measured on them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trtcal.demo import DETECTOR, MODEL, SEGMENTER
from trtcal.demo.digits import load_split, write_images
from trtcal.demo.drawing import write_pictures
from trtcal.demo.places import Places
from trtcal.demo.scene_files import write_annotations, write_class_maps, write_scenes
from trtcal.demo.scenes import Scene, make_scenes
from trtcal.tasks import task
from trtcal.tasks.measuring.evidence import Evidence

IMAGES = 500
"""Images to calibrate on: the default of `trtcal calibrate`."""

SCENES = 500
"""Scenes to judge by."""

DRAWN_OF = 24
"""Scenes of which the first that are not empty are drawn."""

CALIBRATION_SEED, TEST_SEED = 0, 2
"""Of scenes; those that the networks are trained on have another (`tools/train_detector.py`)."""

Task = Literal["classify", "detect", "segment"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What the demo shows.

    Attributes:
        model: The bundled FP32 model.
        name: What the model's files are called.
        images: What it looks at, in a word.
        tested: How many images it is judged by.
        write: Writes images to calibrate on and images to judge by.
        judged_by: The task that both models are measured by.
        about: What the demo's folder says of itself. Its first line tells the folder from that of another subject.
    """

    model: Path
    name: str
    images: str
    tested: int
    write: Callable[[Places], None]
    judged_by: Callable[[Places], task.Task]
    about: str

    def draw(self, places: Places) -> None:
        """Draw some scenes with what both models find in them; nothing of digits."""
        judged_by = self.judged_by(places)
        if not judged_by.finds or not places.int8.is_file():
            return
        from engines.sessions.onnxruntime import OnnxRuntimeSession
        from trtcal.data.images import ImageLoader
        from trtcal.measure.accuracy import evaluate

        with OnnxRuntimeSession(places.fp32) as session:
            images = ImageLoader(places.test, preprocess="unit", inputs=session.inputs)
        few = images.sampled(None, without=images.names[DRAWN_OF:])
        models = {"float": places.fp32, "int8": places.int8}
        scores = evaluate(models, few, reference="float", task=judged_by).scores
        found = [score.task for score in scores.values()]
        if all(isinstance(each, Evidence) for each in found):
            fp32, int8 = ([sample.found for sample in each.samples] for each in found if isinstance(each, Evidence))
            write_pictures(_judged(DRAWN_OF), fp32, int8, places.pictures)


def _write_digits(places: Places) -> None:
    split = load_split()
    write_images(split.train[:IMAGES], places.calibration)
    write_images(split.test, places.test)


def judged_scenes(count: int) -> list[Scene]:
    """The first scenes that the demo's models are judged by: their digits are in none that they were trained on."""
    return list(_judged(count))


def _judged(count: int) -> Iterator[Scene]:
    return make_scenes(load_split().test, count, seed=TEST_SEED)


def _write_scenes(places: Places) -> None:
    scenes = judged_scenes(SCENES)
    write_scenes(list(make_scenes(load_split().train, IMAGES, seed=CALIBRATION_SEED)), places.calibration)
    write_scenes(scenes, places.test)
    write_annotations(scenes, places.annotations)
    write_class_maps(scenes, places.masks)


def _detected(places: Places) -> task.Task:
    return task.Task("detect:yolov8", annotations=places.annotations)


def _segmented(places: Places) -> task.Task:
    return task.Task("segment:semantic", annotations=places.masks)


_ABOUT = """Written by `trtcal demo{option}`, which replaces its own files when it is run again.

{images}
{name}.onnx          the FP32 model
{name}.cache         its calibration cache, in TensorRT's format
{name}.int8.onnx     the model with Q/DQ nodes
{name}.fp32.engine   TensorRT-RTX engines, to run on an NVIDIA GPU
{name}.int8.engine
report.html          what was measured, to look at
optimized/           all that `trtcal optimize` wrote
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


def _about_scenes(name: Task) -> str:
    return _ABOUT.format(
        option=f" --task {name}",
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
        write=_write_digits,
        judged_by=lambda places: task.Task("classify"),
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
        write=_write_scenes,
        judged_by=_detected,
        about=_about_scenes("detect"),
    ),
    "segment": Subject(
        model=SEGMENTER,
        name="scenes",
        images="scenes",
        tested=SCENES,
        write=_write_scenes,
        judged_by=_segmented,
        about=_about_scenes("segment"),
    ),
}
"""By `--task`."""
