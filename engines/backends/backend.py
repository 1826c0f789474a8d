"""What a backend is: one family of TensorRT, which turns an ONNX model into a serialized engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from engines.shapes import Profile

if TYPE_CHECKING:
    import onnx

Severity = Literal["error", "warning", "info", "verbose"]

Log = list[tuple[Severity, str]]
"""What a builder said, in order."""


@dataclass(frozen=True, slots=True)
class BoundTensor:
    """An input or output of an engine.

    Attributes:
        name: As in the ONNX model.
        type: As TensorRT writes it: FLOAT, HALF, INT8, ...
        shape: With -1 where the profile says.
    """

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialized engine.

    Attributes:
        data: Its bytes.
        inputs: What it takes.
        outputs: What it gives.
    """

    data: bytes
    inputs: tuple[BoundTensor, ...]
    outputs: tuple[BoundTensor, ...]


class Backend(Protocol):
    """A family of TensorRT whose graphs are strongly typed: the model itself says the type of each tensor.

    Attributes:
        name: As `--backend` has it.
        version: The library's.
        compute_capabilities: What it can build for, such as "8.6".
        portable: What it builds for when none is asked for, in words.
    """

    name: str
    version: str
    compute_capabilities: tuple[str, ...]
    portable: str

    def build(
        self,
        model: "onnx.ModelProto",
        *,
        profiles: Mapping[str, Profile],
        compute_capabilities: tuple[str, ...],
        log: Log,
        progress: Callable[[int], None] | None,
    ) -> Plan:
        """Build an engine; Ctrl-C stops it.

        Args:
            model: With every weight in memory, and a name of its own for each node.
            profiles: Of the inputs that are dynamic.
            compute_capabilities: Of `compute_capabilities`; none builds for `portable`.
            log: Gets what the builder says, also where it fails.
            progress: Is told 1 for each step that the builder reports.

        Raises:
            BuildError: The builder refuses the model; the message names nodes and reasons.
        """
        ...
