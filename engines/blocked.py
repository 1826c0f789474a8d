"""Activations as ONNX Runtime's convolutions leave them.

On x86 its convolutions work on a blocked layout (NCHWc: channels in blocks of 8 or 16) and put what somebody else reads
into plain order. Statistics do not care for order. So where calibration is the reader, it takes the blocked tensor, and
point-wise operators in between stay blocked too.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

BLOCKED = "com.microsoft.nchwc"
BLOCK = 16
"""A number of channels that this divides fills its blocks, whether they are 8 or 16 wide: no padding gets among the
values."""

POINTWISE = frozenset({"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Tanh"})

MOST_WEIGHTS = 2**28
"""1 GB of them: ONNX Runtime writes the weights of the model that it has optimized to the disk, which takes time."""

Options = Callable[[str | None], Any]
"""Gives fresh session options, for a model in memory whose external data are in that folder, or for a file (None)."""


Fingerprint = tuple[int, str, int, int, int]
"""Size, type, and the sum, without carry, exclusive or and largest of the values' bits: none depends on their order."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A session that hands out activations.

    Attributes:
        session: An ONNX Runtime session.
        names: For each activation, the session's output that holds its values, in whatever order.
    """

    session: Any
    names: Mapping[str, str]


def fetches(
    model: bytes, outputs: Sequence[str], options: Options, data: str | None, *, weights: int, aside: Executor
) -> tuple[Fetch, "Future[Fetch | None] | None"]:
    """Open a model whose outputs are the activations to fetch: as it is, and blocked where there is something to gain.

    Who uses the blocked one first compares what it gives with what the plain one does: it rests on how ONNX Runtime
    optimizes.

    Args:
        model: Serialized.
        outputs: The activations.
        options: Of the sessions.
        data: The folder of its external data.
        weights: How many numbers its weights are.
        aside: Opens the blocked one, which takes longer, while the plain one is used already.
    """
    plain = Fetch(_opened(model, options(data)), {name: name for name in outputs})
    return plain, aside.submit(_blocked, model, outputs, options, data) if weights <= MOST_WEIGHTS else None


def _blocked(model: bytes, outputs: Sequence[str], options: Options, data: str | None) -> Fetch | None:
    """Open the model as ONNX Runtime optimizes it, without reordering; None where there is nothing to gain."""
    import onnxruntime as ort

    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimized.onnx"
            settings = options(data)
            settings.optimized_model_filepath = os.fspath(file)
            for what, value in (("file_name", "weights"), ("min_size_in_bytes", "1024")):
                settings.add_session_config_entry(f"session.optimized_model_external_initializers_{what}", value)
            _opened(model, settings)
            optimized = onnx.load(file, load_external_data=False)
            renamed = _without_reordering(optimized)
            if not renamed:
                return None
            file.write_bytes(optimized.SerializeToString())
            settings = options(None)
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            return Fetch(_opened(os.fspath(file), settings), {name: renamed.get(name, name) for name in outputs})
    except Exception:  # a full disk, say: none of this is needed to calibrate
        logging.getLogger(__name__).debug("activations are fetched in plain order", exc_info=True)
        return None


def _opened(source: bytes | str, settings: Any) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def fingerprint(array: npt.NDArray[Any]) -> Fingerprint:
    """What two arrays share that hold the same bits in whatever order."""
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    sums = (int(bits.sum(dtype=bits.dtype)), int(np.bitwise_xor.reduce(bits)), int(bits.max(initial=0)))
    return array.size, array.dtype.name, *sums


def _without_reordering(model: onnx.ModelProto) -> dict[str, str]:
    """Edit an optimized model in place; give the new name of each output that has one."""
    graph = model.graph
    plain_of = {  # plain tensor -> blocked tensor of the same values
        node.output[0]: node.input[0]
        for node in graph.node
        if node.domain == BLOCKED and node.op_type == "ReorderOutput" and _channels(node) % BLOCK == 0
    }
    pointwise = {
        node.output[0]: node for node in graph.node if node.op_type in POINTWISE and node.domain in ("", "ai.onnx")
    }
    added: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.domain == BLOCKED and node.op_type == "ReorderInput" and node.input[0] in pointwise:
            function = pointwise[node.input[0]]
            if function.input[0] in plain_of:
                stays = onnx.NodeProto()
                stays.CopyFrom(function)
                stays.name = f"{function.name or function.output[0]}_blocked"
                stays.input[0] = plain_of[function.input[0]]
                stays.output[0] = node.output[0]
                nodes.append(stays)
                added[function.output[0]] = node.output[0]
                continue
        nodes.append(node)
    renamed: dict[str, str] = {}
    for output in graph.output:
        name = plain_of.get(output.name) or added.get(output.name)
        if name is not None and name not in renamed.values():
            renamed[output.name] = name
            output.CopyFrom(onnx.ValueInfoProto(name=name))
    _drop_unread(nodes, {output.name for output in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    return renamed


def _drop_unread(nodes: list[onnx.NodeProto], wanted: set[str]) -> None:
    """Remove nodes whose outputs nobody reads."""
    read = set(wanted)
    kept = []
    for node in reversed(nodes):
        if read & set(node.output) or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            kept.append(node)
            read.update(node.input)
            for attribute in node.attribute:
                read.update(name for inner in attribute.g.node for name in inner.input)
    nodes[:] = reversed(kept)


def _channels(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "channels"), 1)
