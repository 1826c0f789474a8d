"""`tests.session_cases` and `tests.session_error_cases` against the real classes of each TensorRT.

What an engine computes is a double's, in the memory of the host; enumerations, shapes, loggers and output allocators
are TensorRT's own, and allocators are asked through their C++ class.
"""

import numpy as np
import pytest

from calibrators.errors import DeviceError
from engines.sessions.onnxruntime import open_session
from engines.sessions.tensorrt import TensorRTSession
from tests.contract import calls
from tests.contract.doubles import Live, spec_of
from tests.engine_double import doubling
from tests.engine_files import engine_files
from tests.session_cases import *  # noqa: F403 - the cases
from tests.session_error_cases import *  # noqa: F403
from trtcal.speed.gpu_timing import benchmark_engines


def spec(kind, **values):
    """A double that checks arguments as well, by the signatures in the bindings."""
    return spec_of(kind, **{name: Live(value) if callable(value) else value for name, value in values.items()})


@pytest.fixture
def engine_of(trt, monkeypatch, tmp_path):
    files = engine_files(trt, monkeypatch, tmp_path)

    def of(double, **record):
        double.spec, double.reallocate, double.notify = spec, calls.reallocate_output, calls.notify_shape
        return files(double, **record)

    return of


def test_a_null_runtime_is_a_type_error(trt):
    """What `engines.sessions.runtime` takes for a machine without a GPU: the stub library's function gives null."""
    with pytest.raises(TypeError, match="nullptr"):
        trt.Runtime(trt.Logger())


def test_the_real_runtime_that_is_null(trt, tmp_path):
    (tmp_path / "a.engine").write_bytes(b"an engine")
    with pytest.raises(
        DeviceError, match=r"cannot run .*a\.engine: TensorRT .* makes no runtime here, as without a GPU"
    ):
        open_session(tmp_path / "a.engine")


@pytest.mark.parametrize("asked_for", [False, True])
def test_engines_of_other_versions_may_bring_their_runtime(engine_of, asked_for):
    double, path = engine_of(doubling(), builder_options={"version_compatible": True} if asked_for else {})
    with TensorRTSession(path):
        assert double.runtimes[0].engine_host_code_allowed == asked_for


def test_benchmark(engine_of):
    double, path = engine_of(doubling(kernel_time=2.0))
    with TensorRTSession(path) as session:
        feeds = {"a": {"x": np.ones((2, 3), np.float32)}}
        for cuda_graph in (False, True):
            times = benchmark_engines({"a": session}, feeds, duration=0.01, streams=2, cuda_graph=cuda_graph)["a"]
            assert times.compute.median == pytest.approx(2)
            assert times.cuda_graph == cuda_graph
    assert double.cuda.alive == []
