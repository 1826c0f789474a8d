"""Range methods side by side: all derived from the same statistics, ranked on images that were not calibrated on."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import onnx

from calibrators.cache.text import CalibrationCache
from calibrators.errors import ModelError
from calibrators.methods.best import best_method
from calibrators.methods.names import canonical
from calibrators.ranges import METHODS, calibrate, method_named, range_of
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.graph.model import ModelSource, files_of
from engines.qdq import write as qdq
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.data.images import ImageLoader
from trtcal.measure.accuracy import evaluate
from trtcal.measure.chance import Criterion, in_tiers
from trtcal.measure.comparable import counted_alike
from trtcal.measure.groups import Singles
from trtcal.measure.measures import Score
from trtcal.measure.report import score_as_dict
from trtcal.pipeline import require_same_model
from trtcal.tasks.task import Task

REFERENCE = "FP32"
"""What the float model is called beside the methods."""

AT_ONCE = 2**31
"""Bytes of float models whose INT8 versions are open at once: each takes about half of its own."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A range method, and what the model in INT8 does with its ranges.

    Attributes:
        method: Its name.
        rank: 1 for the best; methods whose difference may be chance share one, and SQNR orders them.
        cache: Its calibration cache.
        seconds: That deriving every range took.
        score: Of the Q/DQ model in ONNX Runtime, against the float model.
        same_as: A method before it whose ranges are the very same; None where there is none.
        left_float: What stays in float -> why, as `engines.qdq.write.QuantizedModel` has it.
        picks: Of `best`: for how many tensors it took each method.
    """

    method: str
    rank: int
    cache: CalibrationCache
    seconds: float
    score: Score
    same_as: str | None = None
    left_float: Mapping[str, str] = field(default_factory=dict)
    picks: Mapping[str, int] = field(default_factory=dict)

    def to_row(self) -> Row:
        """Cells of a table."""
        told: Row = {"seconds": self.seconds, "same_as": self.same_as}
        return {"method": self.method, "rank": self.rank, **self.score.to_row(), **told}

    def to_dict(self) -> dict[str, Any]:
        """For JSON; as `Score`'s, with rank, method and time."""
        measured = score_as_dict(self.method, self.score, is_reference=False)
        del measured["name"]
        return {
            "rank": self.rank,
            "method": self.method,
            "milliseconds": round(1000 * self.seconds, 3),
            "same_as": self.same_as,
            "picks": dict(self.picks),
            "left_float": dict(self.left_float),
            **measured,
        }


@dataclass(frozen=True, slots=True)
class Comparison(Tabular):
    """Range methods, best first.

    Attributes:
        ranking: The methods.
        criterion: What they are ranked by, before SQNR: the task's measure; or top-1 where there are labels, else
            agreement with the float model's class; SQNR alone where no output holds class scores.
        reference: The float model's score.
        notes: What a user should know of the task, one line each.
    """

    ranking: tuple[Ranked, ...]
    criterion: Criterion
    reference: Score
    notes: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """The float model, and a row a method."""
        floats: Row = {"method": REFERENCE, "rank": None, **self.reference.to_row(), "seconds": None, "same_as": None}
        return [floats, *(each.to_row() for each in self.ranking)]

    @property
    def winner(self) -> Ranked:
        """The best method; of those that are tied, the one of the highest SQNR."""
        return self.ranking[0]

    @property
    def tied(self) -> tuple[Ranked, ...]:
        """Methods whose difference from the winner may be chance; those of the very same ranges are left out."""
        return tuple(each for each in self.ranking[1:] if each.rank == self.winner.rank and each.same_as is None)


def compare(
    model: ModelSource,
    statistics: Statistics,
    test: ImageLoader,
    *,
    methods: Sequence[str] | None = None,
    labelled: bool = True,
    task: Task | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Rank range methods by what the model in INT8 does on images that were not calibrated on.

    Each method's ranges are derived from the statistics and written into the model as Q/DQ nodes, which run in ONNX
    Runtime beside the float model. Samples run one at a time (a model of fixed batch size n: n at a time), so that the
    result does not depend on how they were batched. Methods whose difference in top-1 (or agreement) may be chance are
    tied (`trtcal.measure.chance.in_tiers`): SQNR orders them.

    Args:
        model: The float model, as a path or in memory.
        statistics: Of the model, from `collect`.
        test: The images.
        methods: Names as `calibrators.ranges.method_named` takes them; None takes all of `METHODS`.
        labelled: Whether the images' labels count, where they have some.
        task: What the model is for; None for `Task()`.
        progress: Is told the number of units done since the last call, of `units` in all.

    Raises:
        CacheMismatchError: The statistics are another model's.
        ModelError: The model has no float output, by which methods could be told apart.
        RangeError: A method is unknown, or there are no statistics.
        TrtcalError: As `engines.qdq.write.quantize` and `trtcal.measure.accuracy.evaluate` raise it.
    """
    names = named(methods)
    require_same_model(statistics, model)
    derived = {name: _derived(statistics, name) for name in names}
    same_as = _same(derived)
    apart = [name for name in names if same_as[name] is None]
    scores: dict[str, Score] = {}
    left: dict[str, Mapping[str, str]] = {}
    with OnnxRuntimeSession(model) as reference:
        if not any(spec.dtype.kind == "f" for spec in reference.outputs):
            raise ModelError(
                "the model has no float output, by which range methods could be told apart: give it with its scores"
            )
        samples = Singles(test.for_model(reference.inputs), reference.fixed_batch or 1, labelled=labelled)
        for start in range(0, len(apart), at_once := _at_once(model)):
            with ExitStack() as stack:
                sessions = {REFERENCE: reference}
                for name in apart[start : start + at_once]:
                    quantized = qdq.quantize(model, derived[name].cache)
                    sessions[name] = stack.enter_context(OnnxRuntimeSession(quantized.model))
                    left[name] = quantized.left_float
                report = evaluate(
                    sessions, samples, reference=REFERENCE, class_names=test.class_names, task=task, progress=progress
                )
            scores |= report.scores
    scores = counted_alike(scores, reference.data_sized)
    criterion = report.criterion
    places = {name: same_as[name] or name for name in names}
    tiers = in_tiers({name: scores[places[name]] for name in names}, criterion)
    ranking = tuple(
        Ranked(
            method=name,
            rank=1 + sum(map(len, tiers[:place])),
            cache=derived[name].cache,
            seconds=derived[name].seconds,
            score=scores[places[name]],
            same_as=same_as[name],
            left_float=left[places[name]],
            picks=derived[name].picks,
        )
        for place, tier in enumerate(tiers)
        for name in tier
    )
    return Comparison(ranking, criterion, scores[REFERENCE], report.notes)


def units(model: ModelSource, test: ImageLoader, methods: Sequence[str]) -> int:
    """How often `compare` runs a sample at most, for a progress bar."""
    return test.count * math.ceil(len(methods) / _at_once(model))


def named(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The names of methods, each once; all there are for None.

    Raises:
        RangeError: One is unknown, or there are none.
    """
    names = tuple(dict.fromkeys(METHODS if methods is None else map(canonical, methods)))
    for name in names or ("",):
        method_named(name)
    return names


@dataclass(frozen=True, slots=True)
class _Derived:
    """A method's ranges, the seconds that they took, and what `best` picked."""

    cache: CalibrationCache
    seconds: float
    picks: Mapping[str, int]

    @property
    def ranges(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """All that Q/DQ nodes are written from."""
        return dict(self.cache), {} if self.cache.sidecar is None else dict(self.cache.sidecar.explicit)


def _derived(statistics: Statistics, method: str) -> _Derived:
    for first in islice(statistics.values(), 1):  # what is compiled or loaded once does not count as the method's time
        range_of(first, method)
    began = time.perf_counter()
    cache = calibrate(statistics, method)
    return _Derived(cache, time.perf_counter() - began, picks(statistics, method))


def _same(derived: Mapping[str, _Derived]) -> dict[str, str | None]:
    """By method, the first one before it that has the very same ranges."""
    found: dict[str, str | None] = {}
    for name, each in derived.items():
        found[name] = next((other for other in found if derived[other].ranges == each.ranges), None)
    return found


def _at_once(model: ModelSource) -> int:
    """How many INT8 versions of a model are open at once."""
    size = (
        model.ByteSize()
        if isinstance(model, onnx.ModelProto)
        else sum(file.stat().st_size for file in files_of(model) if file.exists())
    )
    return max(1, AT_ONCE // max(size, 1))


def picks(statistics: Statistics, method: str) -> Mapping[str, int]:
    """How often `best` chooses each method, the most frequent one first; nothing for another method."""
    chosen = (best_method(each) for each in statistics.values()) if method == "best" else ()
    return dict(Counter(chosen).most_common())
