"""What `TensorRTSession` does, for whichever TensorRT the fixture `engine_of` gives: see `tests.engine_double`.

What it refuses is in `tests.session_error_cases`.
"""

import threading

import numpy as np
import pytest

from calibrators.batches import IMAGE
from calibrators.errors import DataError, EngineError, ModelError
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
