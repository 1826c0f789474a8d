"""Which range method suits a model best: calibrate on some images, rank on others."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors
from trtcal.analysis.comparison import Comparison, compare, named, units
from trtcal.analysis.judging import Step, calibrated
from trtcal.data.images import OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import TEST_COUNT, Parts
from trtcal.pipeline import COUNT


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison, and what it rests on.

    Attributes:
        comparison: The methods, best first.
        statistics: Of the images that were calibrated on.
        parts: The images.
        seconds: That collecting the statistics took.
        notes: What a user should know, one line each.
    """

    comparison: Comparison
    statistics: Statistics
    parts: Parts
    seconds: float
    notes: tuple[str, ...] = ()


def compare_images(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    test_images: PathLike | None = None,
    methods: Sequence[str] | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    tensors: Tensors = "all",
    on_bad_image: OnBadImage = "error",
    step: Step | None = None,
) -> Compared:
    """Calibrate on some images of a folder, and rank range methods on others; see `calibrated` and `compare`.

    Args:
        model: The float model.
        images: What to calibrate on, and to rank on.
        test_images: What to rank on instead.
        methods: As in `compare`.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to rank on at most.
        labels: Of the images to rank on. Without it, sub-folders are classes where they are as many as the model's.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        tensors: As in `collect`.
        on_bad_image: "error" or "skip".
        step: Shows progress.

    Raises:
        TrtcalError: As `calibrated` and `compare` raise it.
    """
    names = named(methods)
    step = step or (lambda name, total: nullcontext(lambda done: None))
    found = calibrated(
        model,
        images,
        step=step,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        tensors=tensors,
        on_bad_image=on_bad_image,
    )
    test = found.parts.test
    with step("Comparing", units(model, test, names)) as advance:
        comparison = compare(model, found.statistics, test, methods=names, labelled=found.labelled, progress=advance)
    return Compared(comparison, found.statistics, found.parts, found.seconds, found.notes)
