"""`trtcal benchmark`: how fast models are, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from trtcal import console
from trtcal.commands import options


def benchmark(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX models.", show_default=False)],
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
        int | None, typer.Option(help="Threads that each model uses (default: every core).", metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the inputs and the order of the runs.", metavar="N")] = 0,
    json: options.Json = False,
) -> None:
    """Measure latency and throughput of models side by side, in ONNX Runtime on the CPU.

    Inputs are random numbers. The models run in turn, in an order shuffled anew each round, so that a processor that
    slows down slows all of them; the first runs, which warm up, are not counted. Samples per second are those at the
    median latency, and the speed-up compares it with the first model's. Percentiles interpolate linearly between the
    two nearest runs.
    """
    import onnxruntime

    from engines.session import usable_cores
    from engines.shapes import parse_shapes
    from trtcal.benchmark import STEADY, has_qdq, remarks
    from trtcal.benchmark import benchmark as measured
    from trtcal.commands.models import display_names, opened

    given = {name: profile.optimum for name, profile in (parse_shapes(shapes) if shapes else {}).items()}
    with opened(models, threads=threads) as sessions:
        # No progress bar: drawing one takes the cores that are being measured.
        said = f"Measuring {len(models)} model(s) for {duration:g} s each, after a warm-up"
        latencies = measured(
            sessions,
            batch_size=batch_size,
            shapes=given,
            duration=duration,
            seed=seed,
            begun=lambda: console.note(said),
        )
    names = display_names(models)
    quantized = [name for name, path in zip(names, models, strict=True) if has_qdq(path)]
    notes = remarks(latencies, quantized)
    first = latencies[names[0]]
    used = threads or usable_cores()
    if json:
        rows = [
            {"name": name, "quantized": name in quantized, **each.to_dict(), "speedup": first.median / each.median}
            for name, each in latencies.items()
        ]
        runtime = {"name": "onnxruntime", "version": onnxruntime.__version__, "provider": "CPUExecutionProvider"}
        settings = {
            "threads": used,
            "duration_s": duration,
            "seed": seed,
            "percentiles": "linear",
            "steady_percent": STEADY,
        }
        console.emit_json({"runtime": runtime, **settings, "models": rows, "notes": notes})
    else:
        console.table(
            f"Latency in ms, batch size {first.batch_size}: ONNX Runtime {onnxruntime.__version__} on the CPU, "
            f"{used} thread(s), random inputs; samples/s at the median",
            _COLUMNS,
            [
                [name, str(each.runs)]
                + [f"{time:.3f}" for time in (each.median, each.p90, each.p95, each.p99)]
                + [f"{time:.3f}" for time in (each.mean, each.minimum, each.maximum)]
                + [f"{each.variation:.1f} %", f"{each.throughput:.1f}", f"{first.median / each.median:.2f}x"]
                for name, each in latencies.items()
            ],
            numeric=_COLUMNS[1:],
            optional=_DETAILS,
            legend=True,
        )
    for line in notes:
        console.note(f"note: {line}")


_COLUMNS = ("model", "runs", "median", "p90", "p95", "p99", "mean", "min", "max", "variation", "samples/s", "speed-up")
_DETAILS = ("runs", "p90", "p95", "mean", "min", "max", "variation")
