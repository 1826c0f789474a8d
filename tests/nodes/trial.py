"""A node test, calibrated on its own data, quantized, and run beside the float model in ONNX Runtime."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime

import trtcal
from tests.nodes.cases import PRODUCT, Apart, Array, Case

Kind = Literal["done", "refused", "wrong", "apart"]

LEAST_SQNR = 30.0
"""dB of an output that comes of INT8. Uniform noise of 1/127 of the largest magnitude leaves more where no value stands
out; ranges are the largest magnitudes (`minmax`), as the few values of a node test make nothing of a histogram."""

SAME = 1e-5
"""Of the largest magnitude: what two sessions of ONNX Runtime may differ by where nothing is quantized."""

_UNFETCHABLE = re.compile(r"bfloat16|float8|float4|int[24]\)")
"""Types that ONNX Runtime gives no arrays of."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a node test, and why.

    Attributes:
        name: The test's.
        kind: "done": the model that was written runs, its product is close to the float model's, and what is not
            quantized is as it was. "refused": trtcal refuses it in one line. "wrong": anything else, such as another
            exception, a model that ONNX Runtime cannot open, or other numbers. "apart": the test says nothing, as it
            gives no numbers, or random ones, or ONNX Runtime cannot run the float model.
        why: More about it, on one line.
    """

    name: str
    kind: Kind
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}: {self.why}"


def outcome(case: Case | Apart, folder: Path) -> Outcome:
    """Try one; the models are written into `folder`."""
    if isinstance(case, Apart):
        return Outcome(case.name, "apart", case.why)
    kind, why = _tried(case, folder / "model.onnx", folder / "model.int8.onnx")
    return Outcome(case.name, kind, " ".join(why.split()))


def _tried(case: Case, model: Path, written: Path) -> tuple[Kind, str]:
    onnx.save(case.model, model)
    try:
        expected, again = (_run(model, case) for _ in range(2))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return "apart", f"ONNX Runtime cannot run the float model: {error}"
    if not all(_same(values, again[name]) for name, values in expected.items()):
        return "apart", "its numbers are random"
    try:
        statistics = trtcal.collect(model, [case.feed])
        quantized = trtcal.quantize(model, trtcal.calibrate(statistics, method="minmax"), output=written).quantized
    except trtcal.TrtcalError as error:
        return ("refused" if "\n" not in str(error) else "wrong"), str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return "wrong", f"{type(error).__name__}: {error}"
    try:
        found = [_run(written, case, integers=integers) for integers in (False, True)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return "wrong", f"ONNX Runtime cannot run the quantized model: {error}"
    faults = [fault for actual in found for fault in _faults(case, expected, actual, alone=quantized == (PRODUCT,))]
    return ("wrong", "; ".join(faults)) if faults else ("done", f"{len(quantized)} quantized")


def _faults(case: Case, expected: Mapping[str, Any], actual: Mapping[str, Any], *, alone: bool) -> list[str]:
    """What of the outputs is not right; `alone`: nothing but the product is quantized."""
    ratio = _sqnr(expected[case.product], actual[case.product])
    faults = [] if ratio >= LEAST_SQNR else [f"its {case.product} has {ratio:.1f} dB"]
    for name, values in expected.items():
        if alone and name != case.product and not _same(values, actual[name]):
            faults.append(f"its {name} is not what it was")
    return faults


def _sqnr(expected: Array, actual: Array) -> float:
    """Signal to quantization noise of an output, in dB."""
    signal = np.square(expected.astype(np.float64)).sum()
    noise = np.square(expected.astype(np.float64) - actual).sum()
    if not noise or not signal:
        return -np.inf if noise else np.inf
    return float(10 * np.log10(signal / noise))


def _same(first: Any, second: Any) -> bool:
    """Whether two outputs hold the same, but for rounding of floats."""
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(_same, first, second))
    if not isinstance(first, np.ndarray) or first.dtype.kind != "f":
        return type(first) is type(second) and bool(np.array_equal(first, second))
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    a, b = first.astype(np.float64), second.astype(np.float64)
    largest = np.abs(a[np.isfinite(a)]).max(initial=0)
    return bool(np.allclose(a, b, rtol=0, atol=SAME * largest, equal_nan=True))


def _run(model: Path, case: Case, *, integers: bool = True) -> dict[str, Any]:
    """All outputs; `integers`: with what kernels on integers ONNX Runtime makes of Q/DQ nodes, else node by node."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # UINT8 overflows on processors without VNNI
    if not integers:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs() if not _UNFETCHABLE.search(value.type)]
    types = {value.name: value.type.tensor_type.elem_type for value in case.model.graph.input}
    feed = {name: _fed(value, types[name]) for name, value in case.feed.items()}
    return dict(zip(names, session.run(names, feed), strict=True))


def _fed(value: Any, element: int) -> Any:
    """Types that NumPy lacks, ONNX Runtime takes with ONNX's number for them."""
    if isinstance(value, np.ndarray) and element >= onnx.TensorProto.BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(value, element)
    return value
