"""An engine and its side-car: MODEL.engine, and MODEL.engine.json with where it comes from and what it runs."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError
from calibrators.files import sha256_of
from calibrators.tabular import Row, Tabular
from engines.inspection.inspect import Operator, counted
from engines.inspection.kernels import Kernel, type_name
from engines.structure.findings import Finding, Severity

_DTYPES = {
    **{"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8, "INT8": np.int8},
    **{"INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_},
}

FORMAT = 1
"""The version of the side-car's layout."""


@dataclass(frozen=True)
class EngineRecord(Tabular):
    """What an engine was built from, how, and what it runs.

    Attributes:
        engine_sha256: Of the engine's bytes.
        model: The source model's file name; empty for a model in memory.
        model_sha256: Of the source model's file, external data included; empty for a model in memory.
        precision: As it was asked for: int8, fp16 or fp32.
        rest: The type of what an INT8 build does not quantize; None in other builds.
        backend: The backend's name.
        quantization: How an INT8 build was quantized: "explicit", by Q/DQ nodes in the model or written for the build;
            "implicit", by TensorRT's own calibration or its cache; None in other builds.
        gpu: Name and compute capability of the GPU that it was built on; None where the builder needs none or cannot
            tell.
        configured: By layer, what it is to compute in: int8, fp16, fp32 or float (as what is not quantized); empty
            where no configuration was given.
        builder_options: What else the builder was told, as `engines.backends.backend.BuildOptions.given` has it.
        compute_capabilities: What it runs on, such as "8.6"; empty for the backend's portable default.
        portable: What that default is, in words.
        shapes: By dynamic input: minimum, optimum and maximum.
        inputs: Name, type and shape of each, -1 where `shapes` says.
        outputs: The same.
        versions: By library.
        operators: Each Conv, ConvTranspose, Gemm and MatMul with its precision.
        kernels: Every kernel; None where the builder's log could not be read.
        kernels_absent: Why `kernels` is None; else empty.
        findings: Q/DQ nodes that came to nothing, and the like.
        notes: What was decided for the user, such as default shapes and operators that FP16 could not hold.
        warnings: The builder's own.
        cache: The file name of the calibration cache; None where there was none, or it was in memory.
        cache_sha256: Of the cache's bytes; None where there was none.
        preprocess: As in the cache's side-car: what images have to go through.
    """

    engine_sha256: str
    model: str
    model_sha256: str
    precision: str
    rest: str | None
    backend: str
    compute_capabilities: tuple[str, ...]
    portable: str
    shapes: Mapping[str, Mapping[str, list[int]]]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    operators: tuple[Operator, ...] = ()
    kernels: tuple[Kernel, ...] | None = None
    kernels_absent: str = ""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    cache: str | None = None
    cache_sha256: str | None = None
    preprocess: Mapping[str, Any] | None = None
    quantization: str | None = None
    gpu: Mapping[str, str] | None = None
    builder_options: Mapping[str, Any] = field(default_factory=dict)
    configured: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """A row a weighted operator, with the precision it runs in (None where that cannot be told) and its kernel."""
        return [
            {"node": each.node, "operator": each.op_type, "precision": each.precision, "kernel": each.kernel}
            for each in self.operators
        ]

    @property
    def operators_by_precision(self) -> dict[str, int]:
        """How many weighted operators run in each precision, and how many of them that is unknown of."""
        unknown = sum(operator.precision is None for operator in self.operators)
        return counted(operator.precision for operator in self.operators) | ({"unknown": unknown} if unknown else {})

    @property
    def kernels_by_precision(self) -> dict[str, int]:
        """How many kernels compute in each precision."""
        return counted(kernel.precision for kernel in self.kernels or ())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "engine": {"sha256": self.engine_sha256},
            "model": {"file": self.model, "sha256": self.model_sha256},
            "cache": {"file": self.cache, "sha256": self.cache_sha256} if self.cache_sha256 else None,
            "preprocess": self.preprocess,
            "backend": self.backend,
            "quantization": self.quantization,
            "gpu": self.gpu,
            "builder_options": dict(self.builder_options),
            "configured": dict(self.configured),
            "versions": dict(self.versions),
            "options": {
                "precision": self.precision,
                "rest": self.rest,
                "shapes": self.shapes,
                "compute_capabilities": list(self.compute_capabilities),
                "portable": self.portable,
            },
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "operators_by_precision": self.operators_by_precision,
            "kernels_by_precision": self.kernels_by_precision,
            "operators": [operator.to_dict() for operator in self.operators],
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "layers": None if self.kernels is None else [kernel.to_dict() for kernel in self.kernels],
            "layers_absent": self.kernels_absent,
        }

    def dumps(self) -> str:
        """The side-car's text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str | bytes, *, source: str = "<text>") -> "EngineRecord":
        """Undo `dumps`.

        Raises:
            BuildError: It is no side-car of an engine, or of a later format.
        """
        remedy = "build the engine again"
        try:
            value = json.loads(text)
            if not isinstance(value, dict):
                raise TypeError("it is no object")
            if value["format"] != FORMAT:
                raise BuildError(
                    f"{source} has format {value['format']}, this trtcal reads {FORMAT}: update trtcal or {remedy}"
                )
            _require_form(value, _FORM, "")
            _require_form(value["versions"], {value["backend"]: str}, "versions")
            _require_form({**dict.fromkeys(_LATER), "builder_options": {}, "configured": {}, **value}, _LATER, "")
            return cls._from_dict(value)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise BuildError(f"{source} is no side-car of an engine ({why}): {remedy}") from error

    @classmethod
    def _from_dict(cls, value: Mapping[str, Any]) -> "EngineRecord":
        layers, cache = value["layers"], value["cache"] or {}
        return cls(
            engine_sha256=value["engine"]["sha256"],
            model=value["model"]["file"],
            model_sha256=value["model"]["sha256"],
            precision=value["options"]["precision"],
            rest=value["options"]["rest"],
            backend=value["backend"],
            compute_capabilities=tuple(value["options"]["compute_capabilities"]),
            portable=value["options"]["portable"],
            shapes=value["options"]["shapes"],
            inputs=tuple(value["inputs"]),
            outputs=tuple(value["outputs"]),
            versions=value["versions"],
            operators=tuple(map(Operator.from_dict, value["operators"])),
            kernels=None if layers is None else tuple(map(Kernel.from_dict, layers)),
            kernels_absent=value["layers_absent"],
            findings=tuple(Finding(**{**item, "nodes": tuple(item["nodes"])}) for item in value["findings"]),
            notes=tuple(value["notes"]),
            warnings=tuple(value["warnings"]),
            cache=cache.get("file"),
            cache_sha256=cache.get("sha256"),
            preprocess=value["preprocess"],
            quantization=value.get("quantization"),
            gpu=value.get("gpu"),
            builder_options=value.get("builder_options", {}),
            configured=value.get("configured", {}),
        )


_TENSORS = [{"name": str, "type": str, "shape": [int]}]
_FORM: dict[str, Any] = {
    "engine": {"sha256": str},
    "model": {"file": str, "sha256": str},
    "cache": ({"file": (str,), "sha256": str},),
    "preprocess": (dict,),
    "backend": str,
    "versions": {...: str},
    "options": {
        "precision": str,
        "rest": (str,),
        "shapes": {...: {"min": [int], "opt": [int], "max": [int]}},
        "compute_capabilities": [str],
        "portable": str,
    },
    "inputs": _TENSORS,
    "outputs": _TENSORS,
    "operators": [{"node": str, "op_type": str, "precision": (str,), "kernel": (str,), "quantized": bool}],
    "findings": [{"severity": get_args(Severity), "rule": str, "nodes": [str], "message": str}],
    "notes": [str],
    "warnings": [str],
    "layers": (
        [
            {
                "name": str,
                "kind": str,
                "nodes": [str],
                "inputs": _TENSORS,
                "constants": _TENSORS,
                "outputs": _TENSORS,
            }
        ],
    ),
    "layers_absent": str,
}
"""What kind of value is under each key: a type; in brackets, for each item of a list; (kind,), that or null; several
texts, one of them; under `...`, for whatever key."""

_LATER: dict[str, Any] = {
    "quantization": (str,),
    "gpu": ({"name": str, "compute_capability": str},),
    "builder_options": dict,
    "configured": {...: str},
}
"""The same for keys that older side-cars lack."""


def _require_form(value: object, form: Any, where: str) -> None:
    """Refuse a value of another form.

    Raises:
        KeyError: A key is missing.
        TypeError: A value is of another kind; the message says where.
    """
    match form:
        case (kind,) if isinstance(form, tuple):
            if value is not None:
                _require_form(value, kind, where)
        case [kind] if isinstance(value, list):
            for item in value:
                _require_form(item, kind, where)
        case dict() if isinstance(value, dict):
            for key, kind in form.items():
                for name in value if key is ... else (key,):
                    _require_form(value[name], kind, f"{where}.{name}" if where else name)
        case tuple() if value in form:
            pass
        case type() if isinstance(value, form):
            pass
        case _:
            raise TypeError(f"{where} is of the wrong kind: {type(value).__name__}")


def _sizes(shape: list[int], profile: Mapping[str, list[int]] | None) -> tuple[int | None, ...]:
    """Of a shape whose open sizes are -1: those of the profile where it has one alone, else None."""
    if profile is None or {len(profile["min"]), len(profile["max"])} != {len(shape)}:
        return tuple(None if size == -1 else size for size in shape)
    bounds = zip(shape, profile["min"], profile["max"], strict=True)
    return tuple(size if size != -1 else least if least == most else None for size, least, most in bounds)


@dataclass(frozen=True, slots=True, repr=False)
class Engine(Tabular):
    """A serialized engine on disk.

    Attributes:
        path: The engine.
        record: Its side-car: where it comes from and all that it runs.
    """

    path: Path
    record: EngineRecord

    def __repr__(self) -> str:
        """One line; `record` has the rest."""
        counts = self.record.kernels_by_precision
        kernels = ", ".join(f"{count} {precision}" for precision, count in counts.items())
        kernels = "unknown" if self.record.kernels is None else kernels or "none"
        return f"<Engine {self.path}: {self.record.precision}, {self.record.backend}, kernels: {kernels}>"

    def rows(self) -> list[Row]:
        """Those of the record."""
        return self.record.rows()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes, a size None where it is free: where the engine was built for several."""
        return tuple(
            TensorSpec(
                each["name"],
                _sizes(each["shape"], self.record.shapes.get(each["name"])),
                np.dtype(_DTYPES.get(type_name(each["type"]), np.float32)),
            )
            for each in self.record.inputs
        )

    @property
    def sidecar(self) -> Path:
        """Where the side-car is."""
        return sidecar_path(self.path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Engine":
        """Find an engine and its side-car; the engine itself is not deserialized, which takes a GPU.

        Raises:
            BuildError: The engine or its side-car is missing, or they do not belong together.
        """
        engine, sidecar = Path(path), sidecar_path(path)
        if not engine.is_file():
            raise BuildError(f"no engine {engine}: give the path of an engine that trtcal build wrote")
        other = _what_else(engine)
        if other:
            raise BuildError(f"{engine} is no engine but {other}")
        if not sidecar.is_file():
            raise BuildError(
                f"{engine} has no side-car {sidecar.name}, and an engine gives away its layers only on a GPU: put "
                "its side-car beside it, "
                "or build it again with trtcal build"
            )
        record = EngineRecord.parse(sidecar.read_bytes(), source=str(sidecar))
        if record.engine_sha256 != sha256_of(engine):
            raise BuildError(
                f"{sidecar} belongs to another engine than {engine} (SHA-256 differs): build the engine again"
            )
        return cls(engine, record)


def _what_else(path: Path) -> str:
    """What a file is that is plainly no engine, and what to do with it; empty for one that may be."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "an empty file: build the engine again"
    for start, what in _STARTS.items():
        if head.startswith(start):
            return what
    if path.suffix.lower() == ".onnx" or (head.startswith(b"\x08") and _is_onnx(path)):
        return "an ONNX model: trtcal build makes an engine of it, trtcal inspect MODEL.onnx shows its Q/DQ nodes"
    return ""


_STARTS = {
    b"TRT-": "a calibration cache: trtcal cache show reads it",
    b"PK\x03\x04": "a ZIP archive, as .npz files are (arrays or statistics: trtcal calibrate --statistics-from)",
    b"\x93NUMPY": "an .npy file of numbers: trtcal calibrate --images reads it",
    b"{": "JSON: give the file that it is the side-car of",
}
"""Other files that stand beside engines, by their first bytes."""


def _is_onnx(path: Path) -> bool:
    """Whether it is a model; its first byte says that it may be one."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return False
    return bool(model.ir_version and model.graph.node)


def sidecar_path(engine: str | os.PathLike[str]) -> Path:
    """Where the side-car of the engine at path `engine` is: model.engine.json for model.engine."""
    return Path(f"{os.fspath(engine)}.json")
