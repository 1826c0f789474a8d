"""`trtcal benchmark`: how fast models are, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrators.errors import TrtcalError
from trtcal import console
from trtcal.commands import options

if TYPE_CHECKING:
    from engines.sessions.onnxruntime import Session
    from engines.sessions.tensorrt import TensorRTSession
    from trtcal.measure.benchmark import Latency
    from trtcal.measure.gpu_timing import EngineTimes


def benchmark(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="ONNX models and engines.", show_default=False)
    ],
    *,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples per run (default: what the models fix, or 1).", metavar="N")
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Shapes of inputs whose size is open, as `build` takes them; of three, the middle one is run.",
            metavar="NAME:1x3x224x224,...",
        ),
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of runs per model.", metavar="SECONDS")] = 3.0,
    threads: Annotated[
        int | None, typer.Option(help="Threads that each ONNX model uses (default: every core).", metavar="N")
    ] = None,
    streams: Annotated[
        int | None, typer.Option(help="CUDA streams for an engine's throughput (default: 1).", metavar="N")
    ] = None,
    cuda_graph: Annotated[
        bool | None,
        typer.Option(help="Launch engines through CUDA graphs (default: no).", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the inputs and the order of the runs.", metavar="N")] = 0,
    json: options.Json = False,
) -> None:
    """Measure latency and throughput of models side by side: ONNX models on the CPU, engines on the GPU.

    Inputs are random numbers. The models run in turn, in an order shuffled anew each round, so that a processor that
    slows down slows all of them; the first runs, which warm up, are not counted. The speed-up compares medians with the
    first model's on the same processor. Percentiles interpolate linearly between the two nearest runs.

    ONNX models run in ONNX Runtime; samples per second are those at the median latency. Of engines the GPU's own time
    is listed, by CUDA events and without copies, as trtexec has it; apart from it the latency with copies, the copies
    to the device (H2D) and back (D2H), and what launching takes on the CPU (enqueue). Their samples per second are
    measured on their own, copies included, with --streams that always have work.
    """
    from engines.backends.shapes import parse_shapes
    from engines.sessions.onnxruntime import is_engine
    from trtcal.commands.models import display_names, opened
    from trtcal.measure.benchmark import random_batches, require_settings

    require_settings(duration, seed)
    names = display_names(models)
    engines = [name for name, path in zip(names, models, strict=True) if is_engine(path)]
    if not engines and (streams is not None or cuda_graph is not None):
        raise TrtcalError(
            "--streams and --cuda-graph are for engines, and there is none among the models: leave them out"
        )
    given = {name: profile.optimum for name, profile in (parse_shapes(shapes) if shapes else {}).items()}
    with opened(models, threads=threads) as sessions:
        size, feeds = random_batches(sessions, batch_size=batch_size, shapes=given, seed=seed)
        on_cpu, on_gpu = _apart(sessions, engines)
        for name, session in on_gpu.items():
            session.profile_for(feeds[name])
        # No progress bar: drawing one takes the cores that are being measured.
        said = f"Measuring {len(models)} model(s) for {duration:g} s each, after a warm-up"
        latencies: dict[str, Latency] = {}
        times: dict[str, EngineTimes] = {}
        gpu = None
        if on_cpu:
            from trtcal.measure.benchmark import benchmark_on

            latencies = benchmark_on(
                on_cpu, feeds, size, duration=duration, seed=seed, begun=lambda: console.note(said)
            )
            said = f"Measuring {len(on_gpu)} engine(s) on the GPU for {duration:g} s each, and again for the throughput"
        if on_gpu:
            from trtcal.measure.gpu_timing import benchmark_engines, gpu_facts

            times = benchmark_engines(
                on_gpu,
                feeds,
                duration=duration,
                seed=seed,
                streams=1 if streams is None else streams,
                cuda_graph=bool(cuda_graph),
                begun=lambda: console.note(said),
            )
            gpu = gpu_facts(next(iter(on_gpu.values())).cuda)
        runtimes = {name: _runtime(session) for name, session in sessions.items()}
        precisions = {name: session.record.precision if session.record else "" for name, session in on_gpu.items()}
    quantized = _quantized(dict(zip(names, models, strict=True)), precisions)
    notes = _notes(latencies, times, quantized, precisions)
    if json:
        from engines.graph.cores import usable_cores
        from trtcal.measure.benchmark import STEADY

        rows = {**_cpu_rows(latencies), **_gpu_rows(times, precisions)}
        first = {"runtime": runtimes[names[0]], "threads": (threads or usable_cores()) if on_cpu else None}
        rest = {"duration_s": duration, "seed": seed, "percentiles": "linear", "steady_percent": STEADY, "gpu": gpu}
        described = [
            {"name": name, "quantized": name in quantized, "runtime": runtimes[name], **rows[name]} for name in names
        ]
        console.emit_json({**first, **rest, "models": described, "notes": notes})
    else:
        if latencies:
            _print_cpu(latencies, threads)
        if times:
            _print_gpu(times, precisions, {name: runtimes[name] for name in times}, gpu or {})
    for line in notes:
        console.note(line if line.startswith("warning") else f"note: {line}")


def _apart(
    sessions: "Mapping[str, Session]", engines: Sequence[str]
) -> "tuple[dict[str, Session], dict[str, TensorRTSession]]":
    from engines.sessions.tensorrt import TensorRTSession

    on_gpu = {name: session for name, session in sessions.items() if isinstance(session, TensorRTSession)}
    return {name: session for name, session in sessions.items() if name not in engines}, on_gpu


def _runtime(session: "Session") -> dict[str, str]:
    from engines.sessions.tensorrt import TensorRTSession

    if isinstance(session, TensorRTSession):
        return {"name": session.runtime, "version": session.version, "provider": "GPU"}
    import onnxruntime

    return {"name": "onnxruntime", "version": onnxruntime.__version__, "provider": "CPUExecutionProvider"}


def _quantized(paths: Mapping[str, Path], precisions: Mapping[str, str]) -> list[str]:
    from trtcal.measure.benchmark import has_qdq

    return [
        name for name, path in paths.items() if (precisions[name] == "int8" if name in precisions else has_qdq(path))
    ]


def _notes(
    latencies: "Mapping[str, Latency]",
    times: "Mapping[str, EngineTimes]",
    quantized: Sequence[str],
    precisions: Mapping[str, str],
) -> list[str]:
    from trtcal.measure.benchmark import remarks

    notes = []
    if latencies and times:
        notes.append("ONNX models ran on the CPU and engines on the GPU: their times are not compared")
    if latencies:
        notes += remarks(latencies, [name for name in quantized if name in latencies])
    if times:
        from trtcal.measure.gpu_timing import engine_remarks

        notes += remarks({name: each.compute for name, each in times.items()}, [])
        notes += engine_remarks(times, precisions)
    return list(dict.fromkeys(notes))


def _cpu_rows(latencies: "Mapping[str, Latency]") -> dict[str, dict[str, Any]]:
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


def _print_cpu(latencies: "Mapping[str, Latency]", threads: int | None) -> None:
    import onnxruntime

    from engines.graph.cores import usable_cores

    first = next(iter(latencies.values()))
    console.table(
        f"Latency in ms, batch size {first.batch_size}: ONNX Runtime {onnxruntime.__version__} on the CPU, "
        f"{threads or usable_cores()} thread(s), random inputs; samples/s at the median",
        _COLUMNS,
        [
            [name, *_times(each), f"{each.throughput:.1f}", f"{first.median / each.median:.2f}x"]
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
    libraries = dict.fromkeys(f"{each['name']} {each['version']}" for each in runtimes.values())
    launched = ", CUDA graphs" if any(each.cuda_graph for each in times.values()) else ""
    clocks = f", {gpu['clocks_mhz']['sm']} MHz" if gpu.get("clocks_mhz") else ""
    console.table(
        f"GPU time in ms, batch size {first.compute.batch_size}: {', '.join(libraries)} on {gpu['name']}{clocks}, "
        f"random inputs{launched}; samples/s with copies, {first.streams} stream(s)",
        _GPU_COLUMNS,
        [
            [name, precisions[name] or "?", *_times(each.compute)]
            + [f"{part.median:.3f}" for part in (each.latency, each.copy_in, each.copy_out, each.enqueue)]
            + [f"{each.throughput:.1f}", f"{first.compute.median / each.compute.median:.2f}x"]
            for name, each in times.items()
        ],
        numeric=_GPU_COLUMNS[2:],
        whole=("precision",),
        optional=(*_DETAILS, "H2D", "D2H", "enqueue"),
        legend=True,
    )


def _times(each: "Latency") -> list[str]:
    """The cells from runs to variation."""
    parts = (each.median, each.p90, each.p95, each.p99, each.mean, each.minimum, each.maximum)
    return [str(each.runs), *(f"{time:.3f}" for time in parts), f"{each.variation:.1f} %"]


_SPREAD = ("runs", "median", "p90", "p95", "p99", "mean", "min", "max", "variation")
_COLUMNS = ("model", *_SPREAD, "samples/s", "speed-up")
_GPU_COLUMNS = ("model", "precision", *_SPREAD, "latency", "H2D", "D2H", "enqueue", "samples/s", "speed-up")
_DETAILS = ("runs", "p90", "p95", "mean", "min", "max", "variation")
