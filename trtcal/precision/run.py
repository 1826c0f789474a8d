"""Mixed precision from images: calibrate on some, search by others, confirm on further ones."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from calibrators.errors import ConfigError, DataError
from calibrators.ranges import method_named
from calibrators.tabular import Row, Tabular
from engines.collection.collect import Tensors
from engines.inspection.layer_times import Precision, layer_times, read_times
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.costs import inferred_shapes, macs, sized
from engines.simulation.simulated_model import LayerForm, Simulation
from trtcal.analysis.judging import Judging, Step, calibrated
from trtcal.analysis.trial_cache import TrialCache, trial_context, trial_key
from trtcal.analysis.trials import Trials
from trtcal.config.settings import QuantConfig
from trtcal.data.images import ImageLoader, OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT, TEST_COUNT, ImageChoice, further
from trtcal.measure.chance import Criterion
from trtcal.measure.groups import Singles
from trtcal.measure.measures import Score
from trtcal.precision.ladders import Candidate, Costs, modelled
from trtcal.precision.result import CANDIDATES, MixedPrecision, mixed_precision
from trtcal.precision.search import BY_ITSELF
from trtcal.precision.target import Target
from trtcal.tasks.summary import Summary
from trtcal.tasks.task import Task, task_given

CONFIRM_COUNT = 1500
"""Further images on which a choice must hold that does on the first: with these enough to tell a point of top-1."""

Unit = Literal["MACs x bits", "ms"]


@dataclass(frozen=True, slots=True)
class PrecisionRun(Tabular):
    """A search for precisions, and what it rests on.

    Attributes:
        result: What it found.
        judging: The images, and the statistics of those that were calibrated on.
        further: The images that choices which reach the target were measured on as well; None where there are none.
        unit: Of costs.
        remembered: How many scores an earlier run had measured.
        notes: What a user should know, one line each.
    """

    result: MixedPrecision
    judging: Judging
    further: ImageLoader | None
    unit: Unit
    remembered: int
    notes: tuple[str, ...]

    def rows(self) -> list[Row]:
        """Those of the result."""
        return self.result.rows()


def choose_precisions(
    model: str | os.PathLike[str],
    images: PathLike,
    *,
    max_drop: float | None = None,
    target_accuracy: float | None = None,
    target_sqnr: float | None = None,
    test_images: PathLike | None = None,
    config: QuantConfig | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    profiles: Sequence[tuple[PathLike, Precision | None]] = (),
    choose: int | None = None,
    trials_file: str | os.PathLike[str] | None = None,
    method: str = "entropy",
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    confirm_count: int = CONFIRM_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    tensors: Tensors = "all",
    on_bad_image: OnBadImage = "error",
    task: Task | None = None,
    step: Step | None = None,
) -> PrecisionRun:
    """Choose the layers to leave in higher precision, by images; see `calibrated`, `further` and `mixed_precision`.

    ``found.result.config.save("quant.toml")`` writes what was found, where anything reaches the target.

    Args:
        model: The float model.
        images: What to calibrate on, and to judge by.
        max_drop: What must hold (`Target`): this, or one of the two others.
        target_accuracy: Likewise.
        target_sqnr: Likewise.
        test_images: What to judge by instead.
        config: What the search begins with.
        candidates: What layers may be switched to.
        profiles: Files of measured layer times, each with the precision of its engine (`read_times`); none models costs
            as multiply-accumulates times bits.
        choose: The number (from 1) of one of `MixedPrecision.choices`, to take instead of the cheapest that reaches the
            target. With the trials file of an earlier run it is not measured again.
        trials_file: Where scores are kept, and taken from on the next run.
        method: The range method of layers whose settings name none.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to judge by at most; and to order groups by.
        confirm_count: On how many further ones a choice must hold that does on these, at most; 0 asks no more.
        labels: Of the images to judge by.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images.
        tensors: As `engines.collection.collect.collect` has it.
        on_bad_image: "error" or "skip".
        task: What the model is for; None for `Task()`.
        step: Shows progress.

    Raises:
        TrtcalError: As those, and `read_times`.
    """
    target = Target.of(max_drop, target_accuracy, target_sqnr)
    method_named(method)
    measured = [read_times(path, precision) for path, precision in profiles]
    cache = TrialCache(trials_file)
    simulation = Simulation(model)
    step = step or (lambda name, total: nullcontext(lambda done: None))
    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess,
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        task=task_given(task),
    )
    judging = calibrated(model, choice, step=step, tensors=tensors)
    test = judging.parts.test
    others = further(judging.parts, confirm_count) if confirm_count else None
    images_in_all = test.count + (0 if others is None else others.count)
    costs, notes = _costs(simulation, test, config or QuantConfig(), measured)
    with cache, closing(_Steps(step)) as steps:
        judge, *further_judge = (
            _Measurer(simulation, loader, labelled=judging.labelled, task=judging.task, cache=cache, steps=steps)
            for loader in (test, others)
            if loader is not None
        )
        steps.begin("Running the float model", test.count)
        result = mixed_precision(
            simulation,
            judging.statistics,
            judge,
            target,
            costs,
            further=further_judge[0] if further_judge else None,
            method=method,
            config=config,
            candidates=candidates,
            choose=choose,
            phase=lambda name, most: steps.begin(name, most * (test.count if name == BY_ITSELF else images_in_all)),
        )
    if result.config is not None:
        try:
            result.config.plan(simulation.layers)
        except ConfigError as error:
            notes = (*notes, f"quantize and build refuse these settings: {error}")
    unit: Unit = "ms" if measured else "MACs x bits"
    remembered = sum(each.remembered for each in (judge, *further_judge))
    return PrecisionRun(result, judging, others, unit, remembered, (*judging.notes, *notes))


class _Steps:
    """One step of the work after another, each with a bar of its own."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._open = ExitStack()
        self._advance: Callable[[int], None] = lambda done: None

    def begin(self, name: str, units: int) -> None:
        """End the step before, and begin another."""
        self._open.close()
        self._advance = self._open.enter_context(self._step(name, units))

    def advance(self, done: int) -> None:
        """Count units of the step."""
        self._advance(done)

    def close(self) -> None:
        """End the last step."""
        self._open.close()


class _Measurer:
    """Scores of versions of a model on some images, which were measured in an earlier run or are measured now."""

    def __init__(
        self,
        simulation: Simulation,
        images: ImageLoader,
        *,
        labelled: bool,
        task: Task,
        cache: TrialCache,
        steps: _Steps,
    ) -> None:
        self._simulation = simulation
        self._images = images
        self._labelled = labelled
        self._task = task
        self._cache = cache
        self._steps = steps
        self._remembered: set[str] = set()
        self._measured: set[str] = set()

    @property
    def remembered(self) -> int:
        """How many scores an earlier run had measured."""
        return len(self._remembered)

    @property
    def reference(self) -> Score:
        """The float model's own score."""
        return self._trials.reference

    @property
    def criterion(self) -> Criterion:
        """What counts."""
        return self._trials.criterion

    def worth(self, found: Score) -> float:
        """The criterion's value; more is better."""
        return self._trials.worth(found)

    def score(self, forms: Mapping[str, LayerForm], *, whole: bool = False) -> Score:
        """Of a version of the model; `whole`: one that adds up, as the summaries of an earlier run do not."""
        key = trial_key(self._context, forms)
        known = self._cache.get(key)
        if known is not None and not (whole and isinstance(known.task, Summary)):
            self._remembered |= {key} - self._measured
            self._steps.advance(known.samples)
            return known
        found = self._trials.score(forms)
        self._cache.put(key, found)
        self._measured.add(key)
        return found

    @cached_property
    def _trials(self) -> Trials:
        """What measures; the float model runs when it is first asked for."""
        return Trials(
            self._simulation, self._images, labelled=self._labelled, task=self._task, progress=self._steps.advance
        )

    @cached_property
    def _context(self) -> str:
        return trial_context(self._simulation, self._images, labelled=self._labelled, task=self._task)


def _costs(
    simulation: Simulation,
    images: ImageLoader,
    config: QuantConfig,
    measured: Sequence[Mapping[Precision, Mapping[str, float]]],
) -> tuple[Costs, tuple[str, ...]]:
    """Of every layer, and what is to be said of them."""
    counts = layer_macs(simulation, images)
    if not measured:
        return modelled(counts, config.settings(simulation.layers).layers), ()
    together: dict[Precision, Mapping[str, float]] = {}
    for times in measured:
        if twice := together.keys() & times.keys():
            raise DataError(f"two profiles have times in {min(twice)}: say which is which, as in fp16=FILE.json")
        together |= times
    found = layer_times(together, simulation.layers, counts)
    return found.times, found.notes


def layer_macs(simulation: Simulation, images: ImageLoader) -> dict[str, int]:
    """Multiply-accumulates of a model's layers for one image; for as many as it takes where its batch is fixed.

    Shapes are inferred from the image's; a sample is run where inference cannot tell one.
    """
    with OnnxRuntimeSession(simulation.floats) as session:
        loader, size = images.for_model(session.inputs), session.fixed_batch or 1
    with closing(iter(Singles(loader, size, labelled=False))) as samples:
        sample = next(samples)
    shapes = inferred_shapes(simulation.floats, {name: array.shape for name, array in sample.items()})
    missing = [name for name in sized(simulation.layers) if name not in shapes]
    if missing:
        with OnnxRuntimeSession(simulation.version({}, outputs=missing)) as session:
            shapes |= {name: array.shape for name, array in session.run(sample).items()}
    return macs(simulation.layers, shapes)
