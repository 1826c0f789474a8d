"""``python -m benchmarks.task_measure``: what the measure of a detector takes, beside the inference that it judges.

Images of random boxes, a model whose boxes are shifted, and the float model's, shifted less, all from a seed: the mean
average precision of both by class, what is lost, extra or moved, the most changed images, and the interval of the drop.
"""

import json as codec
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import timing
from calibrators.errors import TrtcalError
from trtcal.tables import console
from trtcal.tasks.found import Classes, Floats, Found
from trtcal.tasks.measuring.evidence import Evidence, Sample

INFERENCE = 0.05
"""Seconds of one model for one image."""

SIDE = 640


def evidence(images: int, boxes: int, classes: int, seed: int = 0) -> Evidence:
    """What a model and the float model find in images with so many boxes each."""
    random = np.random.default_rng(seed)
    return Evidence("boxes", tuple(_sample(random, f"{each:06}", boxes, classes) for each in range(images)), True)


def seconds(of: Evidence) -> dict[str, float]:
    """What each part of the measure takes, once its libraries are loaded."""
    evidence(2, 2, 1).drop_interval()
    parts: dict[str, Callable[[], object]] = {
        "mAP of both models, by class; lost, extra, moved": lambda: of.result,
        "interval of the drop": of.drop_interval,
        "the ten most changed images": lambda: of.changes(10),
    }
    return {name: timing.seconds(part) for name, part in parts.items()}


def figures(images: int, boxes: int, classes: int) -> dict[str, Any]:
    """All that is measured, for JSON."""
    parts = seconds(evidence(images, boxes, classes))
    inference, total = 2 * INFERENCE * images, sum(parts.values())
    return {
        "images": images,
        "boxes": boxes,
        "classes": classes,
        "seconds": parts | {"all": total},
        "inference_seconds": inference,
        "share": total / inference,
    }


def _sample(random: np.random.Generator, name: str, boxes: int, classes: int) -> Sample:
    corner, size = random.uniform(0, SIDE - 140, (boxes, 2)), random.uniform(10, 140, (boxes, 2))
    known = np.concatenate([corner, corner + size], axis=1)
    numbers = random.integers(0, classes, boxes)
    ours, theirs = (_detected(random, known, numbers, spread) for spread in (4.0, 3.0))
    return Sample(name, (SIDE, SIDE), ours, Found(known, np.ones(boxes), numbers), theirs)


def _detected(random: np.random.Generator, known: Floats, numbers: Classes, spread: float) -> Found:
    """Scores are of 8 bits, as those of a quantized model: many tie."""
    scores = np.sort(random.integers(0, 256, len(known)) / 255)[::-1]
    return Found(known + random.normal(0, spread, known.shape), scores, numbers)


def bench(
    *,
    images: Annotated[int, typer.Option(min=5, help="Images, each with its boxes.")] = 5_000,
    boxes: Annotated[int, typer.Option(min=1, help="Boxes of an image, for each model.")] = 100,
    classes: Annotated[int, typer.Option(min=1, help="Classes of boxes.")] = 80,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures here.", metavar="FILE", show_default=False)
    ] = None,
) -> None:
    """Measure what the measure of a detector takes."""
    from calibrators.files import require_writable, write_whole

    if json is not None:
        require_writable(json)
    measured = figures(images, boxes, classes)
    inference = measured["inference_seconds"]
    rows = [[name, f"{took:.2f}", f"{100 * took / inference:.2f} %"] for name, took in measured["seconds"].items()]
    rows.append(["inference by two models, at 50 ms an image", f"{inference:.2f}", "100.00 %"])
    title = f"{images} images of {boxes} boxes, {classes} classes"
    console.table(title, ["what", "seconds", "of inference"], rows, numeric=["seconds", "of inference"])
    if json is not None:
        write_whole(json, codec.dumps(measured, indent=2) + "\n")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks.task_measure")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        sys.exit(error.exit_code)
