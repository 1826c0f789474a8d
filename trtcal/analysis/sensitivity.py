"""Which layers quantization hurts: what each does alone in INT8, and what it is without each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from calibrators.errors import DataError
from calibrators.tabular import Row, Tabular
from engines.simulation.simulated_model import Layer
from trtcal.analysis.trials import Trials
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.measure.chance import (
    Criterion,
    beyond_chance,
    drop_interval,
    drop_of,
    interval_of,
    lost,
    measure_named,
    sqnr_of,
)
from trtcal.measure.measures import Score, Share
from trtcal.measure.report import score_as_dict

Part = Literal["alone", "activation", "weight", "rest"]
"""A trial of a layer: only it in INT8, only its input, only its weight; or all layers but it."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What quantization of one layer does to a model's outputs.

    Attributes:
        layer: The layer.
        rank: 1 for the layer that does most harm alone; layers that do as much share one.
        rest_rank: 1 for the layer without which all others do best.
        alone: The score where only this layer is in INT8.
        activation: Where only its input is.
        weight: Where only its weight is; None for a skip input, which has none.
        rest: Where all layers but this one are.
        predicted: Which of these were not run: they are predicted from others (`trtcal.analysis.ranking`).
    """

    layer: Layer
    rank: int
    rest_rank: int
    alone: Score
    activation: Score
    weight: Score | None
    rest: Score
    predicted: frozenset[Part] = frozenset()

    def to_row(self) -> Row:
        """Cells of a table: the score where it is alone in INT8, and what tells of the three other trials."""
        rest = self.rest.to_row()
        return {
            "layer": self.layer.name,
            "operator": self.layer.type,
            "rank": self.rank,
            **self.alone.to_row(),
            "only_input_sqnr_db": self.activation.sqnr,
            "only_weight_sqnr_db": None if self.weight is None else self.weight.sqnr,
            "all_but_drop": rest["drop"],
            "all_but_agreement": rest["agreement"],
            "all_but_sqnr_db": rest["sqnr_db"],
            "all_but_rank": self.rest_rank,
            "few_samples": self.rest.samples,
            "weight_predicted": "weight" in self.predicted,
            "all_but_predicted": "rest" in self.predicted,
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores = {"alone": self.alone, "activation": self.activation, "weight": self.weight, "rest": self.rest}
        return {
            "rank": self.rank,
            "rest_rank": self.rest_rank,
            "layer": self.layer.name,
            "type": self.layer.type,
            "input": self.layer.activation,
            "output": self.layer.output,
            "weight_name": self.layer.weight,
            "shape": list(self.layer.shape),
            **{
                name: None if each is None else {**measured(each), "predicted": name in self.predicted}
                for name, each in scores.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Sensitivity(Tabular):
    """A model's layers, the most harmful first.

    Attributes:
        layers: Those that can be quantized.
        criterion: What they are ranked by, before SQNR.
        reference: The float model's score.
        whole: Where every layer is in INT8.
        left: The label of each layer that stays in float -> why.
        known: How many trials were known before.
        tried: How many were run.
    """

    layers: tuple[LayerSensitivity, ...]
    criterion: Criterion
    reference: Score
    whole: Score
    left: Mapping[str, str]
    known: int = 0
    tried: int = 0

    def plot(self) -> Chart:
        """What each layer alone in INT8 leaves of the outputs, the most harmful first."""
        return Chart("Sensitivity", specs.sensitivity(self.to_dict()))

    def rows(self) -> list[Row]:
        """A row a layer, the most harmful first."""
        return [each.to_row() for each in self.layers]

    @property
    def by_chance(self) -> int:
        """How many layers have lost top-1 (or agreement) alone, and no more than may be chance; 0 by SQNR."""
        return sum(
            kept(each.alone, self.criterion) < 0 and not beyond_chance(each.alone, self.criterion)
            for each in self.layers
        )

    @property
    def close(self) -> int:
        """How many layers lie within the 95 % interval of the first one's, itself left out; 0 by SQNR."""
        if self.criterion == "SQNR" or not self.layers:
            return 0
        if self.criterion == "task":
            low, _ = interval_of(self.layers[0].alone, self.criterion)
            return sum(drop_of(each.alone, self.criterion) >= low for each in self.layers[1:])
        _, high = _share(self.layers[0].alone, self.criterion).interval()
        return sum(_share(each.alone, self.criterion).percent <= high for each in self.layers[1:])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "criterion": measure_named(self.criterion, self.reference),
            "reference": measured(self.reference),
            "whole": measured(self.whole),
            "layers": [each.to_dict() for each in self.layers],
            "left_float": dict(self.left),
        }


def criterion_named(name: str | None, trials: Trials) -> Criterion:
    """The criterion of that name, as far as the model and the images have it; theirs for None.

    Raises:
        DataError: There is none of that name, or nothing to measure it by.
    """
    if name is None:
        return trials.criterion
    criteria: tuple[Criterion, ...] = get_args(Criterion)
    found = next((each for each in criteria if each == name), None)
    if found is None:
        raise DataError(f"layers are not ranked by {name!r}: choose among top-1, agreement, task and SQNR")
    if found == "task" and trials.criterion != "task":
        raise DataError("the task finds nothing in images to rank layers by: give --task, such as --task detect")
    if found == "top-1" and not trials.reference.top1.total:
        raise DataError("the images have no labels, or the model no class scores, for top-1: rank by another criterion")
    if found == "agreement" and not trials.reference.classes:
        raise DataError("no output of the model holds class scores, which could agree: rank by SQNR")
    return found


def measured(score: Score) -> dict[str, Any]:
    """A score for JSON, with the interval of its drop."""
    found = score_as_dict("", score, is_reference=not (score.distortions or score.unlike))
    del found["name"]
    if found["drop"] is not None:
        found["drop"] |= {"interval95": drop_interval(score), "beyond_chance": beyond_chance(score)}
    if score.task is not None and score.task.result.drop is not None:
        found["task"] |= {
            "interval95": interval_of(score, "task"),
            "beyond_chance": beyond_chance(score, "task"),
        }
    return found


def _share(score: Score, criterion: Criterion) -> Share:
    return score.top1 if criterion == "top-1" else score.agreement


def harm(score: Score, criterion: Criterion) -> tuple[float, float]:
    """What a score is ranked by, the worst first."""
    return kept(score, criterion) if beyond_chance(score, criterion) else 0, sqnr_of(score)


def kept(score: Score, criterion: Criterion) -> float:
    """Images that a model gains against the float model, less those that it loses; or points of the task's measure."""
    if criterion == "task":
        return -drop_of(score, criterion)
    return {"top-1": -lost(score), "agreement": score.agreement.hits - score.agreement.total, "SQNR": 0}[criterion]
