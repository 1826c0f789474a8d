"""Calibration caches: what is in them, and whether they fit a model."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrators.cache.check import UNUSABLE, CacheFit, remarks_of
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache, header_text
from calibrators.errors import DataError, listed
from trtcal.data.preprocess import Preprocess
from trtcal.tables import console


def show(path: Path, cache: CalibrationCache, names: Sequence[str], sidecar: Sidecar | None) -> None:
    """Print a cache's header, where it comes from, and the scale and range of each of the names."""
    remarks = remarks_of(cache)
    console.say(f"{path}: {header_text(cache)}; {len(cache)} tensors")
    explicit = {} if sidecar is None else sidecar.explicit
    if sidecar is not None:
        console.say(_provenance(sidecar))
    console.table(
        "",
        ["tensor", "scale", "amax", "hex", "remark"],
        [
            [
                name,
                f"{cache[name]:.6g}",
                f"{cache.amax(name):.6g}",
                cache.bits(name),
                ", ".join([*remarks.get(name, ()), *([f"Q/DQ: {explicit[name]:.4g}"] if name in explicit else [])]),
            ]
            for name in names
        ],
        numeric=["scale", "amax", "hex"],
        optional=["hex"],
        styles=[_style(remarks.get(name, ())) for name in names],
    )


def as_dict(
    path: Path, cache: CalibrationCache, names: Sequence[str], sidecar: Sidecar | None, warnings: Sequence[str]
) -> dict[str, Any]:
    """All of a cache and its side-car, for JSON."""
    remarks = remarks_of(cache)
    return {
        "cache": str(path),
        "header": cache.header,
        "version": cache.version,
        "algorithm": cache.algorithm,
        "sha256": cache.sha256,
        "warnings": [*warnings],
        "sidecar": None if sidecar is None else sidecar.to_dict(),
        "tensors": [_json_row(cache, name, remarks.get(name, ())) for name in names],
    }


def _provenance(sidecar: Sidecar) -> str:
    seed = "" if sidecar.seed is None else f", seed {sidecar.seed}"
    versions = ", ".join(f"{package} {version}" for package, version in sidecar.versions.items())
    return "\n".join(
        [
            f"made by {sidecar.method} of {sidecar.tensors} tensors" + (f" with {versions}" if versions else ""),
            f"from {sidecar.images} images{seed} (SHA-256 {', '.join(map(_brief, sidecar.image_sets)) or 'unknown'})",
            f"for the model of SHA-256 {_brief(sidecar.model_sha256) or 'unknown'}",
            f"preprocessing: {_preprocessing(sidecar)}",
            *(f"better left in float: {name}, {layer.reason}" for name, layer in sidecar.float_layers.items()),
        ]
    )


def _preprocessing(sidecar: Sidecar) -> str:
    if sidecar.preprocess is None:
        return "none"
    try:
        return str(Preprocess.from_dict(sidecar.preprocess))
    except DataError:  # a later version's
        return ", ".join(f"{key} {value}" for key, value in sidecar.preprocess.items())


def _brief(digest: str) -> str:
    """The first 12 digits of a SHA-256, enough to tell files apart; --json has them all."""
    return digest[:12]


def _json_row(cache: CalibrationCache, name: str, remarks: tuple[str, ...]) -> dict[str, Any]:
    finite = math.isfinite(cache[name])  # JSON has no infinity and no NaN; the bits tell them.
    return {
        "name": name,
        "scale": cache[name] if finite else None,
        "amax": cache.amax(name) if finite else None,
        "bits": cache.bits(name),
        "remarks": list(remarks),
    }


def fit_as_dict(fit: CacheFit) -> dict[str, Any]:
    """How a cache fits a model, for JSON."""
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


def show_fit(title: str, fit: CacheFit) -> None:
    """Print how a cache fits a model, under a title that names both; on standard error, warnings."""
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
        [[what, str(len(names)), listed(names)] for what, names, _ in shown],
        numeric=["tensors"],
        styles=[style for *_, style in shown],
    )
    for warning in fit.warnings:
        console.note(f"warning: {warning}")


def _style(remarks: tuple[str, ...]) -> str | None:
    if set(remarks) & set(UNUSABLE):
        return "red"
    if "outlier" in remarks:
        return "yellow"
    return "bold" if remarks else None
