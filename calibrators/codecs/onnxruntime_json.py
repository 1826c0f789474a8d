"""ONNX Runtime's calibration data in JSON: the lowest and the highest value of each tensor.

Two layouts are read: ``{tensor: {"lowest", "highest", ..., "CLS": "TensorData"}}`` of older releases, and ``{"CLS":
"TensorsData", "data": {...}, "calibration_method", "smooth_quant"}``, which is what is written. A number stands as it
is or as ``{"data", "dtype", "CLS": "numpy.array"}``. The range of a tensor is the larger magnitude of its two ends, as
its TensorRT provider would need it; the ends, histograms and the method are kept under `extra["onnxruntime"]`.
"""

import json
from collections.abc import Mapping
from typing import Any

from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.ranges import ranges_of
from calibrators.codecs.reading import is_number, kind_of, object_of, of_ranges, shown
from calibrators.errors import CacheError

KEY = "onnxruntime"


def load(data: bytes, *, source: str) -> Encodings:
    """Read either layout.

    Raises:
        CacheError: It is malformed; the message names the tensor.
    """
    values = object_of(data, source)
    tensors: Any = values
    about: dict[str, Any] = {}
    if values.get("CLS") == "TensorsData":
        tensors = values.get("data")
        about = {name: value for name, value in values.items() if name not in ("CLS", "data")}
    if not isinstance(tensors, dict):
        raise CacheError(f"{source}: data of ONNX Runtime's JSON is an object of tensors, not {kind_of(tensors)}")
    ranges = {name: _amax(tensor, f"{source}, {name!r}") for name, tensor in tensors.items()}
    return of_ranges(ranges, source, extra={KEY: {**about, "data": tensors}})


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The newer layout, and what it cannot hold; a tensor whose range is as it was read is written as it was read.

    Raises:
        CacheError: No activation has a range, or one has several scales.
    """
    losses = Losses("ONNX Runtime's JSON")
    ranges = ranges_of(encodings, losses, own=KEY)
    known = encodings.extra.get(KEY, {})
    tensors = {name: _tensor(name, amax, known.get("data", {})) for name, amax in ranges.items()}
    values = {
        "CLS": "TensorsData",
        "data": tensors,
        "calibration_method": known.get("calibration_method", _method(encodings)),
        "smooth_quant": known.get("smooth_quant", False),
    }
    return (json.dumps(values, ensure_ascii=False) + "\n").encode(), losses.lines


def recognises(values: object) -> bool:
    """Whether JSON values are of either layout."""
    if not isinstance(values, dict) or not values:
        return False
    if values.get("CLS") == "TensorsData":
        return True
    return all(isinstance(tensor, dict) and tensor.get("CLS") == "TensorData" for tensor in values.values())


def _amax(tensor: object, where: str) -> float:
    if not isinstance(tensor, dict):
        raise CacheError(f"{where}: a tensor's data is an object, not {kind_of(tensor)}")
    if "lowest" not in tensor or "highest" not in tensor:
        raise CacheError(f"{where}: it has no lowest and highest, without which there is no range; calibrate by MinMax")
    lowest, highest = (_number(tensor[end], f"{where}, {end}") for end in ("lowest", "highest"))
    if lowest > highest:
        raise CacheError(f"{where}: the lowest value {lowest:g} is above the highest {highest:g}; calibrate again")
    return max(abs(lowest), abs(highest))


def _number(value: object, where: str) -> float:
    if isinstance(value, dict):
        value = value.get("data")
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise CacheError(f"{where}: {len(value)} values where a tensor has one; calibrate per tensor")
    if not is_number(value):
        raise CacheError(f"{where}: {shown(value)} is no finite number; calibrate again")
    return float(value)


def _tensor(name: str, amax: float, known: Mapping[str, Any]) -> object:
    if (
        name in known
        and of_ranges({name: _amax(known[name], name)}, name).activations == of_ranges({name: amax}, name).activations
    ):
        return known[name]
    return {"lowest": _array(-amax), "highest": _array(amax), "CLS": "TensorData"}


def _array(value: float) -> dict[str, object]:
    return {"data": value, "dtype": "float32", "CLS": "numpy.array"}


def _method(encodings: Encodings) -> dict[str, str]:
    """The method's name; "MinMax", which is read back as plain ranges, where a cache does not tell."""
    cache = encodings.cache
    entropy = cache is not None and (cache.algorithm or "").startswith("Entropy")
    return {"CLS": "CalibrationMethod", "value": f"CalibrationMethod.{'Entropy' if entropy else 'MinMax'}"}
