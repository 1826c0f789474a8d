"""From a float ONNX model and images to a checked INT8 TensorRT engine.

The public names are loaded when they are first used: `import trtcal` loads neither onnx nor TensorRT nor torch.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from calibrators.cache import CalibrationCache
    from calibrators.encoding import Encoding
    from calibrators.errors import TrtcalError
    from calibrators.grid import Grid
    from calibrators.int8 import EntropyCalibrator, EntropyCalibrator2, LegacyCalibrator, MinMaxCalibrator
    from calibrators.range import Range
    from calibrators.ranges import calibrate, encodings
    from calibrators.statistics import TensorStatistics
    from calibrators.statistics_file import Statistics
    from engines.backends.backend import BuildOptions
    from engines.builder import build_engine
    from engines.collect import collect
    from engines.session import OnnxRuntimeSession, Session
    from engines.tensorrt_session import TensorRTSession
    from trtcal.accuracy import evaluate
    from trtcal.comparison import Comparison, compare
    from trtcal.config import QuantConfig
    from trtcal.images import ImageLoader
    from trtcal.layer_analysis import LayerAnalysis, analyse_layers
    from trtcal.layer_settings import LayerSettings
    from trtcal.mixed_precision import MixedPrecision
    from trtcal.pipeline import quantize, quantize_dynamic
    from trtcal.precision_run import PrecisionRun, choose_precisions
    from trtcal.preprocess import Preprocess
    from trtcal.quantsim import QuantSim
    from trtcal.recovery_run import quantize_recovered

_HOMES = {
    "BuildOptions": "engines.backends.backend",
    "CalibrationCache": "calibrators.cache",
    "Comparison": "trtcal.comparison",
    "Encoding": "calibrators.encoding",
    "EntropyCalibrator": "calibrators.int8",
    "EntropyCalibrator2": "calibrators.int8",
    "Grid": "calibrators.grid",
    "ImageLoader": "trtcal.images",
    "LayerSettings": "trtcal.layer_settings",
    "LayerAnalysis": "trtcal.layer_analysis",
    "LegacyCalibrator": "calibrators.int8",
    "MinMaxCalibrator": "calibrators.int8",
    "MixedPrecision": "trtcal.mixed_precision",
    "OnnxRuntimeSession": "engines.session",
    "PrecisionRun": "trtcal.precision_run",
    "Preprocess": "trtcal.preprocess",
    "QuantConfig": "trtcal.config",
    "QuantSim": "trtcal.quantsim",
    "Range": "calibrators.range",
    "Session": "engines.session",
    "Statistics": "calibrators.statistics_file",
    "TensorRTSession": "engines.tensorrt_session",
    "TensorStatistics": "calibrators.statistics",
    "TrtcalError": "calibrators.errors",
    "analyse_layers": "trtcal.layer_analysis",
    "build_engine": "engines.builder",
    "calibrate": "calibrators.ranges",
    "choose_precisions": "trtcal.precision_run",
    "collect": "engines.collect",
    "compare": "trtcal.comparison",
    "encodings": "calibrators.ranges",
    "evaluate": "trtcal.accuracy",
    "quantize": "trtcal.pipeline",
    "quantize_dynamic": "trtcal.pipeline",
    "quantize_recovered": "trtcal.recovery_run",
}

__all__ = [
    "BuildOptions",
    "CalibrationCache",
    "Comparison",
    "Encoding",
    "EntropyCalibrator",
    "EntropyCalibrator2",
    "Grid",
    "ImageLoader",
    "LayerSettings",
    "LayerAnalysis",
    "LegacyCalibrator",
    "MinMaxCalibrator",
    "MixedPrecision",
    "OnnxRuntimeSession",
    "PrecisionRun",
    "Preprocess",
    "QuantConfig",
    "QuantSim",
    "Range",
    "Session",
    "Statistics",
    "TensorRTSession",
    "TensorStatistics",
    "TrtcalError",
    "analyse_layers",
    "build_engine",
    "calibrate",
    "choose_precisions",
    "collect",
    "compare",
    "encodings",
    "evaluate",
    "quantize",
    "quantize_dynamic",
    "quantize_recovered",
]


def _require_own_neighbours() -> None:
    """Refuse packages of the same generic names that stand earlier on the path than ours."""
    root = Path(__file__).resolve().parent.parent
    for name in ("calibrators", "engines"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is None or found.parent.parent != root:
            what = f"{found or spec.submodule_search_locations} shadows it" if spec else "it is missing"
            raise ImportError(f"trtcal needs its own package {name!r} in {root}, but {what}: rename or remove that one")


_require_own_neighbours()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trtcal' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
