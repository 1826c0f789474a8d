"""`trtcal accuracy`: how well models classify, and how far they are from a reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from calibrators.errors import DataError, TrtcalError
from trtcal.commands import options
from trtcal.tables import console


def accuracy(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="ONNX models and engines.", show_default=False)
    ],
    *,
    images: Annotated[
        Path, typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="PATH", show_default=False)
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file of rows `file,label`; for arrays an .npy of class numbers (default: the classes are the "
            "sub-folders, numbered in sorted order; in an .npz, the array `labels`).",
            metavar="FILE",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="The model to compare with (default: the first, if there are several).", metavar="MODEL"),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Exit with 1 if a model's top-1 is more than this many percentage points under the reference's; "
            "without labels, if its class differs from the reference's for more than this many percent of the images; "
            "for a --task, the points of its measure.",
            metavar="POINTS",
        ),
    ] = None,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    worst: Annotated[
        int | None,
        typer.Option(
            help="Name the N images that each model changes most against the reference: images lost, then gained, then "
            "of another class, each by the lowest SQNR of the image.",
            metavar="N",
            min=1,
        ),
    ] = None,
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class",
            help="Show top-1, images lost and gained of each class; without labels, agreement; "
            "for a --task, its measure.",
        ),
    ] = False,
    preprocess: options.Preprocess = None,
    count: Annotated[int | None, typer.Option(help="Images to take (default: all).", metavar="N", min=1)] = None,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    threads: Annotated[
        int | None, typer.Option(help="Threads that each ONNX model uses (default: every core).", metavar="N")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure models side by side on the same images: ONNX models in ONNX Runtime on the CPU, engines on the GPU.

    With labels: top-1 with its 95 % confidence interval (Wilson's) and top-5; of equal scores the first counts. With a
    reference: the drop in points of top-1, images lost (right by the reference, wrong by this model) and gained (the
    other way round), agreement (the share of images for which both choose the same class) and SQNR (how far the outputs
    are from the reference's, in dB: about 6 for each bit; of several outputs, the worst one). A line names the
    classes that lose most; "beyond chance" is at 95 % for all classes together. With --task detect, segment or
    keypoints: mAP or mIoU, by --annotations or by what the float model finds, and detections lost, extra and moved.
    Without --preprocess, what a quantized model was calibrated with is used again, as its side-car or its cache's says.
    """
    from trtcal.data.images import open_images
    from trtcal.data.recorded_preprocess import chosen_preprocess
    from trtcal.measure.accuracy import evaluate
    from trtcal.measure.bound import check_drop, require_bound
    from trtcal.measure.changed import passes, require_worst
    from trtcal.measure.models import display_names, opened, remarks_of
    from trtcal.tables.accuracy import as_dict, remarks, show
    from trtcal.tables.images import NOT_STATED

    paths, compared = _side_by_side(models, reference)
    judged_by = options.task_of(task, annotations, confidence)
    if max_drop is not None:
        require_bound(max_drop)
        if compared is None:
            raise TrtcalError("--max-drop needs something to compare with: give two models, or --reference")
    if worst is not None:
        require_worst(worst, compared=compared is not None)
    names = display_names(paths)
    anchor = None if compared is None else names[compared]
    with opened(paths, threads=threads) as sessions:
        inputs = sessions[anchor or names[0]].inputs
        found = chosen_preprocess(preprocess, paths, inputs)
        chosen, notes = found.preprocess, [*found.notes]
        notes += [f"note: {line}" for line in remarks_of(sessions)]
        loader = open_images(
            images,
            inputs,
            preprocess=chosen,
            batch_size=batch_size,
            count=count,
            seed=seed,
            labels=labels,
            on_bad_image=on_bad_image,
        )
        if loader.labels is None and anchor is None and annotations is None:
            raise DataError(
                f"{images} has no labels, and there is no other model to compare {names[0]} with: "
                "give --labels, a folder per class, --annotations with --task, or --reference"
            )
        if chosen is None and not loader.preprocess.as_is:
            notes.append(NOT_STATED)
        runs = 1 if judged_by.finds else passes(sessions[anchor or names[0]].outputs, worst)
        with console.progress("Measuring accuracy", runs * loader.count) as advance:
            report = evaluate(sessions, loader, reference=anchor, task=judged_by, worst=worst, progress=advance)
    notes += remarks(report, loader)
    if by_class and not any(
        each.classes or (each.task and each.task.result.by_class) for each in report.scores.values()
    ):
        notes.append(
            "note: --by-class shows nothing: no single output holds class scores, and no task tells classes apart"
        )
    if json:
        console.emit_json(as_dict(report, loader, notes))
    else:
        show(report, loader, by_class=by_class)
    for line in notes:  # Not before: where the work fails, the error is all that is said.
        console.note(line)
    if max_drop is not None:
        check_drop(report, max_drop)


def _side_by_side(models: Sequence[Path], reference: Path | None) -> tuple[list[Path], int | None]:
    """The models to run, and which of them is the reference."""
    if reference is None:
        return list(models), 0 if len(models) > 1 else None
    places = [path.resolve() for path in models]
    if reference.resolve() in places:
        return list(models), places.index(reference.resolve()) if len(models) > 1 else None
    return [reference, *models], 0
