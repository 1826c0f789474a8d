"""Calls into what Python gave to TensorRT, made as TensorRT makes them: through the C++ classes of the bindings.

A Python subclass of `IInt8EntropyCalibrator2` is a C++ object whose virtual functions call Python back (pybind11's
trampolines). They are called here through the object's table of virtual functions, so that what the bindings do with
arguments, results and exceptions is theirs. The order of the functions is that of NvInfer.h: since TensorRT 10 four
entries of IVersionedInterface (language, version, two destructors) come first; ILogger became versioned in 11.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import tensorrt as trt

_POINTER_OF_INSTANCE = 16
"""Where pybind11's objects hold the C++ object: after the count of references and the type."""

_FIRST = 0 if trt.__version__.startswith("8.") else 4
_FIRST_OF_LOGGER = 4 if not hasattr(trt, "IInt8Calibrator") else 0

_Size, _Int, _Text, _Address = ctypes.c_size_t, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p

_kept: list[Any] = []
"""Buffers that Python may still look at after a call, although it must not."""


def log(logger: Any, severity: Any, text: str) -> None:
    """ILogger::log."""
    _call(logger, _FIRST_OF_LOGGER, None, (_Int, int(severity)), (_Text, text.encode()))


def get_batch_size(calibrator: Any) -> int:
    """IInt8Calibrator::getBatchSize."""
    return int(_call(calibrator, _FIRST, _Int))


def get_batch(calibrator: Any, names: Sequence[str]) -> list[int] | None:
    """IInt8Calibrator::getBatch: the addresses of the inputs, or None where it says that there are no more."""
    count = len(names)
    addresses = (_Address * count)()
    texts = (_Text * count)(*(name.encode() for name in names))
    more = _call(calibrator, _FIRST + 1, ctypes.c_bool, (_Address, addresses), (_Address, texts), (_Int, count))
    return [address or 0 for address in addresses] if more else None


def read_calibration_cache(calibrator: Any) -> bytes | None:
    """IInt8Calibrator::readCalibrationCache."""
    size = _Size()
    address = _call(calibrator, _FIRST + 2, _Address, (_Address, ctypes.byref(size)))
    return ctypes.string_at(address, size.value) if address else None


def write_calibration_cache(calibrator: Any, cache: bytes) -> None:
    """IInt8Calibrator::writeCalibrationCache; the memory that Python saw holds something else afterwards."""
    buffer = ctypes.create_string_buffer(cache, len(cache))
    _kept.append(buffer)
    _call(calibrator, _FIRST + 3, None, (_Address, buffer), (_Size, len(cache)))
    ctypes.memset(buffer, 0xDD, len(cache))


def get_algorithm(calibrator: Any) -> Any:
    """IInt8Calibrator::getAlgorithm; the bindings ask Python only for classes derived from IInt8Calibrator itself."""
    return trt.CalibrationAlgoType(_call(calibrator, _FIRST + 4, _Int))


def phase_start(monitor: Any, phase: str, parent: str | None, steps: int) -> None:
    """IProgressMonitor::phaseStart."""
    above = parent.encode() if parent is not None else None
    _call(monitor, _FIRST, None, (_Text, phase.encode()), (_Text, above), (_Int, steps))


def step_complete(monitor: Any, phase: str, step: int) -> bool:
    """IProgressMonitor::stepComplete: whether the build goes on."""
    return bool(_call(monitor, _FIRST + 1, ctypes.c_bool, (_Text, phase.encode()), (_Int, step)))


def phase_finish(monitor: Any, phase: str) -> None:
    """IProgressMonitor::phaseFinish."""
    _call(monitor, _FIRST + 2, None, (_Text, phase.encode()))


def reallocate_output(allocator: Any, name: str, address: int, size: int, stream: int) -> int:
    """IOutputAllocator::reallocateOutputAsync, or ::reallocateOutput in TensorRT 8: the new address."""
    arguments = [(_Text, name.encode()), (_Address, address), (ctypes.c_uint64, size), (ctypes.c_uint64, 256)]
    if _FIRST:
        return _call(allocator, _FIRST + 1, _Address, *arguments, (_Address, stream)) or 0
    return _call(allocator, 1, _Address, *arguments) or 0  # the first is getInterfaceVersion


def notify_shape(allocator: Any, name: str, shape: Sequence[int]) -> None:
    """IOutputAllocator::notifyShape."""
    dims = _Dims(len(shape), tuple(shape))
    _call(allocator, _FIRST + 2, None, (_Text, name.encode()), (_Address, ctypes.byref(dims)))


class _Dims(ctypes.Structure):
    _fields_ = (("count", _Int), ("sizes", (ctypes.c_int64 if _FIRST else _Int) * 8))


def _call(subject: Any, index: int, result: Any, *arguments: tuple[Any, Any]) -> Any:
    """Call the virtual function `index` of the C++ object behind `subject`, without the interpreter's lock."""
    this = _Address.from_address(id(subject) + _POINTER_OF_INSTANCE).value
    assert this is not None
    table = _Address.from_address(this).value
    assert table is not None
    address = _Address.from_address(table + index * ctypes.sizeof(_Address)).value
    assert address is not None
    function = ctypes.CFUNCTYPE(result, _Address, *(kind for kind, _ in arguments))(address)
    return function(this, *(value for _, value in arguments))
