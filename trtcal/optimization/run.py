"""The whole job: calibrate once, climb the ladder until the bound holds, build, decide, and write down why."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from calibrators.cache.sidecar import sidecar_path
from calibrators.files import write_whole
from engines.build.request import BackendName
from trtcal.analysis.step import Step, unshown
from trtcal.data.images import OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT, TEST_COUNT, ImageChoice
from trtcal.optimization.building import (
    files_of,
)
from trtcal.optimization.deciding import chosen, sentence
from trtcal.optimization.ledger import Ledger
from trtcal.optimization.reporting import write_report
from trtcal.optimization.request import PRECISIONS, Checked, Request, checked, precisions_named
from trtcal.optimization.result import Candidate, Optimized, Taken
from trtcal.optimization.stages import best_of, calibrated, candidates_of, climbed, inputs_of, judging_inputs
from trtcal.tasks.task import CONFIDENCE, Task, task_given


def optimize(
    model: str | os.PathLike[str],
    images: PathLike,
    output: str | os.PathLike[str],
    *,
    max_drop: float = 1.0,
    task: Task | None = None,
    test_images: PathLike | None = None,
    labels: PathLike | None = None,
    preprocess: PathLike | Preprocess | None = None,
    precisions: Sequence[str] = PRECISIONS,
    backend: BackendName = "auto",
    shapes: str | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
    step: Step | None = None,
) -> Optimized:
    """Do the whole job: from a float model, images and a bound to the engine to deploy, and why.

    What an earlier run in the same folder did with the same inputs is not done again.

    Args:
        model: The float model.
        images: What to calibrate on, and to judge by.
        output: The folder to write: a new one, an empty one, or that of an earlier run.
        max_drop: What may be lost against the float model: points of top-1 or of the task's measure, or percent of the
            images with another class.
        task: What the model is for; None for `Task()`.
        test_images: What to judge by instead.
        labels: Of the images to judge by.
        preprocess: As `ImageLoader` has it.
        precisions: Of the engines to choose among: "int8", "fp16", "fp32".
        backend: As `trtcal.build_engine` has it.
        shapes: Likewise.
        count: How many images to calibrate on at most.
        test_count: How many steps are judged by at most; as many others, where there are more, are for the verdict.
        seed: Of the choice of images.
        on_bad_image: "error" or "skip".
        step: Shows progress.

    Raises:
        OutputError: The folder holds something else, or cannot be written.
        TrtcalError: As `checked`, `calibrate_model` and `trtcal.build_engine` raise it.
    """
    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        seed=seed,
        on_bad_image=on_bad_image,
        task=task_given(task),
    )
    request = Request(Path(model), Path(output), choice, max_drop, precisions_named(precisions), backend, shapes)
    return optimized(checked(request), step=step)


def optimized(job: Checked, *, step: Step | None = None) -> Optimized:
    """What `optimize` does, where the request was checked."""
    step = step or unshown
    job.places.claim()
    ledger = Ledger(job.places)
    ledger.begin()
    inputs = inputs_of(job)
    base = calibrated(job, ledger, inputs, step)
    steps = climbed(base, ledger, inputs) if "int8" in job.request.precisions else ()
    taken = best_of(steps)
    candidates, timing, refused = candidates_of(base, ledger, inputs, taken)
    found = chosen(candidates)
    best = found or min(candidates, key=lambda each: (each.measured.drop, each.cost))
    _deliver(job, best, taken)
    done = Optimized(
        job.places.folder,
        job.request.max_drop,
        job.measure,
        steps,
        candidates,
        found,
        sentence(candidates, found, job.measure, job.request.max_drop),
        (command_of(job),),
        _to_measure(job, candidates),
        (*job.notes, *refused, *([f"engines were not timed: {timing['absent']}"] if "absent" in timing else [])),
    )
    absent = write_report(base, ledger, done, judging_inputs(job, inputs), timing)
    return done if absent is None else replace(done, notes=(*done.notes, absent))


def _deliver(job: Checked, best: Candidate, taken: Taken | None) -> None:
    """Put the chosen engine, and the model with Q/DQ nodes that it is from, under their own names."""
    places = job.places
    pairs = [*zip(files_of(best.engine), files_of(places.engine), strict=True)]
    for path in (places.quantized, sidecar_path(places.quantized)):
        path.unlink(missing_ok=True)
    if best.name == "int8" and taken is not None:
        model = places.model_of(taken.name)
        pairs += [(model, places.quantized), (sidecar_path(model), sidecar_path(places.quantized))]
    for source, target in pairs:
        write_whole(target, source.read_bytes())


def command_of(job: Checked) -> str:
    """The command that makes the folder again."""
    request, choice = job.request, job.request.choice
    words: list[object] = ["trtcal", "optimize", request.model, "--images", choice.images, "-o", request.folder]
    given = {
        "--max-drop": f"{request.max_drop:g}",
        "--test-images": choice.test_images,
        **_judged_by(job),
        "--precisions": None if request.precisions == PRECISIONS else ",".join(request.precisions),
        "--backend": None if request.backend == "auto" else request.backend,
        "--shapes": request.shapes,
        "--count": None if choice.count == COUNT else choice.count,
        "--test-count": None if choice.test_count == TEST_COUNT else choice.test_count,
        "--seed": choice.seed or None,
        "--on-bad-image": None if choice.on_bad_image == "error" else choice.on_bad_image,
    }
    for name, value in given.items():
        words += [] if value is None else [name, value]
    return shlex.join(map(str, words))


def _to_measure(job: Checked, candidates: tuple[Candidate, ...]) -> tuple[str, ...]:
    """Commands that tell on the GPU what this machine could not."""
    if any(each.latency for each in candidates):
        return ()
    engines = [str(each.engine) for each in candidates]
    choice = job.request.choice
    words: list[object] = [
        "trtcal",
        "accuracy",
        job.request.model,
        job.places.engine,
        "--images",
        choice.test_images or choice.images,
    ]
    for name, value in _judged_by(job).items():
        words += [] if value is None else [name, value]
    return shlex.join(["trtcal", "benchmark", *engines]), shlex.join(map(str, words))


def _judged_by(job: Checked) -> dict[str, object]:
    """Options that say what the model is for, and what is in the images to judge by."""
    choice, task = job.request.choice, job.request.choice.task
    return {
        "--labels": choice.labels,
        "--task": None if task.name == "auto" else task.name,
        "--annotations": task.annotations,
        "--confidence": None if task.confidence == CONFIDENCE else f"{task.confidence:g}",
        "--preprocess": choice.preprocess if isinstance(choice.preprocess, (str, os.PathLike)) else None,
    }
