"""Images to calibrate on and others to judge by, opened for a model, and the statistics of the former."""

import os
import time
from contextlib import closing
from dataclasses import dataclass

from calibrators.errors import DataError
from calibrators.methods.names import AUTO as AUTO_METHOD
from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors
from engines.graph.inputs import runnable_inputs
from engines.graph.model import loaded
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.analysis.auto_method import calibration
from trtcal.analysis.judged_methods import REFERENCE
from trtcal.analysis.step import Step
from trtcal.data.images import ImageLoader
from trtcal.data.split import ImageChoice, Parts, parted
from trtcal.measure.accuracy import require_labels
from trtcal.measure.groups import Singles, run_group
from trtcal.tasks.seeking import Seeking
from trtcal.tasks.task import AUTO, Task


@dataclass(frozen=True, slots=True)
class Judging:
    """What a choice about a model's quantization rests on.

    Attributes:
        parts: The images.
        statistics: Of those that were calibrated on.
        method: The range method to take with them.
        labelled: Whether the labels of those to judge by, where they have some, are the model's classes.
        seconds: That collecting the statistics took.
        notes: What a user should know, one line each.
        task: What the model is for.
    """

    parts: Parts
    statistics: Statistics
    method: str
    labelled: bool
    seconds: float
    notes: tuple[str, ...] = ()
    task: Task = AUTO


@dataclass(frozen=True, slots=True)
class Judged:
    """Images for a model, whether their labels are its classes, and what it is for; as in `Judging`."""

    parts: Parts
    labelled: bool
    notes: tuple[str, ...] = ()
    task: Task = AUTO


def calibrated(
    model: str | os.PathLike[str],
    choice: ImageChoice,
    *,
    step: Step,
    tensors: Tensors = "all",
    method: str = AUTO_METHOD,
) -> Judging:
    """Part images (`trtcal.data.split.parted`) and calibrate on the one part.

    Args:
        model: The float model.
        choice: What to calibrate on, and to judge by.
        step: Shows progress.
        tensors: As in `collect`.
        method: A range method, or "auto" (`trtcal.analysis.auto_method.calibration`).

    Raises:
        TrtcalError: As `opened_parts` and `calibration` raise it.
    """
    judged = opened_parts(model, choice)
    began = time.perf_counter()
    found = calibration(model, judged.parts.calibration, method=method, tensors=tensors, step=step)
    seconds = time.perf_counter() - began
    notes = (*judged.notes, *found.notes)
    return Judging(judged.parts, found.statistics, found.method, judged.labelled, seconds, notes, judged.task)


def opened_parts(model: str | os.PathLike[str], choice: ImageChoice) -> Judged:
    """Part images for a model, and try its task on the first of those to judge by, before any long work.

    Raises:
        TrtcalError: As `parted` raises it; the labels that were given are not the model's classes; or the task does not
            fit the model's outputs, or the annotations the images.
    """
    parts, task = parted(choice, runnable_inputs(loaded(model))), choice.task
    if parts.test.labels is None and task.kind == "auto":
        return Judged(parts, labelled=True, notes=parts.notes, task=task)
    doubt, told = _tried(model, parts.test, task)
    notes = (*parts.notes, *told)
    if doubt is None:
        return Judged(parts, labelled=True, notes=notes, task=task)
    if choice.labels is not None or not parts.test.class_names:
        raise doubt
    why, _, _ = str(doubt).partition(";")
    return Judged(parts, labelled=False, notes=(*notes, f"the sub-folders are not taken for classes: {why}"), task=task)


def _tried(model: str | os.PathLike[str], test: ImageLoader, task: Task) -> tuple[DataError | None, tuple[str, ...]]:
    """Why the labels of `test` are not the model's classes, None where they are or do not count; notes on the task."""
    with OnnxRuntimeSession(model) as session:
        loader = test.for_model(session.inputs)
        seeking = Seeking(task, loader, session.data_sized, class_names=session.class_names)
        with closing(iter(Singles(loader, session.fixed_batch or 1))) as samples:
            sample = next(samples)
        outputs = run_group(session, sample, count=sample.size, size=session.fixed_batch, sized=session.data_sized)
        sized = session.data_sized
    seeking.begin(outputs, sample)
    if test.labels is None or not seeking.classifies:
        return None, seeking.notes
    try:
        require_labels(REFERENCE, outputs, test.labels, test.names, test.class_names, sized=sized)
    except DataError as error:
        return error, seeking.notes
    return None, seeking.notes
