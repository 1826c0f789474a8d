"""Scores of trials, kept in a JSON file: what was measured once is not measured again.

Whoever tries versions of a model keeps scores here under keys of their content, and may share one file with others::

    context = trial_context(simulation, images)
    with TrialCache("model.trials.json") as cache:
        key = trial_key(context, forms)
        score = cache.get(key)
        if score is None:
            score = trials.score(forms)
            cache.put(key, score)
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple
from types import TracebackType
from typing import Any

import numpy as np

from calibrators.cache.sidecar import installed_versions
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, one_line
from calibrators.files import locked, opened, require_writable, write_whole
from engines.graph.model import model_digest
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from trtcal.data.images import ImageLoader
from trtcal.measure.class_counts import ClassCounts
from trtcal.measure.distortion import Channels, Distortion, Unlike
from trtcal.measure.measures import Score, Share
from trtcal.tasks.adapter import Part
from trtcal.tasks.measuring.result import TaskResult
from trtcal.tasks.summary import Measured, Summary
from trtcal.tasks.task import Task

FORMAT = 1

VERSION = 5
"""Part of every key; raised when the same forms on the same images come to give other scores."""

EVERY = 1.0
"""Seconds between two writes of the file: all that a crash can cost. Ctrl-C costs nothing."""

PATIENCE = 60.0
"""Seconds to wait for another process, which holds the lock only while it merges and writes."""


class TrialCache(AbstractContextManager["TrialCache"]):
    """Scores by key; leaving its context, by an error or Ctrl-C too, writes what is not written yet.

    Args:
        path: The file, which need not be there yet; None keeps scores in memory only.

    Raises:
        CacheError: There is such a file, and it is none of ours, or damaged: it is not overwritten.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is not None:
            require_writable(path)
        self._path = path
        self._scores = {} if path is None else _read(path)
        self._written, self._unwritten = time.monotonic(), False

    def __len__(self) -> int:
        """The number of scores."""
        return len(self._scores)

    def __contains__(self, key: object) -> bool:
        return key in self._scores

    def get(self, key: str) -> Score | None:
        """The score of that key, or None where it was not measured yet."""
        return self._scores.get(key)

    def put(self, key: str, score: Score) -> None:
        """Keep a score.

        Raises:
            OutputError: The file cannot be written.
        """
        self._scores[key] = score
        self._unwritten = True
        if time.monotonic() - self._written >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the file, whole or not at all, if anything was kept since; what others wrote meanwhile is kept, too.

        Raises:
            CacheError: Another process has put something there that is none of ours.
            OutputError: It cannot be written or locked.
        """
        if self._path is not None and self._unwritten:
            with locked(self._path, patience=PATIENCE, otherwise="give --resume another file"):
                self._scores = {**_read(self._path), **self._scores}
                scores = {key: _as_dict(score) for key, score in sorted(self._scores.items())}
                content = {"trtcal_trials": FORMAT, "sha256": _sha256(scores), "scores": scores}
                write_whole(self._path, json.dumps(content, indent=1) + "\n")
            self._written, self._unwritten = time.monotonic(), False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.save()


def trial_context(
    simulation: Simulation, images: ImageLoader, *, labelled: bool = True, task: Task | None = None
) -> str:
    """What all keys of a model and a set of images have in common, as a SHA-256.

    It covers the prepared model (weights too), the images' content, names and preprocessing, their labels, and the
    version of ONNX Runtime. Where files lie, and how images are batched, is no part of it.

    Args:
        simulation: The model.
        images: What is measured on.
        labelled: As `trtcal.analysis.trials.Trials` has it.
        task: Likewise.
    """
    labels = images.labels if labelled else None
    parts = {
        "version": VERSION,
        "onnxruntime": installed_versions("onnxruntime"),
        "model": model_digest(simulation.floats),
        "images": images.digest,
        "preprocess": images.preprocess.to_dict(),
        "labels": None if labels is None else labels.tolist(),
        "task": None if task is None else [task.name, task.confidence, task.digest],
    }
    return _sha256(parts)


def trial_key(context: str, forms: Mapping[str, LayerForm]) -> str:
    """The key of a version of the model of a `trial_context`; layers in float do not count, nor does their order."""
    formed = sorted((name, form) for name, form in forms.items() if form != FLOAT)
    return _sha256([context, [[name, *_form(form)] for name, form in formed]])


def _form(form: LayerForm) -> Iterable[Any]:
    return _encoding(form.activation), _encoding(form.weight), form.half


def _encoding(encoding: Encoding | None) -> Any:
    if encoding is None:
        return None
    grid = encoding.grid
    levels = [grid.bits, grid.signed, grid.symmetric, grid.narrow, grid.power_of_two]
    numbers = [np.ascontiguousarray(part).tobytes() for part in (encoding.scale, encoding.zero_point)]
    digests = [hashlib.sha256(part).hexdigest() for part in numbers]
    return [*levels, encoding.axis, encoding.block_size, list(encoding.scale.shape), *digests]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: str | os.PathLike[str]) -> dict[str, Score]:
    try:
        with opened(path) as file:
            content = json.loads(file.read())
        if content["trtcal_trials"] != FORMAT:
            raise ValueError(f"its format is {content['trtcal_trials']}, not {FORMAT}")
        scores = {str(key): _score(value) for key, value in content["scores"].items()}
        if content["sha256"] != _sha256(content["scores"]):
            raise ValueError("its numbers are not those that were written")
        return scores
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror or error}; give another file of trials") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CacheError(
            f"{path} holds no trials that this trtcal reads ({type(error).__name__}: {one_line(error)}): "
            "delete it, or give another file"
        ) from error


def _as_dict(score: Score) -> dict[str, Any]:
    """For JSON; every number comes back as it was."""
    return {
        "samples": score.samples,
        "classes": score.classes,
        **{name: [share.hits, share.total] for name, share in _shares(score).items()},
        "lost": score.lost,
        "gained": score.gained,
        "distortions": {name: [_number(part.signal), _number(part.noise)] for name, part in score.distortions.items()},
        "unlike": {
            name: [part.samples, _number(part.signal), _number(part.power)] for name, part in score.unlike.items()
        },
        "channels": {name: [_channels(each) for each in parts] for name, parts in score.channels.items()},
        "integers": {name: [share.hits, share.total] for name, share in score.integers.items()},
        "uncounted": sorted(score.uncounted),
        "nonfinite": score.nonfinite,
        "parts": [[part.name, part.output, part.axis, part.first, part.last] for part in score.parts],
        "task": None if score.task is None else _summary(score.task),
        "by_class": {str(number): [*astuple(each)] for number, each in score.by_class.items()},
    }


def _channels(found: Channels) -> dict[str, Any]:
    return {
        "axis": found.axis,
        "count": found.count,
        "signal": [*map(_number, found.signal)],
        "noise": [*map(_number, found.noise)],
        "bounded": [*found.bounded],
    }


def _as_channels(value: Mapping[str, Any]) -> Channels:
    signal, noise = (tuple(map(float, value[name])) for name in ("signal", "noise"))
    bounded = tuple(map(bool, value["bounded"]))
    if not len(signal) == len(noise) == len(bounded):
        raise ValueError("channels have as many energies of each kind")
    return Channels(_count(value["axis"]), _count(value["count"]), signal, noise, bounded)


def _shares(score: Score) -> dict[str, Share]:
    return {"top1": score.top1, "top5": score.top5, "agreement": score.agreement}


def _number(value: float) -> float | str:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else str(value)


def _score(value: Mapping[str, Any]) -> Score:
    known = {name: _count(value[name]) for name in ("samples", "classes", "lost", "gained", "nonfinite")}
    shares = {name: _share(*map(_count, value[name])) for name in _shares(Score())}
    distortions = {str(name): Distortion(*map(float, parts)) for name, parts in value["distortions"].items()}
    unlike = {
        str(name): Unlike(_count(samples), float(signal), float(power))
        for name, (samples, signal, power) in value.get("unlike", {}).items()
    }
    left_out = frozenset(map(str, value.get("uncounted", ())))
    everything: dict[str, Any] = {
        **known,
        **shares,
        "distortions": distortions,
        "unlike": unlike,
        "channels": {str(name): tuple(map(_as_channels, parts)) for name, parts in value.get("channels", {}).items()},
        "integers": {str(name): _share(*map(_count, parts)) for name, parts in value.get("integers", {}).items()},
        "uncounted": left_out,
        "parts": tuple(Part(str(name), str(output), *map(_count, at)) for name, output, *at in value.get("parts", ())),
        "task": None if value.get("task") is None else _as_summary(value["task"]),
        "by_class": {
            _count(int(number)): ClassCounts(*map(_count, counts))
            for number, counts in value.get("by_class", {}).items()
        },
    }
    return Score(**everything)


def _summary(task: Measured) -> dict[str, Any]:
    """What is kept of what was found: the numbers, not the boxes."""
    low, high = task.drop_interval() if task.result.reference is not None else (0.0, 0.0)
    return {**asdict(task.result), "interval": [low, high]}


def _as_summary(value: Mapping[str, Any]) -> Summary:
    known = dict(value)
    low, high = map(float, known.pop("interval"))
    return Summary(TaskResult(**known), (low, high))


def _share(hits: int, total: int) -> Share:
    if hits > total:
        raise ValueError(f"{hits} of {total} is no share")
    return Share(hits, total)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no count")
    return value
