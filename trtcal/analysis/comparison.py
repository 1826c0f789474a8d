"""Range methods side by side: all derived from the same statistics, ranked on images that were not calibrated on."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from calibrators.cache.text import CalibrationCache
from calibrators.methods.best import best_method
from calibrators.methods.names import canonical
from calibrators.ranges import METHODS, calibrate, method_named, range_of
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.graph.model import ModelSource
from trtcal.analysis.judged_methods import REFERENCE, at_once, first_alike, judged_caches
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.data.images import ImageLoader
from trtcal.measure.chance import Criterion, in_tiers
from trtcal.measure.measures import Score
from trtcal.measure.report import score_as_dict
from trtcal.pipeline import require_same_model
from trtcal.tasks.task import Task


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

    def plot(self) -> Chart:
        """What each method leaves of the worst output, in dB, the best first."""
        rows = [
            {"method": each.method, "sqnr": each.score.sqnr} for each in self.ranking if math.isfinite(each.score.sqnr)
        ]
        return Chart("Range methods", specs.methods(rows))

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
    Runtime beside the float model, as `trtcal.analysis.judged_methods.judged_caches` has it. Methods whose difference
    in top-1 (or agreement) may be chance are tied (`trtcal.measure.chance.in_tiers`): SQNR orders them.

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
        TrtcalError: As `judged_caches` raises it.
    """
    names = named(methods)
    require_same_model(statistics, model)
    derived = {name: _derived(statistics, name) for name in names}
    same_as = first_alike({name: each.cache for name, each in derived.items()})
    apart = {name: derived[name].cache for name in names if same_as[name] is None}
    judged = judged_caches(model, apart, test, labelled=labelled, task=task, progress=progress)
    scores, left = judged.scores, judged.left_float
    criterion = judged.report.criterion
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
    return Comparison(ranking, criterion, scores[REFERENCE], judged.report.notes)


def units(model: ModelSource, test: ImageLoader, methods: Sequence[str]) -> int:
    """How often `compare` runs a sample at most, for a progress bar."""
    return test.count * math.ceil(len(methods) / at_once(model))


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


def _derived(statistics: Statistics, method: str) -> _Derived:
    for first in islice(statistics.values(), 1):  # what is compiled or loaded once does not count as the method's time
        range_of(first, method)
    began = time.perf_counter()
    cache = calibrate(statistics, method)
    return _Derived(cache, time.perf_counter() - began, picks(statistics, method))


def picks(statistics: Statistics, method: str) -> Mapping[str, int]:
    """How often `best` chooses each method, the most frequent one first; nothing for another method."""
    chosen = (best_method(each) for each in statistics.values()) if method == "best" else ()
    return dict(Counter(chosen).most_common())
