"""AdaRound: weights rounded up or down as the layer's output wants it, not each to its nearest level.

M. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020); the numbers are theirs
where nothing else is said.

1. A weight between two levels becomes ``s clip(floor(w / s) + h(a))``, with ``h(a) = clip(1.2 sigmoid(a) - 0.1, 0, 1)``
   and a such that it begins where it is. Adam moves a for the least ``||f(W x + b) - f(y)||^2 + 0.01 sum(1 - |2 h -
   1|^beta)``; beta goes from 20 to 2 as half a cosine after a fifth of the steps, in which the second term is left
   out. At the end each h is 0 or 1.
2. x is what the layer reads in the quantized model, behind layers that are rounded already; y what it gives in the
   float model (asymmetric reconstruction). f is the Relu or Clip that alone reads y, else nothing.
3. The squared error is taken in units of the one that rounding to the nearest makes, a thousandth of a unit for each
   weight: so the terms weigh alike whatever the layer's scale. With this and a rate of 0.03, 1,000 steps do for what
   the paper takes 10,000.
4. Before, the layer's own encoding or the one of the least squared error of its weights, whichever has the smaller
   error in y, rounded to the nearest.
5. What is left of the mean error goes into the bias, as in `engines.recovery.bias_correction`; so it does in layers
   that are not rounded.
6. Not rounded: layers whose rounding to the nearest costs little, `ENOUGH`, once the mean error is out; layers whose
   weight others read too; layers for which it finds nothing better.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.weights import weight_encoding
from engines.graph.constants import constant, replace_constant
from engines.recovery.affine import (
    Affine,
    affines_of_fixed_size,
    bias_name,
    floats_of,
    give_biases,
    matrices,
    weight_of,
)
from engines.recovery.channels import bounds_of
from engines.recovery.patches import Singles, columns, given
from engines.recovery.reconstruction import Targets, chosen, fake_quantized, read_by, session_of, targets_of, together
from engines.recovery.rounding import Product, learned
from engines.simulation.simulated_model import LayerForm

ENOUGH = 35.0
"""dB of signal over the noise of rounding to the nearest; INT8 by channel has some 40."""

_CHECKED = 64
"""Places at which a layer is compared with its columns, before these are relied on."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """What became of a layer.

    Attributes:
        noise: dB of signal over noise that rounding its weights to the nearest makes in its output, the mean error
            taken out.
        nearest: Mean squared error of its output, behind what follows it, over that output's mean square: with weights
            rounded to the nearest.
        error: As it is now.
        seconds: What it took.
        encoding: That its weights lie on; None where they are as they were.
        why: Then, why.
    """

    noise: float
    nearest: float
    error: float
    seconds: float
    encoding: Encoding | None = None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; null for what is no finite number."""
        numbers = {"noise_db": self.noise, "error_nearest": self.nearest, "error": self.error}
        finite = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
        return {"rounded": self.encoding is not None, "why": self.why, "seconds": round(self.seconds, 3), **finite}


@dataclass(frozen=True, slots=True)
class AdaRounded:
    """What the pass made.

    Attributes:
        model: The float model with other biases, and weights that lie on the levels of `encodings`.
        layers: By name, what became of it.
        skipped: By name of a quantized layer that was not looked at: why.
    """

    model: onnx.ModelProto
    layers: Mapping[str, Rounded]
    skipped: Mapping[str, str]

    @property
    def encodings(self) -> dict[str, Encoding]:
        """By name of a layer that was rounded, what its weights lie on."""
        return {name: each.encoding for name, each in self.layers.items() if each.encoding is not None}


def adarounded(
    model: onnx.ModelProto,
    forms: Mapping[str, LayerForm],
    batches: Iterable[Batch],
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> AdaRounded:
    """Round the weights of a prepared float model by the rules above; `model` itself is not changed.

    Args:
        model: Batch normalization folded.
        forms: By layer name, how it is quantized.
        batches: Samples, as often as they are asked for: `passes` times at most.
        count: How many samples they are.
        seed: Of the places that are looked at.
        progress: Is told the number of samples done since the last call.

    Raises:
        DataError: A sample does not fit the model.
        ModelError: The model does not run, or has no layer of a name.
    """
    told = progress or (lambda done: None)
    graph = ir.from_proto(model)
    layers, skipped = _candidates(model, graph, forms)
    layers = give_biases(graph, layers.values())
    result = ir.to_proto(graph)
    for name, why in _taken_apart_wrongly(result, layers, batches).items():
        skipped[name] = why
        del layers[name]
    version = fake_quantized(result, layers.values(), forms)
    found = dict[str, Rounded]()
    for group in together(layers.values()):
        targets = targets_of(result, group, batches, count, seed, told)
        for layer in group:
            began, form = time.perf_counter(), forms[layer.name]
            assert form.weight is not None
            read = read_by(version, layer, form.activation, batches, targets[layer.name], told)
            product = _product(layer, form.weight, read, targets[layer.name], constant(result, str(bias_name(layer))))
            weight, rounded = _rounded(layer, form.weight, product, seed)
            changed = {str(bias_name(layer)): product.bias + product.remainder(weight)}
            if rounded.encoding is not None:
                changed[str(layer.weight.name)] = weight_of(weight.reshape(*layer.shape[:3], -1), layer)
            for name, numbers in changed.items():
                replace_constant(result, name, numbers)
                replace_constant(version, name, numbers)
            found[layer.name] = replace(rounded, seconds=time.perf_counter() - began)
    return AdaRounded(result, found, skipped)


def passes(model: onnx.ModelProto, forms: Mapping[str, LayerForm]) -> int:
    """How often `adarounded` runs a model over all samples."""
    layers, _ = _candidates(model, ir.from_proto(model), forms)
    return len(layers) + len(list(together(layers.values())))


def _candidates(
    model: onnx.ModelProto, graph: ir.Model, forms: Mapping[str, LayerForm]
) -> tuple[dict[str, Affine], dict[str, str]]:
    found, others = affines_of_fixed_size(model, graph)
    wanted = {name for name, form in forms.items() if form.weight is not None}
    skipped = {name: why for name, why in others.items() if name in wanted}
    skipped |= {
        name: f"its weight {layer.weight.name} is read by others too"
        for name, layer in found.items()
        if name in wanted and layer.shared
    }
    return {name: layer for name, layer in found.items() if name in wanted and name not in skipped}, skipped


def _taken_apart_wrongly(
    model: onnx.ModelProto, layers: Mapping[str, Affine], batches: Iterable[Batch]
) -> dict[str, str]:
    """Layers that are not what their columns make of them, be it for an attribute that nobody knows; and why."""
    names = [name for layer in layers.values() for name in (layer.site.tensor, str(layer.output.name))]
    inputs = {value.name for value in model.graph.input}
    wrong = dict[str, str]()
    if not layers:
        return wrong
    with session_of(model, [name for name in names if name not in inputs]) as session:
        (batch,) = islice(batches, 1)
        values = {**batch, **session.run(batch)}
    for name, layer in layers.items():
        y = values[str(layer.output.name)]
        places = chosen(layer, y.shape, _CHECKED, 0, 0)
        try:
            x = columns(layer, values[layer.site.tensor], y.shape, places)
        except ModelError as error:
            wrong[name] = str(error)
            continue
        weight = _rows(layer, floats_of(layer))
        made = np.matmul(weight, x) * _alpha(layer)
        bias = constant(model, str(bias_name(layer))).reshape(*weight.shape[:2], 1)
        if not np.allclose(made + bias, given(layer, y, places), rtol=1e-3, atol=1e-3 * float(np.abs(y).max())):
            wrong[name] = "it gives something else than its weights and what it reads make up"
    return wrong


def _product(layer: Affine, encoding: Encoding, read: Singles, targets: Targets, bias: Singles) -> Product:
    groups, outputs, _, _ = layer.shape
    scale, zero = _scales(layer, encoding)
    return Product(
        _rows(layer, floats_of(layer)),
        scale,
        zero,
        ends=(encoding.grid.minimum, encoding.grid.maximum),
        x=read * np.float32(_alpha(layer)),
        y=np.ascontiguousarray(targets.y.transpose(2, 0, 1)),
        bias=bias.reshape(groups, outputs),
        bounds=_bounds(layer),
    )


def _rounded(layer: Affine, own: Encoding, product: Product, seed: int) -> tuple[Singles, Rounded]:
    """A layer's weight as it is to be used, in rows, and what became of it."""
    weight, energy = product.floats(product.nearest()), product.energy() or 1.0
    noise, nearest = product.noise(weight), product.settled(weight).error(weight)
    kept = Rounded(noise, nearest / energy, nearest / energy, 0.0)
    if noise >= ENOUGH or nearest == 0:
        return weight, replace(kept, why=f"rounding to the nearest costs it little: {noise:.1f} dB")
    encoding, start = _better(layer, own, product)
    found = start.floats(learned(start, seed=seed))
    error = start.settled(found).error(found)
    if not error < nearest:
        return weight, replace(kept, why="no rounding was found that is better than to the nearest")
    return found, replace(kept, error=error / energy, encoding=encoding)


def _better(layer: Affine, own: Encoding, product: Product) -> tuple[Encoding, Product]:
    """The layer's encoding or that of the least squared error of its weights, and the product on it."""
    other = weight_encoding(floats_of(layer), axis=own.axis, grid=own.grid, method="mse", block_size=own.block_size)
    scale, zero = _scales(layer, other)
    changed = replace(product, scale=scale, zero=zero)
    errors = []
    for each in (product, changed):
        weight = each.floats(each.nearest())
        errors.append(each.settled(weight).error(weight))
    return (other, changed) if errors[1] < errors[0] else (own, product)


def _scales(layer: Affine, encoding: Encoding) -> tuple[Singles, Singles]:
    """Scale and zero point of each weight, in rows."""
    zero = encoding.quantize(np.zeros(floats_of(layer).shape, np.float32))
    scale = np.abs(encoding.dequantize(np.where(zero < encoding.grid.maximum, zero + 1, zero - 1)))
    return _rows(layer, scale), _rows(layer, zero)


def _rows(layer: Affine, weight: npt.NDArray[Any]) -> Singles:
    groups, outputs, _, _ = layer.shape
    return np.ascontiguousarray(matrices(np.asarray(weight, np.float32), layer).reshape(groups, outputs, -1))


def _alpha(layer: Affine) -> float:
    return float(layer.node.attributes.get_float("alpha", 1.0)) if layer.node.op_type == "Gemm" else 1.0


def _bounds(layer: Affine) -> tuple[float, float]:
    """Between which what alone reads its output cuts off: a Relu or a Clip."""
    uses = list(layer.output.uses())
    if len(uses) != 1 or layer.output.is_graph_output() or uses[0].idx != 0:
        return -np.inf, np.inf
    reader = uses[0].node
    if reader.op_type == "Relu":
        return 0.0, np.inf
    return (bounds_of(reader) if reader.op_type == "Clip" else None) or (-np.inf, np.inf)
