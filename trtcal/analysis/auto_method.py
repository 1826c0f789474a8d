"""The range method that measures best, chosen of a few while a model is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from calibrators.errors import ModelError
from calibrators.methods.names import AUTO, DEFAULT
from calibrators.ranges import method_named
from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors, collect
from engines.graph.model import ModelSource
from trtcal.analysis.judged_methods import judged
from trtcal.analysis.step import Step, unshown
from trtcal.data.images import ImageLoader

CANDIDATES = (DEFAULT, "mean")
"""Few, as of many the best on a few images is so by chance more often than not. Of the sets that were tried, the better
of these two stays nearest to the best of all methods: on 12 networks of the league, with 100 choices of images, 0.6 dB
behind in the mean and 3.7 at worst."""

JUDGED_ON = 32
"""Images that methods are judged on: of fewer, a single one may decide."""

ENOUGH = 256
"""Images to calibrate on, of which those can be spared."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Statistics of images, and the range method to take with them.

    Attributes:
        statistics: Of all images.
        method: The range method.
        judged: By method, in dB, what is left of the worst output of an image, where methods were judged: the mean over
            the images.
        looked_at: On how many images.
        notes: How the method was chosen, in one line; none where it was named.
    """

    statistics: Statistics
    method: str
    judged: Mapping[str, float] = field(default_factory=dict)
    looked_at: int = 0
    notes: tuple[str, ...] = ()


def require_method(method: str) -> None:
    """Refuse what is neither a method's name nor `AUTO`.

    Raises:
        RangeError: It is neither.
    """
    if method != AUTO:
        method_named(method)


def calibration(
    model: ModelSource,
    images: ImageLoader,
    *,
    method: str = AUTO,
    tensors: Tensors = "all",
    step: Step = unshown,
) -> Calibration:
    """Gather the statistics of a model's activations, and choose a range method.

    `AUTO` derives the ranges of each of `CANDIDATES` from all images but some, and judges them by what the model in
    INT8 leaves of the worst output on those (`trtcal.analysis.judged_methods.judged`). The statistics are of all
    images: the chosen method's ranges are the very same that it gives where it is named. With fewer than 256 images, it
    is `DEFAULT`.

    Args:
        model: The float model.
        images: To calibrate on.
        method: A range method, or `AUTO`.
        tensors: As in `collect`.
        step: Shows progress.

    Raises:
        RangeError: There is no such method.
        TrtcalError: As `collect` and `judged` raise it.
    """
    require_method(method)
    if method != AUTO or images.count < ENOUGH:
        with step("Calibrating", images.count) as advance:
            statistics = collect(model, images, tensors=tensors, progress=advance)
        if method != AUTO:
            return Calibration(statistics, method)
        why = f"ranges by {DEFAULT}: with fewer than {ENOUGH} images, methods are not judged"
        return Calibration(statistics, DEFAULT, notes=(why,))
    look, others = images.divided(JUDGED_ON)
    with step("Calibrating", images.count) as advance:
        known = collect(model, others, tensors=tensors, progress=advance)
        together = known + collect(model, look, tensors=tensors, progress=advance)
    origin = replace(together.provenance, images=(images.digest,))
    statistics = Statistics(
        together,
        groups=together.groups,
        explicit_groups=together.explicit_groups,
        provenance=origin,
        unbounded=together.unbounded,
    )
    try:
        with step("Choosing ranges", None):
            sqnr = judged(model, known, look, CANDIDATES)
    except ModelError as error:  # such as one without a float output: methods cannot be told apart
        return Calibration(statistics, DEFAULT, notes=(f"ranges by {DEFAULT}: {error}",))
    best = max(sqnr, key=sqnr.__getitem__)
    return Calibration(statistics, best, sqnr, JUDGED_ON, (f"ranges by {best}: {told(sqnr, JUDGED_ON)}",))


def told(sqnr: Mapping[str, float], images: int) -> str:
    """What methods leave of the worst output, in words."""
    ordered = sorted(sqnr, key=lambda name: -sqnr[name])
    each = ", ".join(f"{name} {sqnr[name]:.1f} dB" for name in ordered)
    return f"on {images} images not calibrated on, INT8 leaves of the worst output {each}"
