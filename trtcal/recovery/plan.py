"""Recovery: what brings accuracy back that quantization lost, each step measured, and left out where it hurts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import onnx

from calibrators.cache.text import CalibrationCache
from calibrators.errors import TrtcalError
from calibrators.methods.names import DEFAULT
from calibrators.ranges import calibrate
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.build.layer_plan import method_of
from engines.graph.model import ModelSource, loaded
from engines.qdq import write as qdq
from engines.qdq.cache_scales import foreign
from engines.qdq.placement import SMALL
from engines.qdq.weights import WeightOptions
from trtcal.analysis.step import Step, unshown
from trtcal.data.split import Parts
from trtcal.measure.chance import Criterion, measure_named
from trtcal.measure.measures import Score
from trtcal.measure.report import score_as_dict
from trtcal.recovery.steps import STEPS, Attempt, Ranges, StepName, Steps
from trtcal.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Recovered(Tabular):
    """A float model that quantizes better, and how.

    Attributes:
        model: The float model; its layers and tensors keep their names.
        cache: Its scales: the one given, or a new one where the activations changed.
        caches: By layer, of those that want ranges of their own.
        layers: By layer name, how its weights are quantized, or why it stays in float.
        quantized: The model with Q/DQ nodes.
        attempts: What was tried, in order.
        reference: The float model's score before anything was done.
        plain: The quantized model's before.
        score: The quantized model's now.
        criterion: What decided, before SQNR.
    """

    model: onnx.ModelProto
    cache: CalibrationCache
    caches: Mapping[str, CalibrationCache]
    layers: Mapping[str, qdq.LayerChoice]
    quantized: qdq.QuantizedModel
    attempts: tuple[Attempt, ...]
    reference: Score
    plain: Score
    score: Score
    criterion: Criterion

    def rows(self) -> list[Row]:
        """The float model, the quantized one, and a row a step that was tried."""
        nothing: Row = {"variant": "", "kept": None, "seconds": None, "note": ""}
        before = [("float", self.reference), ("quantized", self.plain)]
        return [
            *({"step": name, **nothing, **score.to_row()} for name, score in before),
            *(each.to_row() for each in self.attempts),
        ]

    @property
    def kept(self) -> tuple[StepName, ...]:
        """Steps that were."""
        return tuple(each.name for each in self.attempts if each.kept)

    def to_dict(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        return {
            "criterion": measure_named(self.criterion, self.reference),
            "float": score_as_dict("float", self.reference, is_reference=True),
            "plain": score_as_dict("plain", self.plain, is_reference=False),
            "recovered": score_as_dict("recovered", self.score, is_reference=False),
            "kept": list(self.kept),
            "steps": [each.to_dict() for each in self.attempts],
        }


def recover(
    model: ModelSource,
    cache: CalibrationCache,
    parts: Parts,
    *,
    steps: Sequence[str] = STEPS,
    weights: WeightOptions | None = None,
    layers: Mapping[str, qdq.LayerChoice] | None = None,
    caches: Mapping[str, CalibrationCache] | None = None,
    ranges: Ranges | None = None,
    labelled: bool = True,
    task: Task | None = None,
    seed: int = 0,
    step: Step | None = None,
) -> Recovered:
    """Take the steps of recovery, each kept if the quantized model then does better on images that none rests on.

    Better is more top-1 (or agreement, without labels), by more than chance; where the difference may be chance, it is
    more SQNR against the float model (`trtcal.measure.chance.better`).

    1. Equalization (`engines.recovery.equalization`). It changes activations, so ranges are found anew. Where a Clip
       such as ReLU6 stands between layers, all three ways to treat it are measured.
    2. Rounding in closed form (`engines.recovery.closed_form`).
    3. Bias correction (`engines.recovery.bias_correction`).
    4. AdaRound (`engines.recovery.adaround`) begins with the weights before their rounding and the biases before their
       correction, and makes its own: it is kept where it does better than both.

    Args:
        model: An FP32 model, as a path or in memory.
        cache: Its scales.
        parts: Images to learn from, and others to measure on.
        steps: Some of `STEPS`, in any order.
        weights: How weights are quantized that `layers` does not name; None as TensorRT has them.
        layers: As `engines.qdq.write.quantize` takes them.
        caches: Likewise.
        ranges: How they are found anew; None takes the cache's method for all layers, or entropy where it has none.
        labelled: Whether the labels of the images to measure on count, where they have some.
        task: What the model is for; None for `Task()`.
        seed: Of what is looked at in rounding.
        step: Shows progress.

    Raises:
        DataError: The images do not fit the model.
        ModelError: The model does not run, or as `engines.qdq.write.quantize`.
        TrtcalError: There is no such step.
    """
    wanted = named_steps(steps)
    run = Steps(
        model,
        parts,
        ranges or partial(_by_method_of, cache),
        labelled=labelled,
        task=task,
        seed=seed,
        step=step or unshown,
    )
    choices: dict[str, qdq.LayerChoice] = {
        layer.name: SMALL if layer.small else weights or WeightOptions()
        for layer in run.simulation.layers
        if layer.weight is not None
    }
    plain = run.state(run.simulation.floats, cache, caches or {}, {**choices, **(layers or {})})
    state, unrounded, attempts = plain, plain, list[Attempt]()
    for name in wanted:
        if name == "equalization":
            found = list(run.equalization(state))
        elif name == "rounding":
            found = [run.rounding(unrounded, state)]
        elif name == "bias-correction":
            found = [run.correction(state)]
        else:
            found = [run.adaround(unrounded, state)]
        best = run.best(state, [made for _, made in found if made is not None])
        attempts += [replace(attempt, kept=best is made and best is not state) for attempt, made in found]
        state, unrounded = best, best if name == "equalization" else unrounded
    # By the model as it is given: batch normalization has names, too.
    others = foreign(state.cache, loaded(model).graph)
    quantized = replace(
        state.quantized,
        internal=tuple(name for name, internal in others.items() if internal),
        unused=tuple(name for name, internal in others.items() if not internal),
    )
    return Recovered(
        state.model,
        state.cache,
        state.caches,
        state.layers,
        quantized,
        tuple(attempts),
        run.trials.reference,
        plain.score,
        state.score,
        run.trials.criterion,
    )


def named_steps(steps: str | Sequence[str]) -> tuple[StepName, ...]:
    """Steps by name, each once, in the order in which they are taken; "all" stands for all.

    Args:
        steps: Names, or one text that separates them by commas.

    Raises:
        TrtcalError: There is none of a name, or no name.
    """
    names = [name.strip() for name in steps.split(",")] if isinstance(steps, str) else list(steps)
    for name in names or [""]:
        if name != "all" and name not in STEPS:
            raise TrtcalError(f"there is no step {name!r} of recovery: choose among {', '.join(STEPS)}, or all")
    return tuple(name for name in STEPS if name in names or "all" in names)


def _by_method_of(
    cache: CalibrationCache, statistics: Statistics
) -> tuple[CalibrationCache, dict[str, CalibrationCache]]:
    return calibrate(statistics, method_of(cache) or DEFAULT), {}
