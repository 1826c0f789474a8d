"""The preprocessing that a model was quantized with, as the files beside it say."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from calibrators.errors import DataError
from calibrators.files import sha256_of
from calibrators.sidecar import Sidecar, sidecar_path
from trtcal.preprocess import Preprocess


def recorded_preprocess(model: str | os.PathLike[str]) -> tuple[Path, Preprocess] | None:
    """What the side-car of a quantized model (MODEL.onnx.json), or of a cache beside it (MODEL.cache.json), says.

    Returns:
        The side-car's path, and the preprocessing; None where neither is there or says anything of it.

    Raises:
        CacheError: The cache's side-car is malformed.
        DataError: The model's side-car is malformed, or what it says is no preprocessing.
    """
    path = sidecar_path(model)
    value = _of_model(path)
    if value is None:
        cache = Path(model).with_suffix(".cache")
        path, value = sidecar_path(cache), _of_cache(cache)
    if value is None:
        return None
    try:
        return path, Preprocess.from_dict(value)
    except DataError as error:
        raise DataError(
            f"{path} holds no preprocessing that can be used: {error}; delete it or quantize again"
        ) from error


def _of_model(path: Path) -> Mapping[str, object] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it or quantize again") from error
    value = content.get("preprocess") if isinstance(content, dict) else None
    return value if isinstance(value, dict) else None


def _of_cache(cache: Path) -> Mapping[str, object] | None:
    """Nothing either where the side-car was left behind by an earlier cache of that path."""
    sidecar = Sidecar.beside(cache) if cache.is_file() else None
    if sidecar is None or sidecar.cache_sha256 not in ("", sha256_of(cache)):
        return None
    return sidecar.preprocess
