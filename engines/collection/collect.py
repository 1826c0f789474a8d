"""Calibration without a GPU: the FP32 model runs in ONNX Runtime, its activations go into statistics."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import onnx

from calibrators.batches import Batches, fitted
from calibrators.errors import DataError, ModelError
from calibrators.statistics.file import Provenance, ScaleGroup, Statistics
from engines.collection.activation_sessions import fetches
from engines.collection.counting import Gathering
from engines.collection.derived_statistics import Origin, derived_of
from engines.collection.unbounded import GROUPINGS, Unbounded, needed_for_quantization
from engines.graph.cores import usable_cores
from engines.graph.inputs import runnable_inputs
from engines.graph.model import (
    ModelSource,
    activations,
    files_of,
    input_specs,
    is_quantized,
    loaded,
    model_digest,
    scale_groups,
)
from engines.graph.samples import group_size, grouped, turned
from engines.structure.dynamic import dynamic_refusal

Tensors = Literal["all", "quantizable"]

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
        DataError: There is no sample, a sample does not fit the model, or an activation is NaN or infinite. Where Q/DQ
            nodes need no range, infinity is noted in the statistics' `unbounded` (`engines.collection.unbounded`).
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
    specs = runnable_inputs(proto)
    batches = fitted(batches, specs)
    count = 0
    with ThreadPoolExecutor(1) as aside:
        # Digesting needs no lock of the interpreter, and opening sessions soon needs none either.
        digest = None if isinstance(model, onnx.ModelProto) else aside.submit(model_digest, model)
        groups = aside.submit(_groups, proto)
        run = _gathering(model, proto, wanted, derived, threads)
        for done in run.all_of(grouped(batches, specs, group_size(specs))):
            count += done
            if progress is not None:
                progress(done)
    if _stamps(files) != stamps:
        raise ModelError(f"{model} was changed while it was calibrated, so the ranges are of no use: calibrate again")
    if count == 0:
        raise DataError("there is no sample to calibrate on: give at least one image")
    gathered, clipped, unbounded = run.statistics(), run.clipped(), run.unbounded()
    for name in wanted:
        if name in derived and derived[name].source in gathered:
            gathered[name] = derived[name].statistics(gathered, clipped)
        elif name in derived and derived[name].source in unbounded:
            unbounded.add(name)
    ordered = {name: gathered[name] for name in wanted if name in gathered}
    known = ordered.keys() | unbounded
    shared, explicit = ([group for group in found if known & set(group.members)] for found in groups.result())
    made_of = "" if digest is None else digest.result()
    provenance = Provenance.of(batches, model=made_of, count=count, tensors=tensors)
    return Statistics(
        ordered,
        groups=shared,
        explicit_groups=explicit,
        provenance=provenance,
        unbounded=[name for name in wanted if name in unbounded],
    )


def _gathering(
    model: ModelSource,
    proto: onnx.ModelProto,
    wanted: Sequence[str],
    derived: Mapping[str, Origin],
    threads: int | None,
) -> Gathering:
    """What counts the wanted activations but for those that follow from others."""
    specs = input_specs(proto)
    inputs = {spec.name for spec in specs}
    fetched = [name for name in wanted if name not in derived]
    cores, size = threads or usable_cores(), group_size(specs)
    workers = min(cores, MOST_WORKERS)
    plain, blocked = fetches(model, proto, [name for name in fetched if name not in inputs], cores // workers)
    return Gathering(
        plain,
        blocked,
        inputs=[name for name in fetched if name in inputs],
        ceilings={origin.source: origin.ceiling for origin in derived.values() if origin.ceiling is not None},
        turned=turned(proto) if size > 1 else frozenset(),
        size=size,
        threads=workers,
        rule=Unbounded(model, proto, derived),
    )


def _groups(proto: onnx.ModelProto) -> list[tuple[ScaleGroup, ...]]:
    return [scale_groups(proto, through=through) for through in GROUPINGS]


def _stamps(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """What changes when one of a model's files is written or replaced; ONNX Runtime may read weights at any time."""
    found = (file.stat() for file in files if file.exists())
    return [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def _wanted(proto: onnx.ModelProto, model: ModelSource, tensors: Tensors) -> tuple[str, ...]:
    if tensors == "all":
        names = activations(proto)
    else:
        needed = needed_for_quantization(model, proto)
        names = tuple(name for name in activations(proto) if name in needed)
    if not names:
        raise ModelError(
            "the model has no float activation to calibrate: give a float model with convolutions or matrix products"
        )
    return names
