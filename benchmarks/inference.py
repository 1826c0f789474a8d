"""The floor: a model in ONNX Runtime as its users run it, with nothing but the number of threads set."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from calibrators.batches import Array


def plain_session(model: Path) -> Any:
    """A session that gives the model's own output."""
    return _opened(str(model))


def fetching_session(model: Path) -> Any:
    """A session that gives every float activation that a node makes."""
    import onnx

    from engines.graph.model import activations, input_specs, load_model

    graph = load_model(model)
    made = set(activations(graph)) - {spec.name for spec in input_specs(graph)}
    made -= {value.name for value in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(made))
    return _opened(graph.SerializeToString())


def run(session: Any, batches: Iterable[Mapping[str, Array]]) -> None:
    """Run every batch; its outputs are let go before the next."""
    for batch in batches:
        session.run(None, batch)


def _opened(model: str | bytes) -> Any:
    import onnxruntime

    from engines.graph.cores import usable_cores

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
