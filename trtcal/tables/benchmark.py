"""Times of models side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engines.graph.cores import usable_cores
from trtcal.speed.benchmark import STEADY, Latency
from trtcal.speed.side_by_side import Benchmark
from trtcal.tables import console

if TYPE_CHECKING:
    from trtcal.speed.gpu_timing import EngineTimes


def show(found: Benchmark, *, threads: int | None) -> None:
    """Print a table of the models on the CPU, and one of the engines on the GPU."""
    if found.latencies:
        _print_cpu(found, threads)
    if found.times:
        _print_gpu(found, found.gpu or {})


def as_dict(found: Benchmark, *, threads: int | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, for JSON."""
    speedups = found.speedups
    rows = {**_cpu_rows(found.latencies, speedups), **_gpu_rows(found.times, found.precisions, speedups)}
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
    absent = [{"name": name, "reason": why} for name, why in found.absent.items()]
    return {**first, **rest, "models": described, "absent": absent, "notes": found.notes}


def _cpu_rows(latencies: Mapping[str, Latency], speedups: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    return {name: {"device": "cpu", **each.to_dict(), "speedup": speedups[name]} for name, each in latencies.items()}


def _gpu_rows(
    times: "Mapping[str, EngineTimes]", precisions: Mapping[str, str], speedups: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "device": "gpu",
            "precision": precisions[name] or None,
            **each.to_dict(),
            "speedup": speedups[name],
        }
        for name, each in times.items()
    }


def _print_cpu(found: Benchmark, threads: int | None) -> None:
    import onnxruntime

    latencies, speedups = found.latencies, found.speedups
    first = next(iter(latencies.values()))
    means = [MEANS] if first.repeats else []
    console.table(
        f"Latency in ms, batch size {first.batch_size}: ONNX Runtime {onnxruntime.__version__} on the CPU, "
        f"{threads or usable_cores()} thread(s), random inputs; samples/s at the median",
        [*_COLUMNS, *means],
        [
            [name, *_times(each), f"{each.throughput:.1f}", f"{speedups[name]:.2f}x", *_means(each)]
            for name, each in latencies.items()
        ],
        numeric=_COLUMNS[1:],
        optional=_DETAILS,
        legend=True,
    )


def _print_gpu(found: Benchmark, gpu: Mapping[str, Any]) -> None:
    times, precisions, speedups = found.times, found.precisions, found.speedups
    first = next(iter(times.values()))
    means = [MEANS] if first.compute.repeats else []
    runtimes = [found.runtimes[name] for name in times]
    libraries = dict.fromkeys(f"{each['name']} {each['version']}" for each in runtimes)
    launched = ", CUDA graphs" if any(each.cuda_graph for each in times.values()) else ""
    clocks = f", {gpu['clocks_mhz']['sm']} MHz" if gpu.get("clocks_mhz") else ""
    console.table(
        f"GPU time in ms, batch size {first.compute.batch_size}: {', '.join(libraries)} on {gpu['name']}{clocks}, "
        f"random inputs{launched}; samples/s with copies, {first.streams} stream(s)",
        [*_GPU_COLUMNS, *means],
        [
            [name, precisions[name] or "?", *_times(each.compute)]
            + [f"{part.median:.3f}" for part in (each.latency, each.copy_in, each.copy_out, each.enqueue)]
            + [f"{each.throughput:.1f}", f"{speedups[name]:.2f}x", *_means(each.compute)]
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
