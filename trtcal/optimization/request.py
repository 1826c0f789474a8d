"""What is to be optimized, by what, and what is checked of it before any long work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from calibrators.errors import BuildError, DataError, TrtcalError
from calibrators.files import temporary_folder
from engines.build.request import BackendName, checked_request
from engines.graph.inputs import require_single_precision
from engines.graph.model import is_quantized, loaded
from trtcal.analysis.judging import Judged, opened_parts
from trtcal.data.images import ImageLoader
from trtcal.data.split import ImageChoice, further
from trtcal.measure.bound import require_bound
from trtcal.measure.chance import Criterion, measure_named
from trtcal.optimization.measuring import FLOAT, side_by_side
from trtcal.optimization.places import Places

Precision = Literal["int8", "fp16", "fp32"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


FEW = 8
"""Images that tell what can be lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        model: The float model.
        folder: To write.
        choice: The images, the preprocessing and the task.
        max_drop: What may be lost against the float model: points of top-1 or of the task's measure, or percent of the
            images with another class.
        precisions: Of the engines to choose among.
        backend: As `trtcal.build_engine` takes it.
        shapes: Likewise.
    """

    model: Path
    folder: Path
    choice: ImageChoice
    max_drop: float = 1.0
    precisions: tuple[Precision, ...] = PRECISIONS
    backend: BackendName = "auto"
    shapes: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be worked on.

    Attributes:
        request: It.
        places: Its files.
        judged: The images to calibrate on, and those that the steps are judged by.
        verdict: Other images, by which nothing is chosen but whether to go on; None where there are none, so that the
            verdict rests on those that the steps are judged by.
        criterion: What is lost or kept.
        measure: Its name.
        backend: What builds.
        notes: What a user should know, one line each.
    """

    request: Request
    places: Places
    judged: Judged
    verdict: ImageLoader | None
    criterion: Criterion
    measure: str
    backend: str
    notes: tuple[str, ...]

    @property
    def last(self) -> ImageLoader:
        """The images that the verdict rests on."""
        return self.judged.parts.test if self.verdict is None else self.verdict


def precisions_named(names: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions of these names, the one that computes most cheaply first.

    Raises:
        TrtcalError: There is none of a name, or no name.
    """
    for name in names:
        if name not in PRECISIONS:
            raise TrtcalError(f"there is no precision {name!r}: choose among {', '.join(PRECISIONS)}")
    if not names:
        raise TrtcalError(f"no precision to choose among: give some of {', '.join(PRECISIONS)}")
    return tuple(each for each in PRECISIONS if each in names)


def checked(request: Request) -> Checked:
    """Check all of a request that can be checked before long work.

    Raises:
        BuildError: The model has Q/DQ nodes already, or the backend cannot build it as is asked for.
        DataError: The images do not fit the model, or nothing can be measured of them that could be lost.
        TrtcalError: The bound means nothing, or as `checked_request` and `opened_parts` raise it.
    """
    require_bound(request.max_drop)
    model = loaded(request.model)
    if is_quantized(model):
        raise BuildError(f"{request.model} has Q/DQ nodes already: give the float model that it was made of")
    require_single_precision(model)
    places = Places(request.folder, request.model.stem)
    places.require_other_than(request.model, request.choice.images)
    backend = _backend(request)
    judged, verdict = _apart(opened_parts(request.model, request.choice))
    criterion, measure = _criterion(request.model, judged)
    notes = judged.notes
    if verdict is None:
        told = "there is one image to judge by: the verdict rests on what the steps are judged by"
        notes = (*notes, f"{told}; give more, or --test-images")
    return Checked(request, places, judged, verdict, criterion, measure, backend, notes)


def _apart(judged: Judged) -> tuple[Judged, ImageLoader | None]:
    """The images that steps are judged by, and others for the verdict; half of them, where there are few others."""
    parts = judged.parts
    others = further(parts, parts.test.count)
    if others is None or 2 * others.count < parts.test.count:
        first, *rest = parts.test.divided(parts.test.count - parts.test.count // 2)
        return replace(judged, parts=replace(parts, test=first)), rest[0] if rest else None
    return judged, others


def _backend(request: Request) -> str:
    """The name of what builds, once it is known to take the model and its shapes."""
    with temporary_folder() as folder:
        found = checked_request(
            request.model,
            output=folder / "model.engine",
            precision="fp32",
            backend=request.backend,
            shapes=request.shapes,
        )
    return found.backend.name


def _criterion(model: Path, judged: Judged) -> tuple[Criterion, str]:
    """What can be lost, by the float model beside itself on a few images, and its name.

    Raises:
        DataError: There is nothing to be found in any of the images.
        TrtcalError: Nothing can be lost.
    """
    models, test = {FLOAT: model, "itself": model}, judged.parts.test
    few = test.divided(FEW)[0]
    try:
        report = side_by_side(models, few, judged)
    except DataError:
        if few is test:
            raise
        report = side_by_side(models, test, judged)  # there may be nothing to be found in a few
    if report.criterion == "SQNR":
        raise TrtcalError(
            f"a bound on the drop needs class scores, and no single output of {model.name} holds them: say what it "
            "finds with --task, such as --task detect"
        )
    return report.criterion, measure_named(report.criterion, report.scores[FLOAT])
