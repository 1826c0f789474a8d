"""What both roads to CUDA share: things that are given back once, and what CUDA refuses in plain words."""

import contextlib
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from calibrators.errors import DataError, DeviceError, folded

Self = TypeVar("Self", bound="Owned")


class Owned:
    """Something that is given back when told so, at the end of a `with` block, or when Python collects it.

    Args:
        what: What it is, for messages.
        release: Gives it back, or raises DeviceError. It must not refer to this object, which would then live for ever.
        holder: The object whose end is the end of it; this one, unless another can outlive it.
    """

    def __init__(self, what: str, release: Callable[[], None], holder: object = None) -> None:
        self._what = what
        self._give_back = release
        self._finalizer = weakref.finalize(self if holder is None else holder, _in_silence, release)

    def free(self) -> None:
        """Give it back; the second time nothing happens.

        Raises:
            DeviceError: CUDA refuses, as it does everything after a kernel that crashed.
        """
        if self._finalizer.detach() is not None:
            self._give_back()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.free()
        else:  # what came first says more
            with contextlib.suppress(DeviceError):
                self.free()

    def _check(self) -> None:
        if not self._finalizer.alive:
            raise DeviceError(f"{self._what} was freed and cannot be used any more; make another")


Kind = TypeVar("Kind", bound=Owned)


def same_library(given: object, kind: type[Kind], what: str) -> Kind:
    """A stream or an event that another object gets, which has not been freed.

    Args:
        given: What is given.
        kind: What it must be.
        what: What that is called, with its article.

    Raises:
        DeviceError: It was freed.
        TypeError: It is another library's.
    """
    if not isinstance(given, kind):
        raise TypeError(f"{what} of the same library is needed, not {type(given).__name__}")
    given._check()
    return given


class Memory(Owned):
    """Memory on the device; see `calibrators.cuda.protocols.DeviceMemory`."""

    def __init__(self, address: int, size: int, release: Callable[[], None]) -> None:
        super().__init__(f"device memory of {amount(size)}", release)
        self._address = address
        self.size = size

    @property
    def address(self) -> int:
        """On the device."""
        self._check()
        return self._address


class Pinned(Owned):
    """Page-locked memory of the host; see `calibrators.cuda.protocols.PinnedMemory`.

    Args:
        memory: All of it, at least one byte: an array that owns nothing, and that no view outlives.
        size: Bytes, as asked for.
        release: Gives it back.
    """

    def __init__(self, memory: NDArray[np.uint8], size: int, release: Callable[[], None]) -> None:
        super().__init__(f"pinned memory of {amount(size)}", release, holder=memory)
        self._address = int(memory.ctypes.data)
        self._array = memory[:size]

    @property
    def address(self) -> int:
        """On the host."""
        self._check()
        return self._address

    @property
    def array(self) -> NDArray[np.uint8]:
        """The memory itself, shape (size,)."""
        self._check()
        return self._array


def checked_size(size: int, kind: str) -> int:
    """Bytes to ask for: 1 where none are needed, so that there is an address.

    Raises:
        DataError: `size` is negative.
    """
    if size < 0:
        raise DataError(f"cannot allocate {size} bytes of {kind} memory: a size is 0 or more")
    return max(size, 1)


def check_copy(size: int, room: int, way: str) -> None:
    """Raise DataError unless `size` bytes lie within pinned memory of `room`."""
    if not 0 <= size <= room:
        raise DataError(f"cannot copy {size} bytes {way} pinned memory of {room}: give a size from 0 to {room}")


def refused(action: str, said: str) -> DeviceError:
    """The error for what CUDA refuses.

    Args:
        action: What was to be done, such as "synchronize a stream".
        said: NVIDIA's description, the same in the driver and the runtime, and the function's name where it is known.
    """
    advice = next((advice for words, advice in _ADVICE.items() if words in said), "")
    return DeviceError(f"CUDA cannot {action}: {folded(said)}" + (advice and f"; {advice}"))


def out_of_memory(size: int, kind: str, free: int | None) -> DeviceError:
    """The error for memory that is not there.

    Args:
        size: Bytes that were asked for.
        kind: "device" or "pinned".
        free: Bytes that the device has left; None where that is not the point, or unknown.
    """
    if kind == "pinned":
        return DeviceError(
            f"out of memory: the system does not give {amount(size)} of page-locked memory; use smaller batches, or "
            "raise the limit of locked memory (ulimit -l, docker run --ulimit memlock=-1)"
        )
    left = "" if free is None else f", and {amount(free)} are free"
    return DeviceError(
        f"out of GPU memory: {amount(size)} were asked for{left}; use a smaller batch or fewer streams, or stop other "
        "programs on this GPU (nvidia-smi lists them)"
    )


def amount(size: int) -> str:
    """Bytes for people: "512 bytes", "1.5 MiB"."""
    if size < 1024:
        return f"{size} bytes"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


NO_DRIVER = (
    "install NVIDIA's driver on a machine with an NVIDIA GPU, and start a container with --gpus all "
    "(nvidia-smi must list the GPU)"
)
"""What to do where there is none."""

_LOST = "the GPU refuses all further work of this process: start it again (compute-sanitizer shows the kernel at fault)"

_ADVICE = {
    "no CUDA-capable device": "check nvidia-smi and CUDA_VISIBLE_DEVICES, and start a container with --gpus all",
    "invalid device ordinal": "check CUDA_VISIBLE_DEVICES",
    "busy or unavailable": "another program holds the GPU in exclusive mode: stop it, or choose another GPU",
    "unsupported display driver": "the driver's parts are of different versions: reboot, or install the driver again",
    "system not yet initialized": "start nvidia-fabricmanager, or wait until the machine is up",
    "installed CUDA driver": "update the NVIDIA driver",
    "driver version is insufficient": "update the NVIDIA driver",
    "forward compatibility": "this GPU needs a newer driver itself: take the cuda-compat libraries off LD_LIBRARY_PATH",
    "unknown error": "reboot, or load the driver's modules again (modprobe -r nvidia_uvm; modprobe nvidia_uvm)",
    "stub library": "the toolkit's stub of libcuda.so comes before the driver's: take it off LD_LIBRARY_PATH",
    "illegal memory access": _LOST,
    "illegal instruction": _LOST,
    "misaligned address": _LOST,
    "invalid program counter": _LOST,
    "unspecified launch failure": _LOST,
    "launch timed out": _LOST,
    "device-side assert": _LOST,
    "hardware stack error": _LOST,
    "on global/shared address space": _LOST,
    "uncorrectable ECC error": "the GPU's memory is faulty or needs a reset: nvidia-smi -q -d ECC tells more",
    "when stream is capturing": "this work cannot be part of a CUDA graph: run it without --cuda-graph",
    "previous error during capture": "this work cannot be part of a CUDA graph: run it without --cuda-graph",
}
"""What to do, by words of NVIDIA's description."""


def _in_silence(release: Callable[[], None]) -> None:
    """For what nobody freed: there is no one left to tell."""
    with contextlib.suppress(DeviceError):
        release()
