"""`trtcal benchmark`: how fast models are, side by side."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from calibrators.errors import CheckFailedError, TrtcalError
from trtcal.commands import options
from trtcal.tables import console


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

    An engine that cannot run here is left out and named with the reason: the other models are measured, and the exit
    code is 1.
    """
    from engines.sessions.onnxruntime import is_engine
    from trtcal.speed.side_by_side import benchmark as measured
    from trtcal.tables.benchmark import as_dict, show

    if runs is not None and _is_given(context, "duration") and not any(map(is_engine, models)):
        raise TrtcalError("--duration and --runs both say how long to measure: leave one of them out")
    with ExitStack() as steps:
        found = measured(
            models,
            batch_size=batch_size,
            shapes=shapes,
            duration=duration,
            runs=runs,
            repeat=repeat,
            threads=threads,
            streams=streams,
            cuda_graph=cuda_graph,
            seed=seed,
            # No progress bar: drawing one takes the cores that are being measured.
            begun=lambda said, seconds: steps.enter_context(console.countdown(said, seconds)),
        )
    if json:
        settings = {"duration_s": duration, "runs": runs, "repeat": repeat, "seed": seed}
        console.emit_json(as_dict(found, threads=threads, settings=settings))
    else:
        show(found, threads=threads)
    for line in found.notes:
        console.note(line if line.startswith("warning") else f"note: {line}")
    if found.absent:
        were = "was" if len(found.absent) == 1 else "were"
        said = "; ".join(f"{name}: {why}" for name, why in found.absent.items())
        raise CheckFailedError(
            f"{len(found.absent)} of {len(models)} models cannot run here and {were} not measured: {said}"
        )


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
