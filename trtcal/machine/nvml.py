"""NVIDIA's GPUs and driver, asked of NVML: the library behind nvidia-smi, which comes with the driver."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LIBRARY = "nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        name: As NVIDIA calls it.
        memory: Bytes.
        compute_capability: Such as "8.9".
    """

    name: str
    memory: int
    compute_capability: str


@dataclass(frozen=True, slots=True)
class Nvidia:
    """The driver and what it drives.

    Attributes:
        driver: Version; None where there is none.
        cuda: The newest CUDA that the driver supports, such as "12.4".
        gpus: In NVML's order.
        absent: Why there is no GPU to use; empty where there is one.
    """

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    absent: str = ""


def nvidia(library: str = LIBRARY) -> Nvidia:
    """Ask for the driver and the GPUs; what is absent is said in the answer, and is no error.

    Args:
        library: NVML's file.
    """
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return Nvidia(absent=f"no NVIDIA driver ({library} cannot be loaded)")
    try:
        with _running(nvml):
            driver, cuda = _text(nvml, "nvmlSystemGetDriverVersion"), _number(nvml, "nvmlSystemGetCudaDriverVersion_v2")
            count = _number(nvml, "nvmlDeviceGetCount_v2", ctypes.c_uint)
            gpus = tuple(_gpu(nvml, index) for index in range(count))
    except _NvmlError as error:
        return Nvidia(absent=f"the NVIDIA driver does not answer: {error}")
    return Nvidia(driver, f"{cuda // 1000}.{cuda % 1000 // 10}", gpus, "" if gpus else "a driver, but no GPU")


@dataclass(frozen=True, slots=True)
class Clocks:
    """A GPU's clocks in MHz, and the highest that it has.

    Attributes:
        sm: Of the multiprocessors.
        memory: Of the memory.
        sm_maximum: As `sm`.
        memory_maximum: As `memory`.
    """

    sm: int
    memory: int
    sm_maximum: int
    memory_maximum: int


def clocks(name: str, library: str = LIBRARY) -> Clocks | None:
    """The clocks at this moment of the only GPU called `name`; None where there are several, or NVML does not tell."""
    try:
        nvml = ctypes.CDLL(library)
        with _running(nvml):
            handles = [_handle(nvml, index) for index in range(_number(nvml, "nvmlDeviceGetCount_v2", ctypes.c_uint))]
            named = [handle for handle in handles if _text(nvml, "nvmlDeviceGetName", handle) == name]
            if len(named) != 1:
                return None
            functions = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo")
            return Clocks(*(_clock(nvml, each, named[0], kind) for each in functions for kind in (_SM, _MEMORY)))
    except (OSError, _NvmlError):
        return None


_SM, _MEMORY = 1, 2
"""NVML's numbers of clocks, nvmlClockType_t."""


class _NvmlError(Exception):
    """A call that NVML refused, in its own words."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@contextmanager
def _running(nvml: ctypes.CDLL) -> Iterator[None]:
    _call(nvml, "nvmlInit_v2")
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: ctypes.CDLL, index: int) -> Gpu:
    handle, memory, major, minor = _handle(nvml, index), _Memory(), ctypes.c_int(), ctypes.c_int()
    _call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    _call(nvml, "nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
    return Gpu(_text(nvml, "nvmlDeviceGetName", handle), memory.total, f"{major.value}.{minor.value}")


def _handle(nvml: ctypes.CDLL, index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    return handle


def _clock(nvml: ctypes.CDLL, function: str, handle: ctypes.c_void_p, kind: int) -> int:
    value = ctypes.c_uint()
    _call(nvml, function, handle, ctypes.c_int(kind), ctypes.byref(value))
    return value.value


def _text(nvml: ctypes.CDLL, function: str, *arguments: object) -> str:
    buffer = ctypes.create_string_buffer(96)
    _call(nvml, function, *arguments, buffer, ctypes.c_uint(len(buffer)))
    return buffer.value.decode(errors="replace")


def _number(nvml: ctypes.CDLL, function: str, kind: type[ctypes.c_int] | type[ctypes.c_uint] = ctypes.c_int) -> int:
    value = kind()
    _call(nvml, function, ctypes.byref(value))
    return value.value


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        code = getattr(nvml, function)(*arguments)
    except AttributeError as error:
        raise _NvmlError(f"it is too old to know {function}") from error
    if code != 0:
        describe = nvml.nvmlErrorString
        describe.restype = ctypes.c_char_p
        raise _NvmlError(f"{(describe(code) or b'unknown error').decode(errors='replace')} (NVML error {code})")
