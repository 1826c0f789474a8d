"""The preprocessing that a model was quantized with, as the files beside it say; and which one counts."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibrators.batches import TensorSpec
from calibrators.cache.sidecar import Sidecar, sidecar_path
from calibrators.errors import DataError
from calibrators.files import sha256_of
from engines.sessions.onnxruntime import is_engine
from trtcal.data.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the side-cars beside a model say.

    Attributes:
        path: The side-car that is believed; None where there is none that says anything.
        preprocess: Its preprocessing; None as `path`.
        ignored: A line for each side-car that is there and not believed: which, and why.
    """

    path: Path | None = None
    preprocess: Preprocess | None = None
    ignored: tuple[str, ...] = ()


def recorded_preprocess(model: str | os.PathLike[str]) -> Recorded:
    """What the side-car of a quantized model (MODEL.onnx.json) says, else that of a cache beside it (MODEL.cache.json).

    A side-car is believed only where it holds the SHA-256 of what is there now: the first, of the quantized model's
    file; the second, of the cache and of the model that was calibrated. Of an engine there is the first only.

    Raises:
        CacheError: The cache's side-car is malformed.
        DataError: The model's side-car is malformed, or what one says is no preprocessing.
        ModelError: The model, where it has to be compared, cannot be read.
    """
    model = Path(model)
    ignored = []
    sources = [(sidecar_path(model), _of_model), (sidecar_path(_cache_of(model)), _of_cache)]
    for path, read in sources[:1] if is_engine(model) else sources:
        value, doubt = read(model) if path.is_file() else (None, "")
        if doubt:
            ignored.append(f"{path} is ignored: {doubt}")
        elif value is not None:
            return Recorded(path, _checked(value, path), tuple(ignored))
    return Recorded(ignored=tuple(ignored))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The preprocessing that counts.

    Attributes:
        preprocess: What was asked for, else what is recorded; None where there is neither.
        notes: What a user should know of it, one line each, as "note: ..." or "warning: ..." where it is one.
    """

    preprocess: Preprocess | None
    notes: tuple[str, ...]


def chosen_preprocess(
    stated: str | os.PathLike[str] | Preprocess | None,
    models: Sequence[str | os.PathLike[str]],
    inputs: Sequence[TensorSpec],
) -> Chosen:
    """What is asked for, else what is recorded beside the models.

    Args:
        stated: What is asked for: a preset, a TOML file or a value; None asks for nothing.
        models: That are run.
        inputs: Of one of them.

    Raises:
        DataError: Models have records that differ, and nothing is asked for.
        TrtcalError: As `recorded_preprocess`.
    """
    found = [recorded_preprocess(path) for path in models]
    notes = list(dict.fromkeys(f"note: {line}" for each in found for line in each.ignored))
    records = [(each.path, each.preprocess) for each in found if each.preprocess is not None]
    if stated is not None:
        chosen = stated if isinstance(stated, Preprocess) else Preprocess.load(stated)
        other = next(((path, each) for path, each in records if not _same(chosen, each, inputs)), None)
        if other is not None:
            notes.append(
                f"warning: the preprocessing is not the one of the calibration: {other[0]} says ({other[1]}), "
                f"--preprocess says ({chosen}); INT8 loses accuracy where the two differ"
            )
        return Chosen(chosen, tuple(notes))
    for path, each in records[1:]:
        if not _same(records[0][1], each, inputs):
            said = f"{records[0][0]} ({records[0][1]}) and {path} ({each})"
            raise DataError(f"two preprocessings are recorded, {said}: choose one with --preprocess")
    if records:
        return Chosen(records[0][1], (*notes, f"Preprocessing from {records[0][0]}"))
    return Chosen(None, tuple(notes))


def _same(one: Preprocess, other: Preprocess, inputs: Sequence[TensorSpec]) -> bool:
    try:
        return one.for_model(inputs) == other.for_model(inputs)
    except DataError:
        return False


def _cache_of(model: Path) -> Path:
    return model.with_suffix(".cache")


def _checked(value: Mapping[str, object], path: Path) -> Preprocess:
    try:
        return Preprocess.from_dict(value)
    except DataError as error:
        raise DataError(
            f"{path} holds no preprocessing that can be used: {error}; delete it or quantize again"
        ) from error


def _of_model(model: Path) -> tuple[Mapping[str, object] | None, str]:
    """What the quantized model's side-car says, and why it is not to be believed."""
    path = sidecar_path(model)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); delete it or quantize again") from error
    value = content.get("preprocess") if isinstance(content, dict) else None
    if not isinstance(value, dict):
        return None, ""
    engine = content.get("engine")
    described = engine.get("sha256") if isinstance(engine, dict) else content.get("sha256")
    if described is None:
        return value, f"it does not say which file it describes, so it may not be {model.name}"
    same = model.is_file() and described == sha256_of(model)
    return value, "" if same else f"it describes another file than {model.name}"


def _of_cache(model: Path) -> tuple[Mapping[str, object] | None, str]:
    """What the side-car of the cache says, and why it is not to be believed of this model."""
    from engines.graph.model import model_digest

    cache = _cache_of(model)
    sidecar = Sidecar.beside(cache) if cache.is_file() else None
    if sidecar is None or sidecar.preprocess is None:
        return None, ""
    if sidecar.cache_sha256 not in ("", sha256_of(cache)):
        return sidecar.preprocess, f"it describes an earlier cache than {cache.name}"
    if sidecar.model_sha256 != model_digest(model):
        return sidecar.preprocess, f"it describes a cache of another model than {model.name}"
    return sidecar.preprocess, ""
