"""`trtcal quantize`: from a cache to a model with Q/DQ nodes, or from no cache to one with ranges at run time."""

from pathlib import Path
from typing import Annotated

import typer

from calibrators.errors import CacheError, DataError
from trtcal.commands import options
from trtcal.tables import console

_RECOVERY = (
    *("images", "test_images", "labels", "task", "annotations", "confidence", "preprocess"),
    *("count", "test_count", "batch_size", "seed", "on_bad_image"),
)
"""Options that --recover alone has a use for."""


def quantize(
    context: typer.Context,
    model: options.Model,
    *,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Its calibration cache; needed without --dynamic or --statistics-from.",
            metavar="MODEL.cache",
            show_default=False,
        ),
    ] = None,
    statistics: options.KeptStatistics = None,
    config: options.Config = None,
    skip: options.Skip = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model to write.", metavar="MODEL.int8.onnx", show_default=False)
    ],
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic",
            help="Quantize weights only, and have ONNX Runtime find the ranges of activations whenever the model runs: "
            "no --cache. Not for TensorRT, which has no dynamic INT8.",
        ),
    ] = False,
    weights: Annotated[
        str,
        typer.Option(
            help="How scales of weights are chosen: by the largest magnitude, or the least squared error.",
            metavar="absmax|mse",
        ),
    ] = "absmax",
    granularity: Annotated[
        str,
        typer.Option(
            help="What of a weight shares a scale: an output channel, the whole tensor, or N neighbours in an output "
            "channel. Blocks are for models without convolutions, for MatMul and Gemm in ONNX Runtime; TensorRT has "
            "none in INT8.",
            metavar="channel|tensor|block:N",
        ),
    ] = "channel",
    recover: Annotated[
        str | None,
        typer.Option(
            help="Bring accuracy back that quantization loses, learning from --images: equalization, rounding, "
            "bias-correction, adaround, or all. Each step is judged by other images, and left out where it does not "
            "help.",
            metavar="A,B,C",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="For --recover: a folder of images to learn from and to judge by, or arrays: .npz or .npy.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="How an image becomes the model's input: a preset or a TOML file, as trtcal calibrate takes it "
            "(default: as the ranges were found).",
            metavar="NAME|FILE.toml",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="With --statistics-from, how ranges are chosen, as trtcal calibrate takes it (default: mse); with "
            "--recover, how where equalization makes them be found anew (default: as the cache's were).",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    float_budget: options.FloatBudget = 5.0,
    count: options.CalibrationCount = 500,
    test_count: options.TestCount = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    json: options.Json = False,
) -> None:
    """Write a calibration cache's scales into the model as QuantizeLinear and DequantizeLinear nodes, for any TensorRT.

    Weights get one scale per output channel (or as --granularity has it), activations one per tensor. Batch
    normalization is folded where it can be, biases stay in float. A cache that TensorRT wrote will do: names of its own
    are dropped and counted, the sides of a pooling or concatenation get one scale, and what has a scale of zero or
    infinity stays in float and is named.

    A configuration says which layers are quantized, with how many bits, and by which methods; those that it has in FP16
    or FP32 stay in float here, and trtcal build --config gives them that type. --skip leaves layers in float without a
    file.

    Layers that the cache's side-car names as better left in float stay so, as far as --float-budget has room for them.

    With --recover the float model's weights and biases are changed so that less is lost. equalization rescales channels
    so that one scale fits all of a weight, and finds ranges anew; rounding chooses scales and levels of weights for the
    least error of the layer's output, in closed form; bias-correction takes out the mean error of each layer; adaround
    does what rounding does by gradients, which takes some seconds for a layer of a small network, and minutes for one
    of thousands of inputs and outputs. It begins with weights that are not rounded yet: of both, the better is kept.
    The report tells what each step did on images that none was learned from.

    With --dynamic no cache is needed, and the model is for ONNX Runtime alone: TensorRT has no dynamic INT8.
    """
    from calibrators.cache.sidecar import sidecar_path
    from calibrators.files import require_apart
    from calibrators.methods.names import DEFAULT
    from calibrators.statistics.file import merged_files
    from calibrators.weights import weight_method_named
    from trtcal.config.layer_settings import LayerSettings
    from trtcal.config.skipping import configured
    from trtcal.pipeline import quantize as quantized
    from trtcal.pipeline import quantize_dynamic
    from trtcal.tables.quantized import report, report_dynamic

    by = weight_method_named(weights)
    ranges = [name for name, given in (("--cache", cache), ("--statistics-from", statistics)) if given]
    if recover is None:
        options.require_no_calibration(context, _RECOVERY, goes_with="--recover: name steps of recovery")
        if statistics is None:
            options.require_no_calibration(
                context,
                ["method"],
                goes_with="--statistics-from or --recover: a cache has its method, which trtcal calibrate chose",
            )
    if dynamic:
        unused = {"--config": config, "--skip": skip, "--recover": recover}
        for name in (*ranges, *(name for name, given in unused.items() if given is not None)):
            raise CacheError(
                f"--dynamic finds the ranges when the model runs and has no use for {name}: leave one of them out"
            )
        made = quantize_dynamic(model, output=output, weights=by, granularity=granularity)
        report_dynamic(output, made, json=json)
        return
    if len(ranges) > 1:
        raise CacheError("give either --cache or --statistics-from: the ranges come from one of them")
    source = merged_files(statistics) if statistics else cache
    if source is None:
        raise CacheError(
            "give --cache MODEL.cache, the model's calibration cache (trtcal calibrate writes it); or --dynamic, which "
            "needs none, for ONNX Runtime"
        )
    require_apart([output, sidecar_path(output)], [*(statistics or ()), *([] if config is None else [config])])
    settings = configured(config, skip or (), default=LayerSettings(weight=by, granularity=granularity))
    if skip and config is None:
        by, granularity = "absmax", "channel"  # said by the settings
    if statistics and method is not None and settings is not None:
        settings = options.with_method(context, settings, method, config)
    if recover is not None:
        from trtcal.recovery.run import quantize_recovered
        from trtcal.tables.recovery import report_recovery

        if images is None:
            raise DataError("--recover learns from images and is judged by others: give --images PATH")
        run = quantize_recovered(
            model,
            source,
            images,
            steps=recover,
            output=output,
            weights=by,
            granularity=granularity,
            config=settings,
            method=method,
            float_budget=float_budget,
            test_images=test_images,
            preprocess=preprocess,
            count=count,
            test_count=test_count,
            labels=labels,
            batch_size=batch_size,
            seed=seed,
            on_bad_image=on_bad_image,
            task=options.task_of(task, annotations, confidence),
            step=console.progress,
        )
        report_recovery(output, run, json=json)
        return
    chosen = method or DEFAULT
    result = quantized(
        model,
        source,
        output=output,
        weights=by,
        granularity=granularity,
        config=settings,
        method=chosen,
        float_budget=float_budget,
    )
    report(output, result, json=json)
    if statistics:
        console.note(f"note: ranges by {chosen}, where a configuration names no other method; --method chooses")
