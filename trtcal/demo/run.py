"""The demo itself: the whole main job on the bundled network, with the functions that everybody calls."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from calibrators.errors import MissingDependencyError, OutputError
from calibrators.files import explained, write_whole
from calibrators.installation import pip_install
from trtcal.demo import MODEL
from trtcal.demo.digits import load_split, write_images

if TYPE_CHECKING:
    from calibrators.cache.text import CalibrationCache
    from engines.inspection.engine_record import Engine
    from engines.qdq.write import QuantizedModel
    from trtcal.measure.report import Report
    from trtcal.speed.benchmark import Latency

METHOD = "entropy"
"""How the demo chooses ranges: the default of `trtcal calibrate`."""

IMAGES = 500
"""Images to calibrate on: the default of `trtcal calibrate`."""

BATCH_SIZE = 8
"""Images per run of the benchmark."""

SECONDS = 2.0
"""Of the benchmark, per model."""

MAX_DROP = 1.0
"""Points of top-1 that INT8 may lose: 6 of the 600 test images."""

Step = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a step of the demo, by its name and units of work, and gives what counts them: as `console.progress`."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo's files are.

    Attributes:
        folder: That holds them all.
    """

    folder: Path

    @property
    def about(self) -> Path:
        """What the folder holds and where the digits come from; also tells the demo's own folder from any other."""
        return self.folder / "README.txt"

    @property
    def calibration(self) -> Path:
        """Images to calibrate on, a folder per class."""
        return self.folder / "calibration"

    @property
    def test(self) -> Path:
        """Images to measure accuracy on, a folder per class."""
        return self.folder / "test"

    @property
    def fp32(self) -> Path:
        """The FP32 model."""
        return self.folder / "digits.onnx"

    @property
    def cache(self) -> Path:
        """The calibration cache."""
        return self.folder / "digits.cache"

    @property
    def int8(self) -> Path:
        """The model with Q/DQ nodes."""
        return self.folder / "digits.int8.onnx"

    @property
    def fp32_engine(self) -> Path:
        """The engine of the FP32 model."""
        return self.folder / "digits.fp32.engine"

    @property
    def int8_engine(self) -> Path:
        """The engine of the model with Q/DQ nodes."""
        return self.folder / "digits.int8.engine"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo made and measured.

    Attributes:
        places: Where its files are.
        images: How many were calibrated on.
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
    cache: "CalibrationCache"
    quantized: "QuantizedModel"
    fp32_engine: "Engine"
    int8_engine: "Engine"
    accuracy: "Report"
    latencies: "dict[str, Latency]"
    threads: int


def run(folder: Path, *, step: Step) -> Outcome:
    """Do the main job in `folder`, from images to checked engines; the files of an earlier run are replaced.

    Raises:
        MissingDependencyError: A library of the extra [demo] is not installed.
        OutputError: The folder holds something else, or cannot be written.
    """
    import trtcal
    from engines.graph.cores import usable_cores
    from trtcal.speed.benchmark import benchmark

    require_libraries()
    places = Places(folder)
    claim(places)

    with step("Writing the digits as images", None):
        split = load_split()
        write_images(split.train[:IMAGES], places.calibration)
        write_images(split.test, places.test)
        write_whole(places.fp32, MODEL.read_bytes())

    with ExitStack() as sessions:
        fp32 = sessions.enter_context(trtcal.OnnxRuntimeSession(places.fp32))
        calibration = trtcal.ImageLoader(places.calibration, preprocess="unit", inputs=fp32.inputs)
        test = trtcal.ImageLoader(places.test, preprocess="unit", inputs=fp32.inputs)

        with step("Calibrating", calibration.count) as advance:
            statistics = trtcal.collect(places.fp32, calibration, progress=advance)
            cache = trtcal.calibrate(statistics, method=METHOD)
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
        with step("Measuring accuracy", test.count) as advance:
            accuracy = trtcal.evaluate(
                models, test, reference=places.fp32.name, class_names=test.class_names, progress=advance
            )
        with step("Measuring speed", None):
            latencies = benchmark(models, batch_size=BATCH_SIZE, duration=SECONDS)
    return Outcome(
        places=places,
        images=calibration.count,
        cache=cache,
        quantized=quantized,
        fp32_engine=fp32_engine,
        int8_engine=int8_engine,
        accuracy=accuracy,
        latencies=latencies,
        threads=usable_cores(),
    )


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


def claim(places: Places) -> None:
    """Make the demo's folder, or find it again; a folder that holds anything else is refused.

    Raises:
        OutputError: There is something else, or the folder cannot be made or written.
    """
    folder = places.folder
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: it is a file; give a folder with --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir()) and not _is_ours(places.about)
    except OSError as error:
        raise explained(folder, error) from error
    if taken:
        raise OutputError(f"cannot write to {folder}: it holds other files; give a new or empty folder with --output")
    write_whole(places.about, ABOUT)


def _is_ours(about: Path) -> bool:
    return about.is_file() and about.read_bytes().startswith(_FIRST_LINE.encode())


_FIRST_LINE = "Written by `trtcal demo`, which replaces its own files when it is run again.\n"

ABOUT = f"""{_FIRST_LINE}
calibration/         images to calibrate on, a folder per class
test/                images to measure accuracy on
digits.onnx          the FP32 model
digits.cache         its calibration cache, in TensorRT's format
digits.int8.onnx     the model with Q/DQ nodes
digits.fp32.engine   TensorRT-RTX engines, to run on an NVIDIA GPU
digits.int8.engine
*.json               beside a file: what it was made from, and how

The images are the handwritten digits of scikit-learn, enlarged: E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, 1998, licensed under CC BY 4.0. The model was trained on others of
them; the images in test/ it has never seen.
"""
"""What the demo's folder says of itself."""
