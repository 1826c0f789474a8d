"""Engines of `tests.engine_double` as files, with side-cars where a test wants one."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from calibrators.files import sha256_of
from engines.inspection.engine_record import EngineRecord, sidecar_path
from tests.engine_double import EngineDouble


def engine_files(trt: ModuleType, monkeypatch: Any, folder: Path) -> Callable[..., tuple[EngineDouble, Path]]:
    """Makes files of engines in `folder`, and `trt` what runs them.

    The first is double.engine; others, with a `name` of their own, run beside it. A side-car is written if one of its
    values is given.
    """
    backend = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}[trt.__name__]
    first: list[EngineDouble] = []

    def of(double: EngineDouble, name: str = "double", **record: Any) -> tuple[EngineDouble, Path]:
        path = folder / f"{name}.engine"
        if first:
            double.data = name.encode()
            first[0].add(double)
        else:
            first.append(double.install(trt, monkeypatch))
        path.write_bytes(double.data)
        if record:
            write_record(path, backend, **{"version": trt.__version__, **record})
        return double, path

    return of


def write_record(path: Path, backend: str, version: str, **values: Any) -> None:
    """Write the side-car of the engine at `path`."""
    settings: dict[str, Any] = {
        "engine_sha256": sha256_of(path),
        "model": "model.onnx",
        "model_sha256": "",
        "precision": "fp32",
        "rest": None,
        "backend": backend,
        "compute_capabilities": (),
        "portable": "",
        "shapes": {},
        "inputs": (),
        "outputs": (),
        "versions": {backend: version},
    }
    sidecar_path(path).write_text(EngineRecord(**{**settings, **values}).dumps())
