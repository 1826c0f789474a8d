"""`trtcal cache`: read, judge and convert calibration caches."""

import math
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrators.errors import CacheError, CheckFailedError, DataError
from trtcal import console
from trtcal.commands import cache_convert

if TYPE_CHECKING:
    import onnx

    from calibrators.cache.check import CacheFit
    from calibrators.cache.sidecar import Sidecar
    from calibrators.cache.text import CalibrationCache

app = typer.Typer(help="Read, judge and convert calibration caches.")
app.command("convert", short_help="Convert caches, encodings, ranges and Q/DQ models into each other.")(
    cache_convert.convert
)

CachePath = Annotated[Path, typer.Argument(metavar="CACHE", help="A TensorRT calibration cache.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Sort(str, Enum):
    """The order of the tensors in `show`."""

    ORDER = "order"
    NAME = "name"
    SCALE = "scale"


@app.command("show", short_help="Show a cache's header, origin, scales and ranges.")
def show(
    cache: CachePath,
    sort: Annotated[
        Sort, typer.Option("--sort", help="As in the file, by name, or by scale with the largest first.")
    ] = Sort.ORDER,
    json: Json = False,
) -> None:
    """Show a cache's header, where it comes from, and every tensor's scale and range.

    Marked are the largest scale, outliers (more than 3 decades above or below the median) and scales that are of no use
    as a range: zero, denormal, negative, infinite, not a number. "Q/DQ: 0.0137" is the scale for Q/DQ nodes where the
    side-car holds another one for them than the cache. `hex` is the scale as the file holds it: a float32's bits.
    """
    from calibrators.cache.check import oddities_of, remarks_of
    from calibrators.cache.text import header_text
    from calibrators.codecs.cache_file import load_cache

    loaded = load_cache(cache, alone=True)
    sidecar, doubt = _sidecar_of(cache, loaded)
    warnings = [*([doubt] if doubt else []), *oddities_of(loaded)]
    remarks = remarks_of(loaded)
    names = list(loaded)
    if sort is Sort.NAME:
        names.sort()
    if sort is Sort.SCALE:
        names.sort(key=lambda name: math.inf if math.isnan(loaded[name]) else -loaded[name])
    if json:
        console.emit_json(
            {
                "cache": str(cache),
                "header": loaded.header,
                "version": loaded.version,
                "algorithm": loaded.algorithm,
                "sha256": loaded.sha256,
                "warnings": warnings,
                "sidecar": None if sidecar is None else sidecar.to_dict(),
                "tensors": [_json_row(loaded, name, remarks.get(name, ())) for name in names],
            }
        )
        return
    console.say(f"{cache}: {header_text(loaded)}; {len(loaded)} tensors")
    explicit = {} if sidecar is None else sidecar.explicit
    if sidecar is not None:
        console.say(_provenance(sidecar))
    console.table(
        "",
        ["tensor", "scale", "amax", "hex", "remark"],
        [
            [
                name,
                f"{loaded[name]:.6g}",
                f"{loaded.amax(name):.6g}",
                loaded.bits(name),
                ", ".join([*remarks.get(name, ()), *([f"Q/DQ: {explicit[name]:.4g}"] if name in explicit else [])]),
            ]
            for name in names
        ],
        numeric=["scale", "amax", "hex"],
        optional=["hex"],
        styles=[_style(remarks.get(name, ())) for name in names],
    )
    for warning in warnings:
        console.note(f"warning: {warning}")


@app.command("check", short_help="Check that a cache fits a model.")
def check(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The float ONNX model.", show_default=False)],
    cache: CachePath,
    json: Json = False,
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
    from calibrators.cache.check import judge
    from calibrators.cache.sidecar import Sidecar
    from calibrators.codecs.cache_file import load_cache
    from engines.graph.model import activations, load_model, model_digest, scale_groups
    from engines.graph.operators import COMMUTES
    from engines.qdq.write import quantizable_tensors

    loaded = load_cache(cache, alone=True)
    graph = load_model(model, weights=False)
    fit = judge(
        loaded,
        activations=activations(graph),
        quantizable=quantizable_tensors(model),
        shared=[group.members for group in scale_groups(graph, through=COMMUTES)],
        others=_names(graph.graph),
        model_sha256=model_digest(model),
        sidecar=Sidecar.beside(cache),
    )
    if json:
        console.emit_json({"model": str(model), "cache": str(cache), **_json_fit(fit)})
    else:
        _print_fit(f"{cache} against {model}", fit)
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


def _provenance(sidecar: "Sidecar") -> str:
    seed = "" if sidecar.seed is None else f", seed {sidecar.seed}"
    versions = ", ".join(f"{package} {version}" for package, version in sidecar.versions.items())
    return "\n".join(
        [
            f"made by {sidecar.method} of {sidecar.tensors} tensors" + (f" with {versions}" if versions else ""),
            f"from {sidecar.images} images{seed} (SHA-256 {', '.join(map(_brief, sidecar.image_sets)) or 'unknown'})",
            f"for the model of SHA-256 {_brief(sidecar.model_sha256) or 'unknown'}",
            f"preprocessing: {_preprocessing(sidecar)}",
        ]
    )


def _preprocessing(sidecar: "Sidecar") -> str:
    from trtcal.data.preprocess import Preprocess

    if sidecar.preprocess is None:
        return "none"
    try:
        return str(Preprocess.from_dict(sidecar.preprocess))
    except DataError:  # a later version's
        return ", ".join(f"{key} {value}" for key, value in sidecar.preprocess.items())


def _brief(digest: str) -> str:
    """The first 12 digits of a SHA-256, enough to tell files apart; --json has them all."""
    return digest[:12]


def _json_row(cache: "CalibrationCache", name: str, remarks: tuple[str, ...]) -> dict[str, Any]:
    finite = math.isfinite(cache[name])  # JSON has no infinity and no NaN; the bits tell them.
    return {
        "name": name,
        "scale": cache[name] if finite else None,
        "amax": cache.amax(name) if finite else None,
        "bits": cache.bits(name),
        "remarks": list(remarks),
    }


def _json_fit(fit: "CacheFit") -> dict[str, Any]:
    return {
        "fits": fit.fits,
        "errors": list(fit.errors),
        "warnings": list(fit.warnings),
        "quantizable": list(fit.quantizable),
        "matched": list(fit.matched),
        "missing": list(fit.missing),
        "unusable": list(fit.unusable),
        "uncovered": list(fit.uncovered),
        "stale": list(fit.stale),
        "internal": list(fit.internal),
        "remarks": {name: list(found) for name, found in fit.remarks.items()},
    }


def _print_fit(title: str, fit: "CacheFit") -> None:
    rows: list[tuple[str, tuple[str, ...], str | None]] = [
        ("matched: float tensors of the model with a scale", fit.matched, None),
        ("missing: quantizable tensors without a scale", fit.missing, "red"),
        ("unusable: quantizable tensors with a scale of no use", fit.unusable, "red"),
        ("uncovered: other float tensors without a scale", fit.uncovered, "yellow"),
        ("stale: names that the model does not know", fit.stale, "yellow"),
        ("internal: TensorRT's own names, the model's constants and integers", fit.internal, None),
        ("zero and denormal scales", fit.marked("zero", "denormal"), "yellow"),
        ("negative scales", fit.marked("negative"), "yellow"),
        ("non-finite scales", fit.marked("infinite", "not a number"), "yellow"),
        ("outliers: scales over 3 decades from the median", fit.marked("outlier"), "yellow"),
    ]
    shown = [rows[0], *(row for row in rows[1:] if row[1])]
    reason = (
        f"all {len(fit.quantizable)} quantizable tensors have a usable scale" if fit.fits else "; ".join(fit.errors)
    )
    console.say(f"{title}: {'it fits' if fit.fits else 'it does not fit'}: {reason}")
    console.table(
        "",
        ["", "tensors", "names"],
        [
            [what, str(len(names)), ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")]
            for what, names, _ in shown
        ],
        numeric=["tensors"],
        styles=[style for *_, style in shown],
    )
    for warning in fit.warnings:
        console.note(f"warning: {warning}")


def _style(remarks: tuple[str, ...]) -> str | None:
    from calibrators.cache.check import UNUSABLE

    if set(remarks) & set(UNUSABLE):
        return "red"
    if "outlier" in remarks:
        return "yellow"
    return "bold" if remarks else None


def _names(graph: "onnx.GraphProto") -> set[str]:
    """Every name in a graph and its subgraphs: nodes, their outputs, inputs, initializers."""
    names = {value.name for value in (*graph.input, *graph.initializer, *graph.node)}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        names.update(node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _names(inner)
    return names - {""}
