"""`trtcal calibrate`: from images to a calibration cache."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calibrators.errors import DataError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from trtcal.tables.calibration import Calibrated
    from trtcal.tasks.task import Task

_CALIBRATION = ("preprocess", "count", "batch_size", "seed", "tensors", "on_bad_image")

_JUDGING = ("task", "annotations", "confidence")


def calibrate(
    context: typer.Context,
    model: options.Model,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The cache to write; its side-car is FILE.json.",
            metavar="MODEL.cache",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="PATH", show_default=False),
    ] = None,
    method: options.MethodOrAuto = "entropy",
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    preprocess: options.Preprocess = None,
    count: options.Count = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    tensors: Annotated[
        Literal["all", "quantizable"],
        typer.Option(
            help="Every float activation, as TensorRT's calibrators need them, or only those that Q/DQ nodes need."
        ),
    ] = "all",
    on_bad_image: options.OnBadImage = "error",
    statistics: options.Statistics = None,
    statistics_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="Kept statistics instead of --images and what goes with images; those of several shards merge.",
            metavar="FILE.npz...",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run the model over images on the CPU and write its calibration cache, in TensorRT's own format.

    Images are run one at a time, so that the result depends neither on the batch size nor on the number of processor
    cores.

    --method auto calibrates on --count images, ranks every method on up to 500 others as `trtcal compare` does, and
    takes the winner; the ranges come from the images that were calibrated on alone.
    """
    from engines.graph.model import load_model
    from trtcal.tables.calibration import as_dict, show
    from trtcal.tables.comparison import say_notes
    from trtcal.tables.images import say_what_was_calibrated_on

    _require_method(method, statistics_from)
    read = [images, annotations, preprocess, *(statistics_from or [])]
    options.require_calibration_outputs(model, output, statistics, inputs=read)
    if (images is None) == (not statistics_from):
        raise DataError("give either --images or --statistics-from: one of them says what to calibrate on")
    if images is None:
        options.require_no_calibration(context, _CALIBRATION)
    if method != options.AUTO:
        options.require_no_calibration(context, _JUDGING, goes_with="--method auto, which judges methods by a task")
    judged_by = options.task_of(task, annotations, confidence)
    load_model(model, weights=False)
    if images is not None:
        data = _Data(model, images, preprocess, count, batch_size, seed, tensors, on_bad_image)
        done = data.ranked(judged_by) if method == options.AUTO else data.calibrated(method)
    else:
        done = _merged(model, statistics_from or [], method)
    if statistics is not None:
        done.statistics.save(statistics)
    done.cache.save(output)
    if json:
        console.emit_json({"cache": str(output), **as_dict(done), "statistics": statistics and str(statistics)})
    else:
        show(output, done)
        if statistics is not None:
            console.say(f"statistics: {statistics}")
    if done.compared is not None:
        say_notes(done.compared, stated=preprocess is not None)
    elif done.loader is not None:
        say_what_was_calibrated_on(done.loader, stated=preprocess is not None)
    for line in done.notes:
        console.note(f"note: {line}")


def _require_method(method: str, statistics_from: list[Path] | None) -> None:
    from calibrators.ranges import method_named

    if method != options.AUTO:
        method_named(method)
    elif statistics_from:
        raise DataError(
            "--method auto ranks the methods on images, and statistics hold none: give --images, or name a method"
        )


@dataclass(frozen=True, slots=True)
class _Data:
    """A model, and the options that go with --images."""

    model: Path
    images: Path
    preprocess: str | None
    count: int
    batch_size: int
    seed: int
    tensors: Literal["all", "quantizable"]
    on_bad_image: Literal["error", "skip"]

    def calibrated(self, method: str) -> "Calibrated":
        from calibrators.ranges import calibrate
        from trtcal.pipeline import collect_images
        from trtcal.tables.calibration import Calibrated

        with console.images_progress("Calibrating") as progress:
            options = {field.name: getattr(self, field.name) for field in fields(self)}
            statistics, loader = collect_images(**options, progress=progress)
        return Calibrated(statistics, calibrate(statistics, method), method, loader)

    def ranked(self, task: "Task") -> "Calibrated":
        from trtcal.analysis.selection import compare_images
        from trtcal.data.split import ImageChoice
        from trtcal.tables.calibration import Calibrated

        choice = ImageChoice(
            self.images,
            preprocess=self.preprocess,
            count=self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            on_bad_image=self.on_bad_image,
            task=task,
        )
        compared = compare_images(self.model, choice, tensors=self.tensors, step=console.progress)
        winner = compared.comparison.winner
        return Calibrated(compared.statistics, winner.cache, winner.method, compared.parts.calibration, compared)


def _merged(model: Path, files: list[Path], method: str) -> "Calibrated":
    from calibrators.ranges import calibrate
    from calibrators.statistics.file import merged_files
    from trtcal.pipeline import require_same_model
    from trtcal.tables.calibration import Calibrated

    statistics = merged_files(files)
    require_same_model(statistics, model)
    return Calibrated(statistics, calibrate(statistics, method), method)
