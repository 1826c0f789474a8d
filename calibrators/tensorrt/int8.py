"""INT8 calibrators for TensorRT 8.6 to 10: real subclasses of its own, all with what `Calibrator` does.

The classes are made when they are first asked for, from the base classes that the installed `tensorrt` has. Where it
has none (TensorRT 11), or is not installed, they hold batches and method for the explicit road, Q/DQ nodes.

Verified against NVIDIA's own bindings of 8.6 and 10, called as C++ calls them (tests/contract), and through PyCUDA and
cuda.bindings on a driver in the host's memory (tests/gpu); not verified on a GPU.
"""

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from calibrators.errors import BuildError, MissingDependencyError, TrtcalError
from calibrators.tensorrt.calibrator import Calibrator


class _Legacy:
    """What TensorRT asks of its oldest calibrator besides: it takes the 99.99th percentile of |x|, without regression.

    Histograms are not kept.
    """

    def get_quantile(self) -> float:
        """The share of values within a range."""
        return 0.9999

    def get_regression_cutoff(self) -> float:
        """As a share of the maximum; 1 stands for no regression."""
        return 1.0

    def read_histogram_cache(self, length: int) -> None:
        """There is none."""

    def write_histogram_cache(self, pointer: object, length: int) -> None:
        """It is not kept."""


_KINDS: Mapping[str, tuple[str, Literal["entropy", "minmax", "percentile"], str]] = {
    "EntropyCalibrator2": (
        "EntropyCalibration2",
        "entropy",
        "Ranges that lose the least information, one per tensor; TensorRT's IInt8EntropyCalibrator2.",
    ),
    "MinMaxCalibrator": (
        "MinMaxCalibration",
        "minmax",
        "Ranges that hold every value; TensorRT's IInt8MinMaxCalibrator.",
    ),
    "EntropyCalibrator": (
        "EntropyCalibration",
        "entropy",
        "TensorRT's first entropy calibrator, IInt8EntropyCalibrator, which calibrates after fusion.",
    ),
    "LegacyCalibrator": (
        "LegacyCalibration",
        "percentile",
        "TensorRT's oldest calibrator, IInt8LegacyCalibrator: ranges that hold 99.99 % of the values.",
    ),
}


if TYPE_CHECKING:

    class EntropyCalibrator2(Calibrator):
        """See `_KINDS`."""

    class MinMaxCalibrator(Calibrator):
        """See `_KINDS`."""

    class EntropyCalibrator(Calibrator):
        """See `_KINDS`."""

    class LegacyCalibrator(_Legacy, Calibrator):
        """See `_KINDS`."""

else:

    def __getattr__(name: str) -> Any:
        if name not in _KINDS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = _made(name)
        return globals()[name]


def _made(name: str) -> type[Calibrator]:
    """The class of that name, from the installed TensorRT's base class if it has one."""
    base: Any = None
    refusal: type[TrtcalError] = BuildError
    has_int64 = True
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        version, refusal = f"TensorRT is not installed ({error})", MissingDependencyError
    else:
        base = getattr(tensorrt, f"IInt8{name}", None)
        has_int64 = hasattr(tensorrt.DataType, "INT64") if base else True
        version = str(tensorrt.__version__) if base else f"TensorRT {tensorrt.__version__} has no calibrators"
    algorithm, method, summary = _KINDS[name]
    content = {
        "__module__": __name__,
        "__doc__": f"{summary}\n\nSee `Calibrator` for its arguments.",
        "algorithm": algorithm,
        "method": method,
        "calibrates": base is not None,
        "_base": base,
        "_tensorrt": version,
        "_refusal": refusal,
        "_has_int64": has_int64,
    }
    parents = (*([_Legacy] if name == "LegacyCalibrator" else []), Calibrator, *([base] if base is not None else []))
    made: type[Calibrator] = types.new_class(name, parents, exec_body=lambda namespace: namespace.update(content))
    return made
