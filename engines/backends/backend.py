"""What a backend is: one family of TensorRT, which turns an ONNX model into a serialized engine."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError
from engines.backends.shapes import Profile

if TYPE_CHECKING:
    import onnx

    from calibrators.cache.text import CalibrationCache
    from calibrators.tensorrt.calibrator import Calibrator

Severity = Literal["error", "warning", "info", "verbose"]

Log = list[tuple[Severity, str]]
"""What a builder said, in order."""

NumberType = Literal["int8", "fp16", "fp32"]
HardwareCompatibility = Literal["none", "ampere+", "same-compute-capability"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a builder may be told beside the model, its precision and its shapes; nothing is asked of it by default.

    A backend refuses what it cannot honour (`Backend.check`).

    Attributes:
        workspace: Bytes of GPU memory that a kernel may use for itself at most; None for all that there is.
        optimization_level: 0 to 5: how long to search for faster kernels; None for the builder's own, 3.
        hardware_compatibility: Other GPUs that the engine is to run on: "ampere+", those of compute capability 8.0
            and later; "same-compute-capability", those of the builder's own.
        version_compatible: Whether later versions of TensorRT are to run the engine.
        sparsity: Whether to choose kernels for weights of 2:4 sparsity where the weights have it.
        timing_cache: A file of the times that kernels took on this GPU: read, added to, and written again.
        layer_precisions: By pattern of layer names, as shells have them, what those layers must compute in; the first
            pattern that fits counts.

    Raises:
        BuildError: A value is out of range.
    """

    workspace: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    sparsity: bool = False
    timing_cache: str | os.PathLike[str] | None = None
    layer_precisions: Mapping[str, NumberType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.workspace is not None and not 1 <= self.workspace < 2**63:
            raise BuildError(f"the workspace is a number of bytes, not {self.workspace}: give a size such as 4GiB")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise BuildError(f"the optimization level is from 0 to 5, not {self.optimization_level}")
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            known = ", ".join(get_args(HardwareCompatibility))
            raise BuildError(f"the hardware compatibility is one of {known}, not {self.hardware_compatibility}")
        object.__setattr__(self, "layer_precisions", dict(self.layer_precisions))
        for pattern, precision in self.layer_precisions.items():
            if precision not in get_args(NumberType):
                raise BuildError(f"layers compute in int8, fp16 or fp32, not {precision}: change {pattern}={precision}")

    def given(self) -> dict[str, Any]:
        """What was asked for, by attribute, for JSON: a file by its name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        given = {name: value for name, value in values.items() if value != getattr(NO_OPTIONS, name)}
        if self.timing_cache is not None:
            given["timing_cache"] = Path(self.timing_cache).name
        return given


NO_OPTIONS = BuildOptions()


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that an engine was built on.

    Attributes:
        name: As NVIDIA calls it.
        compute_capability: Such as "8.6".
    """

    name: str
    compute_capability: str


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
        cache: The calibration cache that TensorRT read or wrote for it; None where it did neither.
    """

    data: bytes
    inputs: tuple[BoundTensor, ...]
    outputs: tuple[BoundTensor, ...]
    cache: "CalibrationCache | None" = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Implicit quantization: TensorRT calibrates, or reads a cache.

    Attributes:
        calibrator: What it calls.
        specs: Every input of the model in the shape that it calibrates in.
        model_sha256: The model's, for the cache's side-car; empty for a model in memory.
    """

    calibrator: "Calibrator"
    specs: tuple[TensorSpec, ...]
    model_sha256: str = ""


class Backend(Protocol):
    """A family of TensorRT.

    Attributes:
        name: As `--backend` has it.
        label: As sentences have it.
        version: The library's.
        compute_capabilities: What it can build for when asked, such as "8.6"; empty where it builds for one GPU.
        portable: What it builds for when none is asked for, in words.
        gpu: The GPU that it builds on, where it needs one and can tell.
        strongly_typed: Whether the model itself says the type of each tensor. Otherwise the builder chooses among
            those that it is allowed.
        calibrates: Whether it quantizes float models itself, by calibrators.
        times_kernels: Whether a build runs kernels to choose among them, which takes minutes.
    """

    name: str
    label: str
    version: str
    compute_capabilities: tuple[str, ...]
    portable: str
    gpu: Gpu | None
    strongly_typed: bool
    calibrates: bool
    times_kernels: bool

    def check(self, options: BuildOptions) -> None:
        """Refuse what cannot be honoured.

        Raises:
            BuildError: The message names the option.
        """
        ...

    def build(
        self,
        model: "onnx.ModelProto",
        *,
        profiles: Mapping[str, Profile],
        compute_capabilities: tuple[str, ...] = (),
        options: BuildOptions = NO_OPTIONS,
        types: frozenset[NumberType] = frozenset(),
        calibration: Calibration | None = None,
        log: Log,
        progress: Callable[[int], None] | None = None,
        phase: Callable[[str], None] | None = None,
    ) -> Plan:
        """Build an engine; Ctrl-C stops it.

        Args:
            model: With every weight in memory, and a name of its own for each node.
            profiles: Of the inputs that are dynamic.
            compute_capabilities: Of `compute_capabilities`; none builds for `portable`.
            options: What else to tell the builder; `check` has passed them.
            types: What a backend that is not strongly typed may compute in beside FP32.
            calibration: How a backend that calibrates finds the ranges of a model without Q/DQ nodes.
            log: Gets what the builder says, also where it fails.
            progress: Is told 1 for each step that the builder reports, in the builder's thread.
            phase: Is told the name of each phase of the build as it begins, likewise.

        Raises:
            BuildError: The builder refuses the model; the message names nodes and reasons.
            DeviceError: There is no GPU, or its memory does not suffice.
            BaseException: Whatever a calibrator's data raised.
        """
        ...
