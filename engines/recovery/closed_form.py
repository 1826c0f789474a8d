"""Rounding in closed form: levels for weights by the least error of the layer's output, without gradients.

1. x is what the layer reads in the float model: H, its covariance, says what error any weights make in the output, the
   mean error taken out (`engines.recovery.gram`). All layers' are gathered in one pass, as many as `MOST_SQUARES` holds
   at a time. To read x behind layers that are rounded already, and to aim at the float model's output, takes a run for
   each layer. (ResNet-20, W4A8 per tensor: 1.7 dB of SQNR more, and the same top-1 within chance.)
2. Levels are found by error feedback and coordinate descent (`engines.recovery.levels`).
3. The scale is searched with them, for the error of the output: the encoding's own times `FACTORS`, then near the best
   of these. One factor for each channel's scale; one for the weight where it has a single scale, or blocks.
4. `IMAGES` of the samples are read, or more where a layer gives less than `ROWS` places for each input; `PLACES` of its
   output or more, drawn sample by sample.
5. The mean error goes into the bias, in layers that are not rounded, too.
6. Not rounded: layers with fewer places than inputs, from which H cannot be told; layers whose weight others read too;
   layers whose H is too large; layers for which nothing better than the nearest levels is found.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from engines.graph.constants import constant, replace_constant
from engines.recovery.affine import Affine, bias_name, floats_of, weight_of
from engines.recovery.gram import Doubles, Gram
from engines.recovery.levels import Curvature, Levels, errors_of, fed_back, settled
from engines.recovery.patches import Places, Singles, columns, places_of
from engines.recovery.reconstruction import session_of
from engines.recovery.rounded import Rounded, RoundedModel, alpha_of, rows_of, scales_of, taken_apart
from engines.simulation.simulated_model import LayerForm

IMAGES = 128
PLACES = 8192
ROWS = 2

FACTORS = tuple(float(each) for each in np.geomspace(1, 0.35, 7))
NEAR = 0.945, 1.055

POWERS = 1.0, 0.5
"""Where scales are powers of two."""

MOST_SQUARES = 2**25
"""Numbers in Gram matrices that are held: 256 MB of float64."""

Indices = npt.NDArray[np.int64]


def rounded(
    model: onnx.ModelProto,
    forms: Mapping[str, LayerForm],
    batches: Iterable[Batch],
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> RoundedModel:
    """Round the weights of a prepared float model by the rules above; `model` itself is not changed.

    Args:
        model: Batch normalization folded.
        forms: By layer name, how it is quantized.
        batches: Samples.
        count: How many they are.
        seed: Of the places that are looked at.
        progress: Is told the number of layers done since the last call, of as many as `forms` has weights of.

    Raises:
        DataError: A sample does not fit the model.
        ModelError: The model does not run, or has no layer of a name.
    """
    from threadpoolctl import threadpool_limits

    told = progress or (lambda done: None)
    floats, layers, skipped = taken_apart(model, forms, batches)
    result = onnx.ModelProto()
    result.CopyFrom(floats)
    skipped |= _too_large(layers)
    layers = {name: layer for name, layer in layers.items() if name not in skipped}
    if not layers:
        return RoundedModel(result, {}, skipped)
    found, read = dict[str, Rounded](), _samples_read(floats, layers.values(), batches, count)
    for group in _together(layers.values()):
        with threadpool_limits(1, user_api="blas"):  # sums are the same, however many cores there are
            grams = _gathered(floats, group, _spread(batches, count, read), read, seed)
            for layer in group:
                own = forms[layer.name].weight
                assert own is not None
                found[layer.name] = _put(result, layer, own, grams.pop(layer.name))
                told(1)
    return RoundedModel(result, found, skipped)


def _put(model: onnx.ModelProto, layer: Affine, own: Encoding, gram: Gram) -> Rounded:
    """Round a layer in the model."""
    began = time.perf_counter()
    weight, bias = rows_of(layer, floats_of(layer)), constant(model, str(bias_name(layer)))
    found, made = _rounded(layer, own, gram, weight)
    shift = np.matmul((weight - found).astype(np.float64), gram.mean[:, :, None])
    replace_constant(model, str(bias_name(layer)), bias.reshape(-1) + shift.reshape(-1))
    if made.encoding is not None:
        replace_constant(model, str(layer.weight.name), weight_of(found.reshape(*layer.shape[:3], -1), layer))
    return replace(made, seconds=time.perf_counter() - began)


def _rounded(layer: Affine, own: Encoding, gram: Gram, weight: Singles) -> tuple[Singles, Rounded]:
    """A layer's weight as it is to be used, in rows, and what became of it."""
    levels, h = _levels(layer, own), gram.covariance
    plain = levels.nearest(weight)
    energy = float(errors_of(weight, h).sum())
    nearest = float(errors_of(weight - plain, h).sum())
    noise = 10 * np.log10(energy / nearest) if nearest and energy else np.inf
    kept = Rounded(float(noise), nearest / (energy or 1.0), nearest / (energy or 1.0), 0.0)
    if not np.isfinite(nearest):
        return weight, replace(kept, why="what it reads is not finite")
    if gram.places < weight.shape[2]:
        why = f"{gram.places} places of its output are too few for {weight.shape[2]} inputs: give more images"
        return plain, replace(kept, why=why)
    curvature = Curvature.of(h)
    scaled = _searched(layer, own, curvature, levels, weight, h)
    levels = _levels(layer, scaled)
    found = settled(curvature, levels, weight)
    error = float(errors_of(weight - found, h).sum())
    if not error < nearest:
        return plain, replace(kept, why="no rounding was found that is better than to the nearest")
    return found, replace(kept, error=error / energy, encoding=scaled)


def _levels(layer: Affine, encoding: Encoding) -> Levels:
    return Levels(*scales_of(layer, encoding), (encoding.grid.minimum, encoding.grid.maximum))


def _searched(
    layer: Affine, own: Encoding, curvature: Curvature, levels: Levels, weight: Singles, h: Doubles
) -> Encoding:
    """The encoding with the scales of least error, each weight rounded by error feedback."""
    owners = _owners(layer, own)
    best, least = np.ones(owners.max() + 1), np.full(owners.max() + 1, np.inf)
    for tried in (POWERS,) if own.grid.power_of_two else (FACTORS, NEAR):
        factors = np.outer(tried, best)
        many = np.concatenate([weight] * len(tried), axis=1)
        lacking = many - fed_back(curvature, levels.scaled(factors[:, owners]), many)
        errors = np.split(errors_of(lacking, h), len(tried), axis=1)
        for factor, error in zip(factors, errors, strict=True):
            sums = np.bincount(owners.ravel(), error.ravel(), minlength=len(least))
            best, least = np.where(sums < least, factor, best), np.minimum(sums, least)
    return replace(own, scale=np.asarray(own.scale * (best if best.size > 1 else best[0]), np.float32))


def _owners(layer: Affine, encoding: Encoding) -> Indices:
    """Which of an encoding's scales each output has, shape (groups, outputs); 0 for all where one factor is for all."""
    groups, outputs, _, _ = layer.shape
    shape = floats_of(layer).shape
    if encoding.axis is not None and encoding.block_size is None:
        along = [-1 if axis == encoding.axis % len(shape) else 1 for axis in range(len(shape))]
        numbers = rows_of(layer, np.broadcast_to(np.arange(encoding.scale.size).reshape(along), shape))
        if (numbers == numbers[:, :, :1]).all():
            return np.asarray(numbers[:, :, 0], np.int64)
    return np.zeros((groups, outputs), np.int64)


def _squares(layer: Affine) -> int:
    groups, _, inputs, taps = layer.shape
    return groups * (inputs * taps) ** 2


def _too_large(layers: Mapping[str, Affine]) -> dict[str, str]:
    return {
        name: f"its Gram matrix would take {_squares(layer) * 8 / 1e9:.1f} GB: take adaround for it"
        for name, layer in layers.items()
        if _squares(layer) > MOST_SQUARES
    }


def _together(layers: Iterable[Affine]) -> Iterator[list[Affine]]:
    """Layers in order, as many together as `MOST_SQUARES` allows."""
    group, held = list[Affine](), 0
    for layer in layers:
        if group and held + _squares(layer) > MOST_SQUARES:
            yield group
            group, held = [], 0
        group.append(layer)
        held += _squares(layer)
    if group:
        yield group


def _samples_read(model: onnx.ModelProto, layers: Iterable[Affine], batches: Iterable[Batch], count: int) -> int:
    """How many samples are read: as many as the layer wants that gives the fewest places for its inputs."""
    (batch,) = islice(batches, 1)
    outputs = {layer.name: str(layer.output.name) for layer in layers}
    with session_of(model, list(outputs.values())) as session:
        shapes = {name: value.shape for name, value in session.run(batch).items()}
    wanted = (ROWS * _inputs(layer) * batch.size / places_of(layer, shapes[outputs[layer.name]]) for layer in layers)
    return min(count, max(IMAGES, *(math.ceil(each) for each in wanted)))


def _gathered(
    model: onnx.ModelProto, layers: Sequence[Affine], batches: Iterable[Batch], count: int, seed: int
) -> dict[str, Gram]:
    """The Gram matrices of what layers read in the float model, from batches of `count` samples in all."""
    inputs = {value.name for value in model.graph.input}
    names = [name for layer in layers for name in (str(layer.output.name), layer.site.tensor) if name not in inputs]
    grams, first = dict[str, Gram](), 0
    with session_of(model, names) as session:
        for batch in batches:
            values = {**batch, **session.run(batch)}
            numbers = range(first, first := first + batch.size)
            for layer in layers:
                shape = values[str(layer.output.name)].shape
                each = math.ceil(max(PLACES, ROWS * _inputs(layer)) / count)
                x = columns(layer, values[layer.site.tensor], shape, _drawn(layer, shape, numbers, each, seed))
                gram = Gram.of(x * np.float32(alpha_of(layer)))
                grams[layer.name] = grams[layer.name] + gram if layer.name in grams else gram
    return grams


def _inputs(layer: Affine) -> int:
    return layer.shape[2] * layer.shape[3]


def _spread(batches: Iterable[Batch], count: int, wanted: int) -> Iterator[Batch]:
    """Some of the samples, spread over all, in batches of the first one's size; the last may be smaller."""
    held, at, size = list[Batch](), 0, 0
    for batch in batches:
        size = size or batch.size
        for place in range(batch.size):
            if (at + 1) * wanted // count > at * wanted // count:
                held.append(Batch({name: array[place : place + 1] for name, array in batch.items()}))
            at += 1
            if len(held) == size:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _joined(samples: Sequence[Batch]) -> Batch:
    return Batch({name: np.concatenate([each[name] for each in samples]) for name in samples[0]})


def _drawn(layer: Affine, shape: Sequence[int], samples: range, each: int, seed: int) -> Places:
    """Places of an output for a batch: `each` of each sample, or all where it has fewer."""
    available = places_of(layer, shape)
    own = available // len(samples)
    if own * len(samples) != available or own <= each:
        return np.arange(available, dtype=np.int64)
    drawn = (np.random.default_rng([seed, sample]).choice(own, each, replace=False) for sample in samples)
    return np.concatenate([np.sort(found) + place * own for place, found in enumerate(drawn)]).astype(np.int64)
