"""The side-car of a calibration cache: what TensorRT's text format cannot hold, as JSON beside it."""

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrators.cache.float_layers import FloatLayer, float_layers_of
from calibrators.errors import CacheError
from calibrators.files import opened

if TYPE_CHECKING:
    from calibrators.statistics.file import Provenance

FORMAT = 1
"""The version of the file's layout. A reader skips keys it does not know, and refuses a later layout."""

MOST_BYTES = 2**26
"""Scales of about a million tensors."""

LARGEST = (2 - 2**-23) * 2.0**127
"""The largest float32."""


@dataclass(frozen=True)
class Sidecar:
    """Where a calibration cache comes from.

    Attributes:
        model_sha256: Of the float model that was calibrated, external data included; "" where it is not known.
        method: The range method, such as "entropy".
        tensors: What was calibrated: "all", every float activation, or "quantizable", those that Q/DQ nodes need.
        image_sets: SHA-256 of each set of chosen samples, their names and contents; several where shards were merged.
        images: How many samples in all.
        seed: That chose them; None where no one seed did.
        preprocess: As `Preprocess.to_dict` gives it; None for arrays fed as they are.
        explicit: Scales for Q/DQ nodes where they differ from the cache's: TensorRT's caches give the output of an
            average pooling, and each part of a tensor, its input's scale, which its own kernels want, but which wastes
            levels elsewhere.
        float_layers: What is better left in float, by the layer's name, what brings most first; empty where
            nothing is, or that was not looked into.
        judged: Where the method was chosen of several: the worst SQNR of each in dB, on images not calibrated on.
        versions: Version by package, such as {"trtcal": ..., "onnxruntime": ..., "numpy": ...}.
        cache_sha256: Of the cache's bytes; `CalibrationCache.save` fills it in. Where it differs, the side-car was left
            behind by an earlier cache of the same path, and nothing in it may be believed of this one.

    Raises:
        CacheError: A value is of the wrong kind.
    """

    model_sha256: str
    method: str
    tensors: str
    image_sets: tuple[str, ...]
    images: int
    seed: int | None = None
    preprocess: Mapping[str, Any] | None = None
    explicit: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cache_sha256: str = ""
    float_layers: Mapping[str, FloatLayer] = field(default_factory=dict)
    judged: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (fits, wanted) in _WANTED.items():
            value = getattr(self, name)
            if not fits(value):
                raise CacheError(f"{name} of a side-car is {wanted}, not {value!r}")
        object.__setattr__(self, "image_sets", tuple(self.image_sets))
        object.__setattr__(self, "float_layers", float_layers_of(self.float_layers))

    @classmethod
    def of(
        cls,
        known: "Provenance",
        *,
        method: str,
        versions: Mapping[str, str],
        explicit: Mapping[str, float] | None = None,
    ) -> "Sidecar":
        """That of a cache whose statistics have the provenance `known`; the other arguments are attributes."""
        return cls(
            model_sha256=known.model,
            method=method,
            tensors=known.tensors,
            image_sets=known.images,
            images=known.count,
            seed=known.seed,
            preprocess=known.preprocess,
            explicit=explicit or {},
            versions=versions,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Sidecar":
        """Read the side-car at `path`.

        Raises:
            CacheError: It cannot be read or is malformed; the message names the file and the key.
        """
        try:
            with opened(path) as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise CacheError(f"cannot read {path}: {error.strerror or error}") from error
        if len(data) > MOST_BYTES:
            raise CacheError(f"{path} is no side-car: none is larger than {MOST_BYTES >> 20} MiB; delete it")
        return cls.parse(data, source=str(path))

    @classmethod
    def beside(cls, cache: str | os.PathLike[str]) -> "Sidecar | None":
        """Read the side-car of the cache at path `cache`; None where there is none.

        It may describe an earlier cache of that path: compare `cache_sha256`.

        Raises:
            CacheError: It cannot be read or is malformed.
        """
        path = sidecar_path(cache)
        return cls.load(path) if path.exists() else None

    @classmethod
    def parse(cls, text: str | bytes, *, source: str = "<text>") -> "Sidecar":
        """Read a side-car from its JSON; `source` names it in messages.

        Raises:
            CacheError: It is malformed, or of a later format.
        """
        remedy = "delete it or calibrate again"
        try:
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False, allow_nan=False).encode()  # Python reads NaN and half letters, too
        except (ValueError, RecursionError) as error:
            raise CacheError(f"{source} is not JSON ({error}); {remedy}") from error
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise CacheError(f"{source} is no side-car of a calibration cache: it has no `format`; {remedy}")
        if values["format"] != FORMAT:
            raise CacheError(f"{source} has format {values['format']}, not {FORMAT}: update trtcal or {remedy}")
        known = {name: values[name] for name in (item.name for item in fields(cls)) if name in values}
        missing = [name for name in _WANTED if name not in known and name not in _LATER]
        if missing:
            raise CacheError(f"{source} lacks {', '.join(missing)}; {remedy}")
        try:
            return cls(**known)
        except CacheError as error:
            raise CacheError(f"{source}: {error}; {remedy}") from error

    def dumps(self) -> str:
        """The file's text: JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, default=dict) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Its values by key, the file's layout version under `format`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["float_layers"] = {name: asdict(layer) for name, layer in self.float_layers.items()}
        return {"format": FORMAT, **values}


def sidecar_path(cache: str | os.PathLike[str]) -> Path:
    """Where the side-car of the cache at path `cache` is: model.cache.json for model.cache."""
    return Path(f"{os.fspath(cache)}.json")


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300


_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_sha256": (lambda value: value == "" or _is_digest(value), "64 hexadecimal digits"),
    "method": (lambda value: isinstance(value, str) and value != "", "the name of a range method"),
    "tensors": (lambda value: value in ("all", "quantizable"), "'all' or 'quantizable'"),
    "image_sets": (
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_digest, value)),
        "a list of SHA-256 digests",
    ),
    "images": (lambda value: _is_integer(value) and value >= 0, "a number, 0 or more"),
    "seed": (lambda value: value is None or _is_integer(value), "an integer or null"),
    "preprocess": (lambda value: value is None or isinstance(value, Mapping), "an object or null"),
    "explicit": (
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(item, float) and 0 <= item <= LARGEST for item in value.values())
        ),
        "an object of scales",
    ),
    "float_layers": (
        lambda value: float_layers_of(value) is not None,
        "an object of layers, each with a share and a reason",
    ),
    "judged": (
        lambda value: isinstance(value, Mapping) and all(isinstance(item, (int, float)) for item in value.values()),
        "an object of numbers",
    ),
    "versions": (
        lambda value: isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()),
        "an object of texts",
    ),
    "cache_sha256": (lambda value: value == "" or _is_digest(value), "64 hexadecimal digits"),
}


_LATER = ("explicit", "float_layers", "judged")
"""What files of earlier versions do not have."""


def installed_versions(*packages: str) -> dict[str, str]:
    """Version by package, of those that are installed."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
