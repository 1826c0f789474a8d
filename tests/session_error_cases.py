"""What `TensorRTSession` refuses, and what goes wrong: `tests.session_cases` has what it does."""

import numpy as np
import pytest

from calibrators.cuda.protocols import Device
from calibrators.errors import DataError, DeviceError, EngineError, MissingDependencyError
from engines.sessions.tensorrt import TensorRTSession
from tests.engine_double import Tensor, doubling
from tests.session_cases import positives, samples


class TestBadInput:
    def test_what_does_not_fit(self, engine_of):
        _, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            with pytest.raises(DataError, match=r"the model takes x:\?x3, not 2x4"):
                session.run({"x": np.zeros((2, 4), np.float32)})
            with pytest.raises(DataError, match="takes one or more samples"):
                session.run({"x": np.zeros((0, 3), np.float32)})
            with pytest.raises(DataError, match="takes float32, not int64"):
                session.run({"x": np.zeros((2, 3), np.int64)})

    def test_a_batch_outside_the_profile(self, engine_of):
        _, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            assert session.profile_for({"x": samples(4)}) == 0
            with pytest.raises(EngineError, match=r"was built for x:1x3\.\.2x3\.\.4x3, not x:5x3: give that, or build"):
                session.profile_for({"x": samples(5)})

    def test_a_closed_session_says_so(self, engine_of):
        _, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            pass
        session.close()
        with pytest.raises(EngineError, match="is closed; open another"):
            session.run({"x": samples(1)})
        with pytest.raises(EngineError, match="is closed; open another"):
            session.execution()

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (Tensor("x", "INPUT", (2,), "INT64", is_shape=True), "input x holds a shape or a single number"),
            (Tensor("x", "INPUT", ()), "input x holds a shape or a single number"),
            (
                Tensor("x", "INPUT", (1, 4, 8, 8), "INT8", format="CHW4"),
                "x is in the format CHW4; build the engine with",
            ),
            (Tensor("x", "INPUT", (1, 4), "FP8"), "x is FP8, a type that NumPy does not have"),
        ],
    )
    def test_inputs_that_no_session_can_feed(self, engine_of, tensor, message):
        double, path = engine_of(doubling())
        if not hasattr(double.trt.DataType, tensor.dtype):
            pytest.skip(f"this TensorRT has no {tensor.dtype}")
        double.tensors = [tensor, Tensor("y", "OUTPUT", (2, 5))]
        with pytest.raises(EngineError, match=message) as caught:
            TensorRTSession(path)
        assert "\n" not in str(caught.value)
        assert double.cuda.alive == []

    def test_a_run_that_fails(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            double.fails = (
                "[executionContext.cpp::enqueueInternal::795] Error Code 7:\n Internal Error (Myelin ran amok)"
            )
            with pytest.raises(EngineError, match=r"does not run: .*Internal Error \(Myelin ran amok\)$") as caught:
                session.run({"x": samples(2)})
            assert "\n" not in str(caught.value)
            double.fails = ""
            np.testing.assert_array_equal(session.run({"x": samples(2)})["y"], 2 * samples(2))

    def test_ctrl_c_in_the_middle_of_a_run(self, engine_of, monkeypatch):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            session.run({"x": samples(2)})

            def interrupt(target, source, size, stream):
                raise KeyboardInterrupt

            monkeypatch.setattr(double.cuda, "copy_out", interrupt)
            with pytest.raises(KeyboardInterrupt):
                session.run({"x": samples(2)})
        assert double.cuda.alive == []

    def test_no_cuda_library_for_python(self, engine_of, monkeypatch):
        _, path = engine_of(doubling())

        def absent():
            raise MissingDependencyError("work on a GPU needs PyCUDA or NVIDIA's cuda.bindings")

        monkeypatch.setattr("engines.sessions.tensorrt.open_cuda", absent)
        with pytest.raises(MissingDependencyError, match="needs PyCUDA or"):
            TensorRTSession(path)

    def test_no_memory_for_a_context(self, engine_of):
        double, path = engine_of(doubling(contexts=1))
        with TensorRTSession(path) as session:
            session.run({"x": samples(1)})
            with pytest.raises(
                DeviceError, match=r"needs 3 MiB of the GPU's memory to run, and 1024 MiB are free: end"
            ):
                session.execution()
            assert session.run({"x": samples(1)})
        assert double.cuda.alive == []

    def test_no_memory_for_the_tensors(self, engine_of):
        double, path = engine_of(doubling())
        double.cuda.limit = 150  # pinned memory counts, too
        with TensorRTSession(path) as session:
            assert session.run({"x": samples(1)})
            with pytest.raises(DeviceError, match="no room for 48 bytes"):
                session.run({"x": samples(4)})
            assert session.run({"x": samples(1)})
        assert double.cuda.alive == []

    def test_no_memory_for_an_output_sized_by_the_data(self, engine_of):
        double, path = engine_of(positives())
        with TensorRTSession(path) as session:
            session.run({"x": -np.ones((4, 3), np.float32)})
            double.cuda.limit = 0
            with pytest.raises(DeviceError, match="no room for 48 bytes"):
                session.run({"x": np.ones((4, 3), np.float32)})
        assert double.cuda.alive == []


NO_DRIVER = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at cudaResources.cpp:25 "
    "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
NO_GPU = "CUDA initialization failure with error: 100. Please check your CUDA installation."
OTHER_GPU = (
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
    "incompatible device, expecting compute 8.6 got compute 7.5, please rebuild.)"
)
NO_SUCH_GPU = (  # TensorRT-RTX 1.7.1 on an H100
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, which has "
    "compute capability 9.0. Supported compute capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0. TensorRT-RTX does not "
    "support this compute capability, so the engine cannot be rebuilt for it. In x at runtime.cpp:84)"
)
ANOTHER_GPU = (
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, which has "
    "compute capability 8.9. Supported compute capabilities: 8.0 12.0. In throwUnlessComputeCapSupported at x.cpp:84)"
)
OTHER_VERSION = (
    "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not compatible with this "
    "version of TensorRT, expecting library version 10.7.0.23 got 10.3.0.26, please rebuild.)"
)
NO_MEMORY = "[defaultAllocator.cpp::allocateAsync::48] Error Code 1: Cuda Runtime (out of memory)"
CUT = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan.header.size == "
    "blobSize failed. In parsePlan at runtime.cpp:780)"
)
STRANGE = "IRuntime::deserializeCudaEngine: Error Code 4: Internal Error (something new)"


class TestEnginesThatDoNotLoad:
    @pytest.mark.parametrize(
        ("said", "kind", "message"),
        [
            (NO_DRIVER, DeviceError, "finds no NVIDIA driver, or one too old for it; trtcal doctor shows what is here"),
            (NO_GPU, DeviceError, "finds no NVIDIA GPU that it can use; trtcal doctor"),
            (OTHER_GPU, EngineError, "was built for GPUs of compute capability 7.5, and this one has 8.6: build"),
            (NO_SUCH_GPU, EngineError, r"has no engines for GPUs of compute capability 9\.0, .*--backend tensorrt"),
            (ANOTHER_GPU, EngineError, r"was built for GPUs of compute capability 8\.0 12\.0, and this one has 8\.9"),
            (OTHER_VERSION, EngineError, "was built with another version than TensorRT"),
            (NO_MEMORY, DeviceError, "does not fit in the GPU's memory: end what else uses the GPU"),
            (CUT, EngineError, "was cut short: copy it again, or build it again"),
            (STRANGE, EngineError, r"Internal Error \(something new\); build the engine again on this machine"),
        ],
    )
    @pytest.mark.parametrize("runtime", [True, False])
    def test_tensorrts_words_become_one_line(self, engine_of, said, kind, message, runtime):
        double, path = engine_of(doubling(loads=False, runtime=runtime, says=[("ERROR", said), ("ERROR", "x")]))
        with pytest.raises(kind, match=message) as caught:
            TensorRTSession(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert double.cuda.alive == []

    def test_without_words_too(self, engine_of):
        _, path = engine_of(doubling(loads=False))
        with pytest.raises(EngineError, match="TensorRT gives no reason"):
            TensorRTSession(path)

    def test_the_side_car_tells_the_version(self, engine_of):
        double, path = engine_of(doubling(loads=False, says=[("ERROR", STRANGE)]), version="7.1.2")
        with pytest.raises(
            EngineError, match=r"was built with version 7\.1\.2, and TensorRT.* does not load it: build"
        ):
            TensorRTSession(path)
        for words, message in ((NO_DRIVER, "no NVIDIA driver"), (NO_MEMORY, "does not fit in the GPU's memory")):
            double.says = [("ERROR", words)]
            with pytest.raises(DeviceError, match=message):
                TensorRTSession(path)

    def test_the_side_car_tells_the_gpus(self, engine_of, monkeypatch):
        double, path = engine_of(doubling(loads=False, says=[("ERROR", STRANGE)]), compute_capabilities=("8.9", "12.0"))
        with pytest.raises(
            EngineError, match=r"of compute capability 8\.9, 12\.0, and NVIDIA Test GPU has 8\.6: build"
        ):
            TensorRTSession(path)
        monkeypatch.setattr(double.cuda, "device", lambda: Device("NVIDIA Test GPU", "8.9", 1, 1, "13.0"))
        with pytest.raises(EngineError, match="something new"):
            TensorRTSession(path)

    def test_a_gpu_that_no_engine_is_for_is_no_matter_of_the_side_car(self, engine_of):
        says = [("ERROR", NO_SUCH_GPU)]
        _, path = engine_of(doubling(loads=False, says=says), compute_capabilities=("8.0",))
        with pytest.raises(EngineError, match=r"cannot run here: TensorRT.* has no engines for"):
            TensorRTSession(path)

    def test_the_side_car_tells_the_gpu_that_it_was_built_on(self, engine_of):
        gpu = {"name": "NVIDIA A100", "compute_capability": "8.0"}
        _, path = engine_of(doubling(loads=False, says=[("ERROR", STRANGE)]), gpu=gpu)
        with pytest.raises(EngineError, match=r"of compute capability 8\.0, and NVIDIA Test GPU has 8\.6: build"):
            TensorRTSession(path)

    def test_another_file_than_the_side_cars(self, engine_of):
        _, path = engine_of(doubling(), version="1.2.3")
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(EngineError, match=r"is not the engine that .*\.json describes \(SHA-256 differs\)"):
            TensorRTSession(path)

    def test_an_empty_file(self, engine_of):
        _, path = engine_of(doubling())
        path.write_bytes(b"")
        with pytest.raises(EngineError, match="is an empty file: build the engine again"):
            TensorRTSession(path)
