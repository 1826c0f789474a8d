"""What the C++ side of the bindings does with Python's callbacks: the reason why calibrators keep their errors."""

from typing import Any

import pytest

from tests.contract import calls


@pytest.fixture
def calibrator(trt: Any) -> Any:
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.answer: Any = [256, 512]
            self.names: list[str] = []
            self.cache: Any = None

        def get_batch_size(self) -> int:
            return 4

        def get_batch(self, names: list[str]) -> Any:
            self.names = names
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        def read_calibration_cache(self) -> Any:
            return self.cache

        def write_calibration_cache(self, cache: memoryview) -> None:
            self.cache = cache

    return Calibrator()


def test_a_batch_is_one_address_for_each_name(calibrator: Any) -> None:
    assert calls.get_batch(calibrator, ["x", "y"]) == [256, 512]
    assert calibrator.names == ["x", "y"]
    assert calls.get_batch_size(calibrator) == 4


@pytest.mark.parametrize("answer", [None, [], ()])
def test_nothing_means_no_more_batches(calibrator: Any, answer: Any) -> None:
    calibrator.answer = answer
    assert calls.get_batch(calibrator, ["x"]) is None


@pytest.mark.parametrize("error", [ValueError("broken image"), KeyboardInterrupt("Ctrl-C"), SystemExit(3)])
def test_an_exception_means_no_more_batches(calibrator: Any, error: BaseException, capfd: Any) -> None:
    calibrator.answer = error
    assert calls.get_batch(calibrator, ["x"]) is None
    printed = capfd.readouterr().err
    assert "Exception caught in get_batch(): " in printed
    assert type(error).__name__ in printed


def test_addresses_that_are_no_integers_mean_no_more_batches(calibrator: Any, capfd: Any) -> None:
    calibrator.answer = ["not an address"]
    assert calls.get_batch(calibrator, ["x"]) is None
    assert "Exception caught in get_batch(): " in capfd.readouterr().err


def test_a_cache_is_read_as_bytes(calibrator: Any) -> None:
    assert calls.read_calibration_cache(calibrator) is None
    calibrator.cache = b"TRT-8601-EntropyCalibration2\nx: 3c010a14\n"
    assert calls.read_calibration_cache(calibrator) == calibrator.cache
    calibrator.cache = memoryview(b"abc")
    assert calls.read_calibration_cache(calibrator) == b"abc"


def test_the_cache_to_write_is_gone_after_the_call(calibrator: Any) -> None:
    calls.write_calibration_cache(calibrator, b"TRT-8601")
    assert isinstance(calibrator.cache, memoryview)
    assert bytes(calibrator.cache) != b"TRT-8601"
    assert calibrator.cache.readonly


def test_the_algorithm_is_the_base_class_s_whatever_python_says(trt: Any, calibrator: Any) -> None:
    type(calibrator).get_algorithm = lambda self: trt.CalibrationAlgoType.MINMAX_CALIBRATION
    assert calls.get_algorithm(calibrator) == trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2


def test_algorithms_of_all_classes(trt: Any) -> None:
    if not hasattr(trt, "CalibrationAlgoType"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")
    kinds = {
        "IInt8EntropyCalibrator2": "ENTROPY_CALIBRATION_2",
        "IInt8MinMaxCalibrator": "MINMAX_CALIBRATION",
        "IInt8EntropyCalibrator": "ENTROPY_CALIBRATION",
        "IInt8LegacyCalibrator": "LEGACY_CALIBRATION",
    }
    for kind, name in kinds.items():
        base = getattr(trt, kind)
        made = type("Calibrator", (base,), {"__init__": base.__init__})()
        assert calls.get_algorithm(made).name == name


def test_a_constructor_that_forgets_the_base_class_is_refused(trt: Any) -> None:
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")
    forgetful = type("Calibrator", (trt.IInt8EntropyCalibrator2,), {"__init__": lambda self: None})
    with pytest.raises(TypeError, match="__init__"):
        forgetful()


def test_an_exception_in_a_progress_monitor_stops_the_build(trt: Any, capfd: Any) -> None:
    if not hasattr(trt, "IProgressMonitor"):
        pytest.skip(f"TensorRT {trt.__version__} has no progress monitor")
    heard: list[Any] = []

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, *arguments: Any) -> None:
            heard.append(arguments)

        def phase_finish(self, *arguments: Any) -> None:
            heard.append(arguments)

        def step_complete(self, phase: str, step: int) -> bool:
            if step == 1:
                raise KeyboardInterrupt
            return step == 0

    monitor = Monitor()
    calls.phase_start(monitor, "Tactics", None, 3)
    calls.phase_finish(monitor, "Tactics")
    assert heard == [("Tactics", None, 3), ("Tactics",)]
    assert [calls.step_complete(monitor, "Tactics", step) for step in range(3)] == [True, False, False]
    assert "Exception caught in step_complete(): KeyboardInterrupt" in capfd.readouterr().err


def test_an_output_allocator_hears_of_size_and_shape(trt: Any) -> None:
    heard: list[Any] = []

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, *arguments: Any) -> int:
            heard.append(arguments)
            return 4096

        def notify_shape(self, name: str, shape: Any) -> None:
            heard.append((name, tuple(shape)))

    allocator = Allocator()
    assert calls.reallocate_output(allocator, "scores", 0, 16, stream=5) == 4096
    calls.notify_shape(allocator, "scores", (2, 2))
    assert [entry[0] for entry in heard] == ["scores", "scores"]
    assert heard[0][2:] == (16, 256)
    assert heard[1] == ("scores", (2, 2))


def test_a_logger_hears_what_is_said(trt: Any) -> None:
    heard: list[Any] = []

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            heard.append((severity, message))

    calls.log(Logger(), trt.ILogger.WARNING, "slow")
    assert heard == [(trt.ILogger.WARNING, "slow")]
