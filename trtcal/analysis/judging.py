"""Images to calibrate on and others to judge by, opened for a model, and the statistics of the former."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

from calibrators.errors import DataError
from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors, collect
from engines.graph.model import input_specs, loaded
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.analysis.comparison import REFERENCE, Singles
from trtcal.data.images import ImageLoader, OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import TEST_COUNT, Parts, parted
from trtcal.measure.accuracy import require_labels
from trtcal.pipeline import COUNT

Step = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a step of the work, by its name and units, and gives what counts them: as `trtcal.console.progress`."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What a choice about a model's quantization rests on.

    Attributes:
        parts: The images.
        statistics: Of those that were calibrated on.
        labelled: Whether the labels of those to judge by, where they have some, are the model's classes.
        seconds: That collecting the statistics took.
        notes: What a user should know, one line each.
    """

    parts: Parts
    statistics: Statistics
    labelled: bool
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """Images for a model, and whether their labels are its classes; as in `Judging`."""

    parts: Parts
    labelled: bool
    notes: tuple[str, ...] = ()


def calibrated(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    step: Step,
    test_images: PathLike | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    tensors: Tensors = "all",
    on_bad_image: OnBadImage = "error",
) -> Judging:
    """Part images (`trtcal.data.split.parted`) and calibrate on the one part.

    Args:
        model: The float model.
        images: What to calibrate on, and to judge by.
        step: Shows progress.
        test_images: What to judge by instead.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to judge by at most.
        labels: Of the images to judge by. Without it, sub-folders are classes where they are as many as the model's.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        tensors: As in `collect`.
        on_bad_image: "error" or "skip".

    Raises:
        TrtcalError: As `parted` and `collect` raise it; or the labels that were given are not the model's classes.
    """
    judged = opened_parts(
        model,
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
    )
    parts = judged.parts
    with step("Calibrating", parts.calibration.count) as advance:
        began = time.perf_counter()
        statistics = collect(model, parts.calibration, tensors=tensors, progress=advance)
        seconds = time.perf_counter() - began
    return Judging(parts, statistics, judged.labelled, seconds, judged.notes)


def opened_parts(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    test_images: PathLike | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
) -> Judged:
    """Part images for a model; arguments and errors as of `calibrated`, which calibrates on the one part, too."""
    parts = parted(
        images,
        input_specs(loaded(model)),
        test_images=test_images,
        count=count,
        test_count=test_count,
        preprocess=preprocess,
        batch_size=batch_size,
        seed=seed,
        labels=labels,
        on_bad_image=on_bad_image,
    )
    doubt = _doubt(model, parts.test)
    if doubt is None:
        return Judged(parts, labelled=True, notes=parts.notes)
    if labels is not None or not parts.test.class_names:
        raise doubt
    why, _, _ = str(doubt).partition(";")
    return Judged(parts, labelled=False, notes=(*parts.notes, f"the sub-folders are not taken for classes: {why}"))


def _doubt(model: str | os.PathLike[str], test: ImageLoader) -> DataError | None:
    """Why the labels of `test` are not the model's classes; None where they are, or there are none."""
    if test.labels is None:
        return None
    with OnnxRuntimeSession(model) as session, closing(iter(Singles(test, session.fixed_batch or 1))) as samples:
        outputs = session.run(next(samples))
    try:
        require_labels(REFERENCE, outputs, test.labels, test.names, test.class_names)
    except DataError as error:
        return error
    return None
