"""Times of models side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.graph.cores import usable_cores
from trtcal.measure import benchmark
from trtcal.measure.benchmark import STEADY, Latency
from trtcal.tables import console

if TYPE_CHECKING:
    from trtcal.measure.gpu_timing import EngineTimes


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, by model.

    Attributes:
        runtimes: What ran each model, in the order of the models.
        latencies: Of the models on the CPU.
        times: Of the engines on the GPU.
        precisions: What engines were built in; empty where no side-car tells.
        quantized: The models that compute in INT8.
        gpu: What is known of the GPU; None where none was used.
    """

    runtimes: Mapping[str, Mapping[str, str]]
    latencies: Mapping[str, Latency]
    times: "Mapping[str, EngineTimes]"
    precisions: Mapping[str, str]
    quantized: Sequence[str]
    gpu: Mapping[str, Any] | None


def show(found: Benchmark, *, threads: int | None) -> None:
    """Print a table of the models on the CPU, and one of the engines on the GPU."""
    if found.latencies:
        _print_cpu(found.latencies, threads)
    if found.times:
        _print_gpu(found.times, found.precisions, {name: found.runtimes[name] for name in found.times}, found.gpu or {})


def as_dict(
    found: Benchmark, notes: Sequence[str], *, threads: int | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it, for JSON."""
    rows = {**_cpu_rows(found.latencies), **_gpu_rows(found.times, found.precisions)}
    runtimes = found.runtimes
    first = {
        "runtime": next(iter(runtimes.values())),
        "threads": (threads or usable_cores()) if found.latencies else None,
    }
    rest = {**settings, "percentiles": "linear", "steady_percent": STEADY, "gpu": found.gpu}
    described = [
        {"name": name, "quantized": name in found.quantized, "runtime": runtimes[name], **rows[name]}
        for name in runtimes
    ]
    return {**first, **rest, "models": described, "notes": [*notes]}


def remarks(found: Benchmark) -> list[str]:
    """What a reader of the times should know."""
    latencies, times = found.latencies, found.times
    notes = []
    if latencies and times:
        notes.append("ONNX models ran on the CPU and engines on the GPU: their times are not compared")
    if latencies:
        notes += benchmark.remarks(latencies, [name for name in found.quantized if name in latencies])
    if times:
        from trtcal.measure.gpu_timing import engine_remarks  # it loads onnx and numba, of no use for the CPU alone

        notes += benchmark.remarks({name: each.compute for name, each in times.items()}, [])
        notes += engine_remarks(times, found.precisions)
    return list(dict.fromkeys(notes))


def _cpu_rows(latencies: Mapping[str, Latency]) -> dict[str, dict[str, Any]]:
    return {
        name: {"device": "cpu", **each.to_dict(), "speedup": next(iter(latencies.values())).median / each.median}
        for name, each in latencies.items()
    }


def _gpu_rows(times: "Mapping[str, EngineTimes]", precisions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "device": "gpu",
            "precision": precisions[name] or None,
            **each.to_dict(),
            "speedup": next(iter(times.values())).compute.median / each.compute.median,
        }
        for name, each in times.items()
    }


def _print_cpu(latencies: Mapping[str, Latency], threads: int | None) -> None:
    import onnxruntime

    first = next(iter(latencies.values()))
    means = [MEANS] if first.repeats else []
    console.table(
        f"Latency in ms, batch size {first.batch_size}: ONNX Runtime {onnxruntime.__version__} on the CPU, "
        f"{threads or usable_cores()} thread(s), random inputs; samples/s at the median",
        [*_COLUMNS, *means],
        [
            [name, *_times(each), f"{each.throughput:.1f}", f"{first.median / each.median:.2f}x", *_means(each)]
            for name, each in latencies.items()
        ],
        numeric=_COLUMNS[1:],
        optional=_DETAILS,
        legend=True,
    )


def _print_gpu(
    times: "Mapping[str, EngineTimes]",
    precisions: Mapping[str, str],
    runtimes: Mapping[str, Mapping[str, str]],
    gpu: Mapping[str, Any],
) -> None:
    first = next(iter(times.values()))
    means = [MEANS] if first.compute.repeats else []
    libraries = dict.fromkeys(f"{each['name']} {each['version']}" for each in runtimes.values())
    launched = ", CUDA graphs" if any(each.cuda_graph for each in times.values()) else ""
    clocks = f", {gpu['clocks_mhz']['sm']} MHz" if gpu.get("clocks_mhz") else ""
    console.table(
        f"GPU time in ms, batch size {first.compute.batch_size}: {', '.join(libraries)} on {gpu['name']}{clocks}, "
        f"random inputs{launched}; samples/s with copies, {first.streams} stream(s)",
        [*_GPU_COLUMNS, *means],
        [
            [name, precisions[name] or "?", *_times(each.compute)]
            + [f"{part.median:.3f}" for part in (each.latency, each.copy_in, each.copy_out, each.enqueue)]
            + [f"{each.throughput:.1f}", f"{first.compute.median / each.compute.median:.2f}x", *_means(each.compute)]
            for name, each in times.items()
        ],
        numeric=_GPU_COLUMNS[2:],
        whole=("precision",),
        optional=(*_DETAILS, "H2D", "D2H", "enqueue"),
        legend=True,
    )


def _times(each: Latency) -> list[str]:
    """The cells from runs to variation."""
    parts = (each.median, each.p90, each.p95, each.p99, each.mean, each.minimum, each.maximum)
    return [str(each.runs), *(f"{time:.3f}" for time in parts), f"{each.variation:.1f} %"]


def _means(each: Latency) -> list[str]:
    """The cell of the means of repeats, where there are any."""
    return [", ".join(f"{mean:.3f}" for mean in each.repeats)] if each.repeats else []


MEANS = "means of repeats"
_SPREAD = ("runs", "median", "p90", "p95", "p99", "mean", "min", "max", "variation")
_COLUMNS = ("model", *_SPREAD, "samples/s", "speed-up")
_GPU_COLUMNS = ("model", "precision", *_SPREAD, "latency", "H2D", "D2H", "enqueue", "samples/s", "speed-up")
_DETAILS = ("runs", "p90", "p95", "mean", "min", "max", "variation")
