"""From a quantized PyTorch model to a Q/DQ ONNX model, a calibration cache and AIMET's encodings."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
from torch import nn

from calibrators.cache.sidecar import Sidecar, installed_versions, sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.aimet import layouts as aimet
from calibrators.codecs.encodings import Encodings
from calibrators.errors import ConfigError, ModelError
from calibrators.files import require_outputs, whole_file, write_whole
from calibrators.grid import TENSORRT_INT8
from engines.graph.model import input_specs
from engines.qdq.exporter_marks import MarkedModel
from engines.qdq.save import checked_bytes
from engines.qdq.to_cache import qdq_scales
from trtcal.data.preprocess import Preprocess
from trtcal.qat.agreement import require_agreement, runs
from trtcal.qat.conversion import converted, left_in_float
from trtcal.qat.faults import UNEXPORTED, told
from trtcal.qat.marking import OPSET, Case, Example, case_of, exported, with_marks
from trtcal.qat.plan import QuantizationWarning
from trtcal.qat.preparation import copied, state_of, unwrapped

Target = Literal["tensorrt", "onnxruntime"]

PACKAGES = ("trtcal", "torch", "onnx", "numpy")
"""Whose versions are recorded."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        model: The Q/DQ model.
        cache: The calibration cache; None where it cannot hold the ranges.
        encodings: AIMET's encodings.
        float_model: The model without Q/DQ nodes, where it was asked for.
        quantized: Labels of the operators with quantized inputs.
        left_float: Name of each layer or function of the PyTorch model that is in float -> why.
    """

    model: Path
    cache: Path | None
    encodings: Path
    float_model: Path | None
    quantized: tuple[str, ...]
    left_float: Mapping[str, str]


def export_onnx(
    model: nn.Module,
    example_input: Example,
    path: str | os.PathLike[str],
    *,
    target: Target = "tensorrt",
    float_model: str | os.PathLike[str] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    opset: int = OPSET,
    preprocess: str | os.PathLike[str] | Preprocess | None = None,
) -> Exported:
    """Write a quantized model as ONNX with Q/DQ nodes: with the same levels that PyTorch simulates, at the same places.

    Beside ``model.onnx`` it writes ``model.onnx.json``, which describes it, ``model.cache`` with its side-car, and
    ``model.encodings`` (AIMET 1.0.0). Cache and encodings are for `float_model`: that has the same tensors.

    The exported model is run in ONNX Runtime on the example, and on twice as many samples where their number is free,
    and has to give what PyTorch gives. (There Q/DQ nodes are run as they are written. The default session of ONNX
    Runtime also rounds biases to INT32: ``session.disable_quant_qdq`` = "1" switches that off.)

    Operators and tensors are named by the paths of the modules, "/layer1/0/conv1/Conv". What is in float, and in which
    type, is a matter of the build: `trtcal.build_engine` with a configuration of these names.

    Args:
        model: From `PTQ` or `QAT`, converted or not; it stays as it is, on its device.
        example_input: A batch: a tensor, the arguments of the forward as a tuple, or by name.
        path: The ONNX file.
        target: For "tensorrt", all levels are INT8 with zero point 0, and what that does not hold is refused: zero
            points of 8 bits, more than 8 bits. For "onnxruntime" every grid is written in a type that it fits.
        float_model: Where to write the model without Q/DQ nodes too; its weights are on their levels.
        input_names: Default: those of the forward's arguments.
        output_names: Default: "output", or "output_0" and so on.
        dynamic_axes: Axes of free size by input, with names; default: the first of each input, "N". Empty for none.
        opset: ONNX's, at least 13; 16-bit activations raise it to 21.
        preprocess: What images go through before the model, for `trtcal accuracy`; it is recorded in the side-cars.

    Raises:
        ModelError: The model was not quantized, not calibrated or not trained; PyTorch cannot export it; the target
            cannot hold an encoding; or ONNX Runtime computes something else.
        OutputError: A file cannot be written.
    """
    if target not in get_args(Target):
        raise ConfigError(f"there is no target {target!r} to export for: choose among {', '.join(get_args(Target))}")
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path} is no name of an ONNX model: let it end with .onnx")
    cache, encodings = path.with_suffix(".cache"), path.with_suffix(".encodings")
    floats = [] if float_model is None else [float_model]
    require_outputs([path, sidecar_path(path), cache, sidecar_path(cache), encodings, *floats])
    state = state_of(model)
    with told(*UNEXPORTED):
        fixed = copied(unwrapped(model)).cpu()  # first of all: what is written does not depend on the device
        fixed = (fixed if state.converted else converted(fixed, inplace=True)).float().eval()
    with told(*UNEXPORTED, fixed):
        case = case_of(
            fixed, example_input, input_names=input_names, output_names=output_names, dynamic_axes=dynamic_axes
        )
        graph, quantized = _marked(fixed, case, opset=opset, tensorrt=target == "tensorrt")
    known = None if preprocess is None else _preprocess(preprocess, quantized)
    digest = "" if float_model is None else _save(float_model, graph.floats)
    origin = Sidecar(digest, state.kind, "quantizable", (), 0, preprocess=known, versions=installed_versions(*PACKAGES))
    scales = _cache(graph, quantized, origin)
    left = left_in_float(fixed)
    _write(path, quantized, _record(graph, scales, origin, left))
    if scales is not None:
        scales.save(cache)
    data, _ = aimet.dump_1_0_0(Encodings(graph.activations, graph.weights))
    write_whole(encodings, data)
    return Exported(
        path,
        cache if scales is not None else None,
        encodings,
        None if float_model is None else Path(float_model),
        graph.quantized,
        left,
    )


def _marked(fixed: nn.Module, case: Case, *, opset: int, tensorrt: bool) -> tuple[MarkedModel, onnx.ModelProto]:
    """What PyTorch exports of a converted model, held against it; and that with Q/DQ nodes."""
    expected = runs(fixed, case)
    marks = with_marks(fixed)
    if not marks:
        raise ModelError("all quantizers of the model are disabled: call enable_quantizers(model) before the export")
    graph = MarkedModel(exported(fixed, case, opset=opset), marks)
    quantized = graph.qdq(tensorrt=tensorrt)
    require_agreement(graph.floats, expected)
    return graph, quantized


def _cache(graph: MarkedModel, model: onnx.ModelProto, origin: Sidecar) -> CalibrationCache | None:
    """The cache of a model's activations; None, and a warning, where it cannot hold them."""
    if not graph.activations:
        warnings.warn(
            "no calibration cache is written: no activation is quantized, and caches hold their ranges",
            QuantizationWarning,
            stacklevel=3,
        )
        return None
    other = [name for name, each in graph.activations.items() if each.grid != TENSORRT_INT8]
    if other or graph.several:
        name, *more = other or graph.several
        what = "are no symmetric INT8" if other else "have several scales"
        told = f"{name} and {len(more)} more tensors" if more else f"the ranges of {name}"
        warnings.warn(
            f"no calibration cache is written: {told} {what}, which caches cannot hold; the ONNX model has them",
            QuantizationWarning,
            stacklevel=3,
        )
        return None
    return CalibrationCache(qdq_scales(model).scales, sidecar=origin)


def _preprocess(given: str | os.PathLike[str] | Preprocess, model: onnx.ModelProto) -> Mapping[str, Any]:
    known = given if isinstance(given, Preprocess) else Preprocess.load(given)
    return known.for_model(input_specs(model)).to_dict()


def _record(
    graph: MarkedModel, scales: CalibrationCache | None, origin: Sidecar, left: Mapping[str, str]
) -> dict[str, Any]:
    """What the model's side-car says, as that of a model from `trtcal.quantize`."""
    return {
        "format": 1,
        "model_sha256": origin.model_sha256,
        "cache_sha256": "" if scales is None else scales.sha256,
        "preprocess": origin.preprocess,
        "quantized": list(graph.quantized),
        "left_float": dict(left),
        "scales": {name: float(each.scale) for name, each in graph.activations.items()},
        "calibration": None if scales is None else origin.to_dict(),
    }


def _write(path: Path, model: onnx.ModelProto, record: Mapping[str, Any]) -> None:
    """Write a model and its side-car; neither replaces an old file before both are written."""
    data = checked_bytes(model)
    with whole_file(sidecar_path(path)) as sidecar:
        about = {"sha256": hashlib.sha256(data).hexdigest(), **record}
        sidecar.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        write_whole(path, data)


def _save(path: str | os.PathLike[str], model: onnx.ModelProto) -> str:
    data = checked_bytes(model)
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()
