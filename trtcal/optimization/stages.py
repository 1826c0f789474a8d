"""The stages of an optimization: each with its inputs in the ledger, so that it is done once."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from calibrators.cache.sidecar import installed_versions, sidecar_path
from calibrators.codecs.cache_file import load_cache
from calibrators.errors import BuildError
from calibrators.statistics.file import Statistics
from engines.graph.model import digest_of
from engines.passes.half import to_half
from engines.simulation.simulated_model import Simulation
from trtcal.analysis.layer_macs import layer_macs
from trtcal.analysis.step import Step
from trtcal.choice.calibration import calibrate_model
from trtcal.data.images import ImageLoader
from trtcal.measure.changed import ChangedImage
from trtcal.measure.report import Report
from trtcal.optimization.building import batch_sizes, built, can_measure, cost, files_of, share_of_int8, timed
from trtcal.optimization.ladder import Base, Rung, rungs
from trtcal.optimization.ledger import Ledger
from trtcal.optimization.measuring import FLOAT, Measured, in_words, side_by_side
from trtcal.optimization.request import Checked, Precision
from trtcal.optimization.result import Candidate, Taken
from trtcal.report.gather.changed import confusion, pictures

WORST = 10
"""Images that changed most, for the report."""


def inputs_of(job: Checked) -> dict[str, Any]:
    """What every stage depends on."""
    choice, parts = job.request.choice, job.judged.parts
    return {
        "model": digest_of(job.request.model),
        "calibration": parts.calibration.digest,
        "preprocess": parts.calibration.preprocess.to_dict(),
        "seed": choice.seed,
        "versions": dict(installed_versions()),
    }


def judging_inputs(job: Checked, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """And what a judgement does."""
    test, labels = job.judged.parts.test, job.judged.parts.test.labels
    task = job.request.choice.task
    return {
        **inputs,
        "test": test.digest,
        "labels": None if labels is None or not job.judged.labelled else labels.tolist(),
        "others": None if job.verdict is None else job.verdict.digest,
        "task": [task.name, task.confidence, task.digest],
        "max_drop": job.request.max_drop,
    }


def calibrated(job: Checked, ledger: Ledger, inputs: Mapping[str, Any], step: Step) -> Base:
    """The statistics and the default ranges: the one pass over the images to calibrate on."""
    places, loader = job.places, job.judged.parts.calibration

    def make() -> dict[str, Any]:
        found = calibrate_model(job.request.model, loader, step=step)
        found.statistics.save(places.statistics)
        found.cache.save(places.cache)
        return {"method": found.method, "judged": dict(found.judged), "notes": list(found.notes)}

    files = [places.statistics, places.cache, sidecar_path(places.cache)]
    stage = ledger.done("calibration", inputs, make, files)
    statistics, cache = Statistics.load(places.statistics), load_cache(places.cache)
    return Base(job, statistics, cache, stage.result["method"], step)


def climbed(base: Base, ledger: Ledger, inputs: Mapping[str, Any]) -> tuple[Taken, ...]:
    """Steps, until one holds the bound on the images that steps are judged by, and on the others."""
    steps: list[Taken] = []
    for rung in rungs():
        steps.append(_taken(base, ledger, judging_inputs(base.checked, inputs), rung))
        if steps[-1].holds:
            break
    return tuple(steps)


def _taken(base: Base, ledger: Ledger, inputs: Mapping[str, Any], rung: Rung) -> Taken:
    job, output = base.checked, base.places.model_of(rung.name)

    def make() -> dict[str, Any]:
        found = rung.make(base, output)
        measured = others = None
        if output.is_file():
            measured = _measured(job, output, job.judged.parts.test, rung.about, base.step)
            if measured.within(job.request.max_drop) and job.verdict is not None:
                others = _measured(job, output, job.verdict, f"{rung.about}, on other images", base.step)
        return {
            **found,
            "measured": None if measured is None else measured.to_dict(),
            "others": None if others is None else others.to_dict(),
        }

    if not ledger.stands(f"step {rung.name}", inputs):
        output.unlink(missing_ok=True)  # of other inputs
        output.parent.mkdir(exist_ok=True)
    files = [output, sidecar_path(output), base.places.config_of(rung.name)]
    stage = ledger.done(f"step {rung.name}", inputs, make, files)
    result = stage.result
    known = [None if result[name] is None else Measured.from_dict(result[name]) for name in ("measured", "others")]
    measured, others = known
    bound = job.request.max_drop
    holds = measured is not None and measured.within(bound) and (others is None or others.within(bound))
    told = f"{result['told']}{_told(measured, job)}{_told(others, job, 'other ')}"
    worst = max((each.drop for each in known if each is not None), default=math.inf)
    return Taken(rung.name, told, measured, worst, holds, stage.seconds, stage.reused)


def _told(measured: Measured | None, job: Checked, kind: str = "") -> str:
    if measured is None:
        return ""
    return f"; {in_words(measured.drop, job.measure)} on {measured.images} {kind}images"


def _measured(job: Checked, model: Path, images: ImageLoader, about: str, step: Step) -> Measured:
    with step(f"Measuring: {about}", images.count) as advance:
        report = side_by_side({FLOAT: job.request.model, "int8": model}, images, job.judged, progress=advance)
    return Measured.of(report.scores["int8"], job.criterion)


def best_of(steps: tuple[Taken, ...]) -> Taken | None:
    """The step that holds the bound, or the one that loses least."""
    made = [each for each in steps if each.measured is not None]
    drops = {each.name: each.worst for each in made}
    return next((each for each in made if each.holds), min(made, key=lambda each: drops[each.name], default=None))


def candidates_of(
    base: Base, ledger: Ledger, inputs: Mapping[str, Any], taken: Taken | None
) -> tuple[tuple[Candidate, ...], Mapping[str, Any], tuple[str, ...]]:
    """The engines, with what each loses and costs; what `timed` gives, where this machine has a GPU; and notes."""
    job, step = base.checked, base.step
    models: dict[Precision, Path] = {}
    for precision in job.request.precisions:
        if precision != "int8":
            models[precision] = job.request.model
        elif taken is not None:
            models[precision] = base.places.model_of(taken.name)
    engines = {precision: base.places.engine_of(precision) for precision in models}
    records, refused = _records(base, ledger, inputs["versions"], models, engines)
    models = {precision: model for precision, model in models.items() if precision in records}
    engines = {precision: engines[precision] for precision in models}
    accuracy = _accuracy(base, ledger, judging_inputs(job, inputs), models)
    measured = {each["precision"]: Measured.from_dict(each["measured"]) for each in accuracy["measured"]}
    macs = ledger.done(
        "work",
        {"model": inputs["model"], "calibration": inputs["calibration"]},
        lambda: layer_macs(Simulation(job.request.model), job.judged.parts.calibration),
    ).result
    timing: Mapping[str, Any] = {}
    if can_measure():
        sizes = batch_sizes(next(iter(records.values())))
        timing = timed(job, engines, sizes, step=step)
    candidates = tuple(
        Candidate(
            precision,
            taken.name if precision == "int8" and taken is not None else "",
            engines[precision],
            measured[precision],
            measured[precision].within(job.request.max_drop) and (precision != "int8" or taken is None or taken.holds),
            cost(records[precision], macs, precision),
            share_of_int8(records[precision]),
            records[precision]["bytes"],
            _latency(timing, precision),
        )
        for precision in models
    )
    return candidates, timing, refused


def _records(
    base: Base, ledger: Ledger, versions: Any, models: Mapping[Precision, Path], engines: Mapping[Precision, Path]
) -> tuple[dict[Precision, Any], tuple[str, ...]]:
    """Engines, built; and, a line each, those that the builder refuses, as long as there is one that it builds.

    Raises:
        BuildError: It refuses all of them.
    """
    job = base.checked
    building = {"backend": job.request.backend, "shapes": job.request.shapes, "builder": job.backend}
    records: dict[Precision, Any] = {}
    refused: dict[Precision, BuildError] = {}
    for precision, model in models.items():
        inputs = {**building, "versions": versions, "model": digest_of(model), "precision": precision}
        make = partial(built, job, precision, model, engines[precision], step=base.step)
        try:
            records[precision] = ledger.done(f"engine {precision}", inputs, make, files_of(engines[precision])).result
        except BuildError as error:
            refused[precision] = error
    if not records:
        raise next(iter(refused.values()))
    return records, tuple(f"there is no {each.upper()} engine: {why}" for each, why in refused.items())


def _accuracy(
    base: Base, ledger: Ledger, inputs: Mapping[str, Any], models: Mapping[Precision, Path]
) -> dict[str, Any]:
    """All candidates side by side on the images of the verdict."""
    job, folder = base.checked, base.places.tried

    def make() -> dict[str, Any]:
        import onnx

        run = {FLOAT: job.request.model}
        for precision, model in models.items():
            if precision == "fp16":
                run[precision] = folder / f"{base.places.name}.fp16.onnx"
                onnx.save(to_half(onnx.load(model)).model, run[precision])
            elif precision == "int8" or len(models) == 1:  # beside others, the float model itself stands for FP32
                run[precision] = model
        with base.step("Measuring accuracy", 2 * job.last.count) as advance:
            report = side_by_side(run, job.last, job.judged, worst=WORST, progress=advance)
        (folder / f"{base.places.name}.fp16.onnx").unlink(missing_ok=True)
        floats = report.scores[FLOAT]  # which the FP32 engine computes
        measured = [
            {"precision": each, "measured": Measured.of(report.scores.get(each, floats), job.criterion).to_dict()}
            for each in models
        ]
        return {"measured": measured, "report": report.to_dict(), "shown": _shown(job, models, report)}

    models_given = {precision: digest_of(model) for precision, model in models.items()}
    result: dict[str, Any] = ledger.done("accuracy", {**inputs, "models": models_given}, make).result
    return result


def _shown(job: Checked, models: Mapping[Precision, Path], report: Report) -> dict[str, Any]:
    """Pictures of the images that changed most, and the classes that changed, where there is an INT8 model."""
    if "int8" not in models:
        return {}
    pair = job.request.model, models["int8"]
    changed = report.changed_images.get("int8", ())
    names = [each.name if isinstance(each, ChangedImage) else each.image for each in changed]
    shown: dict[str, Any] = {"pictures": pictures(pair, job.last, job.judged, names)}
    if job.criterion in ("top-1", "agreement"):
        shown["confusion"] = confusion(pair, job.last, job.judged, report.class_names)
    return shown


def _latency(timing: Mapping[str, Any], name: str) -> dict[int, float]:
    return {
        int(size): each["compute"]["median_ms"]
        for size, found in timing.items()
        if size.isdigit()
        for each in found["models"]
        if each["name"] == name
    }
