"""Where the ranges of an INT8 build come from, and how they reach TensorRT.

Implicitly, where TensorRT has calibrators: one of them calibrates during the build, or reads a cache. Explicitly, where
it has none: as Q/DQ nodes, written from a cache, or from ranges that the calibrator's batches give in ONNX Runtime.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from calibrators.batches import Batches, TensorSpec, fitted
from calibrators.cache.check import require_cache_of
from calibrators.cache.sidecar import sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.cache_file import load_cache
from calibrators.errors import BuildError, CacheMismatchError, listed
from calibrators.files import require_outputs, temporary_folder
from calibrators.methods.names import canonical
from calibrators.statistics.file import Statistics
from engines.backends.backend import Calibration
from engines.backends.shapes import Profile
from engines.build.layer_plan import NO_PLAN, LayerPlan, float_layers_of, scales_for, some
from engines.build.request import BuildRequest
from engines.graph.model import activations, digest_of, files_of, input_specs, name_of
from engines.qdq.weights import WeightOptions

if TYPE_CHECKING:
    from calibrators.tensorrt.calibrator import Calibrator
    from engines.collection.collect import Tensors

CacheSource = str | os.PathLike[str] | CalibrationCache | Statistics

ONLY_NODES = "the cache holds only what Q/DQ nodes need (--tensors quantizable)"
"""Layers without a scale would be float if a calibrator read it."""


@dataclass(frozen=True)
class Ranges:
    """What an INT8 build of a float model goes by; nothing in other builds.

    Attributes:
        cache: Scales to write Q/DQ nodes from.
        caches: By name of a layer, what it has its scale from instead.
        calibration: What TensorRT calibrates with instead.
        notes: What was decided for the user.
    """

    cache: CalibrationCache | None = None
    caches: Mapping[str, CalibrationCache] = field(default_factory=dict)
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()


@contextmanager
def ranges_for(
    request: BuildRequest,
    *,
    cache: CacheSource | None = None,
    calibrator: "Calibrator | None" = None,
    allow_version_mismatch: bool = False,
    plan: LayerPlan | None = None,
) -> Iterator[Ranges]:
    """The ranges for `request`, from a cache or a calibrator; the arguments are `engines.build.builder.build_engine`'s.

    What it yields holds until the block ends. Where a plan of the layers wants what calibrators cannot do, Q/DQ nodes
    take their place.

    Raises:
        BuildError: None are given, or both, or some where none are needed.
        TrtcalError: The cache cannot be read, or the calibrator's batches do not fit the model.
    """
    _require_ranges(request, cache, calibrator)
    with ExitStack() as stack:
        if calibrator is not None:
            yield _from_calibrator(request, calibrator, plan or NO_PLAN)
        elif cache is None:
            yield Ranges()
        else:
            given = cache if isinstance(cache, (CalibrationCache, Statistics)) else load_cache(cache)
            name = "the cache" if given is cache else str(cache)
            scales, others = scales_for(plan or NO_PLAN, given, name=name)
            why = _why_nodes(plan or NO_PLAN, scales, others) if request.implicit else ""
            if request.implicit and not why:
                path = stack.enter_context(_file_of(scales if isinstance(cache, Statistics) else cache))
                yield _implicit(request, reader_of(path, allow_version_mismatch=allow_version_mismatch))
            else:
                yield _explicit(request, scales, others, why)


def float_layers(request: BuildRequest, cache: CacheSource | None, budget: float) -> dict[str, str]:
    """The layers that a calibration found better left in float, as the side-car of its cache says, and why.

    Args:
        request: The build.
        cache: As `ranges_for` takes it.
        budget: Percent of the model's multiply-accumulates.

    Raises:
        CacheError: The cache cannot be read.
        CacheMismatchError: Its side-car names a layer that is none of the model's.
    """
    if cache is None or isinstance(cache, Statistics) or not request.needs_ranges:
        return {}
    known = cache if isinstance(cache, CalibrationCache) else load_cache(cache)
    return float_layers_of(known, request.model, budget)


def reader_of(path: Path, *, allow_version_mismatch: bool = False) -> "Calibrator":
    """The calibrator that reads the cache at `path`: of the kind that wrote it, as far as the header says."""
    from calibrators.tensorrt import int8

    kinds = (int8.EntropyCalibrator2, int8.MinMaxCalibrator, int8.EntropyCalibrator, int8.LegacyCalibrator)
    algorithm = load_cache(path, alone=True).algorithm
    kind = next((kind for kind in kinds if kind.algorithm == algorithm), int8.EntropyCalibrator2)
    return kind(cache=path, allow_version_mismatch=allow_version_mismatch)


def _require_ranges(request: BuildRequest, cache: CacheSource | None, calibrator: "Calibrator | None") -> None:
    if cache is not None and calibrator is not None:
        raise BuildError("give either a cache or a calibrator: the ranges of an INT8 build come from one of them")
    if request.needs_ranges and cache is None and calibrator is None:
        raise BuildError(
            "an INT8 build of a float model needs ranges: give its calibration cache (--cache) or images to "
            "calibrate on (--images), or a model with Q/DQ nodes"
        )
    for given, name in ((cache, "calibration cache"), (calibrator, "calibrator")):
        if given is not None and not request.needs_ranges:
            raise BuildError(
                f"a {name} is for INT8 builds of float models, and {request.no_ranges_because}: "
                f"leave out the {name.split()[-1]}"
            )


def _from_calibrator(request: BuildRequest, calibrator: "Calibrator", plan: LayerPlan) -> Ranges:
    if isinstance(calibrator, type):
        raise BuildError(f"{calibrator.__name__} is a class: give one made of it, {calibrator.__name__}(batches)")
    if not isinstance(getattr(calibrator, "method", None), str) or not hasattr(calibrator, "prepare"):
        raise BuildError(
            f"{type(calibrator).__name__} is no calibrator of trtcal's: take trtcal.EntropyCalibrator2, or another of "
            "its calibrators"
        )
    why = _why_nodes_and_no_calibrator(plan, calibrator.method)
    if request.implicit and not why:
        return _implicit(request, calibrator)
    path = calibrator.cache
    if path is not None and (calibrator.batches is None or (path.exists() and not calibrator.recalibrate)):
        return _explicit(request, *scales_for(plan, load_cache(path), name=str(path)), why)
    assert calibrator.batches is not None  # it has a cache or batches
    if path is not None:
        require_outputs([path, sidecar_path(path)], inputs=files_of(request.model))
        if path.exists():
            load_cache(path, alone=True)  # what is replaced is a cache, and nothing else
    return _collected(request, calibrator, calibrator.batches, plan, why)


def _implicit(request: BuildRequest, calibrator: "Calibrator") -> Ranges:
    specs, batches = input_specs(request.graph), calibrator.batches
    replaced = calibrator.recalibrate and batches is not None
    remarks = _coverage(request, None if replaced else calibrator.cache)
    loader = None if batches is None else fitted(batches, specs)
    shapes, notes = calibration_shapes(specs, request.profiles, loader)
    fixed = tuple(TensorSpec(spec.name, shapes[spec.name], spec.dtype) for spec in specs)
    return Ranges(calibration=Calibration(calibrator, fixed, digest_of(request.model)), notes=(*remarks, *notes))


def _coverage(request: BuildRequest, path: Path | None) -> tuple[str, ...]:
    """What of the model a cache has no scale for: TensorRT leaves those layers in float without an error.

    Raises:
        CacheMismatchError: It has none for anything in the model.
    """
    if path is None or not path.exists():
        return ()
    names, cache = activations(request.graph), load_cache(path, alone=True)
    lacking = [name for name in names if name not in cache]
    if len(lacking) == len(names):
        raise CacheMismatchError(
            f"no name in the cache {path} is a tensor of the model: it is another model's; calibrate this one"
        )
    if not lacking:
        return ()
    absent = f"{len(lacking)} of {len(names)} tensors have no scale in the cache"
    return (f"{absent}, and layers on them stay float: {listed(lacking)}",)


def calibration_shapes(
    specs: tuple[TensorSpec, ...], profiles: Mapping[str, Profile], batches: Batches | None
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The shapes that TensorRT calibrates in, by input, and a line where the batch is not the one asked for.

    They are the best ones of the profiles, apart from the batch: a size that the model fixes holds for every input;
    otherwise it is the loader's, as far as the number of samples is a multiple of it, else the largest smaller one that
    the samples fill.
    """
    from calibrators.tensorrt.rebatching import samples_of

    shapes = {
        spec.name: profiles[spec.name].optimum
        if spec.name in profiles
        else tuple(size if isinstance(size, int) else 1 for size in spec.shape)
        for spec in specs
    }
    fixed = [size for spec in specs for size in spec.shape[:1] if isinstance(size, int) and size > 0]
    asked = getattr(batches, "batch_size", None)
    wanted = (
        asked if isinstance(asked, int) else max((size for shape in shapes.values() for size in shape[:1]), default=1)
    )
    samples = samples_of(batches) if batches is not None else None
    size = fixed[0] if fixed else largest_batch(wanted, samples)
    notes: tuple[str, ...] = ()
    if not fixed and size != wanted:
        notes = (f"calibrated in batches of {size}, which {samples} samples fill, not {wanted}",)
    free = {spec.name for spec in specs if not (spec.shape[:1] and spec.shape[0] in fixed)}
    return {name: (size, *shape[1:]) if name in free and shape else shape for name, shape in shapes.items()}, notes


def largest_batch(wanted: int, samples: int | None) -> int:
    """The largest size up to `wanted` that divides `samples`; `wanted`, where they are unknown."""
    if not samples:
        return wanted
    return next(size for size in range(min(wanted, samples), 0, -1) if samples % size == 0)


def _explicit(
    request: BuildRequest, cache: CalibrationCache, others: Mapping[str, CalibrationCache], why: str
) -> Ranges:
    advice = "give that model's own cache, or calibrate it"
    require_cache_of(cache, digest_of(request.model), name="the cache", model=name_of(request.model), advice=advice)
    written = "they were written from it" if why == ONLY_NODES else "Q/DQ nodes were written into the model"
    note = f"{why or f'{request.backend.label} has no calibrators'}: {written}"
    return Ranges(cache=cache, caches=others, notes=(note,))


def _collected(request: BuildRequest, calibrator: "Calibrator", batches: Batches, plan: LayerPlan, why: str) -> Ranges:
    """The ranges of the calibrator's batches, found in ONNX Runtime; the calibrator's cache is written."""
    from calibrators.tensorrt.progress import shown
    from calibrators.tensorrt.rebatching import samples_of
    from engines.collection.collect import collect

    tensors: Tensors = "quantizable" if calibrator.cache is None else "all"
    with shown(calibrator.progress, samples_of(batches)) as advance:
        statistics = collect(request.model, batches, tensors=tensors, progress=advance)
    cache, others = scales_for(plan, statistics, method=calibrator.method, main=calibrator.method)
    if calibrator.cache is not None:
        cache.save(calibrator.cache)
    note = (
        f"{why or f'{request.backend.label} has no calibrators'}: ranges ({calibrator.method}) were collected in ONNX "
        "Runtime, and Q/DQ nodes written from them"
    )
    return Ranges(cache=cache, caches=others, notes=(note,))


def _why_nodes(plan: LayerPlan, cache: CalibrationCache, others: Mapping[str, CalibrationCache]) -> str:
    """Why Q/DQ nodes are to be written for a TensorRT that reads caches, too; empty where it is to read this one."""
    if cache.sidecar is not None and cache.sidecar.tensors == "quantizable":
        return ONLY_NODES
    if others:
        return f"a cache holds one range method, and {some(others)} take another"
    return _special_weights(plan)


def _why_nodes_and_no_calibrator(plan: LayerPlan, method: str) -> str:
    """Likewise for a TensorRT that calibrates by a range method."""
    others = [name for name, chosen in plan.methods.items() if canonical(chosen) != canonical(method)]
    if others:
        return f"a calibrator has one range method, and {some(others)} take another"
    return _special_weights(plan)


def _special_weights(plan: LayerPlan) -> str:
    special = [name for name, options in plan.weights.items() if options != WeightOptions()]
    return f"calibrators choose the scales of weights themselves, and {some(special)} want others" if special else ""


@contextmanager
def _file_of(cache: "str | os.PathLike[str] | CalibrationCache") -> Iterator[Path]:
    """A cache as a file, which calibrators read."""
    if not isinstance(cache, CalibrationCache):
        yield Path(cache)
        return
    with temporary_folder() as folder:
        path = folder / "given.cache"
        cache.save(path)
        yield path
