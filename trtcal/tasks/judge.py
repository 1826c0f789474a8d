"""A task at work: what models find in images, in the images' own pixels, beside what is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibrators.batches import Array, Batch
from calibrators.errors import DataError, ModelError
from trtcal.tasks.adapter import Adapter, Part, shapes_of
from trtcal.tasks.decoding.nms import without_overlaps
from trtcal.tasks.found import ClassMap, Finding, Found, chosen
from trtcal.tasks.measuring.evidence import Evidence, Measure, Sample
from trtcal.tasks.own import OwnMeasure, own
from trtcal.tasks.own.numbers import OwnJudge
from trtcal.tasks.placed import mapped, masks_placed
from trtcal.tasks.placement import Placement, Size
from trtcal.tasks.proposal import adapter_named, proposed
from trtcal.tasks.task import Task
from trtcal.tasks.truth.found import MEASURES
from trtcal.tasks.truth.opening import opened_truth
from trtcal.tasks.truth.truth import Truth

Placements = Callable[[str], Placement]
"""Where the image of a name lies in the model's input."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Says what models find in images.

    Attributes:
        task: What is looked for.
        adapter: How outputs say it.
        truth: What is annotated; None where the float model is the truth.
        placements: Where an image lies in the model's input; None where samples are arrays, which are the input.
        measure: What is compared.
        notes: What a user should know, one line each.
        class_names: By class number, as the adapter or the model tells them; empty where they do not.
    """

    task: Task
    adapter: Adapter
    truth: Truth | None
    placements: Placements | None
    measure: Measure
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def annotated(self) -> bool:
        """Whether what is in the images is known."""
        return self.truth is not None

    def parts(self, outputs: Mapping[str, Array]) -> tuple[Part, ...]:
        """What channels of the outputs mean."""
        return tuple(self.adapter.parts(shapes_of(outputs)))

    def found(self, outputs: Mapping[str, Array], batch: Batch) -> list[Finding]:
        """What a model finds in each sample of a batch, in the image's own pixels.

        Args:
            outputs: The model's, samples on the first axis, under the names that the adapter was chosen by.
            batch: What it was fed.

        Raises:
            ModelError: The outputs do not fit the adapter.
        """
        places = [self._placement(name, batch) for name in batch.names]
        raw = self.adapter.decode(outputs, places[0].input)
        if len(raw) < batch.size:
            raise ModelError(
                f"the adapter {self.adapter.name} tells of {len(raw)} samples, and {batch.size} were run: run the "
                "model with a batch size of 1"
            )
        kept = map(self._suppressed, raw)
        return [_placed(each, place, own=self.truth is not None) for each, place in zip(kept, places, strict=False)]

    def evidence(self, batch: Batch, found: Sequence[Finding], reference: Sequence[Finding] | None = None) -> Evidence:
        """What a model found in the samples of a batch, beside what is there.

        Args:
            batch: The samples.
            found: By the model.
            reference: By the float model; None for the float model itself.

        Raises:
            DataError: An image is not among the annotated ones.
        """
        theirs = found if reference is None else reference
        samples = [
            Sample(
                name,
                self._size(name, batch, each),
                each,
                self._sure(other) if self.truth is None else self.truth.of(name),
                None if reference is None else other,
            )
            for name, each, other in zip(batch.names, found, theirs, strict=True)
        ]
        classes = self.class_names if self.truth is None else self.truth.classes
        return Evidence(self.measure, tuple(samples), self.truth is not None, self.task.confidence, classes)

    def _suppressed(self, found: Finding) -> Finding:
        return found if isinstance(found, ClassMap) else without_overlaps(found, self.adapter.overlap)

    def _sure(self, found: Finding) -> Finding:
        """What the float model found with confidence, as what is there."""
        if isinstance(found, ClassMap):
            return found
        return chosen(found, np.flatnonzero(found.scores >= self.task.confidence))

    def _placement(self, name: str, batch: Batch) -> Placement:
        return Placement.whole(input_size(batch)) if self.placements is None else self.placements(name)

    def _size(self, name: str, batch: Batch, found: Finding) -> Size:
        if self.truth is not None or (isinstance(found, Found) and found.masks is None):
            return self._placement(name, batch).size
        return found.classes.shape[:2] if isinstance(found, ClassMap) else input_size(batch)


def opened_judge(
    task: Task,
    outputs: Mapping[str, Array],
    batch: Batch,
    *,
    names: Sequence[str] = (),
    placements: Placements | None = None,
    class_names: Sequence[str] = (),
) -> Judge | OwnJudge:
    """Choose the adapter by the float model's outputs for the first samples, and read the annotations.

    Args:
        task: What is looked for.
        outputs: Of the float model.
        batch: What it was fed.
        names: All images that models are judged by, which annotations are read for.
        placements: Where an image lies in the model's input.
        class_names: What the model calls its classes, where the adapter has no names.

    Raises:
        DataError: The annotations do not fit the images or the model.
        ModelError: No adapter fits the outputs, or that of the task does not.
    """
    if task.kind == "own" and isinstance(measure := own(task.adapter), OwnMeasure):
        if task.annotations is not None:
            raise DataError(f"{task.name} measures outputs by themselves and reads no annotations: leave them out")
        return OwnJudge(measure)
    shapes = shapes_of(outputs)
    size = input_size(batch) if placements is None else placements(batch.names[0]).input
    adapter, notes = _adapter(task, outputs, size)
    if why := adapter.misfit(shapes, size):
        told = ", ".join(f"{name} {'x'.join(map(str, value.shape))}" for name, value in outputs.items())
        raise ModelError(f"the outputs ({told}) are not what {task.name} reads: {why}")
    truth = None
    called = adapter.names or tuple(class_names)
    if task.annotations is not None:
        if not names or placements is None:
            raise DataError("annotations are found by the names of images: give a folder of images, not arrays")
        truth = opened_truth(
            task.annotations,
            names=names,
            sizes=lambda name: placements(name).size,
            classes=adapter.classes(shapes),
            class_names=called,
            kind=adapter.kind,
        )
        notes = [*notes, *truth.notes]
    judge = Judge(task, adapter, truth, placements, "boxes", tuple(notes), called)
    compared = _measure(adapter, judge.found(outputs, batch))
    if truth is not None and truth.measure != compared:
        files = " (a folder of PNG masks)" if compared == "pixels" else ""
        raise DataError(
            f"annotations {task.annotations} tell {truth.measure}, and {task.name} finds {compared}: give annotations "
            f"of {compared}{files}"
        )
    return replace(judge, measure=compared)


def input_size(batch: Mapping[str, Array]) -> Size:
    """Height and width of the samples of a batch: of the first array of four axes, channels first or last."""
    shape = next((array.shape for array in batch.values() if array.ndim == 4), None)
    if shape is None:
        array = next(iter(batch.values()))
        return (array.shape[-2], array.shape[-1]) if array.ndim > 2 else (1, array.shape[-1])
    last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    return (shape[1], shape[2]) if last else (shape[2], shape[3])


def _adapter(task: Task, outputs: Mapping[str, Array], size: Size) -> tuple[Adapter, list[str]]:
    """The adapter that a task names, or the one that outputs propose, and what is to be said of it."""
    if task.kind == "own":
        adapter = own(task.adapter)
        assert isinstance(adapter, Adapter)  # a measure needs none
        return adapter, []
    kind = task.kind
    assert kind in ("detect", "segment", "keypoints")  # others find nothing
    if task.adapter:
        return adapter_named(kind, task.adapter), []
    return proposed(kind, outputs, size)


def _measure(adapter: Adapter, found: Sequence[Finding]) -> Measure:
    """What can be compared of what an adapter finds, where there are no annotations."""
    if any(isinstance(each, ClassMap) for each in found):
        return "pixels"
    return MEASURES[adapter.kind]


def _placed(found: Finding, place: Placement, *, own: bool) -> Finding:
    """In the image's own pixels.

    Masks and maps of classes stay as they are unless they are compared with annotations (`own`): what two models give
    for one image lies in the same pixels.
    """
    if isinstance(found, ClassMap):
        return mapped(found, place) if own else found
    return Found(
        place.boxes(found.boxes),
        found.scores,
        found.classes,
        found.masks if found.masks is None or not own else masks_placed(found.masks, place),
        None if found.points is None else place.points(found.points),
    )
