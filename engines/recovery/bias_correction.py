"""Empirical bias correction: the mean error that quantization makes in a layer's output, taken out of its bias.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2 and
its appendix on empirical correction.

1. For each output channel of a quantized layer ``b += E[y] - E[y_q]``: y is what it gives in the float model, y_q what
   it gives in the quantized one, before an activation behind it; means are over all samples and positions.
2. Layers are corrected in the order in which data pass them, so that y_q of each is measured behind others that are
   corrected already. Layers of which none is behind another are measured in one pass.
3. A layer without a bias gets one: a matrix product by an Add behind it.
4. Layers that stay in float are left alone, as is one whose mean error is no finite number.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from calibrators.batches import Batch
from engines.graph.constants import constant, replace_constant
from engines.recovery.affine import Affine, affines_of_fixed_size, bias_name, give_biases
from engines.recovery.reconstruction import fake_quantized, session_of
from engines.simulation.simulated_model import LayerForm

_Means = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Corrected:
    """What the pass made.

    Attributes:
        model: The float model with other biases, and the same names of layers and tensors.
        shifts: By name of a layer that was corrected, the largest |E[y] - E[y_q]| of its channels.
        skipped: By name of a quantized layer that was not: why.
    """

    model: onnx.ModelProto
    shifts: Mapping[str, float]
    skipped: Mapping[str, str]


def bias_corrected(
    model: onnx.ModelProto,
    forms: Mapping[str, LayerForm],
    batches: Iterable[Batch],
    *,
    progress: Callable[[int], None] | None = None,
) -> Corrected:
    """Correct the biases of a prepared float model by the rules above; `model` itself is not changed.

    Args:
        model: Batch normalization folded.
        forms: By layer name, how it is quantized.
        batches: Samples, as often as they are asked for: once for the float model and once for each of `waves`.
        progress: Is told the number of samples done since the last call.

    Raises:
        DataError: A sample does not fit the model.
        ModelError: The model does not run, or has no layer of a name.
    """
    told = progress or (lambda done: None)
    graph = ir.from_proto(model)
    found, others = affines_of_fixed_size(model, graph)
    layers = {name: found[name] for name in found if name in forms}
    skipped = {name: why for name, why in others.items() if name in forms}
    if not layers:
        return Corrected(model, {}, skipped)
    order = _waves(layers)
    layers = give_biases(graph, layers.values())
    model = ir.to_proto(graph)
    expected = _means(model, layers, batches, told)
    version = fake_quantized(model, layers.values(), forms)
    shifts = dict[str, float]()
    for wave in order:
        measured = _means(version, {name: layers[name] for name in wave}, batches, told)
        for name in wave:
            shift = expected[name] - measured[name]
            if not np.isfinite(shift).all():
                skipped[name] = "its mean error is no finite number"
                continue
            shifts[name] = float(np.abs(shift).max())
            bias = str(bias_name(layers[name]))
            changed = constant(model, bias).reshape(-1) + shift
            for each in (model, version):
                replace_constant(each, bias, changed)
    return Corrected(model, shifts, skipped)


def waves(model: onnx.ModelProto, forms: Mapping[str, LayerForm]) -> int:
    """How often `bias_corrected` runs the quantized model."""
    layers, _ = affines_of_fixed_size(model, ir.from_proto(model))
    return len(_waves({name: layer for name, layer in layers.items() if name in forms}))


def _waves(layers: Mapping[str, Affine]) -> list[list[str]]:
    """Layers in groups: none is behind another of its own, each is behind those before it alone."""
    depths: dict[ir.Value, int] = {}
    own = {layer.node: name for name, layer in layers.items()}
    found: dict[int, list[str]] = {}
    for node in next(iter(own)).graph or () if own else ():
        depth = max((depths.get(value, 0) for value in node.inputs if value is not None), default=0)
        if node in own:
            found.setdefault(depth, []).append(own[node])
            depth += 1
        depths.update(dict.fromkeys(node.outputs, depth))
    return [found[depth] for depth in sorted(found)]


def _means(
    model: onnx.ModelProto, layers: Mapping[str, Affine], batches: Iterable[Batch], told: Callable[[int], None]
) -> dict[str, _Means]:
    """E[y] of each layer's output channels, bias included."""
    sums, counts = dict[str, _Means](), dict.fromkeys(layers, 0)
    with session_of(model, [str(layer.output.name) for layer in layers.values()]) as session:
        for batch in batches:
            outputs = session.run(batch)
            for name, layer in layers.items():
                values = np.moveaxis(outputs[str(layer.output.name)], 1 if layer.convolves else -1, -1)
                rows = values.reshape(-1, layer.outputs)
                sums[name] = sums.get(name, 0.0) + rows.sum(axis=0, dtype=np.float64)
                counts[name] += len(rows)
            told(batch.size)
    return {name: sums[name] / counts[name] for name in layers}
