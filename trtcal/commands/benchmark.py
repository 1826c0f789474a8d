"""`trtcal benchmark`: how fast models are, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrators.errors import TrtcalError
from trtcal.commands import options
from trtcal.tables import console

if TYPE_CHECKING:
    from engines.sessions.onnxruntime import Session
    from engines.sessions.tensorrt import TensorRTSession
    from trtcal.measure.benchmark import Latency
    from trtcal.measure.gpu_timing import EngineTimes


def benchmark(
    context: typer.Context,
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
    runs: Annotated[
        int | None,
        typer.Option(
            help="So many runs of each model instead of --duration, which then holds for the throughput of engines "
            "alone.",
            metavar="N",
            min=1,
            show_default=False,
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(help="Repeat --runs so often; the mean of each repeat is listed.", metavar="N", min=1)
    ] = 1,
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
    first model's on the same processor. Percentiles interpolate linearly between the two nearest runs. --runs 2000
    --repeat 3 is what TVM's time_evaluator does with number=2000, repeat=3: means are those of each repeat.

    ONNX models run in ONNX Runtime; samples per second are those at the median latency. Of engines the GPU's own time
    is listed, by CUDA events and without copies, as trtexec has it; apart from it the latency with copies, the copies
    to the device (H2D) and back (D2H), and what launching takes on the CPU (enqueue). Their samples per second are
    measured on their own, copies included, with --streams that always have work.
    """
    from engines.backends.shapes import parse_shapes
    from engines.sessions.onnxruntime import is_engine
    from trtcal.commands.models import display_names, opened, remarks_of
    from trtcal.measure.benchmark import random_batches, require_settings
    from trtcal.tables.benchmark import Benchmark, as_dict, remarks, show

    require_settings(duration, seed, runs=runs, repeat=repeat)
    names = display_names(models)
    engines = [name for name, path in zip(names, models, strict=True) if is_engine(path)]
    if not engines and (streams is not None or cuda_graph is not None):
        raise TrtcalError(
            "--streams and --cuda-graph are for engines, and there is none among the models: leave them out"
        )
    if runs is not None and not engines and _is_given(context, "duration"):
        raise TrtcalError("--duration and --runs both say how long to measure: leave one of them out")
    length = f"{duration:g} s each" if runs is None else f"{f'{repeat} x ' if repeat > 1 else ''}{runs} runs each"
    given = {name: profile.optimum for name, profile in (parse_shapes(shapes) if shapes else {}).items()}
    with opened(models, threads=threads) as sessions:
        size, feeds = random_batches(sessions, batch_size=batch_size, shapes=given, seed=seed)
        on_cpu, on_gpu = _apart(sessions, engines)
        for name, session in on_gpu.items():
            session.profile_for(feeds[name])
        # No progress bar: drawing one takes the cores that are being measured.
        said = f"Measuring {len(models)} model(s) for {length}, after a warm-up"
        latencies: dict[str, Latency] = {}
        times: dict[str, EngineTimes] = {}
        gpu = None
        if on_cpu:
            from trtcal.measure.benchmark import benchmark_on

            latencies = benchmark_on(
                on_cpu,
                feeds,
                size,
                duration=duration,
                runs=runs,
                repeat=repeat,
                seed=seed,
                begun=lambda: console.note(said),
            )
            said = f"Measuring {len(on_gpu)} engine(s) on the GPU for {length}, and again for the throughput"
        if on_gpu:
            from trtcal.measure.gpu_timing import benchmark_engines, gpu_facts

            times = benchmark_engines(
                on_gpu,
                feeds,
                duration=duration,
                runs=runs,
                repeat=repeat,
                seed=seed,
                streams=1 if streams is None else streams,
                cuda_graph=bool(cuda_graph),
                begun=lambda: console.note(said),
            )
            gpu = gpu_facts(next(iter(on_gpu.values())).cuda)
        computed = remarks_of(sessions)
        runtimes = {name: _runtime(session) for name, session in sessions.items()}
        precisions = {name: session.record.precision if session.record else "" for name, session in on_gpu.items()}
    quantized = _quantized(dict(zip(names, models, strict=True)), precisions)
    found = Benchmark(runtimes, latencies, times, precisions, quantized, gpu)
    notes = [*computed, *remarks(found)]
    if json:
        settings = {"duration_s": duration, "runs": runs, "repeat": repeat, "seed": seed}
        console.emit_json(as_dict(found, notes, threads=threads, settings=settings))
    else:
        show(found, threads=threads)
    for line in notes:
        console.note(line if line.startswith("warning") else f"note: {line}")


def _apart(
    sessions: "Mapping[str, Session]", engines: Sequence[str]
) -> "tuple[dict[str, Session], dict[str, TensorRTSession]]":
    from engines.sessions.tensorrt import TensorRTSession

    on_gpu = {name: session for name, session in sessions.items() if isinstance(session, TensorRTSession)}
    return {name: session for name, session in sessions.items() if name not in engines}, on_gpu


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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
