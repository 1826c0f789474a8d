"""Samples as they run together: one at a time, or as many as a model of fixed batch size takes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.batches import Array, Batch, Batches, TensorSpec, bind
from calibrators.errors import DataError
from engines.graph.model import with_types

_SAMPLES = "trtcal.samples"
"""The name that the axis of samples is followed by."""


@dataclass(frozen=True, slots=True)
class Group:
    """Samples that run together: `names` may be fewer than the arrays hold where the last of them were repeated."""

    arrays: dict[str, Array]
    names: tuple[str, ...]


def group_size(specs: Iterable[TensorSpec]) -> int:
    """How many samples a model with these inputs takes at a time."""
    return max((spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)), default=1)


def grouped(batches: Batches, specs: Sequence[TensorSpec], size: int) -> Iterator[Group]:
    """Cut batches into groups of `size` samples; the last one is filled up with its last sample."""
    waiting: list[tuple[str, dict[str, Array]]] = []
    count = 0
    for batch in batches:
        bound = bind(batch, specs)
        sizes = {len(array) for array in bound.values()}
        if len(sizes) != 1:
            raise DataError(
                f"the inputs of a batch hold different numbers of samples ({sorted(sizes)}): give one per sample each"
            )
        held = sizes.pop()
        names = batch.names if isinstance(batch, Batch) else [f"sample {count + i}" for i in range(held)]
        count += held
        for i in range(held):
            waiting.append((names[i], {name: array[i : i + 1] for name, array in bound.items()}))
            if len(waiting) == size:
                yield _together(waiting, size)
                waiting = []
    if waiting:
        yield _together(waiting, size)


def _together(samples: list[tuple[str, dict[str, Array]]], size: int) -> Group:
    arrays = [sample for _, sample in samples]
    if size == 1:
        return Group(arrays[0], (samples[0][0],))
    arrays += [arrays[-1]] * (size - len(arrays))
    return Group(
        {name: np.concatenate([sample[name] for sample in arrays]) for name in arrays[0]},
        tuple(name for name, _ in samples),
    )


def split(values: Array, size: int) -> list[npt.NDArray[np.float32]]:
    """One array per sample; a tensor that does not carry the samples on its first axis counts as a single one."""
    with np.errstate(over="ignore"):  # the infinity that a large double becomes is refused as such
        floats = values.astype(np.float32, copy=False)
    if size == 1 or floats.ndim == 0 or len(floats) % size:
        return [floats]
    return np.split(floats, size)


def turned(proto: onnx.ModelProto) -> frozenset[str]:
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
