"""Two samples of images that have none in common: one to calibrate on, and one to judge the result by."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data.images import ImageLoader, OnBadImage, PathLike, open_images
from trtcal.data.preprocess import Preprocess
from trtcal.tasks.task import AUTO, Task

COUNT = 500
"""Images to calibrate on: what NVIDIA's developer guide calls sufficient for ImageNet networks."""

TEST_COUNT = COUNT
"""Images to judge by: as many as one calibrates on."""


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """Which images a model is calibrated on, and which it is judged by.

    Attributes:
        images: A folder or arrays, as `ImageLoader` takes them.
        test_images: Where the images to judge by come from; None takes them from `images`.
        preprocess: As `ImageLoader` has it.
        count: How many to calibrate on at most.
        test_count: How many to judge by at most.
        labels: Of the images to judge by: a CSV for a folder, an `.npy` for arrays. Without it, sub-folders are
            classes where they are as many as the model's.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        on_bad_image: "error" or "skip".
        task: What the model is for, and what is annotated in the images to judge by.
    """

    images: PathLike
    _: KW_ONLY
    test_images: PathLike | None = None
    preprocess: PathLike | Preprocess | None = None
    count: int = COUNT
    test_count: int = TEST_COUNT
    labels: PathLike | None = None
    batch_size: int = 8
    seed: int = 0
    on_bad_image: OnBadImage = "error"
    task: Task = AUTO


@dataclass(frozen=True, slots=True)
class Parts:
    """Two samples of images.

    Attributes:
        calibration: What to calibrate on.
        test: What to judge by: no sample of it has the content of one that is calibrated on.
        notes: What a user should know of the choice, one line each.
    """

    calibration: ImageLoader
    test: ImageLoader
    notes: tuple[str, ...] = ()


def parted(choice: ImageChoice, inputs: Sequence[TensorSpec]) -> Parts:
    """Choose images to calibrate on and others to judge by, each class its share; the same for the same seed.

    A source that holds too few for both is divided (`divided`), and a note says so.

    Args:
        choice: Which images; both parts get the same preprocessing.
        inputs: The model's.

    Raises:
        DataError: As `ImageLoader`; or there is nothing to judge by.
    """
    images, count, test_count = choice.images, choice.count, choice.test_count
    opened = partial(
        open_images,
        model_inputs=inputs,
        batch_size=choice.batch_size,
        seed=choice.seed,
        on_bad_image=choice.on_bad_image,
    )
    if choice.test_images is not None:
        calibration = opened(images, preprocess=choice.preprocess, count=count)
        source = opened(choice.test_images, preprocess=calibration.preprocess, labels=choice.labels)
        return _with_test(calibration, source, test_count)
    source = opened(images, preprocess=choice.preprocess, labels=choice.labels)
    if source.available == 1:
        raise DataError(f"{images} holds 1 sample, which cannot be calibrated on and judged by: give two or more")
    first, second = divided(source.available, count, test_count)
    calibration = source.sampled(first)
    few = f"{images} holds {source.available} samples, not the {count} to calibrate on and {test_count} others"
    return _with_test(calibration, source, second, notes=() if (first, second) == (count, test_count) else (few,))


def divided(available: int, count: int, test_count: int) -> tuple[int, int]:
    """How many of `available` samples, two or more, go to each part.

    As asked for where there are enough; else half to each, but to none more than was asked for.
    """
    if available >= count + test_count:
        return count, test_count
    second = min(test_count, max(available // 2, available - count))
    return available - second, second


def further(parts: Parts, count: int) -> ImageLoader | None:
    """Images of the source that is judged by which are in neither part, nor copies of any; None where there are none.

    Args:
        parts: From `parted`.
        count: How many at most, each class its share.
    """
    return _others(parts.test, count, (parts.calibration, parts.test))[0]


def _with_test(calibration: ImageLoader, source: ImageLoader, count: int, *, notes: tuple[str, ...] = ()) -> Parts:
    """Take the test part of `source`, without what is calibrated on, be it under other names."""
    test, copies = _others(source, count, (calibration,))
    if test is None:
        raise DataError(
            f"no image of {source.source} is left to judge by: all {source.available} are among those calibrated "
            "on, or copies of them; give others"
        )
    if copies:
        notes = (
            *notes,
            f"{len(copies)} images, such as {copies[0]}, are copies of some that are calibrated on: not judged by",
        )
    return Parts(calibration, test, notes)


def _others(source: ImageLoader, count: int, taken: Sequence[ImageLoader]) -> tuple[ImageLoader | None, list[str]]:
    """Samples of `source` that are not taken, be it under other names; and those of them that are copies."""
    known = {content for loader in taken for content in loader.contents}
    without = {name for loader in taken if loader.source == source.source for name in loader.names}
    copies = list[str]()
    while len(without) < source.available:
        others = source.sampled(count, without=without)
        found = [name for name, content in zip(others.names, others.contents, strict=True) if content in known]
        if not found:
            return others, copies
        copies += found
        without.update(found)
    return None, copies
