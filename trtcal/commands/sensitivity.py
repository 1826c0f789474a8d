"""`trtcal sensitivity`: what INT8 does to each layer, and which layers hurt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from trtcal.analysis.layer_analysis import LayerAnalysis


def sensitivity(
    model: options.Model,
    *,
    images: options.Images,
    test_images: options.TestImages = None,
    labels: options.TestLabels = None,
    task: options.TaskName = "auto",
    annotations: options.Annotations = None,
    confidence: options.Confidence = 0.25,
    by: Annotated[
        Literal["top-1", "agreement", "task", "SQNR"] | None,
        typer.Option(
            help="What layers are ranked by; what ties is ranked by SQNR. [default: the task's measure; or top-1 where "
            "there are labels, else agreement; SQNR for a model without class scores]",
            show_default=False,
            case_sensitive=False,
        ),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Show the errors of all layers in INT8 only, without trying each.")
    ] = False,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Run all trials on all images, and predict none. Takes far longer.")
    ] = False,
    memory: options.Memory = 2.0,
    resume: options.Resume = None,
    method: options.MethodOrAuto = options.AUTO,
    config: options.Config = None,
    skip: options.Skip = None,
    preprocess: options.Preprocess = None,
    count: options.CalibrationCount = 500,
    test_count: options.TestCount = 500,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    on_bad_image: options.OnBadImage = "error",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write what --json prints.", metavar="FILE.json", show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what INT8 does to each layer of a model, and which layers hurt its outputs.

    First the errors: all layers in INT8, in ONNX Runtime, beside the float model. For each layer, how far its input and
    its output are from the float model's (SQNR, in dB; more is better), the error of its input's own rounding, how much
    of it is clipped, and how far it uses its levels. Tensors that look wrong are named: outliers, ranges that are too
    wide, values clipped, dead channels, weights of which one channel is far larger than the others, and so on.

    Then the trials, four for each layer: it alone in INT8, only its input, only its weight, and all layers but it. The
    table has the layer that does most harm alone first. A drop of top-1 that may be chance, by its 95 % interval,
    counts as none: among such layers SQNR decides.

    What a layer does alone is measured: on all images where layers do most harm or lose anything, and on the first few
    where they do not. What its weight does, and all layers but it, is predicted, since differences add up nearly, and
    checked for the worst three. --exhaustive runs it all.

    Images are parted as by `trtcal compare`: those that are judged by were not calibrated on.
    """
    from calibrators.files import require_outputs
    from engines.graph.model import files_of, load_model
    from trtcal.analysis.auto_method import require_method
    from trtcal.analysis.run import sensitivity as analysed
    from trtcal.config.skipping import configured
    from trtcal.tables.images import say_if_few, say_what_was_read
    from trtcal.tables.sensitivity import remarks

    require_method(method)
    judged_by = options.task_of(task, annotations, confidence)
    settings = configured(config, skip or ())
    read = [Path(path) for path in (images, test_images, labels, annotations, preprocess, config) if path is not None]
    written = [path for path in (output, resume) if path is not None]
    require_outputs(written, inputs=[*files_of(model), *read])
    load_model(model, weights=False)
    try:
        found = analysed(
            model,
            images,
            test_images=test_images,
            labels=labels,
            by=by,
            errors=errors,
            exhaustive=exhaustive,
            memory=int(memory * 10**9),
            resume=resume,
            method=method,
            config=settings,
            preprocess=preprocess,
            count=count,
            test_count=test_count,
            batch_size=batch_size,
            seed=seed,
            on_bad_image=on_bad_image,
            task=judged_by,
            step=console.progress,
        )
    except KeyboardInterrupt:
        if resume is not None and resume.exists():
            console.note(f"{resume} holds the trials that were done: the same command goes on from there")
        raise
    _report(model, found.judging.method, found, output=output, json=json)
    parts = found.judging.parts
    say_what_was_read(parts.calibration, stated=preprocess is not None)
    say_what_was_read(parts.test, stated=True)
    say_if_few(parts.calibration)
    for note in remarks(found):
        console.note(f"note: {note}")


def _report(model: Path, method: str, found: "LayerAnalysis", *, output: Path | None, json: bool) -> None:
    """Print and write what was found."""
    from calibrators.files import write_whole
    from trtcal.tables.sensitivity import as_dict, show

    content = as_dict(model, method, found)
    if output is not None:
        write_whole(output, console.as_json(content, spelled=True))
    if json:
        console.emit_json(content)
    else:
        show(found)
        if output is not None:
            console.say(f"{output}: all of it")
