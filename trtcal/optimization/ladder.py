"""Steps to a quantized model that holds the bound: each does more than the one before, and takes longer.

1. The default: ranges and layers in float as `trtcal calibrate` chooses them.
2. The range method that ranks best of all, as `trtcal compare` ranks them.
3. More layers in float: 10 % of the multiply-accumulates, then 20 %.
4. Recovery: equalization, rounding, bias correction, as `trtcal quantize --recover` takes them.
5. Mixed precision, with the bound for its target.

What a step chooses it chooses by the images that steps are judged by. Whether it holds the bound there, and then on
other images, decides whether the next one is tried.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrators.cache.text import CalibrationCache
from calibrators.ranges import METHODS, calibrate
from calibrators.statistics.file import Statistics
from engines.build.layer_plan import NO_PLAN, float_layers_of, scales_for
from engines.simulation.simulated_model import Simulation
from trtcal.analysis.comparison import compare, units
from trtcal.analysis.judging import Judging
from trtcal.analysis.selection import Compared
from trtcal.analysis.step import Step
from trtcal.analysis.trial_cache import TrialCache
from trtcal.choice.calibration import float_layers
from trtcal.data.split import Parts
from trtcal.optimization.places import Places
from trtcal.optimization.request import Checked
from trtcal.pipeline import quantize, write_quantized
from trtcal.precision.run import search_precisions
from trtcal.precision.target import Target
from trtcal.recovery.plan import recover
from trtcal.recovery.steps import STEPS
from trtcal.tables import comparison as comparison_table
from trtcal.tables import mixed_precision as mixed_precision_table

BUDGETS = (10.0, 20.0)
"""Percent of the multiply-accumulates that are left in float, where 5 are too few."""


RECOVERY = tuple(name for name in STEPS if name != "adaround")
"""Steps of recovery: AdaRound takes minutes, and rounding in closed form does as well."""


@dataclass(frozen=True, slots=True)
class Base:
    """What all steps begin with.

    Attributes:
        checked: The request.
        statistics: Of the images that are calibrated on.
        cache: Of the default method; its side-car names the layers to leave in float.
        method: That method.
        step: Shows progress.
    """

    checked: Checked
    statistics: Statistics
    cache: CalibrationCache
    method: str
    step: Step

    @property
    def model(self) -> Path:
        """The float model."""
        return self.checked.request.model

    @property
    def parts(self) -> Parts:
        """The images to calibrate on, and those that steps are judged by."""
        return self.checked.judged.parts

    @property
    def places(self) -> Places:
        """The files."""
        return self.checked.places


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the ladder.

    Attributes:
        name: Of it; part of its files' names.
        about: What it does, in words.
        make: Writes its model, and returns what is told of it: "told" in one line, and what the report shows.
    """

    name: str
    about: str
    make: Callable[[Base, Path], dict[str, Any]]


def rungs() -> Iterator[Rung]:
    """The steps, in order."""
    yield Rung("default", "default ranges and layers in float", _default)
    yield Rung("ranges", "the range method that ranks best", _ranges)
    for budget in BUDGETS:
        yield Rung(f"float{budget:g}", f"up to {budget:g} % of the work in float", _floats(budget))
    yield Rung("recovered", "recovery", _recovered)
    yield Rung("mixed", "mixed precision", _mixed)


def _default(base: Base, output: Path) -> dict[str, Any]:
    quantized = quantize(base.model, base.cache, output=output)
    left = _names(float_layers_of(base.cache, base.model, 100.0))
    return {"told": f"ranges by {base.method}, {left}", "left_float": dict(quantized.left_float)}


def _ranges(base: Base, output: Path) -> dict[str, Any]:
    test, judged = base.parts.test, base.checked.judged
    with base.step("Comparing range methods", units(base.model, test, tuple(METHODS))) as advance:
        found = compare(base.model, base.statistics, test, labelled=judged.labelled, task=judged.task, progress=advance)
    winner = found.winner
    compared = Compared(found, base.statistics, base.parts, 0.0, judged.notes)
    float_layers(base.model, winner.cache, base.statistics, base.parts.calibration, step=base.step)
    quantized = quantize(base.model, winner.cache, output=output)
    left = _names(float_layers_of(winner.cache, base.model, 100.0))
    return {
        "method": winner.method,
        "told": f"ranges by {winner.method}, which ranks first of {len(found.ranking)} methods, {left}",
        "left_float": dict(quantized.left_float),
        "compare": comparison_table.as_dict(base.model, compared, output=None, statistics=None),
    }


def _floats(budget: float) -> Callable[[Base, Path], dict[str, Any]]:
    def make(base: Base, output: Path) -> dict[str, Any]:
        cache = calibrate(base.statistics, base.method)
        found, _ = float_layers(
            base.model, cache, base.statistics, base.parts.calibration, budget=budget, step=base.step
        )
        quantized = quantize(base.model, cache, output=output, float_budget=budget)
        share = 0.0 if found is None else found.share
        left = _names(float_layers_of(cache, base.model, 100.0))
        return {"told": f"{share:.2g} % of the work in float: {left}", "left_float": dict(quantized.left_float)}

    return make


def _recovered(base: Base, output: Path) -> dict[str, Any]:
    judged = base.checked.judged
    left = float_layers_of(base.cache, base.model, 100.0)
    scales, others = scales_for(NO_PLAN, base.cache)
    found = recover(
        base.model,
        scales,
        base.parts,
        steps=RECOVERY,
        layers=left,
        caches=others,
        ranges=lambda statistics: scales_for(NO_PLAN, statistics, method=base.method),
        labelled=judged.labelled,
        task=judged.task,
        seed=base.checked.request.choice.seed,
        step=base.step,
    )
    write_quantized(output, found.quantized, found.cache, base.model, recovery=found.to_dict())
    kept = ", ".join(found.kept) if found.kept else "no step helped"
    return {"told": f"recovery: {kept}", "left_float": dict(found.quantized.left_float), "recovery": found.to_dict()}


def _mixed(base: Base, output: Path) -> dict[str, Any]:
    judged, request = base.checked.judged, base.checked.request
    judging = Judging(judged.parts, base.statistics, base.method, judged.labelled, 0.0, judged.notes, judged.task)
    found = search_precisions(
        Simulation(base.model),
        judging,
        Target.of(request.max_drop, None, None),
        cache=TrialCache(base.places.trials),
        confirm_count=0,
        step=base.step,
    )
    result = found.result
    config = base.places.config_of("mixed")
    remarks = [*mixed_precision_table.remarks(found)]
    shown = {"mixed_precision": mixed_precision_table.as_dict(base.model, config, found, remarks)}
    if result.config is None or result.best is None:
        return {"told": "mixed precision: no choice of layers reaches the bound", **shown}
    result.config.save(config)
    quantized = quantize(base.model, base.statistics, output=output, config=result.config, method=base.method)
    counts = ", ".join(f"{count} {name}" for name, count in result.ladders.counts(result.best.levels).items())
    return {
        "told": f"mixed precision: {counts} (layers)",
        "left_float": dict(quantized.left_float),
        **shown,
    }


def _names(left: Mapping[str, str]) -> str:
    if not left:
        return "no layer left in float for its harm"
    return f"{len(left)} layer(s) left in float for their harm: {', '.join(left)}"
