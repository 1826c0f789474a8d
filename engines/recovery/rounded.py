"""Layers whose weights can be rounded, in rows, and what becomes of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from calibrators.batches import Batch
from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from engines.graph.constants import constant
from engines.recovery.affine import Affine, affines_of_fixed_size, bias_name, floats_of, give_biases, matrices
from engines.recovery.patches import Singles, columns, given
from engines.recovery.reconstruction import chosen, session_of
from engines.simulation.simulated_model import LayerForm

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
class RoundedModel:
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


def candidates(
    model: onnx.ModelProto, graph: ir.Model, forms: Mapping[str, LayerForm]
) -> tuple[dict[str, Affine], dict[str, str]]:
    """The layers that can be rounded, by name in topological order; of the others of `forms` with a weight, why not."""
    found, others = affines_of_fixed_size(model, graph)
    wanted = {name for name, form in forms.items() if form.weight is not None}
    skipped = {name: why for name, why in others.items() if name in wanted}
    skipped |= {
        name: f"its weight {layer.weight.name} is read by others too"
        for name, layer in found.items()
        if name in wanted and layer.shared
    }
    return {name: layer for name, layer in found.items() if name in wanted and name not in skipped}, skipped


def taken_apart(
    model: onnx.ModelProto, forms: Mapping[str, LayerForm], batches: Iterable[Batch]
) -> tuple[onnx.ModelProto, dict[str, Affine], dict[str, str]]:
    """The model with a bias for each layer that can be rounded; these layers; and of the others why they cannot."""
    graph = ir.from_proto(model)
    layers, skipped = candidates(model, graph, forms)
    layers = give_biases(graph, layers.values())
    result = ir.to_proto(graph)
    skipped |= taken_apart_wrongly(result, layers, batches)
    return result, {name: layer for name, layer in layers.items() if name not in skipped}, skipped


def taken_apart_wrongly(
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
        weight = rows_of(layer, floats_of(layer))
        made = np.matmul(weight, x) * alpha_of(layer)
        bias = constant(model, str(bias_name(layer))).reshape(*weight.shape[:2], 1)
        if not np.allclose(made + bias, given(layer, y, places), rtol=1e-3, atol=1e-3 * float(np.abs(y).max())):
            wrong[name] = "it gives something else than its weights and what it reads make up"
    return wrong


def scales_of(layer: Affine, encoding: Encoding) -> tuple[Singles, Singles]:
    """Scale and zero point of each weight, in rows."""
    zero = encoding.quantize(np.zeros(floats_of(layer).shape, np.float32))
    scale = np.abs(encoding.dequantize(np.where(zero < encoding.grid.maximum, zero + 1, zero - 1)))
    return rows_of(layer, scale), rows_of(layer, zero)


def rows_of(layer: Affine, weight: npt.NDArray[Any]) -> Singles:
    """A weight, or what it has one number of for each, in rows: shape (groups, outputs, inputs * taps)."""
    groups, outputs, _, _ = layer.shape
    return np.ascontiguousarray(matrices(np.asarray(weight, np.float32), layer).reshape(groups, outputs, -1))


def alpha_of(layer: Affine) -> float:
    """What a product is multiplied by, beside its weight."""
    return float(layer.node.attributes.get_float("alpha", 1.0)) if layer.node.op_type == "Gemm" else 1.0
