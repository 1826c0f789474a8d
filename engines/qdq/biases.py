"""Biases between Q/DQ nodes, which ONNX Runtime rounds to INT32 with the scale input x weight.

TensorRT adds them in float. A channel whose weights are near zero has a scale so fine that its bias does not fit in
INT32: ONNX Runtime's default session then computes something else than the nodes say. Scales of weights that are not
finer than ``|bias| / (input scale * 2**30)`` leave room, and cost nothing: what they round away is less than 2**-24 of
the bias for each product that is summed up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from calibrators.encoding import Encoding
from engines.graph.model import ModelSource, loaded
from engines.graph.operators import WEIGHTED, label
from engines.qdq.read import DEQUANTIZE, Graph

ROOM = 2.0**30
"""Steps of a bias's INT32 that scales are chosen for: half of what it holds."""

LARGEST = 2.0**31 - 1
"""Of INT32."""

Floats = npt.NDArray[np.float64]


def with_room_for_bias(node: ir.Node, encoding: Encoding, activation: Encoding) -> Encoding:
    """A weight's encoding whose scales are not too fine for the bias of its operator.

    Args:
        node: The operator.
        encoding: Its weight's, along the axis of output channels.
        activation: Its activation's. Beside one of more than 8 bits, or weights by blocks, ONNX Runtime leaves biases
            in float, and the encoding stays what it is.
    """
    bias = _bias_of(node)
    if bias is None or not bias.size or encoding.block_size is not None or activation.grid.bits > 8:
        return encoding
    steps = _by_channel(bias, encoding.scale.size) / (ROOM * float(activation.scale.min()))
    scale = np.maximum(encoding.scale, steps.astype(np.float32).reshape(encoding.scale.shape))
    scale = encoding.grid.allowed(scale.astype(np.float64)).astype(np.float32)
    if np.array_equal(scale, encoding.scale) or not np.isfinite(scale).all():
        return encoding
    return replace(encoding, scale=scale)


def overflowing_biases(model: onnx.ModelProto, folder: str = "") -> tuple[str, ...]:
    """Labels of the operators of a Q/DQ model whose biases do not fit in INT32 with the scale input x weight.

    Args:
        model: Any model.
        folder: Where its external data are; what is needed of them is loaded.

    Raises:
        ModelError: A constant is malformed.
    """
    if not any(node.op_type == DEQUANTIZE for node in model.graph.node):
        return ()
    graph = Graph(model)
    found = []
    for node, bias in _biased(graph, model.graph.node):
        makers = [graph.producers.get(name) for name in node.input[:2]]
        values = [graph.value(_loaded(graph, name, folder)) for name in (bias, *_scales(makers))]
        if len(values) == 3 and _overflows(*values):
            found.append(label(node))
    return tuple(found)


def overflowing_biases_of(model: ModelSource) -> tuple[str, ...]:
    """`overflowing_biases` of a file or a model in memory; none where it cannot be read: who runs it says why."""
    try:
        proto = loaded(model)
        return overflowing_biases(proto, "" if isinstance(model, onnx.ModelProto) else str(Path(model).parent))
    except Exception:  # noqa: BLE001 - whatever is wrong with the model, ONNX Runtime tells it
        return ()


def _overflows(bias: object, activation: object, weight: object) -> bool:
    if bias is None or activation is None or weight is None:
        return False
    values, inputs, weights = (np.asarray(each, np.float64) for each in (bias, activation, weight))
    if not values.size or inputs.size != 1 or weights.ndim > 1 or not (inputs > 0).all() or not (weights > 0).all():
        return False
    return bool((_by_channel(values, weights.size) / (inputs.item() * weights) > LARGEST).any())


def _by_channel(bias: npt.ArrayLike, channels: int) -> Floats:
    """The largest magnitude that is added to each output channel; channels of groups that share scales count as one."""
    values = np.abs(np.asarray(bias, np.float64))
    values = np.where(np.isfinite(values), values, 0.0)
    each = values.ndim > 0 and values.shape[-1] > 1 and values.size % channels == 0
    return values.reshape(-1, channels).max(axis=0) if each else np.full(channels, values.max(initial=0.0))


def _bias_of(node: ir.Node) -> npt.NDArray[np.generic] | None:
    """The constant that an operator adds, or for a MatMul the Add behind it, which ONNX Runtime makes a Gemm of."""
    operands: tuple[ir.Value | None, ...] = tuple(node.inputs[2:3])
    if node.op_type == "MatMul":
        uses = node.outputs[0].uses()
        readers = [reader for reader, _ in uses if reader.op_type == "Add"]
        operands = tuple(value for reader in readers[:1] for value in reader.inputs if value is not node.outputs[0])
    for value in operands:
        if value is not None and value.const_value is not None:
            return value.const_value.numpy()
    return None


def _biased(graph: Graph, nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Weighted operators, and the name of what each adds."""
    for node in nodes:
        if node.op_type not in WEIGHTED or len(node.input) < 2:
            continue
        if len(node.input) > 2 and node.input[2]:
            yield node, node.input[2]
        elif node.op_type == "MatMul":
            adds = [each for each in graph.consumers.get(node.output[0], ()) if each.op_type == "Add"]
            for name in (name for add in adds[:1] for name in add.input if name != node.output[0]):
                yield node, name


def _scales(makers: list[onnx.NodeProto | None]) -> list[str]:
    """Names of the scales of two DequantizeLinear nodes; none where one is something else."""
    found = [maker.input[1] for maker in makers if maker is not None and maker.op_type == DEQUANTIZE]
    return found if len(found) == len(makers) else []


def _loaded(graph: Graph, name: str, folder: str) -> str:
    """The name, once the constant that has it is in memory."""
    tensor = graph.constants.get(name)
    if tensor is not None and uses_external_data(tensor):
        load_external_data_for_tensor(tensor, folder)
    return name
