"""From a float ONNX model and images to a checked INT8 TensorRT engine.

The public names are loaded when they are first used: `import trtcal` loads neither onnx nor TensorRT nor torch.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from calibrators.cache.check import CacheFit
    from calibrators.cache.text import CalibrationCache
    from calibrators.encoding import Encoding
    from calibrators.errors import TrtcalError
    from calibrators.grid import Grid
    from calibrators.range import Range
    from calibrators.ranges import calibrate, encodings
    from calibrators.statistics.file import Statistics
    from calibrators.statistics.tensor import TensorStatistics
    from calibrators.tensorrt.int8 import EntropyCalibrator, EntropyCalibrator2, LegacyCalibrator, MinMaxCalibrator
    from engines.backends.backend import BuildOptions
    from engines.build.builder import build_engine
    from engines.collection.collect import collect
    from engines.inspection.engine_record import Engine
    from engines.inspection.file import inspect
    from engines.sessions.onnxruntime import OnnxRuntimeSession, Session
    from engines.sessions.tensorrt import TensorRTSession
    from engines.structure.lint import Structure
    from trtcal.analysis.comparison import Comparison, compare
    from trtcal.analysis.layer_analysis import LayerAnalysis, analyse_layers
    from trtcal.analysis.run import sensitivity
    from trtcal.charts.chart import Chart
    from trtcal.choice.calibration import calibrate_model
    from trtcal.config.layer_settings import LayerSettings
    from trtcal.config.settings import QuantConfig
    from trtcal.conversion import Converted, convert
    from trtcal.data.images import ImageLoader
    from trtcal.data.preprocess import Preprocess
    from trtcal.machine.examination import Examination, doctor
    from trtcal.measure.accuracy import evaluate
    from trtcal.measure.report import Report
    from trtcal.optimization.result import Optimized
    from trtcal.optimization.run import optimize
    from trtcal.pipeline import check_cache, quantize, quantize_dynamic
    from trtcal.precision.result import MixedPrecision
    from trtcal.precision.run import PrecisionRun, choose_precisions
    from trtcal.quantsim.simulator import QuantSim
    from trtcal.recovery.run import quantize_recovered
    from trtcal.speed.side_by_side import Benchmark, benchmark
    from trtcal.tasks.found import ClassMap, Found
    from trtcal.tasks.task import Task

_HOMES = {
    "Benchmark": "trtcal.speed.side_by_side",
    "BuildOptions": "engines.backends.backend",
    "CacheFit": "calibrators.cache.check",
    "CalibrationCache": "calibrators.cache.text",
    "Chart": "trtcal.charts.chart",
    "ClassMap": "trtcal.tasks.found",
    "Comparison": "trtcal.analysis.comparison",
    "Converted": "trtcal.conversion",
    "Encoding": "calibrators.encoding",
    "Engine": "engines.inspection.engine_record",
    "EntropyCalibrator": "calibrators.tensorrt.int8",
    "EntropyCalibrator2": "calibrators.tensorrt.int8",
    "Examination": "trtcal.machine.examination",
    "Found": "trtcal.tasks.found",
    "Grid": "calibrators.grid",
    "ImageLoader": "trtcal.data.images",
    "LayerAnalysis": "trtcal.analysis.layer_analysis",
    "LayerSettings": "trtcal.config.layer_settings",
    "LegacyCalibrator": "calibrators.tensorrt.int8",
    "MinMaxCalibrator": "calibrators.tensorrt.int8",
    "MixedPrecision": "trtcal.precision.result",
    "OnnxRuntimeSession": "engines.sessions.onnxruntime",
    "Optimized": "trtcal.optimization.result",
    "PrecisionRun": "trtcal.precision.run",
    "Preprocess": "trtcal.data.preprocess",
    "QuantConfig": "trtcal.config.settings",
    "QuantSim": "trtcal.quantsim.simulator",
    "Range": "calibrators.range",
    "Report": "trtcal.measure.report",
    "Session": "engines.sessions.onnxruntime",
    "Statistics": "calibrators.statistics.file",
    "Structure": "engines.structure.lint",
    "Task": "trtcal.tasks.task",
    "TensorRTSession": "engines.sessions.tensorrt",
    "TensorStatistics": "calibrators.statistics.tensor",
    "TrtcalError": "calibrators.errors",
    "analyse_layers": "trtcal.analysis.layer_analysis",
    "benchmark": "trtcal.speed.side_by_side",
    "build_engine": "engines.build.builder",
    "calibrate": "calibrators.ranges",
    "calibrate_model": "trtcal.choice.calibration",
    "check_cache": "trtcal.pipeline",
    "choose_precisions": "trtcal.precision.run",
    "collect": "engines.collection.collect",
    "compare": "trtcal.analysis.comparison",
    "convert": "trtcal.conversion",
    "doctor": "trtcal.machine.examination",
    "encodings": "calibrators.ranges",
    "evaluate": "trtcal.measure.accuracy",
    "inspect": "engines.inspection.file",
    "optimize": "trtcal.optimization.run",
    "quantize": "trtcal.pipeline",
    "quantize_dynamic": "trtcal.pipeline",
    "quantize_recovered": "trtcal.recovery.run",
    "sensitivity": "trtcal.analysis.run",
}

__all__ = [
    "Benchmark",
    "BuildOptions",
    "CacheFit",
    "CalibrationCache",
    "Chart",
    "ClassMap",
    "Comparison",
    "Converted",
    "Encoding",
    "Engine",
    "EntropyCalibrator",
    "EntropyCalibrator2",
    "Examination",
    "Found",
    "Grid",
    "ImageLoader",
    "LayerAnalysis",
    "LayerSettings",
    "LegacyCalibrator",
    "MinMaxCalibrator",
    "MixedPrecision",
    "OnnxRuntimeSession",
    "Optimized",
    "PrecisionRun",
    "Preprocess",
    "QuantConfig",
    "QuantSim",
    "Range",
    "Report",
    "Session",
    "Statistics",
    "Structure",
    "Task",
    "TensorRTSession",
    "TensorStatistics",
    "TrtcalError",
    "analyse_layers",
    "benchmark",
    "build_engine",
    "calibrate",
    "calibrate_model",
    "check_cache",
    "choose_precisions",
    "collect",
    "compare",
    "convert",
    "doctor",
    "encodings",
    "evaluate",
    "inspect",
    "optimize",
    "quantize",
    "quantize_dynamic",
    "quantize_recovered",
    "sensitivity",
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
importlib.import_module("engines")  # switches ONNX Runtime's telemetry off, before anybody imports it


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trtcal' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
