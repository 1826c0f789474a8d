"""Things that are given back once, and the words for what CUDA refuses."""

import gc

import numpy as np
import pytest

from calibrators.cuda.resources import Owned, Pinned, amount, check_copy, checked_size, out_of_memory, refused
from calibrators.errors import DataError, DeviceError

REFUSALS = [
    ("cudaErrorNoDevice", "no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
    ("cudaErrorInvalidDevice", "invalid device ordinal", "CUDA_VISIBLE_DEVICES"),
    ("cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable", "exclusive mode"),
    (
        "cudaErrorSystemDriverMismatch",
        "system has unsupported display driver / cuda driver combination",
        "of different versions",
    ),
    ("cudaErrorSystemNotReady", "system not yet initialized", "fabricmanager"),
    (
        "cudaErrorCallRequiresNewerDriver",
        "API call is not supported in the installed CUDA driver",
        "update the NVIDIA driver",
    ),
    (
        "cudaErrorInsufficientDriver",
        "CUDA driver version is insufficient for CUDA runtime version",
        "update the NVIDIA driver",
    ),
    (
        "cudaErrorCompatNotSupportedOnDevice",
        "forward compatibility was attempted on non supported HW",
        "cuda-compat",
    ),
    ("cudaErrorUnknown", "unknown error", "reboot"),
    ("cudaErrorStubLibrary", "CUDA driver is a stub library", "LD_LIBRARY_PATH"),
    ("cudaErrorIllegalAddress", "an illegal memory access was encountered", "start it again"),
    ("cudaErrorIllegalInstruction", "an illegal instruction was encountered", "start it again"),
    ("cudaErrorMisalignedAddress", "misaligned address", "start it again"),
    ("cudaErrorInvalidPc", "invalid program counter", "start it again"),
    ("cudaErrorLaunchFailure", "unspecified launch failure", "start it again"),
    ("cudaErrorLaunchTimeout", "the launch timed out and was terminated", "start it again"),
    ("cudaErrorAssert", "device-side assert triggered", "start it again"),
    ("cudaErrorHardwareStackError", "hardware stack error", "start it again"),
    ("cudaErrorInvalidAddressSpace", "operation not supported on global/shared address space", "start it again"),
    ("cudaErrorECCUncorrectable", "uncorrectable ECC error encountered", "needs a reset"),
    ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing", "--cuda-graph"),
    (
        "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error during capture",
        "--cuda-graph",
    ),
]
"""Name, NVIDIA's description, part of the advice."""


@pytest.fixture
def released():
    return []


def owned(released, error=None):
    def release():
        released.append(1)
        if error is not None:
            raise error

    return Owned("a thing", release)


class TestOwned:
    def test_once(self, released):
        thing = owned(released)
        thing._check()
        thing.free()
        thing.free()
        assert released == [1]
        with pytest.raises(DeviceError, match="a thing was freed and cannot be used any more"):
            thing._check()

    def test_at_the_end_of_a_block(self, released):
        with owned(released) as thing:
            assert not released
        assert released == [1]
        thing.free()
        assert released == [1]

    def test_when_an_error_passes(self, released):
        with pytest.raises(KeyError), owned(released):
            raise KeyError
        assert released == [1]

    def test_an_error_that_passes_is_the_one_that_is_seen(self, released):
        with pytest.raises(KeyError), owned(released, DeviceError("second")):
            raise KeyError
        assert released == [1]

    def test_what_cannot_be_freed_is_told(self, released):
        with pytest.raises(DeviceError, match="refused"), owned(released, DeviceError("refused")):
            pass
        thing = owned(released, DeviceError("refused"))
        with pytest.raises(DeviceError, match="refused"):
            thing.free()
        thing.free()
        assert released == [1, 1]

    def test_when_forgotten(self, released):
        owned(released, DeviceError("no one is told"))
        gc.collect()
        assert released == [1]


class TestPinned:
    def test_a_view_keeps_it(self, released):
        pinned = Pinned(np.frombuffer(memoryview(bytearray(8)), np.uint8), 8, lambda: released.append(1))
        part = pinned.array[2:].view(np.uint16)
        del pinned
        gc.collect()
        assert not released
        part[:] = 1
        del part
        gc.collect()
        assert released == [1]

    def test_freed_all_the_same(self, released):
        pinned = Pinned(np.frombuffer(memoryview(bytearray(8)), np.uint8), 5, lambda: released.append(1))
        part = pinned.array[2:]
        assert part.shape == (3,)
        pinned.free()
        assert released == [1]
        del part, pinned
        gc.collect()
        assert released == [1]


class TestSizes:
    def test_checked(self):
        assert [checked_size(size, "device") for size in (0, 1, 7)] == [1, 1, 7]
        with pytest.raises(DataError, match="cannot allocate -1 bytes of device memory"):
            checked_size(-1, "device")

    def test_copies(self):
        check_copy(0, 0, "to")
        check_copy(5, 5, "to")
        with pytest.raises(DataError, match="cannot copy 6 bytes to pinned memory of 5: give a size from 0 to 5"):
            check_copy(6, 5, "to")

    @pytest.mark.parametrize(
        "size, text",
        [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (3 << 20, "3.0 MiB"),
            (1 << 50, "1048576.0 GiB"),
        ],
    )
    def test_amount(self, size, text):
        assert amount(size) == text


class TestWords:
    def test_out_of_memory(self):
        text = str(out_of_memory(3 << 30, "device", 1 << 20))
        assert text.startswith("out of GPU memory: 3.0 GiB were asked for, and 1.0 MiB are free; use a smaller batch")
        assert "are free" not in str(out_of_memory(3 << 30, "device", None))
        assert "3.0 GiB of page-locked memory" in str(out_of_memory(3 << 30, "pinned", None))

    def test_one_line(self):
        assert str(refused("do this", "something\n  else")) == "CUDA cannot do this: something else"

    @pytest.mark.parametrize("said, advice", [(said, advice) for _, said, advice in REFUSALS])
    def test_advice(self, said, advice):
        assert advice in str(refused("work", f"{said} (cudaDoWork: 1)"))

    @pytest.mark.parametrize("name, said", [(name, said) for name, said, _ in REFUSALS])
    def test_nvidias_words(self, name, said):
        """From NVIDIA's library itself, which has them without a driver from CUDA 12.9 on."""
        runtime = pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)
        try:
            assert runtime.cudaGetErrorString(getattr(runtime.cudaError_t, name))[1].decode() == said
        except RuntimeError as error:
            pytest.skip(f"this cuda.bindings asks the driver for its words: {error}")
