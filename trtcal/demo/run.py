"""The demo itself: the whole main job on a bundled network, with the functions that everybody calls."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from calibrators.errors import MissingDependencyError
from calibrators.files import write_whole
from calibrators.installation import pip_install
from trtcal.demo.places import Places, claim
from trtcal.demo.subjects import SUBJECTS, Task

if TYPE_CHECKING:
    from calibrators.cache.text import CalibrationCache
    from engines.inspection.engine_record import Engine
    from engines.qdq.write import QuantizedModel
    from trtcal.measure.report import Report
    from trtcal.speed.benchmark import Latency

BATCH_SIZE = 8
"""Images per run of the benchmark."""

SECONDS = 2.0
"""Of the benchmark, per model."""

MAX_DROP = 1.0
"""Points of top-1, mAP or mIoU that INT8 may lose; of top-1, 6 of the 600 test images."""

Step = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a step of the demo, by its name and units of work, and gives what counts them: as `console.progress`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo made and measured.

    Attributes:
        places: Where its files are.
        images: How many were calibrated on.
        tested: How many were measured on.
        cache: Of the FP32 model.
        quantized: The model with Q/DQ nodes, and its account.
        fp32_engine: Built from the FP32 model.
        int8_engine: Built from the model with Q/DQ nodes.
        accuracy: Of both models, by file name, in ONNX Runtime on the test images.
        latencies: Of both, in ONNX Runtime, in runs of `BATCH_SIZE`.
        threads: That ONNX Runtime used.
    """

    places: Places
    images: int
    tested: int
    cache: "CalibrationCache"
    quantized: "QuantizedModel"
    fp32_engine: "Engine"
    int8_engine: "Engine"
    accuracy: "Report"
    latencies: "dict[str, Latency]"
    threads: int


def run(folder: Path, task: Task = "classify", *, step: Step) -> Outcome:
    """Do the main job in `folder`, from images to checked engines; the files of an earlier run are replaced.

    Args:
        folder: A new or empty one, or that of an earlier demo of this task.
        task: What the model is for.
        step: Opens a step.

    Raises:
        MissingDependencyError: A library of the extra [demo] is not installed.
        OutputError: The folder holds something else, or cannot be written.
    """
    import trtcal
    from engines.graph.cores import usable_cores
    from trtcal.speed.benchmark import benchmark

    require_libraries()
    subject = SUBJECTS[task]
    places = Places(folder, subject.name)
    claim(places, subject.about)

    with step(f"Writing the {subject.images} as images", None):
        subject.write(places)
        write_whole(places.fp32, subject.model.read_bytes())

    with ExitStack() as sessions:
        fp32 = sessions.enter_context(trtcal.OnnxRuntimeSession(places.fp32))
        calibration = trtcal.ImageLoader(places.calibration, preprocess="unit", inputs=fp32.inputs)

        cache = trtcal.calibrate_model(places.fp32, calibration, step=step).cache
        cache.save(places.cache)
        with step("Quantizing", None):
            quantized = trtcal.quantize(places.fp32, cache, output=places.int8)
        with step("Building engines", None) as advance:
            fp32_engine = trtcal.build_engine(
                places.fp32, output=places.fp32_engine, precision="fp32", backend="tensorrt-rtx", progress=advance
            )
            int8_engine = trtcal.build_engine(
                places.int8, output=places.int8_engine, backend="tensorrt-rtx", progress=advance
            )

        models = {
            places.fp32.name: fp32,
            places.int8.name: sessions.enter_context(trtcal.OnnxRuntimeSession(places.int8)),
        }
        with step("Measuring accuracy", subject.tested) as advance:
            accuracy = subject.measure(models, places, advance)
        with step("Measuring speed", None):
            latencies = benchmark(models, batch_size=BATCH_SIZE, duration=SECONDS)
    return Outcome(
        places=places,
        images=calibration.count,
        tested=subject.tested,
        cache=cache,
        quantized=quantized,
        fp32_engine=fp32_engine,
        int8_engine=int8_engine,
        accuracy=accuracy,
        latencies=latencies,
        threads=usable_cores(),
    )


def check(outcome: Outcome) -> None:
    """Require that INT8 loses no more than `MAX_DROP`.

    Raises:
        CheckFailedError: It loses more.
    """
    from trtcal.measure.bound import check_drop

    check_drop(outcome.accuracy, MAX_DROP)


def require_libraries() -> None:
    """Refuse to begin without what the extra [demo] installs.

    Raises:
        MissingDependencyError: scikit-learn or TensorRT for RTX is not installed.
    """
    needed = {"sklearn": "scikit-learn", "tensorrt_rtx": "tensorrt-rtx"}
    absent = [name for module, name in needed.items() if find_spec(module) is None]
    if absent:
        raise MissingDependencyError(
            f"the demo needs {' and '.join(absent)}, not installed here: {pip_install('demo')}"
        )
