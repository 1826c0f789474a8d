"""Tasks: what a model is judged by, as ``--task`` names it."""

import hashlib
import math
import os
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Literal, get_args

from calibrators.errors import TrtcalError

PathLike = str | os.PathLike[str]

TaskKind = Literal["auto", "classify", "detect", "segment", "keypoints", "outputs", "own"]

CONFIDENCE = 0.25
"""Of detections of the float model that count as what is there: what Ultralytics' predict shows by default."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is for, by which it is judged.

    Attributes:
        name: As ``--task`` takes it: "auto" (class scores where an output holds such, else outputs), "classify",
            "outputs", "detect", "segment" or "keypoints" (the adapter is proposed by the outputs' shapes), one of these
            with an adapter, such as "detect:yolov8"; or an adapter of one's own, FILE.toml or module.py:function.
        annotations: What is there: COCO JSON, a folder of YOLO label files, or a folder of PNG masks. None takes what
            the float model finds, and measures agreement with it.
        confidence: Of detections of the float model that count as what is there, and as lost, extra or moved.

    Raises:
        TrtcalError: There is no such task, or annotations or confidence mean nothing for it.
    """

    name: str = "auto"
    annotations: PathLike | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        self._require_types()
        first, _, _ = self.name.partition(":")
        kinds = [kind for kind in get_args(TaskKind) if kind != "own"]
        if self.kind == "own" and not (self.name.endswith(".toml") or ":" in self.name):
            meant = get_close_matches(first, kinds, 1)
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            raise TrtcalError(
                f"there is no task {self.name!r}{hint}: give one of {', '.join(kinds)}, one with an adapter such as "
                "detect:yolov8, or an adapter of your own: FILE.toml or module.py:function"
            )
        if self.kind in ("auto", "classify", "outputs") and self.adapter:
            raise TrtcalError(f"task {self.kind} has no adapters: leave out :{self.adapter}")
        if self.kind in ("auto", "classify", "outputs") and self.annotations is not None:
            raise TrtcalError(
                f"annotations are for detect, segment and keypoints, not for task {self.kind}: give --task detect, or "
                "the classes of images with --labels"
            )
        if not (math.isfinite(self.confidence) and 0 < self.confidence < 1):
            raise TrtcalError(f"the confidence must be above 0 and below 1, not {self.confidence:g}")
        if self.kind in ("detect", "segment", "keypoints") and self.adapter:
            from trtcal.tasks.proposal import adapter_named

            adapter_named(self.kind, self.adapter)

    @property
    def kind(self) -> TaskKind:
        """What is measured."""
        first, _, _ = self.name.partition(":")
        return next((kind for kind in get_args(TaskKind) if kind == first and kind != "own"), "own")

    @property
    def adapter(self) -> str:
        """The name of the adapter; empty where it is proposed by the outputs."""
        return self.name if self.kind == "own" else self.name.partition(":")[2]

    @property
    def digest(self) -> str:
        """SHA-256 of what is annotated and of an adapter of one's own, in hexadecimal; empty where there is neither."""
        own = self.adapter.rpartition(":")[0] if ":" in self.adapter else self.adapter
        named = [self.annotations, own if self.kind == "own" else None]
        files = [file for path in named if path is not None for file in _files(Path(path))]
        digest = hashlib.sha256()
        for file in files:
            digest.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest() if files else ""

    @property
    def finds(self) -> bool:
        """Whether there is something to be found in images: boxes, masks, points, classes of pixels, or one's own."""
        return self.kind not in ("auto", "classify", "outputs")

    def _require_types(self) -> None:
        if not isinstance(self.name, str):
            raise TrtcalError(f"a task goes by its name, such as 'detect', not by a {type(self.name).__name__}")
        if self.annotations is not None and not isinstance(self.annotations, (str, os.PathLike)):
            raise TrtcalError(f"annotations are the path of a file or folder, not a {type(self.annotations).__name__}")
        if isinstance(self.confidence, bool) or not isinstance(self.confidence, Real):
            raise TrtcalError(f"the confidence must be a number, not a {type(self.confidence).__name__}")


AUTO = Task()
"""Class scores where an output holds such, else outputs."""


def task_given(task: Task | None) -> Task:
    """What a caller gave as a task; `AUTO` for None.

    Raises:
        TrtcalError: It is something else, such as a name alone.
    """
    if task is None or isinstance(task, Task):
        return task or AUTO
    hint = f": give trtcal.Task({task!r})" if isinstance(task, str) else ": give a trtcal.Task"
    raise TrtcalError(f"a {type(task).__name__} is no task{hint}")


def _files(path: Path) -> list[Path]:
    """A file itself, or all files of a folder in order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] * path.is_file()
