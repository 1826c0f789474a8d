"""Calibration caches that TensorRT reads and writes: what it is given, or why it is given nothing, and what comes back.

TensorRT compares a cache's header with its own version and the calibrator's algorithm. Where they differ, it calibrates
again without a word, or with nothing where there are no batches. So this is judged before, by us.
"""

import os
from dataclasses import dataclass

from calibrators.cache.check import remarks_of, require_cache_of
from calibrators.cache.sidecar import Sidecar, installed_versions, sidecar_path
from calibrators.cache.text import CalibrationCache, header_text, version_number, version_text
from calibrators.codecs.cache_file import load_cache
from calibrators.errors import CacheMismatchError
from calibrators.statistics.file import Provenance


@dataclass(frozen=True, slots=True)
class Offer:
    """A cache that fits.

    Attributes:
        cache: As the file has it.
        text: What TensorRT is given: the file's bytes, under another header where that was allowed.
        notes: What a reader should know of it, one line each.
    """

    cache: CalibrationCache
    text: bytes
    notes: tuple[str, ...] = ()


def offered(
    path: str | os.PathLike[str],
    *,
    version: str,
    algorithm: str,
    model_sha256: str = "",
    allow_version_mismatch: bool = False,
) -> Offer:
    """What the calibrator of `algorithm` in TensorRT `version` is given of the cache at `path`.

    The number in the header of a cache that trtcal computed without TensorRT, as its side-car tells, stands for no
    TensorRT: it is replaced. Nothing is written.

    Args:
        path: The cache; its side-car, where there is one, lies beside it.
        version: TensorRT's, such as "10.14.1".
        algorithm: The calibrator's word in a header.
        model_sha256: The model that is built; "" leaves it uncompared.
        allow_version_mismatch: Give TensorRT the scales under the header that it wants, whatever header they have.

    Raises:
        CacheError: The cache or its side-car cannot be read, or is malformed.
        CacheMismatchError: It was made of another model, or by another TensorRT or algorithm.
    """
    cache = load_cache(path)
    notes: list[str] = []
    if cache.sidecar is None and sidecar_path(path).exists():
        notes.append(f"{sidecar_path(path)} describes another cache: which model {path} was made of is not known")
    advice = "give that model's own cache, or recalibrate=True"
    require_cache_of(cache, model_sha256, name=str(path), model="the one to build", advice=advice)
    wanted = cache.with_header(algorithm=algorithm, version=version_number(version))
    if cache.header == wanted.header:
        return Offer(cache, cache.dumps(), tuple(notes))
    computed = cache.sidecar is not None and "tensorrt" not in cache.sidecar.versions
    if not allow_version_mismatch and not (computed and cache.algorithm == algorithm):
        raise CacheMismatchError(
            f"{path} is a cache of {header_text(cache)}, which {header_text(wanted)} here would ignore in silence: "
            "allow_version_mismatch=True takes its scales all the same, recalibrate=True replaces it"
        )
    if computed and cache.algorithm == algorithm:
        notes.append(f"{path} was computed without TensorRT: it is read as one of {version_text(wanted.version or 0)}")
    else:
        notes.append(f"{path} is a cache of {header_text(cache)}: its scales are read as if of {header_text(wanted)}")
    return Offer(cache, wanted.dumps(), tuple(notes))


def labelled(
    text: bytes, batches: object, *, images: int, model_sha256: str, method: str, version: str
) -> CalibrationCache:
    """The cache that TensorRT wrote, byte for byte, with a side-car as `trtcal calibrate` writes it.

    Args:
        text: TensorRT's.
        batches: What it was calibrated on; a loader's preprocessing, digest and seed are taken over.
        images: How many samples.
        model_sha256: The model; "" where it is not known.
        method: The range method's name.
        version: TensorRT's, such as "10.14.1".

    Raises:
        CacheError: It is no calibration cache.
        DataError: The images cannot be read any more.
    """
    cache = CalibrationCache.parse(text, source="the cache that TensorRT wrote")
    cache.sidecar = Sidecar.of(
        Provenance.of(batches, model=model_sha256, count=images, tensors="all"),
        method=method,
        versions={**installed_versions("trtcal"), "tensorrt": version, **installed_versions("numpy")},
    )
    return cache


def remarked(cache: CalibrationCache) -> tuple[str, ...]:
    """What a reader should know of a cache that TensorRT wrote, one line each."""
    wrong = [name for name, found in remarks_of(cache).items() if {"infinite", "not a number"} & set(found)]
    return (f"TensorRT found no finite range for {', '.join(wrong)}",) if wrong else ()
