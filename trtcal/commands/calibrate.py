"""`trtcal calibrate`: from images to a calibration cache."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calibrators.errors import DataError
from trtcal import console
from trtcal.commands import options
from trtcal.commands.compare import in_order, picked, say_notes, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibrators.cache.text import CalibrationCache
    from calibrators.statistics.file import Statistics
    from trtcal.analysis.selection import Compared
    from trtcal.data.images import ImageLoader

AUTO = "auto"
"""In place of a method's name: the one that does best on images that were not calibrated on."""


_CALIBRATION = ("preprocess", "count", "batch_size", "seed", "tensors", "on_bad_image")


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
    method: Annotated[
        str,
        typer.Option(
            help=f"How ranges are chosen: {options.METHODS}; or auto, the best of them on images not calibrated on.",
            metavar="NAME",
        ),
    ] = "entropy",
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

    _require_method(method, statistics_from)
    read = [images, preprocess, *(statistics_from or [])]
    options.require_calibration_outputs(model, output, statistics, inputs=read)
    if (images is None) == (not statistics_from):
        raise DataError("give either --images or --statistics-from: one of them says what to calibrate on")
    if images is None:
        options.require_no_calibration(context, _CALIBRATION)
    load_model(model, weights=False)
    if images is not None:
        data = _Data(model, images, preprocess, count, batch_size, seed, tensors, on_bad_image)
        done = data.ranked() if method == AUTO else data.calibrated(method)
    else:
        done = _merged(model, statistics_from or [], method)
    if statistics is not None:
        done.statistics.save(statistics)
    done.cache.save(output)
    if json:
        console.emit_json({"cache": str(output), **_as_dict(done), "statistics": statistics and str(statistics)})
    else:
        _report(output, done)
        if statistics is not None:
            console.say(f"statistics: {statistics}")
    if done.compared is not None:
        say_notes(done.compared, stated=preprocess is not None)
    elif done.loader is not None:
        options.say_what_was_calibrated_on(done.loader, stated=preprocess is not None)
    for name in done.zeros:
        console.note(f"note: {name} was zero in every image; its scale is 0, and it will stay in float")


def _require_method(method: str, statistics_from: list[Path] | None) -> None:
    from calibrators.ranges import method_named

    if method != AUTO:
        method_named(method)
    elif statistics_from:
        raise DataError(
            "--method auto ranks the methods on images, and statistics hold none: give --images, or name a method"
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """A cache, and what it comes from."""

    statistics: "Statistics"
    cache: "CalibrationCache"
    method: str
    loader: "ImageLoader | None" = None
    compared: "Compared | None" = None

    @property
    def preprocess(self) -> str | None:
        """How images became the model's input, in words; None where the statistics do not tell."""
        from trtcal.data.preprocess import Preprocess

        if self.loader is not None:
            return str(self.loader.preprocess)
        known = self.statistics.provenance.preprocess
        return None if known is None else str(Preprocess.from_dict(known))

    @property
    def picks(self) -> "Mapping[str, int]":
        """How often `best` chose each method."""
        from trtcal.analysis.comparison import picks

        return picks(self.statistics, self.method)

    @property
    def zeros(self) -> list[str]:
        return [name for name, scale in self.cache.items() if scale == 0]


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

    def calibrated(self, method: str) -> _Done:
        from calibrators.ranges import calibrate
        from trtcal.pipeline import collect_images

        with console.images_progress("Calibrating") as progress:
            statistics, loader = collect_images(**self._options(), progress=progress)
        return _Done(statistics, calibrate(statistics, method), method, loader)

    def ranked(self) -> _Done:
        from trtcal.analysis.selection import compare_images

        compared = compare_images(**self._options(), step=console.progress)
        winner = compared.comparison.winner
        return _Done(compared.statistics, winner.cache, winner.method, compared.parts.calibration, compared)

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _merged(model: Path, files: list[Path], method: str) -> _Done:
    from calibrators.ranges import calibrate
    from calibrators.statistics.file import merged_files
    from trtcal.pipeline import require_same_model

    statistics = merged_files(files)
    require_same_model(statistics, model)
    return _Done(statistics, calibrate(statistics, method), method)


def _as_dict(done: _Done) -> dict[str, Any]:
    ranking = None if done.compared is None else [each.to_dict() for each in done.compared.comparison.ranking]
    return {
        "tensors": len(done.cache),
        "images": done.statistics.provenance.count,
        "method": done.method,
        "picks": dict(done.picks),
        "ranking": ranking,
        "preprocess": done.preprocess,
        "skipped": [] if done.loader is None else [{"image": n, "reason": why} for n, why in done.loader.skipped],
        "zero": done.zeros,
    }


def _report(output: Path, done: _Done) -> None:
    samples = done.statistics.provenance.count
    console.say(f"{output}: {len(done.cache)} tensors from {samples} images by {done.method}")
    if picks := done.picks:
        console.say(picked(picks))
    if done.preprocess is not None:
        console.say(f"preprocessing: {done.preprocess}")
    if done.compared is not None:
        console.say(f"{summary(done.compared)}: {in_order(done.compared.comparison)}")
