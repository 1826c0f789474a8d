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
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from calibrators.weights import weight_encoding
from engines.graph.constants import constant, replace_constant
from engines.recovery.affine import Affine, bias_name, floats_of, weight_of
from engines.recovery.channels import bounds_of
from engines.recovery.patches import Singles
from engines.recovery.reconstruction import Targets, fake_quantized, read_by, targets_of, together
from engines.recovery.rounded import Rounded, RoundedModel, alpha_of, candidates, rows_of, scales_of, taken_apart
from engines.recovery.rounding import Product, learned
from engines.simulation.simulated_model import LayerForm

ENOUGH = 35.0
"""dB of signal over the noise of rounding to the nearest; INT8 by channel has some 40."""


def adarounded(
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
        batches: Samples, as often as they are asked for: `passes` times at most.
        count: How many samples they are.
        seed: Of the places that are looked at.
        progress: Is told the number of samples done since the last call.

    Raises:
        DataError: A sample does not fit the model.
        ModelError: The model does not run, or has no layer of a name.
    """
    told = progress or (lambda done: None)
    result, layers, skipped = taken_apart(model, forms, batches)
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
    return RoundedModel(result, found, skipped)


def passes(model: onnx.ModelProto, forms: Mapping[str, LayerForm]) -> int:
    """How often `adarounded` runs a model over all samples."""
    layers, _ = candidates(model, ir.from_proto(model), forms)
    return len(layers) + len(list(together(layers.values())))


def _product(layer: Affine, encoding: Encoding, read: Singles, targets: Targets, bias: Singles) -> Product:
    groups, outputs, _, _ = layer.shape
    scale, zero = scales_of(layer, encoding)
    return Product(
        rows_of(layer, floats_of(layer)),
        scale,
        zero,
        ends=(encoding.grid.minimum, encoding.grid.maximum),
        x=read * np.float32(alpha_of(layer)),
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
    scale, zero = scales_of(layer, other)
    changed = replace(product, scale=scale, zero=zero)
    errors = []
    for each in (product, changed):
        weight = each.floats(each.nearest())
        errors.append(each.settled(weight).error(weight))
    return (other, changed) if errors[1] < errors[0] else (own, product)


def _bounds(layer: Affine) -> tuple[float, float]:
    """Between which what alone reads its output cuts off: a Relu or a Clip."""
    uses = list(layer.output.uses())
    if len(uses) != 1 or layer.output.is_graph_output() or uses[0].idx != 0:
        return -np.inf, np.inf
    reader = uses[0].node
    if reader.op_type == "Relu":
        return 0.0, np.inf
    return (bounds_of(reader) if reader.op_type == "Clip" else None) or (-np.inf, np.inf)
