"""Times of engines on the GPU, by CUDA events, as trtexec takes them."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calibrators.batches import Array, bind
from calibrators.cuda.protocols import Cuda, Event
from calibrators.errors import TrtcalError
from engines.sessions.closing import Closing
from engines.sessions.execution import Execution
from engines.sessions.tensorrt import TensorRTSession
from trtcal.machine.nvml import clocks, nvidia
from trtcal.speed.benchmark import WARM_UP, Latency, measure, summary, total_of

ENQUEUE_BOUND = 0.8
"""Part of the GPU's time that launching may take on the CPU before it is likely to hold the GPU up; trtexec's bound."""

SLICES = 10
"""Parts that the measurement of throughput is cut into, so that engines take turns in it."""

IN_FLIGHT = 2
"""Runs that a stream is given before the first of them must be done: the GPU need not wait for the CPU in between."""

MOST_STREAMS = 64


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """What one engine takes, run after run with nothing else on the GPU; throughput apart.

    Attributes:
        compute: The engine's own work on the GPU, without copies: trtexec's GPU Compute Time.
        latency: From the start of the copies to the device to the end of those back.
        copy_in: Inputs from page-locked memory of the host to the device (H2D).
        copy_out: Outputs back (D2H).
        enqueue: What launching the work takes on the CPU, meanwhile.
        throughput: Samples per second, copies included, with `streams` that always have work.
        streams: Ways through the engine at the same time, each with an execution context.
        cuda_graph: Whether the work was launched through a CUDA graph.
        no_cuda_graph: Why it was not though asked for; else empty.
    """

    compute: Latency
    latency: Latency
    copy_in: Latency
    copy_out: Latency
    enqueue: Latency
    throughput: float
    streams: int = 1
    cuda_graph: bool = False
    no_cuda_graph: str = ""

    @property
    def enqueue_bound(self) -> bool:
        """Whether launching takes the CPU so long that it is likely to hold the GPU up."""
        return self.enqueue.median > ENQUEUE_BOUND * self.compute.median

    def to_dict(self) -> dict[str, Any]:
        """For JSON: as `Latency` has it, the times being the GPU's own, and the other times each under its name."""
        parts = {"latency": self.latency, "copy_in": self.copy_in, "copy_out": self.copy_out, "enqueue": self.enqueue}
        times = {name: each.times() for name, each in parts.items()}
        settings = {key: asdict(self)[key] for key in ("streams", "cuda_graph", "no_cuda_graph")}
        return {**self.compute.to_dict(), "throughput": self.throughput, **times, **settings}


def benchmark_engines(
    sessions: Mapping[str, TensorRTSession],
    feeds: Mapping[str, Mapping[str, Array]],
    *,
    duration: float = 3.0,
    runs: int | None = None,
    repeat: int = 1,
    seed: int = 0,
    streams: int = 1,
    cuda_graph: bool = False,
    begun: Callable[[], None] | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, EngineTimes]:
    """Measure engines side by side on the GPU: latency first, run by run in turn, then throughput in turn.

    Args:
        sessions: Engines by name.
        feeds: By engine, arrays by input name, which one of its profiles takes in one run.
        duration: Seconds per engine for the latency, and again for the throughput.
        runs: So many runs of each engine for the latency instead, and as many in each repeat.
        repeat: How often; more than once with `runs` alone.
        seed: Of the order, 0 or more.
        streams: Streams for the throughput; the latency is that of one alone.
        cuda_graph: Launch through CUDA graphs, where an engine can be captured.
        begun: Is called when every engine has run once.
        clock: Nanoseconds on the CPU.

    Raises:
        DeviceError: The GPU's memory does not suffice.
        EngineError: No profile takes the arrays, or an engine does not run.
        TrtcalError: The number of streams means nothing.
    """
    if not 1 <= streams <= MOST_STREAMS:
        raise TrtcalError(f"the number of streams is from 1 to {MOST_STREAMS}, not {streams}")
    with ExitStack() as stack:
        ways: dict[str, list[Execution]] = {}
        for name, session in sessions.items():
            feed, profile = bind(feeds[name], session.inputs), session.profile_for(feeds[name])
            ways[name] = [stack.enter_context(session.execution(cuda_graph=cuda_graph)) for _ in range(streams)]
            for way in ways[name]:
                way.run(feed, profile)
        if begun is not None:
            begun()
        cuda = {name: session.cuda for name, session in sessions.items()}
        timers = {name: stack.enter_context(_Timer(each[0], cuda[name], clock)) for name, each in ways.items()}
        taken = measure(timers, duration=duration, runs=total_of(runs, repeat), seed=seed, clock=clock)
        pumps = {name: stack.enter_context(_Pump(each, cuda[name], clock)) for name, each in ways.items()}
        rates = _runs_per_second(pumps, duration=duration, seed=seed)
    results = {}
    for name, timer in timers.items():
        size = len(next(iter(feeds[name].values())))
        parts = {part: summary(times, size, repeat=repeat) for part, times in timer.parts(len(taken[name])).items()}
        reasons = [way.no_graph for way in ways[name] if way.no_graph]
        results[name] = EngineTimes(
            **parts,
            throughput=rates[name] * size,
            streams=streams,
            cuda_graph=cuda_graph and not reasons,
            no_cuda_graph=reasons[0] if reasons else "",
        )
    return results


def gpu_facts(cuda: Cuda) -> dict[str, Any]:
    """What the GPU is, for JSON; its clocks are those of this moment, so ask after the runs and not before.

    The driver and the clocks are NVML's: null where it does not tell, or where several GPUs have this one's name.
    """
    device, now = cuda.device(), clocks(cuda.device().name)
    return {
        "name": device.name,
        "compute_capability": device.compute_capability,
        "memory_bytes": device.memory_total,
        "driver": nvidia().driver,
        "cuda": device.driver,
        "clocks_mhz": None if now is None else asdict(now),
        "through": cuda.name,
    }


class _Timer(Closing):
    """Runs an engine once when called, and remembers what each part took, in milliseconds.

    The events of one run stand on one stream, before and after the copies in, the engine and the copies out.
    """

    def __init__(self, way: Execution, cuda: Cuda, clock: Callable[[], int]) -> None:
        self._way, self._clock = way, clock
        self._rows: list[list[float]] = []
        with ExitStack() as stack:
            self._events: list[Event] = [stack.enter_context(cuda.event()) for _ in range(4)]
            self._resources = stack.pop_all()

    def __call__(self) -> None:
        way, (start, copied, computed, end) = self._way, self._events
        start.record(way.stream)
        way.copy_in()
        copied.record(way.stream)
        before = self._clock()
        way.launch()
        enqueued = self._clock() - before
        computed.record(way.stream)
        way.copy_out()
        end.record(way.stream)
        way.stream.synchronize()
        spans = (copied, computed), (start, end), (start, copied), (computed, end)
        self._rows.append([*(late.milliseconds_since(early) for early, late in spans), enqueued / 1e6])

    def parts(self, runs: int) -> dict[str, Any]:
        """Nanoseconds of the last `runs` runs, by part: the ones before them are the warm-up."""
        rows = np.array(self._rows[-runs:], np.float64) * 1e6
        return dict(zip(("compute", "latency", "copy_in", "copy_out", "enqueue"), rows.T, strict=True))

    def close(self) -> None:
        """Give its events back."""
        self._resources.close()


class _Pump(Closing):
    """Keeps the streams of one engine busy."""

    def __init__(self, ways: Sequence[Execution], cuda: Cuda, clock: Callable[[], int]) -> None:
        self._ways, self._clock = ways, clock
        with ExitStack() as stack:
            self._done = [
                [stack.enter_context(cuda.event(timing=False)) for _ in range(IN_FLIGHT)] for _ in range(len(ways))
            ]
            self._resources = stack.pop_all()

    def run(self, seconds: float) -> tuple[int, float]:
        """Run for so long, and until all is done; gives the number of runs and the seconds that they took."""
        start, runs = self._clock(), 0
        while runs < len(self._ways) or self._clock() - start < seconds * 1e9:
            way, done = self._ways[runs % len(self._ways)], self._done[runs % len(self._ways)]
            event = done[runs // len(self._ways) % IN_FLIGHT]
            if runs >= IN_FLIGHT * len(self._ways):
                event.synchronize()
            way.copy_in()
            way.launch()
            way.copy_out()
            event.record(way.stream)
            runs += 1
        for way in self._ways:
            way.stream.synchronize()
        return runs, (self._clock() - start) / 1e9

    def close(self) -> None:
        """Give its events back."""
        self._resources.close()


def _runs_per_second(pumps: Mapping[str, _Pump], *, duration: float, seed: int) -> dict[str, float]:
    """Runs per second of each, in slices that alternate in a shuffled order after a warm-up that is not counted."""
    rng = np.random.default_rng(seed)
    names = list(pumps)
    for name in names:
        pumps[name].run(min(WARM_UP, duration) / SLICES)
    runs, seconds = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for _ in range(SLICES):
        for index in rng.permutation(len(names)):
            name = names[index]
            done, taken = pumps[name].run(duration / SLICES)
            runs[name] += done
            seconds[name] += taken
    return {name: runs[name] / seconds[name] for name in names}


def engine_remarks(times: Mapping[str, EngineTimes], precisions: Mapping[str, str]) -> list[str]:
    """What a reader should know of engines beside `trtcal.speed.benchmark.remarks`.

    Args:
        times: By engine.
        precisions: By engine, what it was built in: int8, fp16 or fp32; empty where that is not known.
    """
    said = [
        f"warning: {name} runs without a CUDA graph: {each.no_cuda_graph}"
        for name, each in times.items()
        if each.no_cuda_graph
    ]
    for name, each in times.items():
        if each.enqueue_bound:
            taken = f"{each.enqueue.median:.3f} ms for {each.compute.median:.3f} ms on the GPU"
            remedy = "a larger batch gives the GPU more to do" if each.cuda_graph else "--cuda-graph may help"
            said.append(f"warning: {name} is held up by the CPU that launches it ({taken}): {remedy}")
    fastest = min(times, key=lambda name: times[name].compute.median)
    for name, each in times.items():
        factor = each.compute.median / times[fastest].compute.median
        if precisions[name] == "int8" and precisions[fastest] not in ("int8", "") and factor > 1:
            said.append(
                f"warning: {name} is INT8, yet {fastest} ({precisions[fastest].upper()}) is faster, {factor:.2f} "
                f"times: trtcal inspect {name} shows what runs in INT8 and which Q/DQ nodes came to nothing"
            )
    return said
