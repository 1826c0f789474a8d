"""The quantized model with weights to change, and what single layers read in it and give in the float one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from engines.graph.constants import replace_constant, with_outputs
from engines.recovery.affine import Affine, floats_of
from engines.recovery.patches import Places, Singles, columns, given, places_of
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation

PLACES = 8192
"""Places of each layer's output that are looked at, spread over all samples."""

MOST_FLOATS = 2**26
"""Of a layer's columns that are held."""

TARGETS = 2**27
"""Floats of layers' outputs that are held."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What a layer gives in the float model.

    Attributes:
        shapes: Of its output, batch by batch.
        places: That were chosen, batch by batch.
        y: There, shape (groups, outputs, places of all).
    """

    shapes: Sequence[tuple[int, ...]]
    places: Sequence[Places]
    y: Singles


def together(layers: Iterable[Affine]) -> Iterator[list[Affine]]:
    """Layers in order, as many together as `TARGETS` allows."""
    group, held = list[Affine](), 0
    for layer in layers:
        size = PLACES * layer.outputs
        if group and held + size > TARGETS:
            yield group
            group, held = [], 0
        group.append(layer)
        held += size
    if group:
        yield group


def targets_of(
    model: onnx.ModelProto,
    layers: Sequence[Affine],
    batches: Iterable[Batch],
    count: int,
    seed: int,
    told: Callable[[int], None],
) -> dict[str, Targets]:
    """What layers give in the float model, by name.

    Args:
        model: The float model.
        layers: Some of its layers.
        batches: Samples.
        count: How many they are.
        seed: Of the choice of places.
        told: Is told the number of samples done since the last call.
    """
    shapes, places, parts = (dict[str, list[Any]]() for _ in range(3))
    with session_of(model, [str(layer.output.name) for layer in layers]) as session:
        for number, batch in enumerate(batches):
            outputs = session.run(batch)
            for layer in layers:
                y = outputs[str(layer.output.name)]
                groups, _, inputs, taps = layer.shape
                most = min(PLACES, max(1, MOST_FLOATS // (groups * inputs * taps)))
                where = chosen(layer, y.shape, -(-most * batch.size // count), seed, number)
                shapes.setdefault(layer.name, []).append(y.shape)
                places.setdefault(layer.name, []).append(where)
                parts.setdefault(layer.name, []).append(given(layer, y, where))
            told(batch.size)
    return {name: Targets(shapes[name], places[name], np.concatenate(parts[name], axis=2)) for name in parts}


def chosen(layer: Affine, shape: Sequence[int], count: int, seed: int, number: int) -> Places:
    """Places of an output of that shape, drawn without repetition: `count`, or all where there are fewer.

    Args:
        layer: Whose output it is.
        shape: Of the output for a batch.
        count: How many.
        seed: Of the choice.
        number: The batch's.
    """
    available = places_of(layer, shape)
    random = np.random.default_rng([seed, number])
    return np.sort(random.choice(available, min(count, available), replace=False, shuffle=False)).astype(np.int64)


def read_by(
    version: onnx.ModelProto,
    layer: Affine,
    encoding: Encoding | None,
    batches: Iterable[Batch],
    targets: Targets,
    told: Callable[[int], None],
) -> Singles:
    """What a layer reads in the quantized model, shape (places, groups, inputs * taps)."""
    name, parts = layer.site.tensor, list[Singles]()
    is_input = name in {value.name for value in version.graph.input}
    with nullcontext() if is_input else session_of(version, [name]) as session:
        for batch, shape, places in zip(batches, targets.shapes, targets.places, strict=True):
            x = batch[name] if session is None else session.run(batch)[name]
            x = x if encoding is None else encoding.fake_quantize(x)
            parts.append(columns(layer, x, shape, places).transpose(2, 0, 1))
            told(batch.size)
    return np.ascontiguousarray(np.concatenate(parts))


def session_of(model: onnx.ModelProto, names: Sequence[str]) -> OnnxRuntimeSession:
    """A session that gives these tensors of a model, and computes no more than they need."""
    return OnnxRuntimeSession(with_outputs(model, names), arithmetic="literal")


def fake_quantized(model: onnx.ModelProto, layers: Iterable[Affine], forms: Mapping[str, LayerForm]) -> onnx.ModelProto:
    """The quantized model, with the weights of `layers` as the floats that their levels stand for.

    So a weight can be replaced without making the model anew.
    """
    changed, rest = onnx.ModelProto(), dict(forms)
    changed.CopyFrom(model)
    for layer in layers:
        form = forms[layer.name]
        if form.weight is not None and not layer.shared:
            replace_constant(changed, str(layer.weight.name), form.weight.fake_quantize(floats_of(layer)))
            rest[layer.name] = replace(form, weight=None)
    return Simulation(changed).version(rest)
