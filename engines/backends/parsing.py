"""From an ONNX model to a TensorRT network, and what a user can make of TensorRT's errors."""

import re
from typing import TYPE_CHECKING, Any

from calibrators.errors import BuildError, folded
from calibrators.files import temporary_folder
from engines.backends.backend import Log
from engines.graph.operators import label as node_label

if TYPE_CHECKING:
    import onnx


def parse(parser: Any, model: "onnx.ModelProto", *, label: str) -> None:
    """Let TensorRT's ONNX parser fill its network with the model.

    Args:
        parser: An `OnnxParser`.
        model: With every weight in memory.
        label: The TensorRT, for messages.

    Raises:
        BuildError: The parser refuses the model; the message names the nodes.
    """
    if not _parsed(parser, model):
        raise BuildError(_refusal(parser, model, label))


def reasons(log: Log) -> str:
    """Why a build failed, from its log."""
    found = [_plain(message) for severity, message in log if severity == "error"]
    return (
        "; ".join(dict.fromkeys(reason for reason in found if reason)) or "it gives no reason; --log FILE keeps its log"
    )


def _parsed(parser: Any, model: "onnx.ModelProto") -> bool:
    from google.protobuf.message import EncodeError

    try:
        data = model.SerializeToString()
    except (EncodeError, ValueError):  # larger than the 2 GB that protobuf can write
        return _parsed_from_file(parser, model)
    return bool(parser.parse(data))


def _parsed_from_file(parser: Any, model: "onnx.ModelProto") -> bool:
    import onnx

    with temporary_folder() as folder:
        path = folder / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # saving moves the data out of the model that it is given
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        return bool(parser.parse_from_file(str(path)))


def _refusal(parser: Any, model: "onnx.ModelProto", label: str) -> str:
    """One line for what the parser refused, from its error list."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = {
        _node(error, model): _plain(error.desc()) or error.code().name.lower().replace("_", " ") for error in errors
    }
    listed = "; ".join(f"{node or 'the model'}: {reason}" for node, reason in nodes.items())
    if not listed:
        return f"{label} cannot read the model, and gives no reason; --log FILE keeps its log"
    count = f"{len(nodes)} operators" if len(nodes) > 1 else "an operator"
    return (
        f"{label} cannot take {count} of the model: {listed}; replace what it names in the model, or export it "
        "differently"
    )


def _node(error: Any, model: "onnx.ModelProto") -> str:
    """Operator and name of the node that an error is about; TensorRT 8.6 gives its position alone."""
    if hasattr(error, "node_name"):
        return f"{error.node_operator()} {error.node_name()}".strip()
    position = error.node()
    if not 0 <= position < len(model.graph.node):
        return ""
    node = model.graph.node[position]
    return f"{node.op_type} {node_label(node)}"


def _plain(message: str) -> str:
    """What an error says to a user: without error codes, places in TensorRT's source, or complaints of no GPU."""
    lines = [
        line for line in message.split("\n") if "catchCudaError" not in line and not line.startswith("Invalid Node - ")
    ]
    text = folded(" ".join(lines))
    if match := re.search(r"Error Code \d+: [^(]*\((.*)\)$", text):
        text = re.sub(r"^\[[^]]*\] ", "", match[1])
    text = re.sub(r"\.? In \S+ at /\S+$", "", text)
    text = re.sub(r'^creator && "(.*)"$', r"\1", text)
    return "" if text == "false" else text.rstrip(".")
