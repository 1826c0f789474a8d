"""The steps of recovery, one at a time: taken, measured, and told."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import onnx

from calibrators.batches import Batch
from calibrators.cache.text import CalibrationCache
from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row
from engines.collection.collect import collect
from engines.graph.model import ModelSource, input_specs
from engines.qdq import write as qdq
from engines.qdq.weights import WeightOptions
from engines.recovery import adaround, bias_correction, closed_form, equalization
from engines.recovery.equalization import Clips, Equalized
from engines.recovery.rounded import RoundedModel
from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.step import Step
from trtcal.analysis.trials import MOST_BYTES, Trials
from trtcal.data.split import Parts
from trtcal.measure.chance import better, in_tiers
from trtcal.measure.groups import Singles
from trtcal.measure.measures import Score
from trtcal.measure.report import score_as_dict
from trtcal.tasks.task import Task

StepName = Literal["equalization", "rounding", "bias-correction", "adaround"]
STEPS: tuple[StepName, ...] = get_args(StepName)
"""In the order in which they are taken: ranges first, then what is left of errors."""

GROUP = 16
"""Samples that run together where the model leaves that open, with all layers' outputs at hand."""

SAME = 60.0
"""dB of SQNR from which on two float models compute one function: float32 has more than twice as many."""

Ranges = Callable[[Statistics], tuple[CalibrationCache, Mapping[str, CalibrationCache]]]
"""From statistics to a cache, and the caches of layers that want another, by name."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step, or one of its variants, as it was measured.

    Attributes:
        name: The step's.
        variant: What tells it from others of the step; "" where there are none.
        before: The score of the quantized model without it.
        after: With it; None where it could not be taken.
        kept: Whether it was.
        seconds: That it took, measuring included.
        note: What it did, or why it was not taken.
        details: For JSON.
    """

    name: StepName
    variant: str
    before: Score
    after: Score | None
    kept: bool
    seconds: float
    note: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> Row:
        """Cells of a table; no scores where it could not be taken."""
        score = dict.fromkeys(Score().to_row()) if self.after is None else self.after.to_row()
        told: Row = {"variant": self.variant, "kept": self.kept, "seconds": self.seconds, "note": self.note}
        return {"step": self.name, **told, **score}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "step": self.name,
            "variant": self.variant or None,
            "kept": self.kept,
            "seconds": round(self.seconds, 3),
            "note": self.note,
            "before": score_as_dict("before", self.before, is_reference=False),
            "after": None if self.after is None else score_as_dict("after", self.after, is_reference=False),
            **self.details,
        }


@dataclass(frozen=True, slots=True)
class State:
    """A float model, how it is quantized, and how it then does."""

    model: onnx.ModelProto
    cache: CalibrationCache
    caches: Mapping[str, CalibrationCache]
    layers: Mapping[str, qdq.LayerChoice]
    quantized: qdq.QuantizedModel
    score: Score

    def forms(self) -> dict[str, LayerForm]:
        """What its quantized layers go through."""
        simulation, found = Simulation(self.model), dict[str, LayerForm]()
        for layer in simulation.layers:
            scale, choice = self.quantized.layer_scales.get(layer.name), self.layers.get(layer.name)
            if scale is None:
                continue
            weight = choice if isinstance(choice, Encoding) else None
            if isinstance(choice, WeightOptions):
                weight = simulation.weight_encoding(layer.name, choice)
            activation = Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32))
            found[layer.name] = LayerForm(activation, weight if layer.weight is not None else None)
        return found


class Held:
    """Samples, kept in memory where they fit: the same each time."""

    def __init__(self, samples: Iterable[Batch]) -> None:
        self._samples = samples
        self._held: list[Batch] | None = None
        self._fits = True

    def __iter__(self) -> Iterator[Batch]:
        if self._held is not None:
            yield from self._held
            return
        kept, size = list[Batch](), 0
        for batch in self._samples:
            size += sum(array.nbytes for array in batch.values())
            self._fits = self._fits and size <= MOST_BYTES
            if self._fits:
                kept.append(batch)
            yield batch
        self._held = kept if self._fits else None


Tried = tuple[Attempt, State | None]


class Steps:
    """What all steps rest on."""

    def __init__(
        self,
        model: ModelSource,
        parts: Parts,
        ranges: Ranges,
        *,
        labelled: bool,
        task: Task | None,
        seed: int,
        step: Step,
    ) -> None:
        self.simulation = Simulation(model)
        self.ranges, self.seed, self.step = ranges, seed, step
        with step("Running the float model", parts.test.count) as self._told:
            self.trials = Trials(self.simulation, parts.test, labelled=labelled, task=task, progress=self._advance)
        specs = input_specs(self.simulation.floats)
        fixed = max((spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)), default=None)
        self.calibration = parts.calibration.for_model(specs)
        self.samples = Held(Singles(self.calibration, fixed or GROUP, labelled=False))

    def _advance(self, done: int) -> None:
        self._told(done)

    def best(self, before: State, found: Sequence[State]) -> State:
        """The best of what a step led to; what was before it, where none is better."""
        improved = {place: each for place, each in enumerate(found) if self.is_better(each.score, before.score)}
        tiers = in_tiers({place: each.score for place, each in improved.items()}, self.trials.criterion)
        return improved[tiers[0][0]] if tiers else before

    def is_better(self, after: Score, before: Score) -> bool:
        """Whether a step is kept that leads from one score to the other."""
        return better(after, before, self.trials.criterion)

    def state(
        self,
        model: onnx.ModelProto,
        cache: CalibrationCache,
        caches: Mapping[str, CalibrationCache],
        layers: Mapping[str, qdq.LayerChoice],
    ) -> State:
        """Quantize a model and measure it."""
        quantized = qdq.quantize(model, cache, layers=layers, caches=caches)
        return State(model, cache, caches, layers, quantized, self.measured(quantized.model))

    def measured(self, model: onnx.ModelProto) -> Score:
        """How a model does on the images to measure on."""
        with self.step("Measuring", self.trials.samples) as self._told:
            return self.trials.score_of(model)

    def equalization(self, before: State) -> Iterator[Tried]:
        """With each way to treat Clips between layers, if there are any."""
        plain = equalization.equalized(before.model)
        relaxed = equalization.equalized(before.model, clips="relu")
        variants: list[Clips] = ["stop"] if plain.sets or not relaxed.clips else []
        for variant in [*variants, *(("relu", "channel") if relaxed.clips else ())]:
            name = "" if not relaxed.clips else _CLIPS[variant]
            yield self._tried("equalization", name, before, partial(self._equalized, before, variant))

    def _equalized(self, before: State, clips: Clips) -> tuple[State | None, str, dict[str, Any]]:
        made = equalization.equalized(before.model, clips=clips)
        given = {name for name, choice in before.layers.items() if isinstance(choice, Encoding)}
        if fixed := given & {name for names in made.sets for name in names}:
            return None, f"the weight encoding of {min(fixed)} is given, and would not fit other weights", {}
        details: dict[str, Any] = {
            "sets": [list(names) for names in made.sets],
            "skipped": dict(made.skipped),
            "clips": made.clips,
        }
        if not made.sets:
            why = next(iter(made.skipped.items()), None)
            return None, "no two layers to equalize" + (f": {why[0]}, for {why[1]}" if why else ""), details
        change = self.measured(made.model).sqnr
        details["float_sqnr_db"] = change if np.isfinite(change) else None
        if clips != "relu" and not change >= SAME:
            return None, f"the float model would change: {change:.1f} dB of it are left", details
        with self.step("Calibrating again", self.calibration.count) as advance:
            statistics = collect(made.model, self.calibration, tensors="quantizable", progress=advance)
        cache, caches = self.ranges(statistics)
        return self.state(made.model, cache, caches, before.layers), _told(made, change), details

    def correction(self, before: State) -> Tried:
        """With biases corrected."""
        return self._tried("bias-correction", "", before, partial(self._corrected, before))

    def _corrected(self, before: State) -> tuple[State | None, str, dict[str, Any]]:
        forms = before.forms()
        passes = 1 + bias_correction.waves(before.model, forms)
        with self.step("Correcting biases", passes * self.calibration.count) as advance:
            made = bias_correction.bias_corrected(before.model, forms, self.samples, progress=advance)
        details = {"shifts": dict(made.shifts), "skipped": dict(made.skipped), "passes": passes}
        if not made.shifts:
            return None, "no layer's bias can be corrected", details
        after = self.state(made.model, before.cache, before.caches, before.layers)
        return after, f"{len(made.shifts)} biases, in {passes} passes over {self.calibration.count} images", details

    def rounding(self, start: State, before: State) -> Tried:
        """With weights rounded in closed form."""
        return self._tried("rounding", "", before, partial(self._rounded_at_once, start))

    def _rounded_at_once(self, start: State) -> tuple[State | None, str, dict[str, Any]]:
        forms = start.forms()
        with self.step("Rounding weights", sum(form.weight is not None for form in forms.values())) as advance:
            made = closed_form.rounded(
                start.model, forms, self.samples, self.calibration.count, seed=self.seed, progress=advance
            )
        return self._with_rounded(start, made)

    def adaround(self, start: State, before: State) -> Tried:
        """With weights rounded up or down, as gradients have it."""
        return self._tried("adaround", "", before, partial(self._rounded, start))

    def _rounded(self, start: State) -> tuple[State | None, str, dict[str, Any]]:
        forms, count = start.forms(), self.calibration.count
        with self.step("Rounding weights", adaround.passes(start.model, forms) * count) as advance:
            made = adaround.adarounded(start.model, forms, self.samples, count, seed=self.seed, progress=advance)
        return self._with_rounded(start, made)

    def _with_rounded(self, start: State, made: RoundedModel) -> tuple[State | None, str, dict[str, Any]]:
        details = {
            "layers": {name: each.to_dict() for name, each in made.layers.items()},
            "skipped": dict(made.skipped),
        }
        if not made.encodings:
            why = next((each.why for each in made.layers.values()), next(iter(made.skipped.values()), "there is none"))
            return None, f"no layer's weights were rounded anew: {why}", details
        after = self.state(made.model, start.cache, start.caches, {**start.layers, **made.encodings})
        times = [each.seconds for each in made.layers.values()]
        looked = len(made.layers) + len(made.skipped)
        note = f"{len(made.encodings)} of {looked} layers, {np.mean(times):.1f} s each, {max(times):.1f} s at most"
        return after, note, details

    def _tried(
        self,
        name: StepName,
        variant: str,
        before: State,
        take: Callable[[], tuple[State | None, str, dict[str, Any]]],
    ) -> Tried:
        began = time.perf_counter()
        try:
            after, note, details = take()
        except ModelError as error:
            after, note, details = None, str(error), {}
        score = None if after is None else after.score
        return Attempt(name, variant, before.score, score, False, time.perf_counter() - began, note, details), after


_CLIPS: Mapping[Clips, str] = {
    "stop": "not across Clip",
    "relu": "Relu for Clip",
    "channel": "Clip by channel",
}


def _told(made: Equalized, change: float) -> str:
    layers = len({name for names in made.sets for name in names})
    same = (
        "the float model is the same" if change >= SAME else f"the float model changes: {change:.1f} dB of it are left"
    )
    clips = f", {made.clips} Clip(s) replaced" if made.clips else ""
    return f"{layers} layers in {len(made.sets)} sets{clips}; {same}"
