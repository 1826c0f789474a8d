"""`trtcal build`: from a model to a TensorRT engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calibrators.errors import BuildError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from calibrators.cache.text import CalibrationCache
    from calibrators.statistics.file import Statistics
    from calibrators.tensorrt.calibrator import Calibrator
    from engines.build.request import BuildRequest
    from engines.inspection.engine_record import Engine
    from trtcal.choice.calibration import Chosen
    from trtcal.config.settings import QuantConfig
    from trtcal.data.images import ImageLoader
    from trtcal.tasks.task import Task

_CALIBRATION = ("preprocess", "count", "batch_size", "seed", "method", "on_bad_image")

_JUDGING = ("task", "annotations", "confidence")


def build(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="A float model, or one with Q/DQ nodes.", show_default=False)
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The engine to write; its side-car is FILE.json.",
            metavar="MODEL.engine",
            show_default=False,
        ),
    ],
    cache: Annotated[
        Path | None,
        typer.Option(help="The calibration cache of a float model.", metavar="MODEL.cache", show_default=False),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Images (or arrays) to calibrate a float model on, instead of --cache.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    statistics: options.KeptStatistics = None,
    config: options.Config = None,
    skip: options.Skip = None,
    precision: Annotated[
        Literal["int8", "fp16", "fp32"],
        typer.Option(
            help="INT8 where the model has Q/DQ nodes or ranges for them; or all of it in FP16 (by TensorRT 8.6 to 10 "
            "where that is faster) or FP32."
        ),
    ] = "int8",
    rest: Annotated[
        Literal["fp16", "fp32"] | None,
        typer.Option(
            help="What an INT8 build computes in where nothing is quantized. [default: fp16]", show_default=False
        ),
    ] = None,
    backend: options.Backend = "auto",
    shapes: options.Shapes = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="A GPU to build for, such as 8.6 or 86; may be repeated; for tensorrt-rtx only. [default: 8.0, 8.6, "
            "8.9, 12.0 and later: not 9.0 and 10, the data centre's Hopper and Blackwell]",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    workspace: options.Workspace = None,
    optimization_level: options.OptimizationLevel = None,
    hardware_compatibility: options.HardwareCompatibility = "none",
    version_compatible: options.VersionCompatible = False,
    sparsity: options.Sparsity = False,
    timing_cache: options.TimingCache = None,
    layer_precision: options.LayerPrecision = None,
    allow_version_mismatch: options.AllowVersionMismatch = False,
    log: Annotated[
        Path | None, typer.Option(help="Keep the builder's whole log.", metavar="FILE", show_default=False)
    ] = None,
    preprocess: options.Preprocess = None,
    count: options.Count = 500,
    batch_size: options.CalibrationBatch = 8,
    seed: options.Seed = 0,
    method: options.MethodOrAuto = options.AUTO,
    float_budget: options.FloatBudget = 5.0,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    on_bad_image: options.OnBadImage = "error",
    json: options.Json = False,
) -> None:
    """Build a TensorRT engine, and say in which precision each part of it really runs.

    An INT8 engine comes from a model with Q/DQ nodes, or from a float model and its calibration cache, or from a
    float model and images to calibrate on. --preprocess, --count, --batch-size, --seed, --method and --on-bad-image
    go with --images; --method with --statistics-from, too. --method and --float-budget mean what they do in
    `trtcal calibrate`: without them, the method and the layers in float are those that measure best. Of a cache that
    `trtcal calibrate` wrote, --float-budget takes what its side-car says.

    TensorRT 8.6 to 10 reads the cache itself. With --method entropy or minmax it calibrates on the images itself, on
    the GPU, in batches of --batch-size; it gets the ranges of other methods, found in ONNX Runtime, as a cache.
    TensorRT 11 and TensorRT-RTX cannot: the ranges are found in ONNX Runtime, and Q/DQ nodes written.

    A configuration says which layers are INT8, and which compute in FP16 or FP32 instead: also for a model with Q/DQ
    nodes, which is to be quantized with the same. Where it wants what TensorRT's calibrators cannot do, Q/DQ nodes are
    written for TensorRT 8.6 to 10, too. --skip leaves layers in float without a file.

    tensorrt builds on the GPU that the engine is for, tensorrt-rtx on any machine's CPU.
    """
    from calibrators.methods.names import DEFAULT
    from calibrators.statistics.file import merged_files
    from engines.backends.backend import BuildOptions
    from engines.build.builder import fulfil
    from engines.build.layer_types import planned_for
    from engines.build.request import checked_request
    from trtcal.pipeline import require_same_model
    from trtcal.tables.inspection.engine import built_as_dict, report

    source = _source({"--cache": cache, "--images": images, "--statistics-from": statistics})
    if images is None:
        useless = [name for name in _CALIBRATION if name != "method" or not statistics]
        options.require_no_calibration(context, [*useless, *_JUDGING])
    if method != options.AUTO:
        options.require_no_calibration(context, _JUDGING, goes_with="--method auto, which judges methods by a task")
    if allow_version_mismatch and cache is None:
        raise BuildError("--allow-version-mismatch goes with --cache: give a cache, or leave it out")
    request = checked_request(
        model,
        output=output,
        precision=precision,
        backend=backend,
        shapes=shapes,
        rest=rest,
        compute_capabilities=compute_capability or (),
        options=BuildOptions(
            workspace=None if workspace is None else options.size_of(workspace),
            optimization_level=optimization_level,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            sparsity=sparsity,
            timing_cache=timing_cache,
            layer_precisions=options.layer_precisions_of(layer_precision or ()),
        ),
        log=log,
        inputs=[path for path in (cache, images, annotations, config, *(statistics or ())) if path is not None],
    )
    if source in ("--images", "--statistics-from"):
        _require_use(request, source)
    judged_by = options.stated_task(context, task, annotations, confidence)
    if method == options.AUTO and source != "--images":
        method = DEFAULT
    chosen = method if source in ("--images", "--statistics-from") and method != options.AUTO else None
    settings = _settings(context, config, skip or (), chosen)
    layers = None if settings is None else planned_for(request, settings)
    found = _Ranges(cache, method)
    if images is not None:
        calibration = _Calibration(model, preprocess, count, batch_size, seed, method, on_bad_image, float_budget)
        found = calibration.found(images, request, judged_by)
    elif statistics is not None:
        merged = merged_files(statistics)
        require_same_model(merged, model)
        found = _Ranges(merged, method)
    if method == options.AUTO and settings is not None:
        settings = options.with_method(context, settings, found.method, config)
        layers = planned_for(request, settings)
    if layers is not None:
        layers = layers.leaving(found.floats(float_budget))
    with console.staged_progress(f"Building with {request.backend.name}") as stages:
        if found.calibrator is not None and found.loader is not None:
            found.calibrator.progress = stages.count("Calibrating", found.loader.count)
        engine = fulfil(
            request,
            cache=found.cache() if settings is None else found.ranges,
            calibrator=found.calibrator,
            allow_version_mismatch=allow_version_mismatch,
            layers=layers,
            float_budget=float_budget,
            phase=stages.stage,
        )
    if json:
        console.emit_json(built_as_dict(engine))
    else:
        report(engine)
    found.say(engine, stated=preprocess is not None)


def _source(given: "Mapping[str, object]") -> str | None:
    """Which of the options that ranges come from is given.

    Raises:
        BuildError: Several are.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise BuildError(f"give either {' or '.join(names)}: the ranges of an INT8 build come from one of them")
    return names[0] if names else None


def _require_use(request: "BuildRequest", source: str) -> None:
    """Refuse images or statistics, from which ranges are found, where the build takes none."""
    if not request.needs_ranges:
        raise BuildError(
            f"{source} is for INT8 builds of float models, and {request.no_ranges_because}: leave out the "
            f"{'images' if source == '--images' else 'statistics'}"
        )


def _settings(
    context: typer.Context, config: Path | None, skip: "Sequence[str]", method: str | None
) -> "QuantConfig | None":
    """A configuration, in which --method, where there are images, is what it does not say; None where there is none.

    Raises:
        ConfigError: It says another method.
    """
    from trtcal.config.skipping import configured

    settings = configured(config, skip)
    return settings if settings is None or method is None else options.with_method(context, settings, method, config)


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Where the ranges of a build come from.

    Attributes:
        ranges: A cache, or statistics; None where TensorRT finds them, or the build needs none.
        method: How they are chosen.
        loader: The images that were calibrated on, or will be.
        calibrator: With which TensorRT finds them.
        chosen: What was found on them in ONNX Runtime.
    """

    ranges: "Path | Statistics | None"
    method: str
    loader: "ImageLoader | None" = None
    calibrator: "Calibrator | None" = None
    chosen: "Chosen | None" = None

    def cache(self) -> "Path | CalibrationCache | None":
        """What the ranges of all layers are read from, where no configuration wants several methods."""
        from calibrators.ranges import calibrate
        from calibrators.statistics.file import Statistics

        if self.chosen is not None:
            return self.chosen.cache
        return calibrate(self.ranges, self.method) if isinstance(self.ranges, Statistics) else self.ranges

    def floats(self, budget: float) -> "Mapping[str, str]":
        """The layers that were found better left in float, and why."""
        from calibrators.cache.float_layers import within

        return {} if self.chosen is None else within(self.chosen.float_layers, budget)

    def say(self, engine: "Engine", *, stated: bool) -> None:
        """Tell, on standard error, what a user should know of them."""
        from trtcal.tables.comparison import in_order, say_notes
        from trtcal.tables.images import say_what_was_calibrated_on

        compared = None if self.chosen is None else self.chosen.compared
        if compared is not None:
            console.note(f"note: ranges by {self.method}: {in_order(compared.comparison)}")
            say_notes(compared, stated=stated)
        elif self.loader is not None:
            say_what_was_calibrated_on(self.loader, stated=stated)
        for line in () if self.chosen is None else self.chosen.notes:
            console.note(f"note: {line}")
        if self.loader is None or engine.record.quantization != "implicit" or self.calibrator is not None:
            return
        console.note(
            f"note: TensorRT has no calibrator that does {self.method}: the ranges are ONNX Runtime's, given as a cache"
        )


@dataclass(frozen=True, slots=True)
class _Calibration:
    """The options that go with --images."""

    model: Path
    preprocess: str | None
    count: int
    batch_size: int
    seed: int
    method: str
    on_bad_image: Literal["error", "skip"]
    float_budget: float

    @property
    def kind(self) -> "type[Calibrator] | None":
        """The calibrator of TensorRT's that finds ranges by the very method; None for methods that it does not have."""
        from calibrators.ranges import METHODS, method_named

        if self.method == options.AUTO:
            return None
        from calibrators.tensorrt import int8

        kinds = (int8.EntropyCalibrator2, int8.MinMaxCalibrator)
        chosen = method_named(self.method)
        return next((kind for kind in kinds if METHODS[kind.method] == chosen), None)

    def found(self, images: Path, request: "BuildRequest", task: "Task") -> _Ranges:
        """Ranges from images: by TensorRT itself where it can find them by the method, else from ONNX Runtime."""
        from trtcal.choice.calibration import calibrate_images
        from trtcal.data.split import ImageChoice

        if request.implicit and self.kind is not None:
            calibrator, loader = self.calibrator(images)
            return _Ranges(None, self.method, loader, calibrator)
        choice = ImageChoice(
            images,
            preprocess=self.preprocess,
            count=self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            on_bad_image=self.on_bad_image,
            task=task,
        )
        chosen = calibrate_images(
            self.model,
            choice,
            method=self.method,
            float_budget=self.float_budget,
            tensors="all" if request.implicit else "quantizable",
            step=console.progress,
        )
        return _Ranges(chosen.statistics, chosen.method, chosen.loader, chosen=chosen)

    def loader(self, images: Path) -> "ImageLoader":
        """Of the images."""
        from trtcal.pipeline import open_for

        return open_for(
            self.model,
            images,
            preprocess=self.preprocess,
            count=self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            on_bad_image=self.on_bad_image,
        )

    def calibrator(self, images: Path) -> "tuple[Calibrator, ImageLoader]":
        """What TensorRT calibrates with while it builds."""
        kind, loader = self.kind, self.loader(images)
        assert kind is not None  # asked before
        return kind(loader), loader
