"""What the demo works on: a bundled network, written with its images into a folder."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from calibrators.errors import MissingDependencyError
from calibrators.files import write_whole
from calibrators.installation import pip_install
from trtcal.data.split import ImageChoice
from trtcal.demo.places import Places, claim
from trtcal.demo.subjects import SUBJECTS, Subject, Task

MAX_DROP = 1.0
"""Points of top-1, mAP or mIoU that INT8 may lose."""

Step = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a step of the demo, by its name and units of work, and gives what counts them: as `console.progress`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was written.

    Attributes:
        places: Where.
        subject: What it is.
        choice: The images, as `trtcal optimize` takes them.
    """

    places: Places
    subject: Subject
    choice: ImageChoice


def prepare(folder: Path, task: Task = "classify", *, step: Step) -> Prepared:
    """Write the network and its images into `folder`; the files of an earlier demo are replaced.

    Args:
        folder: A new or empty one, or that of an earlier demo of this task.
        task: What the model is for.
        step: Opens a step.

    Raises:
        MissingDependencyError: A library of the extra [demo] is not installed.
        OutputError: The folder holds something else, or cannot be written.
    """
    require_libraries()
    subject = SUBJECTS[task]
    places = Places(folder, subject.name)
    claim(places, subject.about)
    with step(f"Writing the {subject.images} as images", None):
        subject.write(places)
        write_whole(places.fp32, subject.model.read_bytes())
    choice = ImageChoice(places.calibration, test_images=places.test, preprocess="unit", task=subject.judged_by(places))
    return Prepared(places, subject, choice)


def require_libraries() -> None:
    """Refuse to begin without what the extra [demo] installs.

    Raises:
        MissingDependencyError: scikit-learn or TensorRT for RTX is not installed.
    """
    needed = {"sklearn": "scikit-learn", "tensorrt_rtx": "tensorrt-rtx"}
    absent = [name for module, name in needed.items() if find_spec(module) is None]
    if absent:
        raise MissingDependencyError(
            f"the demo needs {' and '.join(absent)}, not installed here: {pip_install('demo')}"
        )
