"""Benchmarks: how long a batch takes, models side by side."""

import gc
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array, TensorSpec
from calibrators.errors import ModelError, TrtcalError
from engines.sessions.onnxruntime import Session

WARM_UP = 0.5
"""Seconds per model that are run and not counted: allocations, caches and the processor's clock settle."""

FEWEST_RUNS = 10
"""Runs of each model, however short the duration."""

MOST_RUNS = 10_000_000
"""Of each model: their times are held in memory."""

STEADY = 2.5
"""Percent of variation above which something disturbed the runs; trtexec warns from there on too."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one model's runs, in milliseconds.

    Percentiles interpolate linearly between the two nearest ranks: of n sorted times, percentile p lies at position
    (n - 1) p / 100, counted from 0 (R. J. Hyndman and Y. Fan, 1996, definition 7; NumPy's default).

    Attributes:
        runs: How many.
        batch_size: Samples in each.
        variation: Standard deviation (of the runs, not of a sample: divided by n) over mean, in percent.
        repeats: The mean of each repeat, where the runs were repeated; what TVM's time_evaluator gives.
    """

    runs: int
    batch_size: int
    median: float
    p90: float
    p95: float
    p99: float
    mean: float
    minimum: float
    maximum: float
    variation: float
    repeats: tuple[float, ...] = ()

    @property
    def throughput(self) -> float:
        """Samples per second at the median latency: batch size / median."""
        return 1000 * self.batch_size / self.median

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `_ms` and `_percent` are units, throughput is in samples per second."""
        counts = {"runs": self.runs, "batch_size": self.batch_size}
        return {**counts, "throughput": self.throughput, **self.times()}

    def times(self) -> dict[str, float]:
        """The times alone, as in `to_dict`."""
        others = ("runs", "batch_size", "variation", "repeats")
        times = {f"{key}_ms": value for key, value in asdict(self).items() if key not in others}
        repeats = {"repeat_means_ms": list(self.repeats)} if self.repeats else {}
        return {**times, "variation_percent": self.variation, **repeats}


def benchmark(
    models: Mapping[str, Session],
    *,
    batch_size: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    duration: float = 3.0,
    runs: int | None = None,
    repeat: int = 1,
    seed: int = 0,
    begun: Callable[[], None] | None = None,
) -> dict[str, Latency]:
    """Measure models side by side on random inputs, all of them on the same batch size.

    Args:
        models: Sessions by name.
        batch_size: Samples per run; None for what the models fix, or 1.
        shapes: By input name, the whole shape, for inputs that leave more than the batch size open.
        duration: Seconds of runs per model.
        runs: So many runs of each model instead, and as many in each repeat.
        repeat: How often; more than once with `runs` alone. `Latency.repeats` has the mean of each.
        seed: Of the inputs and of the order of the runs, 0 or more.
        begun: Is called when all is checked and every model has run once.

    Raises:
        DataError: A model has no input.
        ModelError: An input has open dimensions and no shape or does not fit in memory, or a model does not take the
            batch size.
        TrtcalError: A shape, duration, number of runs or seed that means nothing.
    """
    require_settings(duration, seed, runs=runs, repeat=repeat)
    size, feeds = random_batches(models, batch_size=batch_size, shapes=shapes, seed=seed)
    return benchmark_on(models, feeds, size, duration=duration, runs=runs, repeat=repeat, seed=seed, begun=begun)


def benchmark_on(
    models: Mapping[str, Session],
    feeds: Mapping[str, Mapping[str, Array]],
    batch_size: int,
    *,
    duration: float = 3.0,
    runs: int | None = None,
    repeat: int = 1,
    seed: int = 0,
    begun: Callable[[], None] | None = None,
) -> dict[str, Latency]:
    """Measure models side by side on arrays of `batch_size` samples; the rest as `benchmark` has it.

    Args:
        models: Sessions by name.
        feeds: By model, arrays by input name.
        batch_size: Samples in each.
        duration: Seconds of runs per model.
        runs: As in `benchmark`.
        repeat: Likewise.
        seed: Of the order of the runs, 0 or more.
        begun: Is called when every model has run once.
    """
    calls = {name: _call(model, feeds[name]) for name, model in models.items()}
    for call in calls.values():
        call()
    if begun is not None:
        begun()
    taken = measure(calls, duration=duration, runs=total_of(runs, repeat), seed=seed)
    return {name: summary(times, batch_size, repeat=repeat) for name, times in taken.items()}


def total_of(runs: int | None, repeat: int) -> int | None:
    """All runs of a model; None where it is a duration that counts."""
    return None if runs is None else runs * repeat


def require_settings(duration: float, seed: int, *, runs: int | None = None, repeat: int = 1) -> None:
    """Refuse a duration, a seed or a number of runs that means nothing, before any work is done.

    Raises:
        TrtcalError: It does.
    """
    if not duration > 0 or math.isinf(duration):
        raise TrtcalError(f"the duration must be a number of seconds greater than 0, not {duration:g}")
    if seed < 0:
        raise TrtcalError(f"the seed must be 0 or more, not {seed}")
    if runs is None and repeat != 1:
        raise TrtcalError("repeats are of so many runs each: give --runs N beside --repeat")
    if runs is not None and not (runs >= 1 and repeat >= 1 and runs * repeat <= MOST_RUNS):
        raise TrtcalError(f"runs and repeats are from 1 on, and {MOST_RUNS} in all at most, not {runs} x {repeat}")


def random_batches(
    models: Mapping[str, Session],
    *,
    batch_size: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> tuple[int, dict[str, dict[str, Array]]]:
    """The batch size that all models take, and random inputs of it for each; arguments and errors are `benchmark`'s."""
    shapes = shapes or {}
    known = {spec.name for model in models.values() for spec in model.inputs}
    unknown = sorted(set(shapes) - known)
    if unknown:
        raise TrtcalError(f"no model has an input {unknown[0]}: the inputs are {', '.join(sorted(known))}")
    size = _common_batch_size(models, batch_size, shapes)
    feeds = {name: random_batch(name, model.inputs, size, shapes, seed) for name, model in models.items()}
    return size, feeds


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    duration: float,
    runs: int | None = None,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, npt.NDArray[np.int64]]:
    """Time calls, interleaved run by run in a shuffled order, so that whatever drifts meets all of them alike.

    After a warm-up that is not counted, all are called equally often, until the runs of one have taken `duration` on
    average and there are `FEWEST_RUNS` of each; or `runs` times. Python's garbage collector pauses meanwhile.

    Args:
        calls: By name.
        duration: Seconds per call.
        runs: So many of each instead.
        seed: Of the order.
        clock: Nanoseconds.

    Returns:
        Nanoseconds of each run, by name.
    """
    rng = np.random.default_rng(seed)
    names = list(calls)

    def rounds(seconds: float, fewest: int) -> list[list[int]]:
        taken: list[list[int]] = [[] for _ in names]
        spent = 0
        while spent < seconds * len(names) * 1e9 or len(taken[0]) < fewest:
            for index in rng.permutation(len(names)):
                call = calls[names[index]]
                start = clock()
                call()
                taken[index].append(clock() - start)
                spent += taken[index][-1]
        return taken

    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        rounds(min(WARM_UP, duration), 2)
        taken = rounds(duration, FEWEST_RUNS) if runs is None else rounds(0.0, runs)
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(times, np.int64) for name, times in zip(names, taken, strict=True)}


def summary(nanoseconds: npt.ArrayLike, batch_size: int, *, repeat: int = 1) -> Latency:
    """Sum up the times of one model's runs.

    Args:
        nanoseconds: Of each run, one or more.
        batch_size: Samples in each run.
        repeat: Into how many parts of equal length they fall, one after the other.
    """
    times = np.asarray(nanoseconds, np.float64) / 1e6
    median, p90, p95, p99 = np.percentile(times, [50, 90, 95, 99])
    return Latency(
        runs=times.size,
        batch_size=batch_size,
        median=float(median),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        mean=float(times.mean()),
        minimum=float(times.min()),
        maximum=float(times.max()),
        variation=float(100 * times.std() / times.mean()) if times.any() else 0.0,
        repeats=tuple(times.reshape(repeat, -1).mean(axis=1).tolist()) if repeat > 1 else (),
    )


def random_batch(
    name: str, inputs: Sequence[TensorSpec], batch_size: int, shapes: Mapping[str, Sequence[int]], seed: int
) -> dict[str, Array]:
    """Arrays for a model's inputs: standard normal; uint8 from 0 to 255; other integers 0 or 1, as they may be indices.

    Raises:
        ModelError: An input has open dimensions and is not in `shapes`, its fixed dimensions are others, or it does not
            fit in memory.
    """
    rng = np.random.default_rng(seed)
    wanted = {spec.name: (_shape(name, spec, batch_size, shapes), spec.dtype) for spec in inputs}
    return {key: _random(f"{name}, input {key}", rng, shape, dtype) for key, (shape, dtype) in wanted.items()}


def remarks(latencies: Mapping[str, Latency], quantized: Sequence[str]) -> list[str]:
    """What a reader should know before believing the numbers.

    Args:
        latencies: By model.
        quantized: The models with Q/DQ nodes.
    """
    said = []
    most = max(each.variation for each in latencies.values())
    if most > STEADY:
        said.append(f"timings vary (CV up to {most:.{0 if most >= 10 else 1}f} %): compare medians")
    fewest = min(each.runs for each in latencies.values())
    if fewest < 100:
        said.append(f"p99 of {fewest} runs is next to the slowest one: a longer --duration or more --runs help")
    fastest = min(latencies, key=lambda name: latencies[name].median)
    if quantized:
        slower = f"{', '.join(quantized)} is INT8, yet {fastest} is the fastest here: "
        meaning = "what ONNX Runtime takes for a Q/DQ model on a CPU says nothing about TensorRT on a GPU"
        said.append(meaning if fastest in quantized else slower + meaning)
    return said


def has_qdq(path: str | os.PathLike[str]) -> bool:
    """Whether an ONNX file holds QuantizeLinear, DequantizeLinear or other nodes of quantized models."""
    import onnx

    from engines.graph.model import is_quantized

    return is_quantized(onnx.load(path, load_external_data=False))


def _call(model: Session, feed: Mapping[str, Array]) -> Callable[[], object]:
    return lambda: model.run(feed)


def _common_batch_size(models: Mapping[str, Session], asked: int | None, shapes: Mapping[str, Sequence[int]]) -> int:
    """What is asked for, by number or by a shape's first size; else what the models fix; else 1."""
    if asked is not None and asked < 1:
        raise TrtcalError(f"the batch size must be 1 or more, not {asked}")
    wishes = {"--batch-size": asked} if asked is not None else {}
    wishes |= {f"--shapes {name}": shape[0] for name, shape in shapes.items()}
    fixed = {
        f"{name} (fixed)": size
        for name, model in models.items()
        for size in (spec.shape[0] for spec in model.inputs)
        if isinstance(size, int)
    }
    sizes = {**wishes, **fixed}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{who} {size}" for who, size in sizes.items())
        raise ModelError(f"the batch sizes differ: {said}; measure on one that all models take")
    return next(iter(sizes.values()), 1)


def _shape(name: str, spec: TensorSpec, batch_size: int, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if spec.name in shapes:
        shape = tuple(shapes[spec.name])
        fits = len(shape) == len(spec.shape) and all(
            not isinstance(fixed, int) or fixed == given for fixed, given in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise ModelError(f"{name} takes {spec}, not {'x'.join(map(str, shape))}")
        return shape
    wanted = [batch_size, *spec.shape[1:]]
    if not all(isinstance(size, int) for size in wanted):
        free = ", ".join(str(size or "?") for size in spec.shape[1:] if not isinstance(size, int))
        example = "x".join(str(size) if isinstance(size, int) else "SIZE" for size in wanted)
        raise ModelError(
            f"{name} leaves {free} of its input {spec} open: give the shape, --shapes {spec.name}:{example}"
        )
    return tuple(size for size in wanted if isinstance(size, int))


def _random(where: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    try:
        if dtype.kind == "f":
            return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
        return rng.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)
    except (MemoryError, ValueError, OverflowError) as error:  # The last two where the bytes cannot even be counted.
        sizes = "x".join(map(str, shape))
        raise ModelError(f"{where}: {sizes} does not fit in memory; give a smaller batch size or shape") from error
