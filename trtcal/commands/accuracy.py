"""`trtcal accuracy`: how well models classify, and how far they are from a reference."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.errors import DataError, TrtcalError
from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from calibrators.batches import TensorSpec
    from trtcal.data.images import ImageLoader
    from trtcal.data.preprocess import Preprocess
    from trtcal.measure.accuracy import Report
    from trtcal.measure.measures import Score, Share


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
            "without labels, if its class differs from the reference's for more than this many percent of the images.",
            metavar="POINTS",
        ),
    ] = None,
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
    are from the reference's, in dB: about 6 for each bit). Without --preprocess, what a quantized model was
    calibrated with is used again, as its side-car or its cache's says.
    """
    from trtcal.commands.models import display_names, opened
    from trtcal.data.images import open_images
    from trtcal.measure.accuracy import check_drop, evaluate, require_bound

    paths, compared = _side_by_side(models, reference)
    if max_drop is not None:
        require_bound(max_drop)
        if compared is None:
            raise TrtcalError("--max-drop needs something to compare with: give two models, or --reference")
    names = display_names(paths)
    anchor = None if compared is None else names[compared]
    with opened(paths, threads=threads) as sessions:
        inputs = sessions[anchor or names[0]].inputs
        chosen, remarks = _preprocess(preprocess, paths, inputs)
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
        if loader.labels is None and anchor is None:
            raise DataError(
                f"{images} has no labels, and there is no other model to compare {names[0]} with: "
                "give --labels, a folder per class, or --reference"
            )
        if chosen is None and not loader.preprocess.as_is:
            remarks.append(options.NOT_STATED)
        with console.progress("Measuring accuracy", loader.count) as advance:
            report = evaluate(sessions, loader, reference=anchor, progress=advance)
    notes = _notes(report, loader)
    if json:
        console.emit_json(
            {
                "images": str(loader.source),
                "count": loader.count,
                "digest": loader.digest,
                "preprocess": loader.preprocess.to_dict(),
                "skipped": [{"name": name, "reason": reason} for name, reason in loader.skipped],
                **report.to_dict(),
                "notes": [*remarks, *notes],
            }
        )
    else:
        _print(report, loader)
    for line in [*remarks, *notes]:  # Not before: where the work fails, the error is all that is said.
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


def _preprocess(
    stated: str | None, paths: Sequence[Path], inputs: "Sequence[TensorSpec]"
) -> "tuple[Preprocess | None, list[str]]":
    """What is stated, else what side-cars say; and what the reader should know of it."""
    from trtcal.data.preprocess import Preprocess
    from trtcal.data.recorded_preprocess import recorded_preprocess

    found = [recorded_preprocess(path) for path in paths]
    remarks = list(dict.fromkeys(f"note: {line}" for each in found for line in each.ignored))
    records = [(each.path, each.preprocess) for each in found if each.preprocess is not None]
    if stated is not None:
        chosen = Preprocess.load(stated)
        for path, recorded in records:
            if not _same(chosen, recorded, inputs):
                remarks.append(
                    f"warning: the preprocessing is not the one of the calibration: {path} says ({recorded}), "
                    f"--preprocess says ({chosen}); INT8 loses accuracy where the two differ"
                )
                break
        return chosen, remarks
    for path, recorded in records[1:]:
        if not _same(records[0][1], recorded, inputs):
            said = f"{records[0][0]} ({records[0][1]}) and {path} ({recorded})"
            raise DataError(f"two preprocessings are recorded, {said}: choose one with --preprocess")
    if records:
        return records[0][1], [*remarks, f"Preprocessing from {records[0][0]}"]
    return None, remarks


def _same(one: "Preprocess", other: "Preprocess", inputs: "Sequence[TensorSpec]") -> bool:
    try:
        return one.for_model(inputs) == other.for_model(inputs)
    except DataError:
        return False


def _notes(report: "Report", loader: "ImageLoader") -> list[str]:
    notes = [
        f"warning: {name} gives NaN or infinity for {each.nonfinite} of {each.samples} images: its outputs are broken"
        for name, each in report.scores.items()
        if each.nonfinite
    ]
    if loader.skipped:
        name, reason = loader.skipped[0]
        notes.append(
            f"warning: {len(loader.skipped)} images could not be read and were left out, such as {name}: {reason}"
        )
    if loader.labels is not None and not any(each.top1.total for each in report.scores.values()):
        notes.append("There are labels, but no single output holds class scores: top-1 is not measured")
    return notes


def _print(report: "Report", loader: "ImageLoader") -> None:
    rows = [cells(name, each, report.reference) for name, each in report.scores.items()]
    columns = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    samples = max(each.samples for each in report.scores.values())
    console.say(f"{samples} samples of {loader.source}, preprocessing {loader.preprocess}")
    if report.reference is not None:
        measured = ["agreement, SQNR"] if "agree" in columns else ["SQNR"]
        if "drop" in columns:
            measured = ["drop in points of top-1", "images lost and gained", *measured]
        console.say(f"{', '.join(measured)}: against {report.reference}")
    console.table(
        "",
        columns,
        [[row[heading] or "-" for heading in columns] for row in rows],
        numeric=columns[1:],
        optional=("top-5",),
        legend=True,
        styles=["red" if each.nonfinite else None for each in report.scores.values()],
    )
    outputs = {name: each.distortions for name, each in report.scores.items() if len(each.distortions) > 1}
    if outputs:
        console.table(
            f"SQNR by output, against {report.reference}",
            ("model", "output", "SQNR"),
            [[name, output, decibels(part.sqnr)] for name, parts in outputs.items() for output, part in parts.items()],
            numeric=("SQNR",),
        )


def cells(name: str, each: "Score", reference: str | None) -> dict[str, str]:
    """A score's cells by heading, empty where nothing was measured."""
    interval = drop = lost = gained = ""
    if each.top1.total:
        low, high = each.top1.interval()
        interval = f"{low:.2f}-{high:.2f}"
        if reference not in (None, name):
            drop, lost, gained = f"{each.drop:.2f}", str(each.lost), str(each.gained)
    return {
        "model": name,
        "top-1": _percent(each.top1),
        "95 % CI": interval,
        "top-5": _percent(each.top5),
        "drop": drop,
        "lost": lost,
        "gained": gained,
        "agree": _percent(each.agreement),
        "SQNR": decibels(each.distortion.sqnr) if each.distortions else "",
        "NaN/Inf": str(each.nonfinite or ""),
    }


def _percent(share: "Share") -> str:
    return f"{share.percent:.2f} %" if share.total else ""


def decibels(value: float) -> str:
    """A signal to noise ratio as a cell."""
    return "identical" if value == math.inf else f"{round(value, 1) + 0.0:.1f} dB"  # never -0.0
