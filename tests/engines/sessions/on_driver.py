"""A program for `test_tensorrt_on_driver`: engine sessions through a real CUDA library, on a driver in host memory.

Its streams work at once, so the engine's double finds its inputs where it is told, and leaves its outputs there.
"""

import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx

from calibrators.cuda.bindings import CudaBindings
from calibrators.cuda.pycuda_device import PyCuda
from calibrators.errors import DeviceError
from engines.sessions.tensorrt import TensorRTSession
from tests.engine_double import doubling
from tests.session_cases import positives, samples
from trtcal.speed.gpu_timing import benchmark_engines


class DriverCuda:
    """What `EngineDouble` asks of a GPU, of the driver's."""

    clock = 0.0

    class Stream:
        captured = None

        def give(self, work):
            work()

        def synchronize(self):
            pass

    class Streams:
        def __getitem__(self, handle):
            return DriverCuda.Stream()

    streams = Streams()

    def at(self, address, size):
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def opened(double, cuda):
    path = Path(tempfile.mkdtemp()) / "double.engine"
    path.write_bytes(double.data)
    patch = pytest.MonkeyPatch()
    double.install(tensorrt_rtx, patch)
    patch.undo()
    patch.setattr(tensorrt_rtx, "Runtime", double._runtime)
    double.cuda = DriverCuda()
    return TensorRTSession(path, cuda=cuda)


def main(library):
    cuda = {"pycuda": PyCuda, "bindings": CudaBindings}[library]()
    free = cuda.device().memory_free
    with opened(doubling(), cuda) as session:
        for count in (1, 4, 2, 9, 3):
            np.testing.assert_array_equal(session.run({"x": samples(count)})["y"], 2 * samples(count))
        times = benchmark_engines({"a": session}, {"a": {"x": samples(2)}}, duration=0.02, streams=2)["a"]
        assert 0 < times.compute.median < times.latency.median
        assert times.throughput > 0
    with opened(positives(), cuda) as session:
        for count in (1, 4, 2, 3):
            x = samples(count)
            results = session.run({"x": x})
            np.testing.assert_array_equal(results["positive"], x[x > 0])
            np.testing.assert_array_equal(results["same"], x)
    assert cuda.device().memory_free == free
    held = cuda.memory(free - 60)
    with opened(doubling(), cuda) as session, pytest.raises(DeviceError, match="free"):
        session.run({"x": samples(4)})
    held.free()
    assert cuda.device().memory_free == free


main(sys.argv[1])
