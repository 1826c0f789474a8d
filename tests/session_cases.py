"""What `TensorRTSession` does, for whichever TensorRT the fixture `engine_of` gives: see `tests.engine_double`."""

import threading

import numpy as np
import pytest

from calibrators.batches import IMAGE
from calibrators.cuda.protocols import Device
from calibrators.errors import DataError, DeviceError, EngineError, MissingDependencyError, ModelError
from engines.sessions.tensorrt import TensorRTSession
from tests.engine_double import EngineDouble, Tensor, doubling
from tests.host_cuda import HostMemory


def samples(count, size=3, dtype=np.float32):
    return np.random.default_rng(count).standard_normal((count, size)).astype(dtype)


def adding(*, profiles, shape=(-1, 3), **options):
    """y = x + 1 for x of the shapes that the profiles allow."""
    tensors = [Tensor("x", "INPUT", shape, profiles=profiles), Tensor("y", "OUTPUT", shape)]
    return EngineDouble(tensors, lambda feed: {"y": feed["x"] + 1}, lambda shapes: {"y": shapes["x"]}, **options)


def positives(**options):
    """The positive numbers of x, and x: the data decide how many numbers the first output has."""
    tensors = [
        Tensor("x", "INPUT", (-1, 3), profiles=[((1, 3), (2, 3), (4, 3))]),
        Tensor("positive", "OUTPUT", (-1,)),
        Tensor("same", "OUTPUT", (-1, 3)),
    ]
    return EngineDouble(
        tensors,
        lambda feed: {"positive": feed["x"][feed["x"] > 0], "same": feed["x"]},
        lambda shapes: {"positive": (-1,), "same": shapes["x"]},
        **options,
    )


class TestRuns:
    def test_samples_in_outputs_out(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            assert [str(spec) for spec in session.inputs] == ["x:?x3"]
            assert [str(spec) for spec in session.outputs] == ["y:?x3"]
            for count in (2, 4, 1, 2):
                x = samples(count)
                np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
                np.testing.assert_array_equal(session.run({IMAGE: x})["y"], 2 * x)
        assert double.cuda.alive == []

    def test_outputs_are_the_callers_own(self, engine_of):
        _, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            first = session.run({"x": np.ones((1, 3), np.float32)})["y"]
            session.run({"x": np.zeros((1, 3), np.float32)})
        np.testing.assert_array_equal(first, [[2, 2, 2]])

    @pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 17])
    def test_more_samples_than_the_profile_allows_run_in_chunks(self, engine_of, count):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            x = samples(count)
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
        sizes = [shapes["x"][0] for shapes in double.enqueued]
        assert sizes == [4] * (count // 4) + [count % 4] * (count % 4 > 0)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_a_fixed_batch_is_filled(self, engine_of, count):
        double, path = engine_of(adding(profiles=(), shape=(3, 3)))
        with TensorRTSession(path) as session:
            assert [str(spec) for spec in session.inputs] == ["x:3x3"]
            x = samples(count)
            np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)
        assert {shapes["x"] for shapes in double.enqueued} == {(3, 3)}

    def test_fewer_samples_than_the_profile_wants_are_filled(self, engine_of):
        double, path = engine_of(adding(profiles=[((4, 3), (4, 3), (8, 3))]))
        with TensorRTSession(path) as session:
            x = samples(9)
            np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)
        assert [shapes["x"][0] for shapes in double.enqueued] == [8, 4]

    def test_the_profile_is_the_one_that_takes_the_shape(self, engine_of):
        profiles = [((1, 8), (1, 8), (2, 8)), ((1, 16), (4, 16), (8, 32)), ((4, 8), (8, 8), (16, 8))]
        double, path = engine_of(adding(profiles=profiles, shape=(-1, -1)))
        with TensorRTSession(path) as session:
            assert session.inputs[0].shape == (None, None)
            for shape, profile in (((2, 8), 0), ((3, 32), 1), ((5, 8), 2), ((3, 8), 2), ((1, 8), 0), ((40, 16), 1)):
                x = np.ones(shape, np.float32)
                np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)
                assert double.made[0].profile == profile
            with pytest.raises(EngineError) as caught:
                session.run({"x": np.ones((1, 12), np.float32)})
        message = str(caught.value)
        assert "profile 0: x:1x8..1x8..2x8; profile 1: x:1x16..4x16..8x32; profile 2: x:4x8..8x8..16x8" in message
        assert "not x:1x12" in message
        assert "\n" not in message

    @pytest.mark.parametrize("dtype", ["FLOAT", "HALF", "INT8", "INT32", "BOOL"])
    def test_inputs_and_outputs_of_every_type(self, engine_of, dtype):
        tensors = [Tensor("x", "INPUT", (2, 5), dtype), Tensor("y", "OUTPUT", (2, 5), dtype)]
        double = EngineDouble(tensors, lambda feed: {"y": feed["x"]}, lambda shapes: {"y": shapes["x"]})
        _, path = engine_of(double)
        with TensorRTSession(path) as session:
            (spec,) = session.inputs
            x = np.arange(10).reshape(2, 5).astype(spec.dtype)
            result = session.run({"x": x})["y"]
            assert result.dtype == spec.dtype
            np.testing.assert_array_equal(result, x)

    def test_two_inputs_and_an_output_on_the_host(self, engine_of):
        tensors = [
            Tensor("a", "INPUT", (2, 2)),
            Tensor("b", "INPUT", (2, 2), "HALF"),
            Tensor("sizes", "OUTPUT", (2,), "INT32", location="HOST"),
            Tensor("c", "OUTPUT", (2, 2)),
        ]
        double = EngineDouble(
            tensors,
            lambda feed: {"c": feed["a"] - feed["b"], "sizes": np.array([7, 8])},
            lambda shapes: {"c": shapes["a"], "sizes": (2,)},
        )
        _, path = engine_of(double)
        with TensorRTSession(path) as session:
            a, b = samples(2, 2), samples(2, 2)
            results = session.run({"b": b, "a": a})
            np.testing.assert_array_equal(results["sizes"], [7, 8])
            np.testing.assert_allclose(results["c"], a - b.astype(np.float16), rtol=1e-6)
            with pytest.raises(DataError, match="as many for every input, not 2 for a, 1 for b"):
                session.run({"a": a, "b": b[:1]})
        assert double.cuda.alive == []

    def test_the_data_decide_the_size_of_an_output(self, engine_of):
        double, path = engine_of(positives())
        with TensorRTSession(path) as session:
            for x in (samples(4), samples(1), -np.ones((2, 3), np.float32), samples(3)):
                results = session.run({"x": x})
                np.testing.assert_array_equal(results["positive"], x[x > 0])
                np.testing.assert_array_equal(results["same"], x)
            with pytest.raises(ModelError, match=r"output positive of .* has no axis of samples"):
                session.run({"x": np.abs(samples(5))})
        assert double.cuda.alive == []

    def test_runs_of_several_threads_do_not_mix(self, engine_of):
        _, path = engine_of(doubling())
        found = {}
        with TensorRTSession(path) as session:

            def work(value):
                x = np.full((3, 3), value, np.float32)
                found[value] = [session.run({"x": x})["y"] for _ in range(20)]

            workers = [threading.Thread(target=work, args=(value,)) for value in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        assert all((each == 2 * value).all() for value, results in found.items() for each in results)
        assert len(found) == 4

    def test_memory_is_kept_between_runs(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            session.run({"x": samples(4)})
            held = [each for each in double.cuda.alive if isinstance(each, HostMemory)]
            for count in (4, 2, 1, 4, 11):
                session.run({"x": samples(count)})
                assert [each for each in double.cuda.alive if isinstance(each, HostMemory)] == held
        assert len(held) == 4  # two tensors, two sides


class TestStreams:
    def test_each_stream_has_a_context_of_its_own(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            feeds = [samples(2) * factor for factor in (1, 10, 100)]
            ways = [session.execution() for _ in feeds]
            for way, x in zip(ways, feeds, strict=True):
                way.prepare({"x": x}, 0)
                way.copy_in()
                way.launch()
                way.copy_out()
            for way, x in zip(ways, feeds, strict=True):
                np.testing.assert_array_equal(way.finish()["y"], 2 * x)
                way.close()
                way.close()
            assert len(double.made) == 3
            assert len({way.stream.handle for way in ways}) == 3
        assert double.cuda.alive == []

    def test_a_profile_that_is_not_shared(self, engine_of):
        double, path = engine_of(doubling(shares_profiles=False))
        with TensorRTSession(path) as session, session.execution() as only:
            only.run({"x": samples(1)}, 0)
            with session.execution() as way, pytest.raises(EngineError) as caught:
                way.prepare({"x": samples(1)}, 0)
        message = str(caught.value)
        assert "has been chosen by another IExecutionContext" in message
        assert message.endswith("TensorRT before 10 shares none between streams: use one stream")
        assert double.cuda.alive == []


class TestGraphs:
    def test_captured_once_and_again_after_a_change_of_shape(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path, cuda_graph=True) as session:
            for count, launches in ((2, 1), (2, 2), (3, 3), (3, 4), (2, 5)):
                x = samples(count)
                np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
                assert double.cuda.launches == launches
            # For each of three changes: one run before the capture, and the capture.
            assert [shapes["x"][0] for shapes in double.enqueued] == [2, 2, 3, 3, 2, 2]
            assert sum(type(each).__name__ == "HostGraph" for each in double.cuda.alive) == 1
        assert double.cuda.alive == []

    def test_without_one_nothing_is_captured(self, engine_of):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session:
            session.run({"x": samples(2)})
        assert double.cuda.launches == 0

    def test_a_capture_that_fails_falls_back_and_says_so(self, engine_of):
        double, path = engine_of(doubling())
        double.cuda.refuses_capture = True
        with TensorRTSession(path) as session, session.execution(cuda_graph=True) as way:
            x = samples(2)
            np.testing.assert_array_equal(way.run({"x": x}, 0)["y"], 2 * x)
            assert way.no_graph == "the capture of the stream failed: operation not permitted (CUDA error 900)"
            np.testing.assert_array_equal(way.run({"x": x}, 0)["y"], 2 * x)
        assert double.cuda.launches == 0
        assert double.cuda.alive == []

    def test_a_launch_that_fails_in_the_capture(self, engine_of, monkeypatch):
        double, path = engine_of(doubling())
        with TensorRTSession(path) as session, session.execution(cuda_graph=True) as way:
            begin, end = type(way.stream).begin_capture, type(way.stream).end_capture

            def begin_and_fail(stream):
                begin(stream)
                double.fails = "Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"

            def succeed_and_end(stream):
                double.fails = ""
                return end(stream)

            monkeypatch.setattr(type(way.stream), "begin_capture", begin_and_fail)
            monkeypatch.setattr(type(way.stream), "end_capture", succeed_and_end)
            x = samples(2)
            np.testing.assert_array_equal(way.run({"x": x}, 0)["y"], 2 * x)
            assert "operation not permitted when stream is capturing" in way.no_graph
        assert double.cuda.alive == []

    def test_an_output_sized_by_the_data_is_not_captured(self, engine_of):
        double, path = engine_of(positives())
        with TensorRTSession(path) as session, session.execution(cuda_graph=True) as way:
            x = samples(2)
            np.testing.assert_array_equal(way.run({"x": x}, 0)["positive"], x[x > 0])
            assert way.no_graph == "the data decide the size of output positive"
        assert double.cuda.launches == 0


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
