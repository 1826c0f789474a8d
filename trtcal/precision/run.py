"""Mixed precision from images: calibrate on some, search by others, confirm on further ones."""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from calibrators.errors import ConfigError, DataError
from calibrators.methods.names import AUTO
from calibrators.tabular import Row, Tabular
from engines.collection.collect import Tensors
from engines.inspection.layer_times import Precision, layer_times, read_times
from engines.simulation.simulated_model import Simulation
from trtcal.analysis.auto_method import require_method
from trtcal.analysis.judging import Judging, calibrated
from trtcal.analysis.layer_macs import layer_macs
from trtcal.analysis.step import Step, unshown
from trtcal.analysis.trial_cache import TrialCache
from trtcal.charts.chart import Chart
from trtcal.config.settings import QuantConfig
from trtcal.data.images import ImageLoader, OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT, TEST_COUNT, ImageChoice, further
from trtcal.precision.additive import ON_FEW
from trtcal.precision.ladders import Candidate, Costs, modelled
from trtcal.precision.measuring import Measurer, Steps
from trtcal.precision.result import CANDIDATES, MixedPrecision, mixed_precision
from trtcal.precision.target import Target
from trtcal.tasks.task import Task, task_given

CONFIRM_COUNT = 1500
"""Further images on which a choice must hold that does on the first: with these enough to tell a point of top-1."""

FEW = (16, 64)
"""Images that groups are measured alone on: at least and at most; between them an eighth of those to judge by first."""

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

    def plot(self) -> Chart:
        """That of the result."""
        return self.result.plot(self.unit)

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
    exhaustive: bool = False,
    choose: int | None = None,
    trials_file: str | os.PathLike[str] | None = None,
    method: str = AUTO,
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
        exhaustive: Whether groups are tried one by one in whole choices, instead of by predicted noise.
        choose: The number (from 1) of one of `MixedPrecision.choices`, to take instead of the cheapest that reaches the
            target. With the trials file of an earlier run it is not measured again.
        trials_file: Where scores are kept, and taken from on the next run.
        method: The range method of layers whose settings name none; "auto" for what measures best.
        preprocess: As `ImageLoader` has it.
        count: How many images to calibrate on at most.
        test_count: How many to judge by at most; groups alone are measured on `FEW` of them.
        confirm_count: On how many further ones a choice must hold that does on these, at most, until no doubt is left;
            0 asks no more.
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
    require_method(method)
    measured = [read_times(path, precision) for path, precision in profiles]
    cache = TrialCache(trials_file)
    simulation = Simulation(model)
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
    step = step or unshown
    judging = calibrated(model, choice, step=step, tensors=tensors, method=method)
    return search_precisions(
        simulation,
        judging,
        target,
        config=config,
        candidates=candidates,
        measured=measured,
        exhaustive=exhaustive,
        choose=choose,
        cache=cache,
        confirm_count=confirm_count,
        step=step,
    )


def search_precisions(
    simulation: Simulation,
    judging: Judging,
    target: Target,
    *,
    config: QuantConfig | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    measured: Sequence[Mapping[Precision, Mapping[str, float]]] = (),
    exhaustive: bool = False,
    choose: int | None = None,
    cache: TrialCache | None = None,
    confirm_count: int = CONFIRM_COUNT,
    step: Step | None = None,
) -> PrecisionRun:
    """Choose the layers to leave in higher precision, where the statistics are there; as `choose_precisions` does.

    Args:
        simulation: The model.
        judging: What it was calibrated on and is judged by.
        target: What must hold.
        config: What the search begins with.
        candidates: What layers may be switched to.
        measured: Layer times by precision, from `read_times`; none models costs.
        exhaustive: As in `choose_precisions`.
        choose: Likewise.
        cache: Where scores of trials are looked up, and kept; None keeps none.
        confirm_count: As in `choose_precisions`.
        step: Shows progress.

    Raises:
        TrtcalError: As `mixed_precision` raises it.
    """
    step = step or unshown
    cache = TrialCache() if cache is None else cache
    test = judging.parts.test
    others = further(judging.parts, confirm_count) if confirm_count else None
    few, *_ = [test] if exhaustive else test.divided(min(max(FEW[0], test.count // 8), FEW[1]))
    in_all = test.count + (0 if others is None else others.count)
    stages = [] if others is None else [others] if exhaustive else others.divided(test.count)
    costs, notes = _costs(simulation, test, config or QuantConfig(), measured)
    with cache, closing(Steps(step)) as steps:
        judges = [
            Measurer(simulation, loader, labelled=judging.labelled, task=judging.task, cache=cache, steps=steps)
            for loader in (few, test, *stages)
        ]
        steps.begin("Running the float model", few.count + test.count)
        result = mixed_precision(
            simulation,
            judging.statistics,
            judges[1],
            target,
            costs,
            few=None if few is test else judges[0],
            further=judges[2:],
            method=judging.method,
            config=config,
            candidates=candidates,
            exhaustive=exhaustive,
            choose=choose,
            phase=lambda name, most: steps.begin(name, most * (few.count if name in ON_FEW else in_all)),
        )
    if result.config is not None:
        try:
            result.config.plan(simulation.layers)
        except ConfigError as error:
            notes = (*notes, f"quantize and build refuse these settings: {error}")
    unit: Unit = "ms" if measured else "MACs x bits"
    remembered = sum(each.remembered for each in judges)
    return PrecisionRun(result, judging, others, unit, remembered, (*judging.notes, *notes))


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
