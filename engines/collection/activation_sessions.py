"""Sessions that hand out activations."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibrators.errors import ModelError
from calibrators.files import temporary_folder
from engines.collection.blocked_layout import without_reordering
from engines.graph.inputs import in_bfloat16
from engines.graph.model import ModelSource, loaded
from engines.graph.runtime import DTYPES
from engines.sessions.onnxruntime_errors import refusal
from engines.sessions.opening import opened

FLOATS = {name: dtype for name, dtype in DTYPES.items() if issubclass(dtype, np.floating)}
"""The types of activations, by ONNX Runtime's names."""

MOST_WEIGHTS = 2**28
"""1 GB of them: ONNX Runtime writes the weights of the model that it has optimized to the disk, which takes time."""

Options = Callable[[str | None], Any]
"""Gives fresh session options, for a model in memory whose external data are in that folder, or for a file (None)."""


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
    model: ModelSource, proto: onnx.ModelProto, outputs: Sequence[str], threads: int
) -> tuple[Fetch, Fetch | None]:
    """Open a model for its activations: as it is, and blocked where there is something to gain.

    Who uses the blocked one first compares what it gives with what the plain one does: it rests on how ONNX Runtime
    optimizes. Activations that are no floats, whose types ONNX Runtime finds, are left out.

    Args:
        model: A path, or a model in memory.
        proto: The model, as `loaded` gives it.
        outputs: The activations.
        threads: For each operator of a session.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """

    def options(data: str | None) -> Any:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if data is not None:
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", data)
        return settings

    data = None if isinstance(model, onnx.ModelProto) else os.fspath(Path(model).absolute().parent)
    try:
        try:
            return _fetches(proto, outputs, options, data)
        except Exception:
            if data is None:
                raise
            # It finds no weights in a file behind a link out of the folder, and older ones none that they fold.
            return _fetches(loaded(model, light=False), outputs, options, data)
    except Exception as error:
        if node := in_bfloat16(proto):
            raise ModelError(
                f"the model computes in bfloat16 (at {node}), which ONNX Runtime does not on a CPU: export it in "
                "float32 or FP16"
            ) from error
        name = "the model in memory" if isinstance(model, onnx.ModelProto) else os.fspath(model)
        raise ModelError(f"calibration cannot run {name}: {refusal(error)}") from error


def _fetches(
    proto: onnx.ModelProto, outputs: Sequence[str], options: Options, data: str | None
) -> tuple[Fetch, Fetch | None]:
    model = _with_outputs(proto, outputs)
    weights = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)
    if weights <= MOST_WEIGHTS and any(node.op_type == "Conv" for node in proto.graph.node):
        try:
            return _both(model, outputs, options, data)
        except Exception:  # a full disk, say: a model that ONNX Runtime refuses is refused below, too
            logging.getLogger(__name__).debug("activations are fetched in plain order", exc_info=True)
    return _of_floats(opened(model, options(data)), outputs, {}), None


def _both(model: bytes, outputs: Sequence[str], options: Options, data: str | None) -> tuple[Fetch, Fetch | None]:
    """Open the model, and what ONNX Runtime has made of it without reordering; None where there is nothing to gain."""
    import onnxruntime as ort

    with temporary_folder() as folder:
        file = folder / "optimized.onnx"
        settings = options(data)
        settings.optimized_model_filepath = os.fspath(file)
        for what, value in (("file_name", "weights"), ("min_size_in_bytes", "1024")):
            settings.add_session_config_entry(f"session.optimized_model_external_initializers_{what}", value)
        plain = _of_floats(opened(model, settings), outputs, {})
        optimized = onnx.load(file, load_external_data=False)
        renamed = without_reordering(optimized)
        if not renamed:
            return plain, None
        file.write_bytes(optimized.SerializeToString())
        settings = options(None)
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return plain, _of_floats(opened(os.fspath(file), settings), outputs, renamed)


def _of_floats(session: Any, outputs: Sequence[str], renamed: Mapping[str, str]) -> Fetch:
    """Without activations of other types."""
    types = {value.name: value.type for value in session.get_outputs()}
    names = {name: renamed.get(name, name) for name in outputs}
    return Fetch(session, {name: output for name, output in names.items() if types.get(output) in FLOATS})


def _with_outputs(model: onnx.ModelProto, outputs: Sequence[str]) -> bytes:
    """The model's file with other outputs, whose types ONNX Runtime finds, or with its own where there are none."""
    known = {value.name: value for value in model.graph.output}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if outputs:
        changed.graph.ClearField("output")
        changed.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return bytes(changed.SerializeToString())
