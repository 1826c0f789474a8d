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

    from calibrators.statistics.file import Statistics
    from calibrators.tensorrt.calibrator import Calibrator
    from engines.build.request import BuildRequest
    from trtcal.config.settings import QuantConfig
    from trtcal.data.images import ImageLoader

_CALIBRATION = ("preprocess", "count", "batch_size", "seed", "method", "on_bad_image")


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
    backend: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"],
        typer.Option(
            help="Which TensorRT; auto: tensorrt where it is installed and there is a GPU, else tensorrt-rtx."
        ),
    ] = "auto",
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Shapes of dynamic inputs, smallest..best..largest or one shape, several inputs separated by commas. "
            "[default: batches of 1..8..32]",
            metavar="input:1x3x224x224..8x3x224x224..32x3x224x224",
            show_default=False,
        ),
    ] = None,
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
    method: options.Method = "entropy",
    on_bad_image: options.OnBadImage = "error",
    json: options.Json = False,
) -> None:
    """Build a TensorRT engine, and say in which precision each part of it really runs.

    An INT8 engine comes from a model with Q/DQ nodes, or from a float model and its calibration cache, or from a
    float model and images to calibrate on. --preprocess, --count, --batch-size, --seed, --method and --on-bad-image
    go with --images; --method with --statistics-from, too.

    TensorRT 8.6 to 10 reads the cache itself, or calibrates on the images itself, on the GPU, in batches of
    --batch-size; it knows entropy and minmax, and gets the ranges of other methods, found in ONNX Runtime, as a cache.
    TensorRT 11 and TensorRT-RTX cannot: the ranges are found in ONNX Runtime, and Q/DQ nodes written.

    A configuration says which layers are INT8, and which compute in FP16 or FP32 instead: also for a model with Q/DQ
    nodes, which is to be quantized with the same. Where it wants what TensorRT's calibrators cannot do, Q/DQ nodes are
    written for TensorRT 8.6 to 10, too. --skip leaves layers in float without a file.

    tensorrt builds on the GPU that the engine is for, tensorrt-rtx on any machine's CPU.
    """
    from calibrators.ranges import calibrate
    from calibrators.statistics.file import Statistics, merged_files
    from engines.backends.backend import BuildOptions
    from engines.build.builder import fulfil
    from engines.build.layer_types import planned_for
    from engines.build.request import checked_request
    from trtcal.pipeline import require_same_model
    from trtcal.tables.engine import built_as_dict, report
    from trtcal.tables.images import say_what_was_calibrated_on

    source = _source({"--cache": cache, "--images": images, "--statistics-from": statistics})
    if images is None:
        options.require_no_calibration(context, [name for name in _CALIBRATION if name != "method" or not statistics])
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
        inputs=[path for path in (cache, images, config, *(statistics or ())) if path is not None],
    )
    if source in ("--images", "--statistics-from"):
        _require_use(request, source, method)
    settings = _settings(context, config, skip or (), method if source in ("--images", "--statistics-from") else None)
    layers = None if settings is None else planned_for(request, settings)
    ranges: Path | Statistics | None = cache
    calibration = _Calibration(model, preprocess, count, batch_size, seed, method, on_bad_image)
    loader: ImageLoader | None = None
    calibrator: Calibrator | None = None
    if images is not None and request.implicit and calibration.kind is not None:
        calibrator, loader = calibration.calibrator(images)
    elif images is not None:
        ranges, loader = calibration.statistics(images, tensors="all" if request.implicit else "quantizable")
    elif statistics is not None:
        ranges = merged_files(statistics)
        require_same_model(ranges, model)
    with console.staged_progress(f"Building with {request.backend.name}") as stages:
        if calibrator is not None and loader is not None:
            calibrator.progress = stages.count("Calibrating", loader.count)
        engine = fulfil(
            request,
            cache=calibrate(ranges, method) if settings is None and isinstance(ranges, Statistics) else ranges,
            calibrator=calibrator,
            allow_version_mismatch=allow_version_mismatch,
            layers=layers,
            phase=stages.stage,
        )
    if json:
        console.emit_json(built_as_dict(engine))
    else:
        report(engine)
    if loader is not None:
        say_what_was_calibrated_on(loader, stated=preprocess is not None)
        if engine.record.quantization == "implicit" and calibrator is None:
            console.note(
                f"note: TensorRT has no calibrator that does {method}: the ranges are ONNX Runtime's, given as a cache"
            )


def _source(given: "Mapping[str, object]") -> str | None:
    """Which of the options that ranges come from is given.

    Raises:
        BuildError: Several are.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise BuildError(f"give either {' or '.join(names)}: the ranges of an INT8 build come from one of them")
    return names[0] if names else None


def _require_use(request: "BuildRequest", source: str, method: str) -> None:
    """Refuse images or statistics, from which ranges are found, where the build takes none."""
    if not request.needs_ranges:
        raise BuildError(
            f"{source} is for INT8 builds of float models, and {request.no_ranges_because}: leave out the "
            f"{'images' if source == '--images' else 'statistics'}"
        )
    if method == "auto":
        raise BuildError(
            "--method auto is trtcal calibrate's, which writes a cache: give that with --cache, or name a method"
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
class _Calibration:
    """The options that go with --images."""

    model: Path
    preprocess: str | None
    count: int
    batch_size: int
    seed: int
    method: str
    on_bad_image: Literal["error", "skip"]

    @property
    def kind(self) -> "type[Calibrator] | None":
        """The calibrator of TensorRT's that finds ranges by the very method; None for methods that it does not have."""
        from calibrators.ranges import METHODS, method_named
        from calibrators.tensorrt import int8

        kinds = (int8.EntropyCalibrator2, int8.MinMaxCalibrator)
        chosen = method_named(self.method)
        return next((kind for kind in kinds if METHODS[kind.method] == chosen), None)

    def statistics(self, images: Path, *, tensors: Literal["all", "quantizable"]) -> "tuple[Statistics, ImageLoader]":
        """Of activations, collected in ONNX Runtime, now."""
        from calibrators.ranges import method_named
        from trtcal.pipeline import collect_images

        method_named(self.method)
        with console.images_progress("Calibrating") as progress:
            return collect_images(
                self.model,
                images,
                preprocess=self.preprocess,
                count=self.count,
                batch_size=self.batch_size,
                seed=self.seed,
                tensors=tensors,
                on_bad_image=self.on_bad_image,
                progress=progress,
            )

    def calibrator(self, images: Path) -> "tuple[Calibrator, ImageLoader]":
        """What TensorRT calibrates with while it builds."""
        from engines.graph.model import input_specs, load_model
        from trtcal.data.images import open_images

        kind = self.kind
        assert kind is not None  # asked before
        loader = open_images(
            images,
            input_specs(load_model(self.model)),
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            count=self.count,
            seed=self.seed,
            on_bad_image=self.on_bad_image,
        )
        return kind(loader), loader
