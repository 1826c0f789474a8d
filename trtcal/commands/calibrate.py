"""`trtcal calibrate`: from images to a calibration cache."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from calibrators.errors import DataError
from trtcal import console
from trtcal.commands import options


def calibrate(
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
        typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="DIR", show_default=False),
    ] = None,
    method: options.Method = "entropy",
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
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="Keep the statistics, from which any method derives.", metavar="MODEL.stats.npz", show_default=False
        ),
    ] = None,
    statistics_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="Kept statistics instead of --images; those of several shards merge.",
            metavar="FILE.npz...",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run the model over images on the CPU and write its calibration cache, in TensorRT's own format.

    Images are run one at a time, so that the result depends neither on the batch size nor on the number of processor
    cores.
    """
    from calibrators.files import require_outputs
    from calibrators.ranges import calibrate as calibrated
    from calibrators.ranges import method_named
    from calibrators.sidecar import sidecar_path
    from calibrators.statistics_file import merged_files
    from engines.graph import files_of, load_model
    from trtcal.pipeline import collect_images, require_same_model
    from trtcal.pixels import EXTENSIONS

    method_named(method)
    outputs = [output, sidecar_path(output), *([] if statistics is None else [statistics])]
    read = [path for path in (images, None if preprocess is None else Path(preprocess)) if path is not None]
    read += [path for path in outputs if path.suffix.lower() in EXTENSIONS]  # one of the images, if it is there
    require_outputs(outputs, inputs=[*files_of(model), *read, *(statistics_from or [])])
    if (images is None) == (not statistics_from):
        raise DataError("give either --images or --statistics-from: one of them says what to calibrate on")
    load_model(model, weights=False)
    loader = None
    if images is not None:
        with console.images_progress("Calibrating") as progress:
            gathered, loader = collect_images(
                model,
                images,
                preprocess=preprocess,
                count=count,
                batch_size=batch_size,
                seed=seed,
                tensors=tensors,
                on_bad_image=on_bad_image,
                progress=progress,
            )
    else:
        gathered = merged_files(statistics_from or [])
        require_same_model(gathered, model)
    cache = calibrated(gathered, method)
    if statistics is not None:
        gathered.save(statistics)
    cache.save(output)
    zeros = [name for name, scale in cache.items() if scale == 0]
    samples = gathered.provenance.count
    if json:
        console.emit_json(
            {
                "cache": str(output),
                "tensors": len(cache),
                "images": samples,
                "method": method,
                "preprocess": None if loader is None else str(loader.preprocess),
                "skipped": [] if loader is None else [{"image": n, "reason": why} for n, why in loader.skipped],
                "zero": zeros,
                "statistics": None if statistics is None else str(statistics),
            }
        )
    else:
        console.say(f"{output}: {len(cache)} tensors from {samples} images by {method}")
        if loader is not None:
            console.say(f"preprocessing: {loader.preprocess}")
    if loader is not None:
        options.say_what_was_calibrated_on(loader, stated=preprocess is not None)
    for name in zeros:
        console.note(f"note: {name} was zero in every image; its scale is 0, and it will stay in float")
