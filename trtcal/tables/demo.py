"""The demo: FP32 against INT8, and where each file is."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.build.layer_plan import method_of
from trtcal.demo.run import MAX_DROP, Outcome
from trtcal.demo.verdict import Figures, next_step, verdict
from trtcal.measure.measures import Score
from trtcal.tables import console

if TYPE_CHECKING:
    from engines.inspection.engine_record import Engine


def show(outcome: Outcome, *, gpu: bool) -> None:
    """Print what came of it, FP32 and INT8 side by side, what that means, and what to do next.

    Args:
        outcome: Of the demo.
        gpu: Whether its engines run here.
    """
    figures = _figures(outcome)
    console.table(_title(outcome), ("", "FP32", "INT8"), _rows(outcome), whole=("",))
    console.say(verdict(figures))
    console.say(f"what each file is: {outcome.places.about}")
    console.say(f"next: trtcal {shlex.join(next_step(figures, outcome.places, gpu=gpu))}")


def _figures(outcome: Outcome) -> Figures:
    places, latencies = outcome.places, outcome.latencies
    engines = outcome.fp32_engine.path, outcome.int8_engine.path
    return Figures(
        scores=_scores(outcome),
        latencies=(latencies[places.fp32.name].median, latencies[places.int8.name].median),
        engines=(engines[0].stat().st_size, engines[1].stat().st_size),
        allowed=MAX_DROP,
    )


def _scores(outcome: Outcome) -> tuple[Score, Score]:
    """Of FP32 and of INT8."""
    fp32, int8 = outcome.places.fp32.name, outcome.places.int8.name
    return outcome.accuracy.scores[fp32], outcome.accuracy.scores[int8]


def _title(outcome: Outcome) -> str:
    latency = next(iter(outcome.latencies.values()))
    return (
        f"FP32 against INT8 on the {outcome.tested} images of test/; the files are in {outcome.places.folder}\n"
        f"images/s and latency: ONNX Runtime on the CPU, {outcome.threads} threads, batches of {latency.batch_size}"
    )


def _rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    places = outcome.places
    before, after = (outcome.latencies[path.name] for path in (places.fp32, places.int8))
    return [
        ("ONNX model", _file(places.fp32), _file(places.int8)),
        ("calibration/", "", f"{outcome.images} images, {method_of(outcome.cache)}"),
        ("cache", "", f"{_file(places.cache)}, {len(outcome.cache)} tensors"),
        *_measured_rows(*_scores(outcome)),
        ("images/s", f"{before.throughput:,.0f}", f"{after.throughput:,.0f}"),
        ("latency", f"{before.median:.2f} ms", f"{after.median:.2f} ms"),
        ("engine", _file(outcome.fp32_engine.path), _file(outcome.int8_engine.path)),
        ("  operators", _operators(outcome.fp32_engine), _operators(outcome.int8_engine)),
        ("  kernels", _kernels(outcome.fp32_engine), _kernels(outcome.int8_engine)),
    ]


def _measured_rows(fp32: Score, int8: Score) -> list[tuple[str, str, str]]:
    if fp32.task is None or int8.task is None:
        return [
            ("top-1", f"{fp32.top1.percent:.2f} %", f"{int8.top1.percent:.2f} %"),
            ("same class", "", f"{int8.agreement.percent:.2f} %"),
            ("SQNR", "", _decibels(int8.sqnr)),
        ]
    before, after = fp32.task.result, int8.task.result
    rows = [(after.measure, f"{before.value:.2f} %", f"{after.value:.2f} %")]
    rows += [(name, f"{before.parts[name]:.2f} %", f"{value:.2f} %") for name, value in after.parts.items()]
    if after.lost is not None:
        rows.append(("objects", "", f"{after.lost} lost, {after.extra} extra, {after.moved} moved"))
    return rows


def _file(path: Path) -> str:
    return f"{path.name} ({path.stat().st_size / 1000:,.0f} kB)"


def _decibels(value: float) -> str:
    return "identical" if value == math.inf else f"{value:.1f} dB"


def _operators(engine: "Engine") -> str:
    return _counts(engine.record.operators_by_precision)


def _kernels(engine: "Engine") -> str:
    return _counts(engine.record.kernels_by_precision) if engine.record.kernels is not None else "not known"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {precision}" for precision, count in counts.items())


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """All of it, for JSON."""
    places = outcome.places
    return {
        "folder": str(places.folder),
        "files": {
            "calibration": str(places.calibration),
            "test": str(places.test),
            **_of_scenes(outcome),
            "fp32": str(places.fp32),
            "cache": str(places.cache),
            "int8": str(places.int8),
            "fp32_engine": str(places.fp32_engine),
            "int8_engine": str(places.int8_engine),
        },
        "calibration": {"images": outcome.images, "method": method_of(outcome.cache), "tensors": len(outcome.cache)},
        "quantized": list(outcome.quantized.quantized),
        "left_float": dict(outcome.quantized.left_float),
        "accuracy": outcome.accuracy.to_dict(),
        "verdict": verdict(_figures(outcome)),
        "benchmark": {
            "threads": outcome.threads,
            "models": [{"name": name, **each.to_dict()} for name, each in outcome.latencies.items()],
        },
        "engines": [
            {
                "name": engine.path.name,
                "backend": engine.record.backend,
                "operators_by_precision": engine.record.operators_by_precision,
                "kernels_by_precision": engine.record.kernels_by_precision,
            }
            for engine in (outcome.fp32_engine, outcome.int8_engine)
        ],
    }


def _of_scenes(outcome: Outcome) -> dict[str, str]:
    """What stands beside the images where they are scenes."""
    if outcome.accuracy.criterion != "task":
        return {}
    places = outcome.places
    return {"annotations": str(places.annotations), "masks": str(places.masks), "pictures": str(places.pictures)}
