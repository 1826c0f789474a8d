"""What a simulation leaves on disk: the model, its encodings, and on request the Q/DQ model and TensorRT's cache."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import onnx

from calibrators.cache.sidecar import Sidecar, installed_versions, sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.formats import FORMATS
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, OutputError
from calibrators.files import explained, require_outputs, whole_file
from calibrators.grid import TENSORRT_INT8
from calibrators.ranges import method_named
from calibrators.statistics.file import Provenance, Statistics
from calibrators.tensorrt.interrupts import postponed
from engines.qdq.insert import written
from engines.qdq.save import checked_bytes
from trtcal.config.layer_settings import LayerSettings

Version = Literal["0.6.1", "1.0.0", "2.0.0"]
"""Of AIMET's encodings."""

_SCHEMES = {"minmax": "min_max", "sqnr": "post_training_tf_enhanced", "percentile": "post_training_percentile"}
"""AIMET's names of the range methods that it has."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What there is to write.

    Attributes:
        model: Without quantization nodes.
        encodings: Of its tensors.
        quantized: With Q/DQ nodes; None where it is not asked for.
        left_float: Layers that are not quantized -> why.
        method: The range method.
        settings: By layer.
        statistics: That ranges were chosen by; None where encodings were loaded.
    """

    model: onnx.ModelProto
    encodings: Encodings
    quantized: onnx.ModelProto | None
    left_float: Mapping[str, str]
    method: str
    settings: Mapping[str, LayerSettings]
    statistics: Statistics | None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        model: The model without quantization nodes.
        encodings: AIMET's file.
        qdq: The model with Q/DQ nodes.
        cache: TensorRT's calibration cache.
        notes: What a file cannot hold, or is not good for, one line each.
    """

    model: Path
    encodings: Path
    qdq: Path | None
    cache: Path | None
    notes: tuple[str, ...]


def write(
    contents: Contents,
    folder: str | os.PathLike[str],
    prefix: str,
    *,
    version: Version = "1.0.0",
    cache: bool = False,
    inputs: Sequence[Path] = (),
) -> Exported:
    """Write the files, none of which replaces an old one before all are written.

    Args:
        contents: What there is.
        folder: Made where it does not exist.
        prefix: Of the files' names.
        version: Of AIMET's encodings.
        cache: Write a calibration cache.
        inputs: Files that must not be overwritten.

    Raises:
        CacheError: A cache cannot hold an encoding, or there is no such version of AIMET's.
        OutputError: A file cannot be written, or is read, or the prefix is no name.
        ModelError: A model is not valid, or too large for a file.
    """
    if version not in get_args(Version):
        raise CacheError(f"AIMET has no version {version!r} of encodings: choose among {', '.join(get_args(Version))}")
    if not prefix or Path(prefix).name != prefix:
        raise OutputError(f"{prefix!r} cannot begin a file's name: give the folder apart")
    place = Path(folder)
    names = {kind: place / f"{prefix}.{kind}" for kind in ("onnx", "encodings", "qdq.onnx", "cache")}
    model = checked_bytes(contents.model)
    aimet, losses = FORMATS[f"aimet-{version}"].dump(replace(contents.encodings, extra={"aimet": _about(contents)}))
    files = {names["onnx"]: model, names["encodings"]: aimet}
    notes = list(losses)
    if contents.quantized is not None:
        data = checked_bytes(contents.quantized)
        about = _sidecar(contents, data, model=model)
        files |= {names["qdq.onnx"]: data, sidecar_path(names["qdq.onnx"]): about}
        notes += _beyond_tensorrt(contents.encodings)
    if cache:
        held = _cache(contents, names["cache"])
        text = replace(held.sidecar, cache_sha256=held.sha256).dumps() if held.sidecar is not None else ""
        files |= {names["cache"]: held.dumps(), sidecar_path(names["cache"]): text.encode()}
    _write_all(place, files, inputs)
    return Exported(
        names["onnx"],
        names["encodings"],
        names["qdq.onnx"] if contents.quantized is not None else None,
        names["cache"] if cache else None,
        tuple(notes),
    )


def _write_all(folder: Path, files: Mapping[Path, bytes], inputs: Sequence[Path]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(folder, error) from error
    require_outputs(list(files), inputs=inputs)
    with ExitStack() as last, ExitStack() as stack:
        temporary = {path: stack.enter_context(whole_file(path)) for path in files}
        for path, data in files.items():
            temporary[path].write_bytes(data)
        last.enter_context(postponed())  # or Ctrl-C would leave new files among old ones


def _about(contents: Contents) -> dict[str, object]:
    """What AIMET's files say of the quantizers, of which the first quantized layer's settings are typical."""
    settings = next(each for each in contents.settings.values() if each.precision == "int8")
    return {
        "quantizer_args": {
            "activation_bitwidth": settings.activation_bits,
            "dtype": "int",
            "is_symmetric": settings.symmetric,
            "param_bitwidth": settings.weight_bits,
            "per_channel_quantization": settings.granularity == "channel",
            "quant_scheme": _SCHEMES.get(contents.method.partition(":")[0], contents.method),
        }
    }


def _cache(contents: Contents, path: Path) -> CalibrationCache:
    scales = {}
    for name, value in contents.encodings.activations.items():
        if refusal := _no_cache(value):
            raise CacheError(
                f"{path} cannot hold {name}, which is {refusal}: a cache holds INT8, symmetric; leave it out"
            )
        scales[name] = float(value.scale)
    known = contents.statistics.provenance if contents.statistics is not None else Provenance()
    sidecar = Sidecar.of(
        replace(known, model="", tensors="quantizable"),  # it goes with this model and with the one it is made of
        method=contents.method,
        versions=installed_versions("trtcal", "onnxruntime", "numpy"),
    )
    return CalibrationCache(scales, algorithm=method_named(contents.method).algorithm, sidecar=sidecar)


def _no_cache(value: Encoding) -> str:
    if value.grid.bits != TENSORRT_INT8.bits:
        return f"of {value.grid.bits} bits"
    if not value.grid.signed:
        return "unsigned"
    return "" if int(value.zero_point) == 0 else "asymmetric"


def _beyond_tensorrt(encodings: Encodings) -> list[str]:
    """Why TensorRT would refuse the Q/DQ model."""
    odd = {name: why for name, value in encodings.activations.items() if (why := _no_cache(written(value)))}
    if not odd:
        return []
    name, why = next(iter(odd.items()))
    return [f"{len(odd)} activations, such as {name}, are {why}: the Q/DQ model is for ONNX Runtime, not for TensorRT"]


def _sidecar(contents: Contents, data: bytes, *, model: bytes) -> bytes:
    known = contents.statistics.provenance if contents.statistics is not None else Provenance()
    record = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "format": 1,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "preprocess": known.preprocess,
        "method": contents.method,
        "quantized": [name for name in contents.settings if name not in contents.left_float],
        "left_float": dict(contents.left_float),
    }
    return (json.dumps(record, indent=2) + "\n").encode()
