"""How NVIDIA's runtime is called: against doubles with the signatures of the cuda.bindings that is installed."""

import ctypes
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from calibrators.cuda import bindings as cuda_bindings
from calibrators.cuda.bindings import CudaBindings
from calibrators.cuda.protocols import Device
from calibrators.errors import DeviceError

try:
    from cuda.bindings import runtime as real
except ImportError:
    try:
        from cuda import cudart as real
    except ImportError:
        pytest.skip("cuda.bindings is not installed", allow_module_level=True)

SUCCESS = real.cudaError_t.cudaSuccess
NO_VALUE = (
    "cudaFree",
    "cudaFreeHost",
    "cudaStreamDestroy",
    "cudaStreamSynchronize",
    "cudaStreamWaitEvent",
    "cudaStreamBeginCapture",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaEventDestroy",
    "cudaGraphLaunch",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
)


@pytest.fixture
def runtime(monkeypatch):
    """Every function of the runtime, with its real signature, that answers as a GPU would; enumerations are real."""
    double = create_autospec(real, spec_set=True, instance=False)
    kept = []

    def allocate(size):
        kept.append(ctypes.create_string_buffer(size))
        return SUCCESS, ctypes.addressof(kept[-1])

    def copy(target, source, size, kind, stream):
        ctypes.memmove(target, source, size)
        return (SUCCESS,)

    values = {
        "cudaGetDeviceCount": 1,
        "cudaDriverGetVersion": 12040,
        "cudaRuntimeGetVersion": 12080,
        "cudaGetDevice": 0,
        "cudaDeviceGetAttribute": 8,
        "cudaMemGetInfo": (1 << 30, 1 << 31),
        "cudaGetDeviceProperties": SimpleNamespace(name=b"NVIDIA Double"),
        "cudaStreamCreateWithFlags": real.cudaStream_t(77),
        "cudaEventCreateWithFlags": real.cudaEvent_t(88),
        "cudaEventElapsedTime": 1.5,
        "cudaStreamEndCapture": real.cudaGraph_t(99),
        "cudaGraphInstantiateWithFlags": real.cudaGraphExec_t(111),
    }
    for name, value in values.items():
        getattr(double, name).return_value = (SUCCESS, *(value if isinstance(value, tuple) else (value,)))
    for name in NO_VALUE:
        getattr(double, name).return_value = (SUCCESS,)
    double.cudaMalloc.side_effect = double.cudaMallocHost.side_effect = allocate
    double.cudaMemcpyAsync.side_effect = copy
    double.cudaGetErrorString.side_effect = lambda error: (SUCCESS, error.name.encode())
    answers = SimpleNamespace(**{name: getattr(double, name) for name in dir(real) if name.startswith("cuda")})
    for name in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        setattr(answers, name, getattr(real, name))
    for name in ("cudaStreamNonBlocking", "cudaEventDefault", "cudaEventDisableTiming"):
        setattr(answers, name, int(getattr(real, name)))
    monkeypatch.setattr(cuda_bindings, "_import", lambda: (answers, "12.8.0"))
    return answers


def fails(function, code):
    function.side_effect = None
    function.return_value = (getattr(real.cudaError_t, code), None)


class TestCalls:
    def test_the_device(self, runtime):
        cuda = CudaBindings()
        assert cuda.name == "cuda.bindings 12.8.0"
        assert cuda.device() == Device("NVIDIA Double", "8.8", 1 << 31, 1 << 30, "12.4")

    def test_memory_and_copies(self, runtime):
        cuda = CudaBindings()
        with cuda.memory(8) as memory, cuda.pinned(8) as one, cuda.pinned(8) as two, cuda.stream() as stream:
            one.array[:] = np.arange(8)
            cuda.copy_in(memory.address, one, 8, stream)
            cuda.copy_out(two, memory.address, 8, stream)
            stream.synchronize()
            assert (two.array == one.array).all()
        (_, _, size, into, first), (_, _, _, out, second) = [call.args for call in runtime.cudaMemcpyAsync.mock_calls]
        assert (size, first, second) == (8, 77, 77)
        assert (into.name, out.name) == ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost")
        runtime.cudaFree.assert_called_once_with(memory._address)
        assert runtime.cudaFreeHost.call_count == 2
        runtime.cudaStreamCreateWithFlags.assert_called_once_with(1)
        runtime.cudaStreamDestroy.assert_called_once()

    def test_events(self, runtime):
        cuda = CudaBindings()
        with cuda.stream() as stream, cuda.event() as one, cuda.event(timing=False) as two:
            one.record(stream)
            stream.wait(one)
            two.synchronize()
            assert two.milliseconds_since(one) == 1.5
        assert [call.args for call in runtime.cudaEventCreateWithFlags.mock_calls] == [(0,), (2,)]
        assert runtime.cudaEventDestroy.call_count == 2

    def test_graphs(self, runtime):
        cuda = CudaBindings()
        with cuda.stream() as stream:
            stream.begin_capture()
            with stream.end_capture() as graph:
                graph.launch(stream)
        (_, mode) = runtime.cudaStreamBeginCapture.call_args.args
        assert mode == real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        runtime.cudaGraphDestroy.assert_called_once()
        runtime.cudaGraphExecDestroy.assert_called_once()

    def test_a_graph_that_cannot_be_made_ready(self, runtime):
        cuda = CudaBindings()
        fails(runtime.cudaGraphInstantiateWithFlags, "cudaErrorNotSupported")
        with cuda.stream() as stream, pytest.raises(DeviceError, match="cannot make a graph ready to run"):
            stream.end_capture()
        runtime.cudaGraphDestroy.assert_called_once()


class TestRefusals:
    def test_no_driver(self, runtime):
        fails(runtime.cudaGetDeviceCount, "cudaErrorInsufficientDriver")
        runtime.cudaDriverGetVersion.return_value = (SUCCESS, 0)
        with pytest.raises(DeviceError, match="no NVIDIA driver on this machine: install NVIDIA's driver"):
            CudaBindings()

    def test_an_old_driver(self, runtime):
        fails(runtime.cudaGetDeviceCount, "cudaErrorInsufficientDriver")
        runtime.cudaDriverGetVersion.return_value = (SUCCESS, 11080)
        with pytest.raises(DeviceError) as error:
            CudaBindings()
        assert str(error.value) == (
            "the NVIDIA driver is too old: it supports CUDA 11.8 and cuda.bindings 12.8.0 needs 12.0; update the "
            "driver, or pip install 'cuda-bindings<12'"
        )

    @pytest.mark.parametrize("count", [(real.cudaError_t.cudaErrorNoDevice, None), (SUCCESS, 0)])
    def test_no_gpu(self, runtime, count):
        runtime.cudaGetDeviceCount.return_value = count
        with pytest.raises(DeviceError, match="cannot look for GPUs: "):
            CudaBindings()

    def test_out_of_memory(self, runtime):
        cuda = CudaBindings()
        fails(runtime.cudaMalloc, "cudaErrorMemoryAllocation")
        with pytest.raises(DeviceError, match=r"out of GPU memory: 4\.0 GiB were asked for, and 1\.0 GiB are free"):
            cuda.memory(4 << 30)
        fails(runtime.cudaMallocHost, "cudaErrorMemoryAllocation")
        with pytest.raises(DeviceError, match=r"does not give 4\.0 GiB of page-locked memory"):
            cuda.pinned(4 << 30)

    def test_other_codes_carry_their_name(self, runtime):
        cuda = CudaBindings()
        fails(runtime.cudaMalloc, "cudaErrorIllegalAddress")
        with pytest.raises(DeviceError, match=r"cannot allocate device memory: .*cudaMalloc: cudaErrorIllegalAddress"):
            cuda.memory(4)


def test_this_machine_without_a_gpu():
    """The real library, with or without a driver: it works, or says in one line what is missing."""
    try:
        cuda = CudaBindings()
    except DeviceError as error:
        assert "\n" not in str(error)
        assert any(
            words in str(error)
            for words in ("no NVIDIA driver on this machine", "the NVIDIA driver is too old", "cannot look for GPUs")
        )
    else:
        assert cuda.device().memory_total > 0
