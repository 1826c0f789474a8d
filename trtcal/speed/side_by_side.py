"""Benchmarks of files: ONNX models on the CPU and engines on the GPU, side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibrators.errors import TrtcalError
from calibrators.tabular import Row, Tabular
from engines.backends.shapes import parse_shapes
from engines.sessions.onnxruntime import Session, is_engine
from trtcal.measure.models import PathLike, display_names, opened_here, remarks_of
from trtcal.speed import benchmark as timing
from trtcal.speed.benchmark import Latency, benchmark_on, has_qdq, random_batches, require_settings

if TYPE_CHECKING:
    from engines.sessions.tensorrt import TensorRTSession
    from trtcal.speed.gpu_timing import EngineTimes


@dataclass(frozen=True, slots=True)
class Benchmark(Tabular):
    """What was measured, by model.

    Attributes:
        runtimes: What ran each model, in the order of the models.
        latencies: Of the models on the CPU.
        times: Of the engines on the GPU.
        precisions: What engines were built in; empty where no side-car tells.
        quantized: The models that compute in INT8.
        gpu: What is known of the GPU; None where none was used.
        absent: The engines that cannot run here -> why.
        computed: What ONNX Runtime computes otherwise than a model says, one line each.
    """

    runtimes: Mapping[str, Mapping[str, str]]
    latencies: Mapping[str, Latency]
    times: "Mapping[str, EngineTimes]"
    precisions: Mapping[str, str]
    quantized: Sequence[str]
    gpu: Mapping[str, Any] | None
    absent: Mapping[str, str]
    computed: Sequence[str] = ()

    @property
    def speedups(self) -> dict[str, float]:
        """How many times faster each model is than the first on the same processor, by medians."""
        medians = {name: each.median for name, each in self.latencies.items()}
        on_gpu = {name: each.compute.median for name, each in self.times.items()}
        return {name: next(iter(group.values())) / time for group in (medians, on_gpu) for name, time in group.items()}

    @property
    def notes(self) -> list[str]:
        """What a reader of the times should know, one line each."""
        latencies, times = self.latencies, self.times
        told = [*self.computed]
        if latencies and times:
            told.append("ONNX models ran on the CPU and engines on the GPU: their times are not compared")
        if latencies:
            told += timing.remarks(latencies, [name for name in self.quantized if name in latencies])
        if times:
            from trtcal.speed.gpu_timing import engine_remarks  # it loads onnx and numba, of no use for the CPU alone

            told += timing.remarks({name: each.compute for name, each in times.items()}, [])
            told += engine_remarks(times, self.precisions)
        return list(dict.fromkeys(told))

    def rows(self) -> list[Row]:
        """A row a model: milliseconds (the GPU's own for engines), samples per second; or why it cannot run here."""
        speedups = self.speedups
        measured = [(name, "cpu", each, each.throughput) for name, each in self.latencies.items()]
        measured += [(name, "gpu", each.compute, each.throughput) for name, each in self.times.items()]
        rows: list[Row] = [
            {
                **{"model": name, "device": device, "precision": self.precisions.get(name) or None},
                **{"int8": name in self.quantized, "runs": each.runs, "batch_size": each.batch_size},
                **each.times(),
                "repeat_means_ms": ", ".join(f"{mean:.6g}" for mean in each.repeats) or None,
                **{"samples_per_second": throughput, "speedup": speedups[name], "absent": ""},
            }
            for name, device, each, throughput in measured
        ]
        nothing: Row = dict.fromkeys(rows[0])
        return rows + [{**nothing, "model": name, "absent": why} for name, why in self.absent.items()]


def benchmark(
    models: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    batch_size: int | None = None,
    shapes: str | Mapping[str, Sequence[int]] | None = None,
    duration: float = 3.0,
    runs: int | None = None,
    repeat: int = 1,
    threads: int | None = None,
    streams: int | None = None,
    cuda_graph: bool | None = None,
    seed: int = 0,
    begun: Callable[[str, float], None] | None = None,
) -> Benchmark:
    """Measure latency and throughput of models side by side, on random inputs.

    ONNX models run in ONNX Runtime on the CPU, engines on the GPU. They run in turn, in an order shuffled anew each
    round. An engine that cannot run here is left out, and `absent` says why.

    Args:
        models: A path, several, or paths by the names that they are to have.
        batch_size: Samples per run; None for what the models fix, or 1.
        shapes: Of inputs whose size is open: by input name, or as the command takes them.
        duration: Seconds of runs per model.
        runs: So many runs of each model instead, and as many in each repeat; `duration` then holds for the throughput
            of engines alone.
        repeat: How often; more than once with `runs` alone.
        threads: That each ONNX model uses; None for every core.
        streams: CUDA streams for the throughput of engines; None for 1.
        cuda_graph: Launch engines through CUDA graphs; None for no.
        seed: Of the inputs and of the order of the runs, 0 or more.
        begun: Is told what begins to be measured, and how many seconds that takes at least; 0 where runs are counted.

    Raises:
        ModelError: A model cannot be opened or does not take the batch size or shapes.
        TrtcalError: An argument means nothing for these models, or no model can run here.
    """
    require_settings(duration, seed, runs=runs, repeat=repeat)
    lasting: dict[str, Any] = {"duration": duration, "runs": runs, "repeat": repeat, "seed": seed}
    length = f"{duration:g} s each" if runs is None else f"{f'{repeat} x ' if repeat > 1 else ''}{runs} runs each"
    named = _named(models)
    if not any(map(is_engine, named.values())) and (streams is not None or cuda_graph is not None):
        raise TrtcalError(
            "--streams and --cuda-graph are for engines, and there is none among the models: leave them out"
        )
    given = {name: each.optimum for name, each in parse_shapes(shapes).items()} if isinstance(shapes, str) else shapes
    say = begun or (lambda said, seconds: None)
    with opened_here(named, threads=threads) as (sessions, absent):
        size, feeds = random_batches(sessions, batch_size=batch_size, shapes=given, seed=seed)
        on_cpu, on_gpu = _apart(sessions)
        for name, session in on_gpu.items():
            session.profile_for(feeds[name])
        latencies = {}
        if on_cpu:
            said = f"Measuring {len(on_cpu)} model(s) for {length}, after a warm-up"
            seconds = duration * len(on_cpu) if runs is None else 0.0
            latencies = benchmark_on(on_cpu, feeds, size, begun=lambda: say(said, seconds), **lasting)
        said_of_engines = f"Measuring {len(on_gpu)} engine(s) on the GPU for {length}, and again for the throughput"
        least = (1 if runs else 2) * duration * len(on_gpu)
        times, gpu = _on_gpu(
            on_gpu,
            feeds,
            begun=lambda: say(said_of_engines, least),
            streams=1 if streams is None else streams,
            cuda_graph=bool(cuda_graph),
            **lasting,
        )
        computed = remarks_of(sessions)
        runtimes = {name: _runtime(session) for name, session in sessions.items()}
        precisions = {name: session.record.precision if session.record else "" for name, session in on_gpu.items()}
    quantized = [name for name in on_cpu if has_qdq(named[name])]
    quantized += [name for name, precision in precisions.items() if precision == "int8"]
    quantized.sort(key=list(named).index)
    return Benchmark(runtimes, latencies, times, precisions, quantized, gpu, absent, computed)


def _named(models: PathLike | Sequence[PathLike] | Mapping[str, PathLike]) -> dict[str, PathLike]:
    if not models:
        raise TrtcalError("there is nothing to benchmark: give a model or an engine")
    if isinstance(models, Mapping):
        return dict(models)
    paths = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    return dict(zip(display_names(paths), paths, strict=True))


def _apart(sessions: Mapping[str, Session]) -> "tuple[dict[str, Session], dict[str, TensorRTSession]]":
    from engines.sessions.tensorrt import TensorRTSession

    on_gpu = {name: session for name, session in sessions.items() if isinstance(session, TensorRTSession)}
    return {name: session for name, session in sessions.items() if name not in on_gpu}, on_gpu


def _on_gpu(
    engines: "Mapping[str, TensorRTSession]", feeds: Mapping[str, Mapping[str, Any]], **settings: Any
) -> "tuple[dict[str, EngineTimes], dict[str, Any] | None]":
    """Times of engines, and what is known of the GPU; nothing where there are no engines."""
    if not engines:
        return {}, None
    from trtcal.speed.gpu_timing import benchmark_engines, gpu_facts

    return benchmark_engines(engines, feeds, **settings), gpu_facts(next(iter(engines.values())).cuda)


def _runtime(session: Session) -> dict[str, str]:
    from engines.sessions.tensorrt import TensorRTSession

    if isinstance(session, TensorRTSession):
        return {"name": session.runtime, "version": session.version, "provider": "GPU"}
    import onnxruntime

    return {"name": "onnxruntime", "version": onnxruntime.__version__, "provider": "CPUExecutionProvider"}
