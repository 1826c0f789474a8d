"""Times of engines, on a GPU whose clock the test holds: see `tests.engine_double`."""

import json

import numpy as np
import pytest

from calibrators.errors import DeviceError, EngineError, TrtcalError
from engines.sessions.tensorrt import TensorRTSession
from tests.engine_double import doubling
from tests.engine_files import engine_files
from trtcal.machine.nvml import Clocks, Nvidia
from trtcal.speed import gpu_timing
from trtcal.speed.benchmark import FEWEST_RUNS, Latency
from trtcal.speed.gpu_timing import EngineTimes, benchmark_engines, engine_remarks, gpu_facts

MILLISECOND = 1_000_000


@pytest.fixture
def engine_of(monkeypatch, tmp_path):
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    return engine_files(rtx, monkeypatch, tmp_path)


class Clock:
    """The CPU's: each reading takes a tenth of a millisecond."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += MILLISECOND // 10
        return self.now


def measured(engine_of, *, count=2, engines=("a",), times=(3.0,), copy_time=0.25, **options):
    """Times of engines by name, each of which takes so many milliseconds on the GPU; and their doubles."""
    doubles = {}
    sessions = {}
    for name, time in zip(engines, times, strict=True):
        doubles[name], path = engine_of(doubling(kernel_time=time), name)
        doubles[name].cuda.copy_time = copy_time
        sessions[name] = TensorRTSession(path)
    feeds = {name: {"x": np.ones((count, 3), np.float32)} for name in engines}
    try:
        return benchmark_engines(sessions, feeds, **{"duration": 0.05, "clock": Clock(), **options}), doubles
    finally:
        for session in sessions.values():
            session.close()
        assert doubles[engines[0]].cuda.alive == []


class TestTimes:
    def test_parts_are_told_apart(self, engine_of):
        times, _ = measured(engine_of)
        each = times["a"]
        assert each.compute.median == pytest.approx(3)
        assert each.copy_in.median == each.copy_out.median == pytest.approx(0.25)
        assert each.latency.median == pytest.approx(3.5)
        assert each.enqueue.median == pytest.approx(0.1)  # two readings of the clock
        assert {part.batch_size for part in (each.compute, each.latency)} == {2}
        assert each.compute.runs == each.enqueue.runs >= FEWEST_RUNS
        assert each.compute.variation == pytest.approx(0, abs=1e-9)
        assert not each.enqueue_bound

    def test_warm_up_is_not_counted(self, engine_of, monkeypatch):
        double, path = engine_of(doubling(kernel_time=100.0))
        run = gpu_timing._Timer.__call__

        def faster(timer):
            run(timer)
            double.kernel_time = 1.0  # once warm

        monkeypatch.setattr(gpu_timing._Timer, "__call__", faster)
        with TensorRTSession(path) as session:
            times = benchmark_engines({"a": session}, {"a": {"x": np.ones((1, 3), np.float32)}}, duration=0.01)
        assert times["a"].compute.maximum == pytest.approx(1)

    def test_so_many_runs_and_the_mean_of_each_repeat(self, engine_of):
        times, _ = measured(engine_of, runs=4, repeat=3)
        each = times["a"]
        assert (each.compute.runs, each.latency.runs) == (12, 12)
        assert each.compute.repeats == pytest.approx((3, 3, 3))
        assert each.to_dict()["repeat_means_ms"] == pytest.approx([3, 3, 3])

    def test_models_take_turns(self, engine_of):
        times, doubles = measured(engine_of, engines=("a", "b", "c"), times=(1.0, 2.0, 4.0))
        assert [each.compute.median for each in times.values()] == pytest.approx([1, 2, 4])
        assert len({each.compute.runs for each in times.values()}) == 1
        assert all(double.enqueued for double in doubles.values())

    def test_throughput_counts_samples_of_all_streams(self, engine_of):
        """A run takes the CPU the readings of its clock; the GPU's own clock stands apart."""
        for streams in (1, 3):
            times, doubles = measured(engine_of, count=4, streams=streams, engines=(f"s{streams}",))
            each = times[f"s{streams}"]
            assert each.streams == streams
            assert len(doubles[f"s{streams}"].made) == streams
            # One reading of 0.1 ms a run, besides the readings at the ends of slices.
            assert each.throughput == pytest.approx(4 * 10_000, rel=0.2)

    def test_a_cuda_graph(self, engine_of):
        times, doubles = measured(engine_of, cuda_graph=True, streams=2)
        assert times["a"].cuda_graph
        assert times["a"].no_cuda_graph == ""
        assert len(doubles["a"].enqueued) == 4  # a run and a capture for each stream
        assert doubles["a"].cuda.launches > 2 * FEWEST_RUNS
        assert times["a"].compute.median == pytest.approx(3)

    def test_a_capture_that_fails_is_told(self, engine_of):
        double, path = engine_of(doubling(capturable=False))
        with TensorRTSession(path) as session:
            feeds = {"a": {"x": np.ones((1, 3), np.float32)}}
            times = benchmark_engines({"a": session}, feeds, duration=0.01, cuda_graph=True)
        assert not times["a"].cuda_graph
        assert times["a"].no_cuda_graph == "TensorRT says that this engine cannot be captured"
        assert double.cuda.alive == []

    def test_json_is_that_of_a_latency_and_more(self, engine_of):
        times, _ = measured(engine_of, streams=2)
        value = json.loads(json.dumps(times["a"].to_dict()))
        assert value["median_ms"] == pytest.approx(3)
        assert value["latency"]["median_ms"] == pytest.approx(3.5)
        assert value["copy_in"]["p99_ms"] == value["copy_out"]["mean_ms"] == pytest.approx(0.25)
        assert value["enqueue"]["median_ms"] == pytest.approx(0.1)
        assert (value["batch_size"], value["streams"], value["cuda_graph"], value["no_cuda_graph"]) == (2, 2, False, "")
        assert value["throughput"] == times["a"].throughput
        assert set(Latency(1, 1, *[1.0] * 8).to_dict()) < set(value)

    def test_copies_too_short_to_be_seen(self, engine_of):
        times, _ = measured(engine_of, copy_time=0.0)
        value = json.loads(json.dumps(times["a"].to_dict(), allow_nan=False))
        assert value["copy_in"]["median_ms"] == value["copy_in"]["variation_percent"] == 0

    def test_the_only_profile_of_tensorrt_8_suffices_for_one_stream(self, engine_of):
        double, path = engine_of(doubling(shares_profiles=False))
        feeds = {"a": {"x": np.ones((1, 3), np.float32)}}
        with TensorRTSession(path) as session:
            assert benchmark_engines({"a": session}, feeds, duration=0.01)["a"].throughput > 0
            with pytest.raises(EngineError, match="use one stream"):
                benchmark_engines({"a": session}, feeds, duration=0.01, streams=2)
        assert double.cuda.alive == []


class TestBadInput:
    @pytest.mark.parametrize("streams", [0, -1, 65])
    def test_streams(self, engine_of, streams):
        with pytest.raises(TrtcalError, match=f"the number of streams is from 1 to 64, not {streams}"):
            measured(engine_of, streams=streams)

    def test_a_batch_outside_the_profile(self, engine_of):
        with pytest.raises(EngineError, match=r"was built for x:1x3\.\.2x3\.\.4x3, not x:5x3"):
            measured(engine_of, count=5)

    def test_no_memory_for_the_streams(self, engine_of):
        double, path = engine_of(doubling(contexts=2))
        with TensorRTSession(path) as session, pytest.raises(DeviceError, match="needs 3 MiB of the GPU's memory"):
            benchmark_engines({"a": session}, {"a": {"x": np.ones((1, 3), np.float32)}}, streams=3)
        assert double.cuda.alive == []

    def test_an_interrupt_frees_everything(self, engine_of, monkeypatch):
        double, path = engine_of(doubling())
        calls = []

        def interrupted(timer):
            timer._way.copy_in()
            timer._way.launch()  # the stream has work when Ctrl-C comes
            calls.append(timer)
            raise KeyboardInterrupt

        monkeypatch.setattr(gpu_timing._Timer, "__call__", interrupted)
        with TensorRTSession(path) as session, pytest.raises(KeyboardInterrupt):
            benchmark_engines({"a": session}, {"a": {"x": np.ones((1, 3), np.float32)}}, duration=1)
        assert len(calls) == 1
        assert double.cuda.alive == []


class TestFacts:
    def test_what_the_gpu_says_and_what_nvml_says(self, engine_of, monkeypatch):
        double, _ = engine_of(doubling())
        monkeypatch.setattr(
            gpu_timing, "clocks", lambda name: Clocks(1410, 1215, 1980, 1593) if "Test" in name else None
        )
        monkeypatch.setattr(gpu_timing, "nvidia", lambda: Nvidia(driver="580.65.06"))
        facts = gpu_facts(double.cuda)
        assert facts["name"] == "NVIDIA Test GPU"
        assert (facts["compute_capability"], facts["driver"], facts["cuda"]) == ("8.6", "580.65.06", "13.0")
        assert facts["clocks_mhz"] == {"sm": 1410, "memory": 1215, "sm_maximum": 1980, "memory_maximum": 1593}
        monkeypatch.setattr(gpu_timing, "clocks", lambda name: None)
        assert gpu_facts(double.cuda)["clocks_mhz"] is None


class TestRemarks:
    @staticmethod
    def times(compute, *, enqueue=0.1, **options):
        def of(median):
            return Latency(1000, 1, *[median] * 7, 0.5)

        return EngineTimes(of(compute), of(compute + 1), of(0.5), of(0.5), of(enqueue), 100.0, **options)

    def test_nothing_to_say(self):
        times = {"fp32": self.times(4), "fp16": self.times(2), "int8": self.times(1)}
        assert engine_remarks(times, {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}) == []

    def test_int8_that_is_not_the_fastest(self):
        times = {"a.engine": self.times(4), "b.engine": self.times(2), "c.engine": self.times(3)}
        (said,) = engine_remarks(times, {"a.engine": "fp32", "b.engine": "fp16", "c.engine": "int8"})
        assert said == (
            "warning: c.engine is INT8, yet b.engine (FP16) is faster, 1.50 times: trtcal inspect c.engine shows what "
            "runs in INT8 and which Q/DQ nodes came to nothing"
        )

    @pytest.mark.parametrize("fastest", ["int8", ""])
    def test_int8_slower_than_int8_or_than_nobody_knows_what(self, fastest):
        times = {"a": self.times(2), "b": self.times(3)}
        assert engine_remarks(times, {"a": fastest, "b": "int8"}) == []

    def test_int8_as_fast_as_the_fastest(self):
        times = {"a": self.times(2), "b": self.times(2)}
        assert engine_remarks(times, {"a": "fp16", "b": "int8"}) == []

    def test_bound_by_launching(self):
        times = {"a": self.times(1, enqueue=0.81), "b": self.times(1, enqueue=0.8)}
        (said,) = engine_remarks(times, {"a": "", "b": ""})
        assert said.startswith("warning: a is held up by the CPU that launches it (0.810 ms for 1.000 ms on the GPU): ")
        assert said.endswith("--cuda-graph may help")
        (said,) = engine_remarks({"a": self.times(1, enqueue=0.81, cuda_graph=True)}, {"a": ""})
        assert said.endswith("a larger batch gives the GPU more to do")

    def test_no_graph_where_one_was_wanted(self):
        (said,) = engine_remarks({"a": self.times(1, no_cuda_graph="the capture failed")}, {"a": ""})
        assert said == "warning: a runs without a CUDA graph: the capture failed"
