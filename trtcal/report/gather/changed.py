"""Images that changed most, as pictures; and which classes changed to which."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrators.batches import Batch
from calibrators.errors import DataError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.analysis.judging import Judged
from trtcal.data.images import ImageLoader
from trtcal.measure.groups import Singles, run_group
from trtcal.measure.measures import class_scores, classes_of
from trtcal.report.gather.images import encoded, planes_of, png_of
from trtcal.tasks.class_scores import class_output
from trtcal.tasks.found import Found
from trtcal.tasks.seeking import Seeking

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 320
"""Pixels of a picture along its longer side, at most."""

FLOAT, QUANTIZED = (0, 114, 178), (230, 159, 0)
"""Colours of the models' boxes: blue and orange, which the colour-blind tell apart (Okabe and Ito, 2008)."""

Models = tuple[Path, Path]
"""The float model, and the quantized one."""


def pictures(models: Models, images: ImageLoader, judged: Judged, names: Sequence[str]) -> list[dict[str, Any]]:
    """Images with what both models make of them: boxes drawn, or the classes told.

    Args:
        models: To run.
        images: That hold them.
        judged: What the model is for.
        names: Of the images, what changed most first.

    Returns:
        As `report.json` has it: "png" is a picture in base64, "told" what it shows.
    """
    found = {}
    for batch, outputs, sought in _runs(models, images, judged, names):
        found[batch.names[0]] = _picture(batch, outputs, sought, images, judged)
    return [{"name": name, **found[name]} for name in names if name in found]


def confusion(
    models: Models, images: ImageLoader, judged: Judged, class_names: Sequence[str] = ()
) -> dict[str, Any] | None:
    """How often the quantized model takes an image of one class of the float model's for another; None without classes.

    Args:
        models: To run.
        images: To run them on.
        judged: What the model is for.
        class_names: By number, where they are known.
    """
    changed: Counter[tuple[int, int]] = Counter()
    classes = 0
    for _, (floats, integers), _ in _runs(models, images, judged, None):
        held = class_output(floats)
        if held is None:
            return None
        classes = floats[held].shape[1]
        before, now = (int(classes_of(class_scores(each[held]))[0]) for each in (floats, integers))
        if before != now and min(before, now) >= 0:
            changed[before, now] += 1
    used = sorted({number for pair in changed for number in pair})
    called = class_names if len(class_names) == classes else [str(number) for number in range(classes)]
    place = {number: index for index, number in enumerate(used)}
    rows = [[place[one], place[other], count] for (one, other), count in changed.most_common()]
    return {"classes": [called[number] for number in used], "changed": rows}


def _runs(
    models: Models, images: ImageLoader, judged: Judged, names: Sequence[str] | None
) -> Iterator[tuple[Batch, list[dict[str, Any]], list[Any]]]:
    """Samples one by one, with both models' outputs, and what the task finds in them; some by name, or all."""
    with OnnxRuntimeSession(models[0]) as one, OnnxRuntimeSession(models[1]) as other:
        loader = images.for_model(one.inputs)
        if names is not None:
            if not set(names) & set(loader.names):
                return
            loader = loader.sampled(None, without=set(loader.names) - set(names) | _others(loader))
        seeking = Seeking(judged.task, loader, one.data_sized, class_names=one.class_names)
        for batch in Singles(loader, 1, labelled=judged.labelled):
            given = [
                run_group(session, batch, count=1, size=session.fixed_batch, sized=session.data_sized)
                for session in (one, other)
            ]
            outputs = [given[0], dict(zip(given[0], given[1].values(), strict=True))]
            yield batch, outputs, [seeking.sought(each, batch) for each in outputs]


def _others(loader: ImageLoader) -> set[str]:
    """Names of the source's samples that a loader did not choose."""
    return set(loader.sampled(None).names) - set(loader.names)


def _picture(
    batch: Batch, outputs: Sequence[Mapping[str, Any]], sought: Sequence[Any], images: ImageLoader, judged: Judged
) -> dict[str, str]:
    path = Path(images.source) / batch.names[0]
    if all(isinstance(each, Found) for each in sought) and path.is_file():
        confidence = judged.task.confidence
        counts = [int(np.count_nonzero(each.scores >= confidence)) for each in sought]
        told = f"blue: {counts[0]} of the float model; orange: {counts[1]} of the quantized one"
        return {"png": _with_boxes(path, sought, confidence), "told": told}
    array = next(iter(batch.values()))[0]
    png = encoded(png_of(planes_of(array, images.preprocess)))
    held = class_output(outputs[0])
    if held is None:
        return {"png": png, "told": "as the model gets it"}
    called = images.class_names
    numbers = [int(classes_of(class_scores(each[held]))[0]) for each in outputs]
    labels = [] if batch.labels is None else [int(batch.labels[0])]
    names = [called[each] if 0 <= each < len(called) else str(each) for each in (*numbers, *labels)]
    told = f"float: {names[0]}, quantized: {names[1]}"
    return {"png": png, "told": f"{told}, it is {names[2]}" if labels else told}


def _with_boxes(path: Path, sought: Sequence[Found], confidence: float) -> str:
    """An image with both models' boxes, made smaller."""
    from PIL import ImageDraw

    picture = _opened(path)
    scale = min(1.0, SIDE / max(picture.size))
    shown = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(shown)
    for found, colour, width in zip(sought, (FLOAT, QUANTIZED), (4, 2), strict=True):
        for box in found.boxes[found.scores >= confidence]:
            left, top, right, bottom = (float(each) * scale for each in box)
            draw.rectangle(
                (min(left, right), min(top, bottom), max(left, right), max(top, bottom)), None, colour, width
            )
    data = io.BytesIO()
    shown.save(data, "PNG", optimize=True)
    return encoded(data.getvalue())


def _opened(path: Path) -> "Image":
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
            return (turned or picture).convert("RGB")
    except OSError as error:
        raise DataError(f"{path} cannot be read again for the report: {error}") from error
