"""Options that several verbs share: the same words, the same meaning."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from calibrators.errors import BuildError, ConfigError, DataError
from calibrators.methods import names
from trtcal.data import presets

if TYPE_CHECKING:
    from engines.backends.backend import NumberType
    from trtcal.config.settings import QuantConfig
    from trtcal.tasks.task import Task

Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The float model.", show_default=False)]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help=f"How an image becomes the model's input: a preset ({', '.join(presets.STATED)}) or a TOML file (default: "
        "by the model's input).",
        metavar="NAME|FILE.toml",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the choice of images.", metavar="N")]
BatchSize = Annotated[int, typer.Option(help="Images decoded together; it changes no result.", metavar="N", min=1)]
CalibrationBatch = Annotated[
    int,
    typer.Option(
        help="Images decoded together. TensorRT 8.6 to 10 calibrates on as many together, or on fewer that the images "
        "fill, and its ranges depend on it a little; elsewhere it changes no result.",
        metavar="N",
        min=1,
    ),
]
Images = Annotated[
    Path, typer.Option(help="A folder of images, or arrays: .npz or .npy.", metavar="PATH", show_default=False)
]
TestImages = Annotated[
    Path | None,
    typer.Option(help="Images to judge by, instead of others of --images.", metavar="PATH", show_default=False),
]
TestLabels = Annotated[
    Path | None,
    typer.Option(
        help="Labels of the images to judge by: a CSV file of rows `file,label`; for arrays an .npy of class numbers "
        "(default: sub-folders; in an .npz, the array `labels`).",
        metavar="FILE",
        show_default=False,
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        help="What the model is for, by which it is judged: classify, outputs, detect, segment or keypoints, with an "
        "adapter (detect:yolov8) or the one that the outputs propose; or an adapter of your own, FILE.toml or "
        "module.py:function. auto is classify where an output holds class scores, else outputs.",
        metavar="TASK",
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        help="For --task: what is in the images to judge by: COCO JSON, a folder of YOLO label files, or of PNG masks "
        "(default: what the float model finds).",
        metavar="PATH",
        show_default=False,
    ),
]
Confidence = Annotated[
    float,
    typer.Option(
        help="For --task: the score from which on what the float model finds counts as being there, or as lost.",
        metavar="SCORE",
    ),
]
Backend = Annotated[
    Literal["auto", "tensorrt", "tensorrt-rtx"],
    typer.Option(help="Which TensorRT; auto: tensorrt where it is installed and there is a GPU, else tensorrt-rtx."),
]
Shapes = Annotated[
    str | None,
    typer.Option(
        help="Shapes of dynamic inputs, smallest..best..largest or one shape, several inputs separated by commas. "
        "[default: batches of 1..8..32]",
        metavar="input:1x3x224x224..8x3x224x224..32x3x224x224",
        show_default=False,
    ),
]
CalibrationCount = Annotated[
    int, typer.Option(help="Images to calibrate on at most, each class its share.", metavar="N", min=1)
]
TestCount = Annotated[int, typer.Option(help="Images to judge by at most, each class its share.", metavar="N", min=1)]
Config = Annotated[
    Path | None,
    typer.Option(
        help="How layers are quantized: bits, methods, what stays in float (default: all in INT8, as TensorRT has it).",
        metavar="quant.toml",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        help="Leave layers in float, beside what --config says: names=A,B* (globs), types=Gemm,MatMul, "
        "first-convolutions=N or last-convolutions=N; may be repeated.",
        metavar="KEY=VALUE",
        show_default=False,
    ),
]
Memory = Annotated[
    float,
    typer.Option(
        help="Memory for activations and sessions that trials have in common. What does not fit is computed again.",
        metavar="GB",
        min=0.0,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Keep the scores of trials in this file, and take those that are in it: an interrupted run goes on where "
        "it was. They count for the same model, images and ranges only.",
        metavar="FILE.json",
        show_default=False,
    ),
]
Count = Annotated[int, typer.Option(help="Images to use at most, each class its share.", metavar="N", min=1)]
OnBadImage = Annotated[
    Literal["error", "skip"],
    typer.Option(help="What to do about an image that cannot be decoded: stop, or leave it out and say so."),
]
METHODS = names.listed()
"""The range methods, as help texts list them."""

Method = Annotated[
    str, typer.Option(help=f"How ranges are chosen: {METHODS}.", metavar="NAME", callback=names.canonical)
]
AUTO = names.AUTO

MethodOrAuto = Annotated[
    str,
    typer.Option(
        help=f"How ranges are chosen: auto, which judges a few methods on some of the images; {METHODS}.",
        metavar="NAME",
        callback=names.canonical,
    ),
]
FloatBudget = Annotated[
    float,
    typer.Option(
        help="Percent of the multiply-accumulates that may stay in float, in the layers that cost the outputs most (in "
        "the first alone, four times as many); 0 for all in INT8.",
        metavar="PERCENT",
        min=0,
        max=100,
    ),
]
Workspace = Annotated[
    str | None,
    typer.Option(
        help="GPU memory that one kernel may use for itself at most. [default: all there is]",
        metavar="4GiB",
        show_default=False,
    ),
]
OptimizationLevel = Annotated[
    int | None,
    typer.Option(
        help="How long to search for faster kernels, 0 to 5; for tensorrt only. [default: TensorRT's, 3]",
        metavar="N",
        show_default=False,
        min=0,
        max=5,
    ),
]
HardwareCompatibility = Annotated[
    Literal["none", "ampere+", "same-compute-capability"],
    typer.Option(help="GPUs that an engine of tensorrt runs on besides the one it is built on."),
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="Later versions of TensorRT can run it; for tensorrt only.")
]
Sparsity = Annotated[
    bool,
    typer.Option("--sparsity", help="Use kernels for weights of 2:4 sparsity where they have it; for tensorrt only."),
]
TimingCache = Annotated[
    Path | None,
    typer.Option(
        help="Times of kernels on this GPU, kept for later builds; read, added to and written again. For tensorrt "
        "only: TensorRT-RTX has no use for one.",
        metavar="FILE",
        show_default=False,
    ),
]
LayerPrecision = Annotated[
    list[str] | None,
    typer.Option(
        help="What the layers of the ONNX nodes that fit must compute in, such as 'head/*=fp32'; may be repeated, the "
        "first that fits counts. For TensorRT 8.6 to 10.",
        metavar="PATTERN=TYPE",
        show_default=False,
    ),
]
AllowVersionMismatch = Annotated[
    bool,
    typer.Option(
        "--allow-version-mismatch", help="Let TensorRT 8.6 to 10 use a cache of another version or algorithm."
    ),
]
Statistics = Annotated[
    Path | None,
    typer.Option(
        help="Keep the statistics, from which any method derives.", metavar="MODEL.stats.npz", show_default=False
    ),
]
KeptStatistics = Annotated[
    list[Path] | None,
    typer.Option(
        "--statistics-from",
        "--statistics",
        help="Statistics that trtcal calibrate --statistics kept, instead of --cache: for configurations by which "
        "layers have range methods of their own. Those of several shards merge.",
        metavar="FILE.npz...",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def task_of(name: str, annotations: Path | None, confidence: float) -> "Task":
    """The task that the command line names."""
    from trtcal.tasks.task import Task

    return Task(name, annotations, confidence)


def stated_task(context: typer.Context, name: str, annotations: Path | None, confidence: float) -> "Task":
    """The task that the command line names; `trtcal.tasks.task.AUTO` where it says nothing of one."""
    from trtcal.tasks.task import AUTO as ANY_TASK

    task = task_of(name, annotations, confidence)
    return task if is_stated(context, "task", "annotations", "confidence") else ANY_TASK


def require_calibration_outputs(
    model: Path, cache: Path | None, statistics: Path | None, *, inputs: Iterable[Path | str | None]
) -> None:
    """Refuse a cache or statistics that cannot be written, or would replace what is read.

    Args:
        model: The float model, which is read.
        cache: To write, with its side-car.
        statistics: To write.
        inputs: What else is read.

    Raises:
        OutputError: As `calibrators.files.require_outputs` raises it.
    """
    from calibrators.cache.sidecar import sidecar_path
    from calibrators.files import require_outputs
    from engines.graph.model import files_of
    from trtcal.data.pixels import EXTENSIONS

    outputs = [] if cache is None else [cache, sidecar_path(cache)]
    outputs += [] if statistics is None else [statistics]
    read = [Path(path) for path in inputs if path is not None]
    read += [path for path in outputs if path.suffix.lower() in EXTENSIONS]  # one of the images, if it is there
    require_outputs(outputs, inputs=[*files_of(model), *read])


def require_no_calibration(
    context: typer.Context, names: Iterable[str], *, goes_with: str = "--images: give images to calibrate on"
) -> None:
    """Refuse options that say how to calibrate, where there is nothing to calibrate on, or nothing else to use them.

    Raises:
        DataError: One of them is on the command line.
    """
    for name in names:
        if is_stated(context, name):
            raise DataError(f"--{name.replace('_', '-')} goes with {goes_with}, or leave it out")


def is_stated(context: typer.Context, *names: str) -> bool:
    """Whether any of these options is on the command line."""
    sources = (context.get_parameter_source(name) for name in names)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def with_method(context: typer.Context, settings: "QuantConfig", method: str, config: Path | None) -> "QuantConfig":
    """The settings with --method for what they do not say.

    Raises:
        ConfigError: The command line says another method than [default] of the file.
    """
    from calibrators.methods.names import canonical

    theirs, source = settings.default.activation, context.get_parameter_source("method")
    if theirs is None:
        settings.default = replace(settings.default, activation=method)
    elif source is not None and source.name == "COMMANDLINE" and canonical(method) != canonical(theirs):
        raise ConfigError(f"--method says {method}, and [default] of {config} {theirs}: leave one of them out")
    return settings


def size_of(text: str) -> int:
    """Bytes from a size such as 4GiB, 512MB or 1000000."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?) *(?:([KMGT])(i?))?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise BuildError(f"{text!r} is no size: write such as 4GiB, 512MB or a number of bytes")
    number, prefix, binary = match.groups()
    power = " KMGT".index((prefix or " ").upper())
    return int(float(number) * (1024 if binary else 1000) ** power)


def layer_precisions_of(texts: Iterable[str]) -> "dict[str, NumberType]":
    """Types by pattern from texts such as head/*=fp32; a pattern may itself hold an equals sign."""
    from engines.backends.backend import NumberType

    found: dict[str, NumberType] = {}
    for text in texts:
        pattern, _, name = text.rpartition("=")
        precision = next((each for each in get_args(NumberType) if each == name), None)
        if not pattern or precision is None:
            raise BuildError(f"--layer-precision {text} reads differently than PATTERN=int8, =fp16 or =fp32")
        if pattern in found:
            raise BuildError(f"--layer-precision gives {pattern} twice: give it once")
        found[pattern] = precision
    return found
