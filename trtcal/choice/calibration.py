"""Calibration without a question left open: the range method, and the layers left in float, that measure best."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from calibrators.cache.float_layers import FLOAT_BUDGET, FloatLayer
from calibrators.cache.text import CalibrationCache
from calibrators.errors import ModelError
from calibrators.methods.names import AUTO
from calibrators.ranges import calibrate
from calibrators.statistics.file import Statistics
from engines.collection.collect import Tensors
from engines.simulation.simulated_model import Simulation
from trtcal.analysis.auto_method import calibration
from trtcal.analysis.layer_macs import layer_macs
from trtcal.analysis.selection import Compared, compare_images
from trtcal.analysis.step import Step, unshown
from trtcal.analysis.trials import Trials
from trtcal.choice.float_layers import FloatLayers, choose_float_layers
from trtcal.choice.kinds import Kinds
from trtcal.config.layer_forms import layer_forms
from trtcal.data.images import ImageLoader
from trtcal.data.split import ImageChoice
from trtcal.pipeline import open_for
from trtcal.tasks.task import AUTO as ANY_TASK

TRIED_ON = 8
"""Images that each layer is tried on alone: noise needs few."""

CONFIRMED_ON = 32
"""Images that the choice is confirmed on."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A calibration, and what was chosen for it.

    Attributes:
        loader: The images.
        statistics: Of all of them.
        cache: The ranges of `method` from all images; its side-car names the layers to leave in float.
        method: The range method.
        judged: The worst SQNR by method, in dB, on images that were not calibrated on; empty where none was judged.
        looked_at: How many images these were.
        floats: What leaving layers in float brings; None where that was not looked into.
        compared: The ranking that chose the method, where a task judged them all; None elsewhere.
        notes: What a user should know, one line each.
    """

    loader: ImageLoader
    statistics: Statistics
    cache: CalibrationCache
    method: str
    judged: Mapping[str, float] = field(default_factory=dict)
    looked_at: int = 0
    floats: FloatLayers | None = None
    compared: Compared | None = None
    notes: tuple[str, ...] = ()

    @property
    def float_layers(self) -> Mapping[str, FloatLayer]:
        """By name, what brings most first."""
        return {} if self.floats is None else self.floats.layers


def calibrate_model(
    model: str | os.PathLike[str],
    images: ImageLoader,
    *,
    method: str = AUTO,
    float_budget: float = FLOAT_BUDGET,
    tensors: Tensors = "all",
    step: Step = unshown,
) -> Chosen:
    """Calibrate a float model on images, as `trtcal calibrate` does.

    Args:
        model: The float model.
        images: To calibrate on.
        method: A range method; "auto" chooses one (`trtcal.analysis.auto_method.calibration`).
        float_budget: Percent of the multiply-accumulates that may stay in float
            (`trtcal.choice.float_layers.choose_float_layers`); 0 leaves all in INT8.
        tensors: As in `trtcal.collect`.
        step: Shows progress.

    Raises:
        RangeError: There is no such method.
        TrtcalError: As `trtcal.collect` raises it.
    """
    found = calibration(model, images, method=method, tensors=tensors, step=step)
    cache = calibrate(found.statistics, found.method)
    floats, notes = float_layers(model, cache, found.statistics, images, budget=float_budget, step=step)
    if cache.sidecar is not None:
        cache.sidecar = replace(cache.sidecar, judged=found.judged)
    return Chosen(
        images,
        found.statistics,
        cache,
        found.method,
        judged=found.judged,
        looked_at=found.looked_at,
        floats=floats,
        notes=(*found.notes, *notes),
    )


def calibrate_images(
    model: str | os.PathLike[str],
    choice: ImageChoice,
    *,
    method: str = AUTO,
    float_budget: float = FLOAT_BUDGET,
    tensors: Tensors = "all",
    step: Step = unshown,
) -> Chosen:
    """Open images for a model and calibrate it, as `calibrate_model` does.

    Where the choice has a task, "auto" ranks all methods by the task's measure on the images to judge by instead, as
    `trtcal compare` does.

    Raises:
        TrtcalError: As `calibrate_model`, `compare_images` and `open_for` raise it.
    """
    if method != AUTO or choice.task is ANY_TASK:
        loader = open_for(
            model,
            choice.images,
            preprocess=choice.preprocess,
            count=choice.count,
            batch_size=choice.batch_size,
            seed=choice.seed,
            on_bad_image=choice.on_bad_image,
        )
        return calibrate_model(model, loader, method=method, float_budget=float_budget, tensors=tensors, step=step)
    compared = compare_images(model, choice, tensors=tensors, step=step)
    winner, parts = compared.comparison.winner, compared.parts
    floats, notes = float_layers(model, winner.cache, compared.statistics, parts.test, budget=float_budget, step=step)
    return Chosen(
        parts.calibration,
        compared.statistics,
        winner.cache,
        winner.method,
        floats=floats,
        compared=compared,
        notes=notes,
    )


def float_layers(
    model: str | os.PathLike[str],
    cache: CalibrationCache,
    statistics: Statistics,
    images: ImageLoader,
    *,
    budget: float = FLOAT_BUDGET,
    step: Step = unshown,
) -> tuple[FloatLayers | None, tuple[str, ...]]:
    """Find the layers that are better left in float, and note them in a cache's side-car.

    Args:
        model: The float model.
        cache: Of the statistics, with a side-car.
        statistics: Of the model.
        images: Of which `CONFIRMED_ON` are taken at most.
        budget: Percent of the multiply-accumulates; 0 looks for none.
        step: Shows progress.

    Returns:
        What leaving them in float brings, None where that cannot be told or was not looked into; and what a user should
        know, one line each.
    """
    known = cache.sidecar
    if budget <= 0 or known is None:
        return None, ()
    some, few = (images.divided(count)[0] for count in (CONFIRMED_ON, TRIED_ON))
    try:
        simulation = Simulation(model)
        forms = layer_forms(simulation, statistics, known.method)
        units = few.count * (2 + len(forms.quantized)) + 4 * some.count
        with step("Trying layers in float", units) as advance:
            trials, confirming = (Trials(simulation, each, labelled=False, progress=advance) for each in (few, some))
            kinds = Kinds.of(simulation, statistics)
            shares = layer_macs(simulation, few)
            found = choose_float_layers(trials, confirming, forms.forms, shares, budget=budget, kinds=kinds)
    except ModelError as error:  # such as one without a float output: layers cannot be told apart
        return None, (f"no layer was tried in float: {error}",)
    cache.sidecar = replace(known, float_layers=found.layers)
    return found, ()
