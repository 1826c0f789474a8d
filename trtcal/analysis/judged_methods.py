"""Range methods judged by what the model in INT8 does: run side by side with the float model on the same images."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import onnx

from calibrators.batches import TensorSpec
from calibrators.cache.text import CalibrationCache
from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from calibrators.statistics.file import Statistics
from engines.graph.cores import usable_cores
from engines.graph.model import ModelSource, files_of
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.rescaled import Rescaled, rescaled
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import evaluate
from trtcal.measure.changed import ChangedImage
from trtcal.measure.comparable import counted_alike
from trtcal.measure.groups import Singles
from trtcal.measure.measures import Score, or_least
from trtcal.measure.report import Changed, Report
from trtcal.pipeline import require_same_model
from trtcal.tasks.task import Task

REFERENCE = "FP32"
"""What the float model is called beside the methods."""

AT_ONCE = 2**29
"""Bytes of float models whose INT8 versions are open at once: each takes about as many as its own, and some more."""

GROUP = 32
"""Samples run together at most, where the model leaves that open: the same, whatever the loader's batch size."""

GROUP_BYTES = 2**17
"""Of a group's inputs: activations of more leave the processor's caches, and larger groups are no faster."""


CLEAR = 60.0
"""dB of an image beyond which nobody sees a difference: one that is hardly changed counts as this much."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What models in INT8 do with several caches, beside the float model.

    Attributes:
        scores: By cache, and the float model's own as `REFERENCE`; the same outputs count in all.
        left_float: By cache, what stays in float -> why, as `engines.qdq.write.QuantizedModel` has it.
        report: Of the last ones that ran, for the criterion and notes.
        changed: By cache, the images that changed most, where they were asked for.
    """

    scores: Mapping[str, Score]
    left_float: Mapping[str, Mapping[str, str]]
    report: Report
    changed: Mapping[str, Sequence[Changed]]


def judged(
    model: ModelSource, statistics: Statistics, images: ImageLoader, methods: Sequence[str]
) -> Mapping[str, float]:
    """What each method's ranges leave of the worst output of an image, in dB: the mean over some images.

    Of each image the SQNR counts up to `CLEAR`. In a mean of decibels no image decides alone, as in a ratio of sums
    over all of them a single one may, whose class changes. Labels do not count.

    Args:
        model: The float model, as a path or in memory.
        statistics: Of the model, from `collect`.
        images: What to judge on.
        methods: Names as `calibrators.ranges.method_named` takes them.

    Raises:
        CacheMismatchError: The statistics are another model's.
        ModelError: The model has no float output, by which methods could be told apart.
        RangeError: A method is unknown, or there are no statistics.
        TrtcalError: As `judged_caches` raises it.
    """
    require_same_model(statistics, model)
    caches = {name: calibrate(statistics, name) for name in methods}
    same_as = first_alike(caches)
    apart = {name: cache for name, cache in caches.items() if same_as[name] is None}
    changed = judged_caches(model, apart, images, labelled=False, worst=images.count).changed
    means = {name: _mean(changed[name], images.count) for name in apart}
    return {name: means[same_as[name] or name] for name in caches}


def _mean(changed: Sequence[Changed], images: int) -> float:
    """DB over all images; one that is not among the changed is `CLEAR`."""
    differences = [min(or_least(each.sqnr), CLEAR) - CLEAR for each in changed if isinstance(each, ChangedImage)]
    return CLEAR + sum(differences) / images


def judged_caches(
    model: ModelSource,
    caches: Mapping[str, CalibrationCache],
    images: ImageLoader,
    *,
    labelled: bool = True,
    task: Task | None = None,
    worst: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Judged:
    """Run the models in INT8 of some caches beside the float model.

    What they compute is what ONNX Runtime's integer kernels do, but for rounding in float (`engines.simulation.
    rescaled`). Each runs on one thread, and as many at a time as there are cores. Samples run in groups of one size,
    whatever the loader's batch size, which changes nothing.

    Args:
        model: The float model, as a path or in memory.
        caches: By any name but `REFERENCE`.
        images: The images.
        labelled: Whether their labels count, where they have some.
        task: What the model is for; None for `Task()`.
        worst: How many of the images that changed most are told of each cache; None for none.
        progress: Is told the number of images done since the last call, of `images.count` for each `at_once` caches.

    Raises:
        CacheError: A cache has a usable scale for no tensor that needs one.
        ModelError: The model has no float output, by which caches could be told apart; or as `quantize` raises it.
        TrtcalError: As `trtcal.measure.accuracy.evaluate` raises it.
    """
    scores: dict[str, Score] = {}
    changed: dict[str, Sequence[Changed]] = {}
    with OnnxRuntimeSession(model, threads=1) as reference:
        if not any(spec.dtype.kind == "f" for spec in reference.outputs):
            raise ModelError(
                "the model has no float output, by which range methods could be told apart: give it with its scores"
            )
        versions = {name: each for each in rescaled(model, caches) for name in each.constants}
        size = reference.fixed_batch or (1 if reference.data_sized else group_size(reference.inputs))
        samples = Singles(images.for_model(reference.inputs), size, labelled=labelled)
        for names in _rounds(list(caches), at_once(model)):
            with ExitStack() as stack:
                sessions = {REFERENCE: reference}
                for name in names:
                    sessions[name] = stack.enter_context(_opened(versions[name], name))
                report = evaluate(
                    sessions,
                    samples,
                    reference=REFERENCE,
                    class_names=images.class_names,
                    task=task,
                    worst=worst,
                    together=usable_cores(),
                    progress=progress,
                )
            scores |= report.scores
            changed |= report.changed_images
        alike = counted_alike(scores, reference.data_sized)
    return Judged(alike, {name: versions[name].left_float for name in caches}, report, changed)


def first_alike(caches: Mapping[str, CalibrationCache]) -> dict[str, str | None]:
    """By name, the first one before it whose cache has the very same ranges for Q/DQ nodes; None where none has."""
    ranges = {
        name: (dict(cache), {} if cache.sidecar is None else dict(cache.sidecar.explicit))
        for name, cache in caches.items()
    }
    found: dict[str, str | None] = {}
    for name, own in ranges.items():
        found[name] = next((other for other in found if ranges[other] == own), None)
    return found


def group_size(inputs: Sequence[TensorSpec]) -> int:
    """How many samples run together in a model that leaves it open, by their size: 1 where that is open, too."""
    whole = 0
    for spec in inputs:
        sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
        if len(sizes) < len(spec.shape) - 1:
            return 1
        whole += spec.dtype.itemsize * math.prod(sizes)
    return min(GROUP, max(1, GROUP_BYTES // max(whole, 1)))


def at_once(model: ModelSource) -> int:
    """How many INT8 versions of a model are open at once."""
    size = (
        model.ByteSize()
        if isinstance(model, onnx.ModelProto)
        else sum(file.stat().st_size for file in files_of(model) if file.exists())
    )
    return max(1, AT_ONCE // max(size, 1))


def _rounds(names: Sequence[str], most: int) -> list[Sequence[str]]:
    return [names[start : start + most] for start in range(0, len(names), most)]


def _opened(version: Rescaled, name: str) -> OnnxRuntimeSession:
    return OnnxRuntimeSession(version.of(name), threads=1, arithmetic="literal")
