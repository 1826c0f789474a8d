"""`trtcal cache show` and `check`: read and judge calibration caches."""

import math
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.errors import CacheError, CheckFailedError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from calibrators.cache.sidecar import Sidecar
    from calibrators.cache.text import CalibrationCache

CachePath = Annotated[Path, typer.Argument(metavar="CACHE", help="A TensorRT calibration cache.", show_default=False)]


class Sort(str, Enum):
    """The order of the tensors in `show`."""

    ORDER = "order"
    NAME = "name"
    SCALE = "scale"


def show(
    cache: CachePath,
    sort: Annotated[
        Sort, typer.Option("--sort", help="As in the file, by name, or by scale with the largest first.")
    ] = Sort.ORDER,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Write the ranges as a page, too; with --statistics-from beside every tensor's values.",
            metavar="FILE.html",
            show_default=False,
        ),
    ] = None,
    statistics: Annotated[
        list[Path] | None,
        typer.Option(
            "--statistics-from",
            help="For --plot: the values of the tensors, which trtcal calibrate --statistics kept; shards merge.",
            metavar="FILE.npz...",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show a cache's header, where it comes from, and every tensor's scale and range.

    Marked are the largest scale, outliers (more than 3 decades above or below the median) and scales that are of no use
    as a range: zero, denormal, negative, infinite, not a number. "Q/DQ: 0.0137" is the scale for Q/DQ nodes where the
    side-car holds another one for them than the cache. `hex` is the scale as the file holds it: a float32's bits.
    """
    from calibrators.cache.check import oddities_of
    from calibrators.codecs.cache_file import load_cache
    from calibrators.files import require_outputs
    from trtcal.report.ranges_page import write_ranges
    from trtcal.tables import caches

    loaded = load_cache(cache, alone=True)
    if statistics and plot is None:
        raise CacheError("--statistics-from goes with --plot FILE.html: it draws the tensors' values")
    sidecar, doubt = _sidecar_of(cache, loaded)
    if plot is not None:
        require_outputs([plot], inputs=[cache, *(statistics or ())])
        write_ranges(plot, cache.name, loaded, statistics or ())
    warnings = [*([doubt] if doubt else []), *oddities_of(loaded)]
    names = list(loaded)
    if sort is Sort.NAME:
        names.sort()
    if sort is Sort.SCALE:
        names.sort(key=lambda name: math.inf if math.isnan(loaded[name]) else -loaded[name])
    if json:
        console.emit_json(caches.as_dict(cache, loaded, names, sidecar, warnings))
        return
    caches.show(cache, loaded, names, sidecar)
    for warning in warnings:
        console.note(f"warning: {warning}")


def check(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The float ONNX model.", show_default=False)],
    cache: CachePath,
    json: options.Json = False,
) -> None:
    """Check that a cache fits a model; exit code 1 when it does not.

    It fits when every quantizable tensor of the model (those that Q/DQ nodes need) has a usable scale (positive,
    finite, not denormal), its own or that of a tensor it shares one with (through max pooling, reshapes,
    concatenations), and the side-car CACHE.json, if there is one, holds the SHA-256 of this cache and of this model.

    All else is reported and leaves the exit code 0: names in the cache that the model does not know (stale; those that
    TensorRT makes for itself, such as "(Unnamed Layer* 4) ..." or "ONNXTRT_Broadcast_...", are counted apart), other
    float tensors without a scale, odd or old headers, outliers (more than 3 decades above or below the median), and
    scales of no use on tensors that need none.
    """
    from trtcal.pipeline import check_cache
    from trtcal.tables.caches import fit_as_dict, show_fit

    fit = check_cache(model, cache)
    if json:
        console.emit_json({"model": str(model), "cache": str(cache), **fit_as_dict(fit)})
    else:
        show_fit(f"{cache} against {model}", fit)
    if not fit.fits:
        raise CheckFailedError(f"{cache} does not fit {model}: {'; '.join(fit.errors)}")


def _sidecar_of(path: Path, cache: "CalibrationCache") -> "tuple[Sidecar | None, str | None]":
    """The side-car if it can be believed, else why not."""
    from calibrators.cache.sidecar import Sidecar, sidecar_path

    try:
        sidecar = Sidecar.beside(path)
    except CacheError as error:
        return None, f"the side-car is ignored: {error}"
    if sidecar is not None and sidecar.cache_sha256 != cache.sha256:
        return None, f"{sidecar_path(path)} is ignored: it describes another cache (SHA-256 differs)"
    return sidecar, None
