"""Calibration without a GPU: the FP32 model runs in ONNX Runtime, its activations go into statistics."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.batches import Array, Batch, Batches, TensorSpec, bind, fitted
from calibrators.errors import DataError, ModelError, RangeError
from calibrators.statistics import Accumulator, TensorStatistics
from calibrators.statistics_file import Provenance, ScaleGroup, Statistics
from engines.blocked import Fetch, Fingerprint, fetches, fingerprint
from engines.bound import FLOATS, Bound
from engines.cores import usable_cores
from engines.derived import derived_of
from engines.dynamic_structure import dynamic_refusal
from engines.graph import (
    AVERAGES,
    COMMUTES,
    ModelSource,
    activations,
    files_of,
    input_specs,
    is_quantized,
    loaded,
    model_digest,
    scale_groups,
    with_types,
)
from engines.onnxruntime_errors import refusal

Tensors = Literal["all", "quantizable"]

_GROUPINGS = (COMMUTES | AVERAGES, COMMUTES)
"""Which operators share a scale in a cache, and between Q/DQ nodes."""

_SAMPLES = "trtcal.samples"
"""The name that the axis of samples is followed by."""

MOST_WORKERS = 4
"""Each worker holds one sample's activations: more of them cost memory and, with more threads for each, gain
nothing."""


def collect(
    model: ModelSource,
    batches: Batches,
    *,
    tensors: Tensors = "all",
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Run a model over data and gather statistics of its activations.

    Samples are run one at a time (a model of fixed batch size n: n at a time), so that the result depends neither on
    how they were batched nor on the number of threads.

    Args:
        model: A path, or a model in memory.
        batches: An `ImageLoader`, or any iterable of arrays by input name (or of arrays, for a model with one input),
            samples first.
        tensors: "all" float activations, as a TensorRT cache lists them; "quantizable": only those that Q/DQ nodes
            need.
        threads: Processor cores to use; None for all that this process may use.
        progress: Called with the number of samples done since the last call.

    Raises:
        ModelError: The model cannot be read or run, has nothing to quantize, or was changed meanwhile.
        DataError: There is no sample, a sample does not fit the model, or an activation is NaN or infinite.
    """
    files = files_of(model)
    stamps = _stamps(files)
    proto = loaded(model)
    if dynamic := dynamic_refusal(proto):
        raise ModelError(dynamic)
    if is_quantized(proto):
        raise ModelError("the model has Q/DQ nodes already, and with them its ranges: give the float model")
    wanted = _wanted(proto, model, tensors)
    derived = derived_of(proto, wanted)
    specs = input_specs(proto)
    batches = fitted(batches, specs)
    ceilings = {origin.source: origin.ceiling for origin in derived.values() if origin.ceiling is not None}
    count = 0
    with ThreadPoolExecutor(2) as aside:
        groups = aside.submit(_groups, proto)
        digest = None if isinstance(model, onnx.ModelProto) else aside.submit(model_digest, model)
        fetched = [name for name in wanted if name not in derived]
        run = _Run(model, proto, specs, fetched, ceilings, threads, aside)
        for done in run.all_of(_samples(batches, specs, run.group)):
            count += done
            if progress is not None:
                progress(done)
    if _stamps(files) != stamps:
        raise ModelError(f"{model} was changed while it was calibrated, so the ranges are of no use: calibrate again")
    if count == 0:
        raise DataError("there is no sample to calibrate on: give at least one image")
    gathered, clipped = run.statistics(), run.clipped()
    for name in wanted:
        if name in derived and derived[name].source in gathered:
            gathered[name] = derived[name].statistics(gathered, clipped)
    ordered = {name: gathered[name] for name in wanted if name in gathered}
    shared, explicit = ([group for group in found if ordered.keys() & set(group.members)] for found in groups.result())
    made_of = "" if digest is None else digest.result()
    provenance = Provenance.of(batches, model=made_of, count=count, tensors=tensors)
    return Statistics(ordered, groups=shared, explicit_groups=explicit, provenance=provenance)


def _groups(proto: onnx.ModelProto) -> list[tuple[ScaleGroup, ...]]:
    return [scale_groups(proto, through=through) for through in _GROUPINGS]


def _stamps(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """What changes when one of a model's files is written or replaced; ONNX Runtime may read weights at any time."""
    found = (file.stat() for file in files if file.exists())
    return [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def _wanted(proto: onnx.ModelProto, model: ModelSource, tensors: Tensors) -> tuple[str, ...]:
    if tensors == "all":
        names = activations(proto)
    else:
        from engines.qdq import quantizable_tensors

        needed = set(quantizable_tensors(model, light=True))
        every = (group for through in _GROUPINGS for group in scale_groups(proto, through=through))
        groups = [group for group in every if needed & set(group.members)]
        needed.update(source for group in groups for source in group.sources)
        names = tuple(name for name in activations(proto) if name in needed)
    if not names:
        raise ModelError(
            "the model has no float activation to calibrate: give a float model with convolutions or matrix products"
        )
    return names


@dataclass(frozen=True, slots=True)
class _Group:
    """Samples that run together: `names` may be fewer than the arrays hold where the last of them were repeated."""

    arrays: dict[str, Array]
    names: tuple[str, ...]


def _samples(batches: Batches, specs: Sequence[TensorSpec], group: int) -> Iterator[_Group]:
    """Cut batches into groups of `group` samples; the last one is filled up with its last sample."""
    waiting: list[tuple[str, dict[str, Array]]] = []
    count = 0
    for batch in batches:
        bound = bind(batch, specs)
        sizes = {len(array) for array in bound.values()}
        if len(sizes) != 1:
            raise DataError(
                f"the inputs of a batch hold different numbers of samples ({sorted(sizes)}): give one per sample each"
            )
        size = sizes.pop()
        names = batch.names if isinstance(batch, Batch) else [f"sample {count + i}" for i in range(size)]
        count += size
        for i in range(size):
            waiting.append((names[i], {name: array[i : i + 1] for name, array in bound.items()}))
            if len(waiting) == group:
                yield _together(waiting, group)
                waiting = []
    if waiting:
        yield _together(waiting, group)


def _together(samples: list[tuple[str, dict[str, Array]]], group: int) -> _Group:
    arrays = [sample for _, sample in samples]
    if group == 1:
        return _Group(arrays[0], (samples[0][0],))
    arrays += [arrays[-1]] * (group - len(arrays))
    return _Group(
        {name: np.concatenate([sample[name] for sample in arrays]) for name in arrays[0]},
        tuple(name for name, _ in samples),
    )


class _Worker:
    """What one thread counts in, so that no other waits for it or has its counters in a cache."""

    def __init__(self, bound: Bound, ceilings: Mapping[str, float], names: Iterable[str]) -> None:
        self.bound = bound
        self.accumulators = {name: Accumulator(ceilings.get(name)) for name in names}


class _Run:
    """Sessions that hand out activations, and the workers that count them."""

    def __init__(
        self,
        model: ModelSource,
        proto: onnx.ModelProto,
        specs: Sequence[TensorSpec],
        fetched: Sequence[str],
        ceilings: Mapping[str, float],
        threads: int | None,
        aside: Executor,
    ) -> None:
        cores = threads or usable_cores()
        self.threads = min(cores, MOST_WORKERS)
        self.group = max((spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)), default=1)
        inputs = {spec.name for spec in specs}
        outputs = [name for name in fetched if name not in inputs]
        fetch, self.faster = _sessions(model, proto, outputs, cores // self.threads, aside)
        self.fetch = _of_floats(fetch)
        self.inputs = [name for name in fetched if name in inputs]
        self.names = [*self.inputs, *self.fetch.names]
        self.turned = _turned(proto) if self.group > 1 else frozenset[str]()
        self.ceilings = ceilings
        self.workers: list[_Worker] = []
        self._own = threading.local()
        self._lock = threading.Lock()

    def all_of(self, groups: Iterable[_Group]) -> Iterator[int]:
        """Run every group, a few at a time; yield the number of samples of each as it is done."""
        executor = ThreadPoolExecutor(self.threads, thread_name_prefix="collect")
        pending: set[Future[int]] = set()
        try:
            for group in groups:
                pending.add(executor.submit(self.one, group))
                # While the faster session is opened, that takes a core, and each run in the slower one fresh memory.
                if len(pending) > (self.threads if self.faster is None else max(self.threads - 2, 0)):
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            executor.shutdown(cancel_futures=True)

    def one(self, group: _Group) -> int:
        """Run one group and count its activations."""
        worker = self._worker()
        values = _activations(worker.bound, group)
        faster = self._opened()
        plain = {} if faster is None else _fingerprints(values)
        count = self._count(worker, group, values)
        if faster is not None:
            self._compare(worker.bound.moved_to(faster), group, plain)
        return count

    def statistics(self) -> dict[str, TensorStatistics]:
        """Of every tensor that was run."""
        return self._merged(Accumulator.statistics, self.names)

    def clipped(self) -> dict[str, TensorStatistics]:
        """Of those with a ceiling, behind it."""
        return self._merged(Accumulator.clipped, [name for name in self.names if name in self.ceilings])

    def _merged(
        self, of: Callable[[Accumulator], TensorStatistics], names: Iterable[str]
    ) -> dict[str, TensorStatistics]:
        parts = ([of(worker.accumulators[name]) for worker in self.workers] for name in names)
        return {name: reduce(TensorStatistics.__add__, part) for name, part in zip(names, parts, strict=True)}

    def _worker(self) -> _Worker:
        """This thread's."""
        if not hasattr(self._own, "worker"):
            self._own.worker = _Worker(Bound(self.fetch), self.ceilings, self.names)
            self.workers.append(self._own.worker)
        worker: _Worker = self._own.worker
        if worker.bound.fetch is not self.fetch:
            worker.bound = worker.bound.moved_to(self.fetch)
        return worker

    def _opened(self) -> Fetch | None:
        """The session that fetches blocked, once, when it is open."""
        with self._lock:
            if self.faster is None or not self.faster.done():
                return None
            fetch, self.faster = self.faster.result(), None
        return None if fetch is None else _of_floats(fetch)

    def _compare(self, bound: Bound, group: _Group, plain: Mapping[str, Fingerprint]) -> None:
        """Fetch blocked from now on, if that gives the same values for a group."""
        with suppress(DataError):
            if _fingerprints(_activations(bound, group)) == plain:
                self.fetch = bound.fetch

    def _count(self, worker: _Worker, group: _Group, activations: Mapping[str, Array]) -> int:
        for name, array in ({name: group.arrays[name] for name in self.inputs} | dict(activations)).items():
            parts = _split(array, 1 if name in self.turned else self.group)
            for sample, part in zip(group.names, parts, strict=False):
                try:
                    worker.accumulators[name].add(part)
                except RangeError as error:
                    raise DataError(
                        f"the activation {name} is {error} for {sample}: "
                        "mend the model or its preprocessing, or leave the image out"
                    ) from None
        return len(group.names)


def _fingerprints(activations: Mapping[str, Array]) -> dict[str, Fingerprint]:
    return {name: fingerprint(array) for name, array in activations.items()}


def _activations(bound: Bound, group: _Group) -> Mapping[str, Array]:
    try:
        return bound.run(group.arrays)
    except Exception as error:
        raise DataError(
            f"ONNX Runtime could not run the model on {group.names[0]}: {' '.join(str(error).split())[:300]}"
        ) from error


def _of_floats(fetch: Fetch) -> Fetch:
    """Without activations of other types."""
    types = {value.name: value.type for value in fetch.session.get_outputs()}
    names = {name: output for name, output in fetch.names.items() if types.get(output) in FLOATS}
    return Fetch(fetch.session, names)


def _turned(proto: onnx.ModelProto) -> frozenset[str]:
    """Tensors that carry the samples on another axis than the first, as far as their shapes tell."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for value in (*model.graph.value_info, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    for value in model.graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = _SAMPLES
    graph = with_types(model).graph
    axes = {
        value.name: [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    return frozenset(name for name, dims in axes.items() if _SAMPLES in dims[1:] and dims[0] != _SAMPLES)


def _split(values: Array, group: int) -> list[npt.NDArray[np.float32]]:
    """One array per sample; a tensor that does not carry the samples on its first axis counts as a single one."""
    with np.errstate(over="ignore"):  # the infinity that a large double becomes is refused as such
        floats = values.astype(np.float32, copy=False)
    if group == 1 or floats.ndim == 0 or len(floats) % group:
        return [floats]
    return np.split(floats, group)


def _sessions(
    model: ModelSource, proto: onnx.ModelProto, outputs: Sequence[str], threads: int, aside: Executor
) -> tuple[Fetch, "Future[Fetch | None] | None"]:
    """Sessions whose outputs are the activations `outputs`; ONNX Runtime finds their types itself."""
    import onnxruntime as ort

    def options(data: str | None) -> Any:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if data is not None:
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", data)
        return settings

    data = None if isinstance(model, onnx.ModelProto) else os.fspath(Path(model).absolute().parent)
    weights = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)

    def opened(light: onnx.ModelProto) -> tuple[Fetch, "Future[Fetch | None] | None"]:
        return fetches(_with_outputs(light, outputs), outputs, options, data, weights=weights, aside=aside)

    try:
        try:
            return opened(proto)
        except Exception:
            if data is None:
                raise
            # It finds no weights in a file behind a link out of the folder, and older ones none that they fold.
            return opened(loaded(model, light=False))
    except Exception as error:
        name = "the model in memory" if isinstance(model, onnx.ModelProto) else os.fspath(model)
        raise ModelError(f"calibration cannot run {name}: {refusal(error)}") from error


def _with_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> bytes:
    """The model's file with other outputs, whose types ONNX Runtime finds, or with its own where there are none."""
    known = {value.name: value for value in model.graph.output}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if outputs:
        changed.graph.ClearField("output")
        changed.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return bytes(changed.SerializeToString())
