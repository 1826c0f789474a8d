"""Statistics against closed forms and numpy, the order of runs against a clock that the test holds, and real models."""

import gc
import itertools
import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from calibrators.batches import TensorSpec
from calibrators.errors import ModelError, TrtcalError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.speed import benchmark as module
from trtcal.speed.benchmark import Latency, benchmark, has_qdq, measure, random_batch, remarks, summary

MILLISECOND = 1_000_000


def adding(shape, element=TensorProto.FLOAT):
    """y = x + x."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
    )
    return OnnxRuntimeSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


class Clock:
    """Nanoseconds that pass only when a call takes them."""

    def __init__(self):
        self.now = 0
        self.order = []

    def __call__(self):
        return self.now

    def taking(self, name, times):
        steps = itertools.cycle(times)

        def call():
            self.order.append(name)
            self.now += next(steps)

        return call


class TestSummary:
    def test_closed_form(self):
        """1 to 101 ms: percentile p lies at 1 + p ms, the variance is (n² - 1) / 12."""
        each = summary(np.arange(1, 102) * MILLISECOND, 4)
        assert (each.median, each.p90, each.p95, each.p99) == pytest.approx((51, 91, 96, 100))
        assert (each.mean, each.minimum, each.maximum) == pytest.approx((51, 1, 101))
        assert each.variation == pytest.approx(100 * math.sqrt((101**2 - 1) / 12) / 51)
        assert each.throughput == pytest.approx(1000 * 4 / 51)
        assert (each.runs, each.batch_size) == (101, 4)

    def test_interpolates_between_two_runs(self):
        each = summary([MILLISECOND, 3 * MILLISECOND], 1)
        assert (each.median, each.p90, each.p99) == pytest.approx((2, 2.8, 2.98))

    def test_one_run(self):
        each = summary([2 * MILLISECOND], 1)
        assert {each.median, each.p90, each.p95, each.p99, each.mean, each.minimum, each.maximum} == {2.0}
        assert (each.variation, each.throughput) == (0, 500)

    def test_runs_that_take_no_time_at_all(self):
        each = summary([0, 0, 0], 1)
        assert each.times() == dict.fromkeys(each.times(), 0.0)

    @given(st.lists(st.integers(1, 10**10), min_size=1, max_size=300), st.integers(1, 64))
    def test_order_means_nothing_and_percentiles_are_ordered(self, times, batch_size):
        each = summary(times, batch_size)
        assert each.to_dict() == pytest.approx(summary(sorted(times), batch_size).to_dict())
        assert each.minimum <= each.median <= each.p90 <= each.p95 <= each.p99 <= each.maximum
        assert each.p99 == pytest.approx(np.percentile(np.array(times) / 1e6, 99))
        assert each.throughput == pytest.approx(batch_size / (float(np.median(times)) / 1e9))

    def test_the_mean_of_each_repeat(self):
        each = summary(np.array([1, 2, 3, 4, 5, 9]) * MILLISECOND, 1, repeat=3)
        assert each.repeats == pytest.approx((1.5, 3.5, 7))
        assert (each.runs, each.mean) == (6, pytest.approx(4))
        assert each.to_dict()["repeat_means_ms"] == pytest.approx([1.5, 3.5, 7])
        once = summary([MILLISECOND], 1)
        assert once.repeats == ()
        assert "repeat_means_ms" not in once.to_dict()

    def test_json_names_units(self):
        value = summary([MILLISECOND] * 3, 2).to_dict()
        assert value["median_ms"] == value["p99_ms"] == 1
        assert value["throughput"] == 2000
        assert value["variation_percent"] == 0
        assert (value["runs"], value["batch_size"]) == (3, 2)


class TestMeasure:
    def test_times_are_those_of_the_calls_and_the_warm_up_is_left_out(self):
        clock = Clock()
        calls = {"a": clock.taking("a", [10 * MILLISECOND]), "b": clock.taking("b", [30 * MILLISECOND])}
        taken = measure(calls, duration=1.0, clock=clock)
        assert set(taken["a"]) == {10 * MILLISECOND}
        assert set(taken["b"]) == {30 * MILLISECOND}
        assert len(taken["a"]) == len(taken["b"]) == 50  # 40 ms a round, 2 s in all
        warm_up = clock.order.count("a") - 50
        assert warm_up == 25  # 0.5 s per model

    def test_every_round_runs_every_model_once_in_a_shuffled_order(self):
        def order(seed):
            clock = Clock()
            measure({name: clock.taking(name, [MILLISECOND]) for name in "abc"}, duration=0.5, seed=seed, clock=clock)
            return clock.order

        runs = order(0)
        rounds = [tuple(runs[start : start + 3]) for start in range(0, len(runs), 3)]
        assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
        assert len(set(rounds)) == 6
        assert order(0) == runs
        assert order(1) != runs

    def test_drift_meets_all_alike(self):
        """A machine that becomes almost twice as slow while it measures makes no model look slower than its twin."""
        clock = Clock()

        def slowing():
            clock.now += int(MILLISECOND * (1 + clock.now / 1e9))

        taken = measure({"a": slowing, "b": slowing}, duration=1.0, clock=clock)
        assert np.median(taken["a"]) == pytest.approx(np.median(taken["b"]), rel=0.01)
        assert max(taken["a"]) > 1.9 * min(taken["a"])

    def test_slow_models_run_a_few_times_all_the_same(self):
        clock = Clock()
        taken = measure({"a": clock.taking("a", [10**11])}, duration=0.1, clock=clock)
        assert len(taken["a"]) == module.FEWEST_RUNS

    @pytest.mark.parametrize("runs", [1, 7, 200])
    def test_so_many_runs_however_long_they_take(self, runs):
        clock = Clock()
        calls = {"a": clock.taking("a", [10**10]), "b": clock.taking("b", [1000])}
        taken = measure(calls, duration=0.01, runs=runs, clock=clock)
        assert {name: len(times) for name, times in taken.items()} == {"a": runs, "b": runs}

    def test_the_garbage_collector_is_put_back(self):
        clock = Clock()
        seen = []

        def call():
            seen.append(gc.isenabled())
            clock.now += MILLISECOND
            if len(seen) > 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure({"a": call}, duration=1.0, clock=clock)
        assert not any(seen)
        assert gc.isenabled()


class TestRandomBatch:
    def test_of_every_kind_of_number(self):
        kinds = (np.float32, np.float16, np.float64, np.uint8, np.int64, np.bool_)
        inputs = [TensorSpec(str(np.dtype(kind)), ("N", 100), np.dtype(kind)) for kind in kinds]
        batch = random_batch("m", inputs, 50, {}, 0)
        for spec in inputs:
            assert batch[spec.name].dtype == spec.dtype
            assert batch[spec.name].shape == (50, 100)
        assert abs(batch["float32"].mean()) < 0.1
        assert batch["float32"].std() == pytest.approx(1, abs=0.1)
        assert (batch["uint8"].min(), batch["uint8"].max()) == (0, 255)
        assert set(batch["int64"].flat) == {0, 1}

    def test_the_seed_decides(self):
        inputs = [TensorSpec("x", ("N", 3), np.dtype(np.float32))]
        same = [random_batch("m", inputs, 2, {}, 5)["x"] for _ in range(2)]
        np.testing.assert_array_equal(*same)
        assert not np.array_equal(same[0], random_batch("m", inputs, 2, {}, 6)["x"])

    def test_an_open_size_is_named_with_the_option_that_closes_it(self):
        inputs = [TensorSpec("input", ("N", 3, "height", None), np.dtype(np.float32))]
        with pytest.raises(ModelError) as caught:
            random_batch("m.onnx", inputs, 2, {}, 0)
        assert str(caught.value) == (
            "m.onnx leaves height, ? of its input input:Nx3xheightx? open: give the shape, --shapes input:2x3xSIZExSIZE"
        )
        assert random_batch("m", inputs, 2, {"input": (2, 3, 5, 7)}, 0)["input"].shape == (2, 3, 5, 7)

    @pytest.mark.parametrize("shape", [(2, 4, 5, 7), (2, 3, 5)])
    def test_a_shape_that_does_not_fit(self, shape):
        inputs = [TensorSpec("input", ("N", 3, "h", "w"), np.dtype(np.float32))]
        with pytest.raises(ModelError, match="m takes input:Nx3xhxw, not 2x"):
            random_batch("m", inputs, 2, {"input": shape}, 0)


class TestBenchmark:
    def test_real_models(self, shared_data):
        names = ("cifar10_resnet20", "mlperf_tiny_resnet8")
        models = {name: OnnxRuntimeSession(shared_data / "models" / f"{name}.onnx", threads=1) for name in names}
        latencies = benchmark(models, batch_size=2, duration=0.05)
        assert list(latencies) == list(names)
        runs = {each.runs for each in latencies.values()}
        assert len(runs) == 1
        assert runs.pop() >= module.FEWEST_RUNS
        assert all(each.batch_size == 2 for each in latencies.values())
        # 41 million multiplications against 12 million: the larger model is the slower one on any machine.
        assert latencies["cifar10_resnet20"].minimum > latencies["mlperf_tiny_resnet8"].minimum

    def test_the_batch_size_is_the_models_own(self):
        assert benchmark({"a": adding([4, 3]), "b": adding(["N", 3])}, duration=0.01)["b"].batch_size == 4
        assert benchmark({"b": adding(["N", 3])}, duration=0.01)["b"].batch_size == 1
        assert benchmark({"b": adding(["N", "M"])}, shapes={"x": (5, 2)}, duration=0.01)["b"].batch_size == 5

    def test_batch_sizes_that_differ(self):
        with pytest.raises(ModelError, match=r"the batch sizes differ: --batch-size 8, a \(fixed\) 4"):
            benchmark({"a": adding([4, 3])}, batch_size=8)
        with pytest.raises(ModelError, match=r"a \(fixed\) 4, b \(fixed\) 2; measure on one that all models take"):
            benchmark({"a": adding([4, 3]), "b": adding([2, 3])})
        with pytest.raises(ModelError, match="--batch-size 8, --shapes x 5"):
            benchmark({"a": adding(["N", "M"])}, batch_size=8, shapes={"x": (5, 2)})

    def test_bad_options(self):
        models = {"a": adding(["N", 3])}
        with pytest.raises(TrtcalError, match="the batch size must be 1 or more, not 0"):
            benchmark(models, batch_size=0)
        for duration in (0, -1, math.nan, math.inf):
            with pytest.raises(TrtcalError, match="the duration must be a number of seconds greater than 0"):
                benchmark(models, duration=duration)
        with pytest.raises(TrtcalError, match="give --runs N beside --repeat"):
            benchmark(models, repeat=3)
        for runs, repeat in ((0, 1), (-1, 1), (5, 0), (10_000, 10_000)):
            with pytest.raises(TrtcalError, match=f"not {runs} x {repeat}"):
                benchmark(models, runs=runs, repeat=repeat)
        with pytest.raises(TrtcalError, match="no model has an input z: the inputs are x"):
            benchmark(models, shapes={"z": (1, 3)})


def test_repeats_of_a_real_session():
    found = benchmark({"a": adding(["N", 3]), "b": adding(["N", 3])}, runs=4, repeat=3, duration=0.01)
    for each in found.values():
        assert (each.runs, len(each.repeats)) == (12, 3)
        assert sum(each.repeats) / 3 == pytest.approx(each.mean)


class TestRemarks:
    @staticmethod
    def latency(median, *, variation=1.0, runs=1000):
        return Latency(runs, 1, median, median, median, median, median, median, median, variation)

    def test_nothing_to_say(self):
        assert remarks({"a": self.latency(1), "b": self.latency(2)}, []) == []

    def test_unsteady_and_few_runs(self):
        said = remarks({"a": self.latency(1, variation=2.51), "b": self.latency(1, variation=2.5, runs=99)}, [])
        assert said == [
            "timings vary (CV up to 2.5 %): compare medians",
            "p99 of 99 runs is next to the slowest one: a longer --duration or more --runs help",
        ]

    def test_one_line_however_many_models_vary(self):
        said = remarks({"a": self.latency(1, variation=12.3), "b": self.latency(1, variation=246.7)}, [])
        assert said == ["timings vary (CV up to 247 %): compare medians"]

    def test_a_quantized_model_that_is_slower(self):
        (said,) = remarks({"fp32": self.latency(1), "int8": self.latency(2)}, ["int8"])
        assert said.startswith("int8 is INT8, yet fp32 is the fastest here: ")
        assert "says nothing about TensorRT" in said

    def test_a_quantized_model_that_is_faster(self):
        (said,) = remarks({"fp32": self.latency(2), "int8": self.latency(1)}, ["int8"])
        assert said.startswith("what ONNX Runtime takes for a Q/DQ model on a CPU says nothing about TensorRT")


def test_qdq_models_are_recognised(tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    for name, some in (("int8", nodes), ("fp32", [helper.make_node("Relu", ["x"], ["y"])])):
        graph = helper.make_graph(
            some,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
            [helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])],
        )
        onnx.save(helper.make_model(graph), tmp_path / f"{name}.onnx")
    assert has_qdq(tmp_path / "int8.onnx")
    assert not has_qdq(tmp_path / "fp32.onnx")
