"""From a float model, its ranges and images to a quantized model that recovery has improved."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibrators.cache.float_layers import FLOAT_BUDGET
from calibrators.cache.sidecar import sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.files import require_outputs
from calibrators.methods.names import DEFAULT
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from calibrators.weights import WeightMethod
from engines.build.layer_plan import LayerPlan, float_layers_of, method_of, scales_for
from engines.graph.model import files_of
from engines.qdq.weights import Granularity, WeightOptions
from trtcal.analysis.judging import Judged, opened_parts
from trtcal.analysis.step import Step, unshown
from trtcal.config.settings import QuantConfig
from trtcal.data.images import OnBadImage, PathLike
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT, TEST_COUNT, ImageChoice
from trtcal.pipeline import as_planned, planned_layers, ranges_for, write_quantized
from trtcal.recovery.plan import Recovered, named_steps, recover
from trtcal.recovery.steps import STEPS
from trtcal.tasks.task import Task, task_given


@dataclass(frozen=True, slots=True)
class RecoveryRun(Tabular):
    """What came of it.

    Attributes:
        recovered: The model, and what was tried.
        judged: The images.
        method: By which ranges are found anew.
        notes: What a user should know, one line each.
    """

    recovered: Recovered
    judged: Judged
    method: str
    notes: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Those of the steps."""
        return self.recovered.rows()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = self.judged.parts
        return {
            **self.recovered.to_dict(),
            "method": self.method,
            "images": {"learned_from": parts.calibration.count, "measured_on": parts.test.count},
        }


def quantize_recovered(
    model: str | os.PathLike[str],
    cache: CalibrationCache | Statistics | str | os.PathLike[str],
    images: PathLike,
    *,
    steps: str | Sequence[str] = STEPS,
    output: str | os.PathLike[str] | None = None,
    weights: WeightMethod = "absmax",
    granularity: str = "channel",
    config: QuantConfig | str | os.PathLike[str] | None = None,
    method: str | None = None,
    float_budget: float = FLOAT_BUDGET,
    test_images: PathLike | None = None,
    preprocess: PathLike | Preprocess | None = None,
    count: int = COUNT,
    test_count: int = TEST_COUNT,
    labels: PathLike | None = None,
    batch_size: int = 8,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
    task: Task | None = None,
    step: Step | None = None,
) -> RecoveryRun:
    """Quantize a model as `trtcal.quantize` does, and take the steps of recovery that help (`recover`).

    Args:
        model: The float model.
        cache: A cache, or its path; or statistics.
        images: What to learn from, and to measure on.
        steps: As `named_steps` takes them.
        output: Where to write the model, and beside it ``<output>.json``.
        weights: As in `trtcal.quantize`.
        granularity: Likewise.
        config: Likewise.
        method: The range method where ranges are found anew; None takes the cache's own, or mse where that is not
            known.
        float_budget: As in `trtcal.quantize`.
        test_images: What to measure on instead.
        preprocess: As `ImageLoader` has it; None takes what the cache or statistics were made with.
        count: How many images to learn from at most.
        test_count: How many to measure on at most.
        labels: Of the images to measure on.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the choice of images, and of what rounding looks at.
        on_bad_image: "error" or "skip".
        task: What the model is for; None for `Task()`.
        step: Shows progress.

    Raises:
        TrtcalError: As `trtcal.quantize`, `opened_parts` and `recover` raise it.
    """
    names = named_steps(steps)
    if output is not None:
        read = [path for path in (cache, config, test_images, labels, images) if isinstance(path, (str, os.PathLike))]
        require_outputs([output, sidecar_path(output)], inputs=[*files_of(model), *read])
    plan = None if config is None else planned_layers(config, model, weights, granularity)
    known = ranges_for(model, cache)
    left = float_layers_of(known, model, float_budget)
    plan = plan if plan is None else plan.leaving(left)
    theirs = method_of(known) if isinstance(known, CalibrationCache) else None
    chosen = method or theirs or DEFAULT
    scales, others = scales_for(plan or LayerPlan({}), known, method=chosen, name=str(cache))
    choice = ImageChoice(
        images,
        test_images=test_images,
        preprocess=preprocess if preprocess is not None else _preprocess_of(known),
        count=count,
        test_count=test_count,
        labels=labels,
        batch_size=batch_size,
        seed=seed,
        on_bad_image=on_bad_image,
        task=task_given(task),
    )
    judged = opened_parts(model, choice)
    recovered = recover(
        model,
        scales,
        judged.parts,
        steps=names,
        weights=WeightOptions(weights, Granularity.parse(granularity)),
        layers=left if plan is None else plan.choices,
        caches=others,
        ranges=lambda found: scales_for(plan or LayerPlan({}), found, method=chosen),
        labelled=judged.labelled,
        task=judged.task,
        seed=seed,
        step=step or unshown,
    )
    if plan is not None:
        recovered = replace(recovered, quantized=as_planned(recovered.quantized, plan, recovered.cache))
    run = RecoveryRun(recovered, judged, chosen, tuple(_notes(recovered, chosen, known=theirs or method)))
    if output is not None:
        write_quantized(output, recovered.quantized, recovered.cache, model, recovery=run.to_dict())
    return run


def _preprocess_of(ranges: CalibrationCache | Statistics) -> Preprocess | None:
    """What images went through when ranges were found; None where that is not known."""
    if isinstance(ranges, Statistics):
        stated = ranges.provenance.preprocess
    else:
        stated = None if ranges.sidecar is None else ranges.sidecar.preprocess
    return None if stated is None else Preprocess.from_dict(stated)


def _notes(recovered: Recovered, method: str, *, known: str | None) -> list[str]:
    told = []
    if "equalization" in recovered.kept:
        told.append(
            f"equalization changed activations, so that their ranges were found anew, by {method}: the scales are not "
            "those of the cache that was given"
        )
        if known is None:
            told.append(f"the cache does not say by which method its ranges were found: {method} was taken")
    return told
