"""Adapters of one's own as TOML: which channels of which outputs are boxes, scores, classes or points."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from calibrators.batches import Array
from calibrators.errors import ConfigError, ModelError
from trtcal.config.toml_file import check_keys, read_toml
from trtcal.tasks.adapter import Adapter, Kind, Part, Shapes, shapes_of
from trtcal.tasks.decoding.boxes import beyond_scores, candidates, corners_of_centres, sigmoid, softmax
from trtcal.tasks.found import ClassMap, Finding, Floats, Found
from trtcal.tasks.own.source import COMMON, Source, number_of, one_of
from trtcal.tasks.placement import Size

TABLES: Mapping[Kind, tuple[Sequence[str], Sequence[str]]] = {
    "detect": (("boxes", "scores"), ("objectness", "classes")),
    "keypoints": (("boxes", "scores", "points"), ("objectness", "classes")),
    "segment": ((), ("scores", "classes")),
}
"""By what is found: the tables that a file has, and those that it may have."""

FORMATS = ("corners", "centre", "corner-size")
UNITS = ("pixels", "normalized")
ACTIVATIONS = ("none", "sigmoid", "softmax")

WIDTHS: Mapping[str, int] = {"boxes": 4, "objectness": 1, "classes": 1}
"""Channels of what always has as many."""

KEYS: Mapping[str, Sequence[str]] = {
    "boxes": (*COMMON, "format", "unit"),
    "scores": (*COMMON, "activation", "background"),
    "objectness": (*COMMON, "activation"),
    "classes": COMMON,
    "points": (*COMMON, "unit", "values"),
}
"""Of each table."""


def declared(path: Path) -> Adapter:
    """The adapter that a file declares; see `trtcal.tasks.own` for its keys.

    Raises:
        ConfigError: It cannot be read, or says what means nothing; the message names the file and the key.
    """
    try:
        return _adapter(read_toml(path, error=ConfigError), path.name)
    except ConfigError as error:
        raise ConfigError(f"adapter {path}: {error}") from error


def _adapter(content: Mapping[str, Any], name: str) -> Adapter:
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = one_of(content, "kind", kinds, default="detect")
    needed, possible = TABLES[kind]
    check_keys(content, ["kind", "overlap", "names", *needed, *possible], error=ConfigError)
    missing = next((table for table in needed if table not in content), None)
    if missing:
        raise ConfigError(f"has no table [{missing}], which task {kind} needs; it says where {missing} are")
    sources = {table: _source(kind, table, content) for table in [*needed, *possible] if table in content}
    if kind == "segment" and len(sources) != 1:
        raise ConfigError("task segment needs one table: [scores], of which the largest is taken, or [classes]")
    overlap = content.get("overlap")
    return Adapter(
        name=name,
        kind=kind,
        decode=partial(_decode, name, kind, sources),
        misfit=partial(_misfit, kind, sources),
        summary="an adapter of one's own",
        parts=partial(_parts, sources),
        classes=partial(_classes, sources),
        overlap=None if overlap is None else number_of("overlap", overlap, 0.0, 1.0),
        names=_names(content.get("names", [])),
    )


def _source(kind: Kind, table: str, file: Mapping[str, Any]) -> Source:
    content = file[table]
    if not isinstance(content, Mapping):
        raise ConfigError(f"{table} is no table: write [{table}], and its keys on lines of their own")
    check_keys(content, KEYS[table], within=f"{table}.", error=ConfigError)
    settings: dict[str, Any] = {
        "width": 1 if table == "scores" and "classes" in file else WIDTHS.get(table, 0),
        "format": one_of(content, "format", FORMATS, default="corners", within=table),
        "unit": one_of(content, "unit", UNITS, default="pixels", within=table),
        "activation": one_of(content, "activation", ACTIVATIONS, default="none", within=table),
        "background": -1,
    }
    if "background" in content:
        settings["background"] = number_of(f"{table}.background", content["background"], 0, 2**20, whole=True)
    if table == "points":
        settings["values"] = number_of("points.values", content.get("values", 3), 2, 3, whole=True)
    plain = table in {"scores", "objectness", "classes"}
    bare = (3 if table == "classes" else 0) if kind == "segment" else 2 * plain
    return Source.of(table, content, settings, bare=bare)


def _names(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError('names are the classes\' names by number: a list of texts, such as ["cat", "dog"]')
    return tuple(names)


def _misfit(kind: Kind, sources: Mapping[str, Source], shapes: Shapes, size: Size) -> str:
    """The first of what does not fit: an output, an axis, channels, or how many rows there are."""
    problem = next((problem for source in sources.values() if (problem := source.misfit(shapes))), "")
    if problem or kind == "segment":
        return problem
    rows = {table: source.rows(shapes) for table, source in sources.items()}
    counts = {table: count for table, count in rows.items() if count is not None}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {table}" for table, count in counts.items())
        return f"as many rows of {' as of '.join(counts)}, not {told}: their axes or channels are others"
    return ""


def _decode(
    name: str, kind: Kind, sources: Mapping[str, Source], outputs: Mapping[str, Array], size: Size
) -> Sequence[Finding]:
    problem = _misfit(kind, sources, shapes_of(outputs), size)
    if problem:
        raise ModelError(f"the outputs do not fit the adapter {name}: {problem}")
    one = _map if kind == "segment" else _found
    values = {table: source.values(outputs) for table, source in sources.items()}
    samples = len(next(iter(values.values())))
    return [one(sources, {table: array[index] for table, array in values.items()}, size) for index in range(samples)]


def _map(sources: Mapping[str, Source], values: Mapping[str, Floats], size: Size) -> ClassMap:
    """The class of the largest score, or as it is told; -1 where it is not a number."""
    table, given = next(iter(values.items()))
    known = np.isfinite(given).all(axis=-1)
    classes = given.argmax(axis=-1) if table == "scores" else np.rint(np.where(known, given[..., 0], 0))
    return ClassMap(np.where(known, classes, -1).astype(np.int64))


def _found(sources: Mapping[str, Source], values: Mapping[str, Floats], size: Size) -> Found:
    flat = {table: array.reshape(-1, array.shape[-1]) for table, array in values.items()}
    boxes = _corners(flat["boxes"], sources["boxes"].settings, size)
    scores = _activated(flat["scores"], sources["scores"].settings)
    background = sources["scores"].settings["background"]
    if background >= 0:
        scores = np.delete(scores, background, axis=1)
    if "objectness" in flat:
        scores = scores * _activated(flat["objectness"], sources["objectness"].settings)
    told = np.rint(flat["classes"][:, 0]) if "classes" in flat else np.zeros(len(scores))
    usable = (told >= 0) & (told < np.inf) & np.isfinite(flat.get("points", boxes)).all(axis=1)
    scores = np.where(usable[:, None], scores, np.nan)
    if strange := beyond_scores(scores):
        raise ModelError(
            f'scores reach {strange}, and are from 0 to 1: scores.activation may be "sigmoid" or "softmax"'
        )
    numbers, classes = candidates(boxes, scores)
    return Found(
        boxes=boxes[numbers],
        scores=scores[numbers, classes],
        classes=told[numbers].astype(np.int64) if "classes" in flat else classes,
        points=_points(flat["points"][numbers], sources["points"].settings, size) if "points" in flat else None,
    )


def _activated(scores: Floats, settings: Mapping[str, Any]) -> Floats:
    activation = settings["activation"]
    return scores if activation == "none" else sigmoid(scores) if activation == "sigmoid" else softmax(scores)


def _corners(boxes: Floats, settings: Mapping[str, Any], size: Size) -> Floats:
    if settings["format"] == "centre":
        boxes = corners_of_centres(boxes)
    elif settings["format"] == "corner-size":
        boxes = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return boxes * _unit(settings, size, 2)


def _points(values: Floats, settings: Mapping[str, Any], size: Size) -> Floats:
    points = values.reshape(len(values), -1, settings["values"])
    certain = np.ones((*points.shape[:2], 1)) if points.shape[2] == 2 else points[..., 2:]
    return np.concatenate([points[..., :2] * _unit(settings, size, 1), certain], axis=-1)


def _unit(settings: Mapping[str, Any], size: Size, corners: int) -> Floats:
    return np.array([size[1], size[0]] * corners, np.float64) if settings["unit"] == "normalized" else np.ones(1)


def _parts(sources: Mapping[str, Source], shapes: Shapes) -> Sequence[Part]:
    return [part for source in sources.values() if (part := source.part(shapes)) is not None]


def _classes(sources: Mapping[str, Source], shapes: Shapes) -> int | None:
    if "classes" in sources:
        return None
    count = sources["scores"].count(shapes)
    return None if count is None else count - (sources["scores"].settings["background"] >= 0)
