"""ONNX Runtime's own calibration, called as its `quantize_static` calls it.

Each public function is called in a fresh process.
"""

import io
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.figures import Rounds, Search
from benchmarks.images import BATCH, SyntheticImages
from benchmarks.inference import plain_session, run
from benchmarks.processes import peak_memory
from benchmarks.timing import in_rounds, seconds
from calibrators.batches import Array

Batches = Iterable[Mapping[str, Array]]

PEERS = ("Entropy", "MinMax")
"""Names of onnxruntime.quantization.CalibrationMethod."""

DEFAULT_BINS, TENSORRT_BINS = 128, 2048
"""ONNX Runtime merges into 128 levels: of its default number of bins it has one candidate, and searches nothing."""

SAMPLE = 8
"""Tensors whose searches are timed: over 2048 bins each takes nearly half a second."""


def whole_batches(images: int) -> int:
    """The most images, up to `images`, that fill their batches: ONNX Runtime's Entropy takes no other number."""
    return images // BATCH * BATCH or images


def peer_timings(model: Path, method: str, *, images: int, rounds: int) -> Rounds:
    """Wall times in rounds, of every float activation by ONNX Runtime's defaults.

    Reading the model and opening its session are included.
    """
    batches = list(SyntheticImages(images))
    plain = plain_session(model)

    def calibration() -> dict[str, tuple[float, float]]:
        start = time.perf_counter()
        with _collected(model, method, batches) as calibrator:
            collected = time.perf_counter() - start
            return {method: (collected, seconds(calibrator.compute_data))}

    with redirect_stdout(io.StringIO()):  # it prints what it does
        run(plain, batches[:1])
        with _collected(model, method, batches[:1]):
            pass
        return in_rounds(lambda: run(plain, batches), [calibration], rounds=rounds)[method]


def peer_peak(model: Path, method: str, *, images: int) -> float:
    """Peak memory in MB, the images made batch by batch."""
    with redirect_stdout(io.StringIO()), _collected(model, method, SyntheticImages(images)) as calibrator:
        calibrator.compute_data()
    return peak_memory()


def peer_searches(model: Path) -> dict[int, Search]:
    """The entropy search by number of bins, of `SAMPLE` tensors spread over the model."""
    found = {}
    for bins in (DEFAULT_BINS, TENSORRT_BINS):
        with (
            redirect_stdout(io.StringIO()),
            _collected(model, "Entropy", SyntheticImages(BATCH), num_bins=bins) as calibrator,
        ):
            collector = calibrator.collector
            histograms = list(collector.get_histogram_dict().values())
            chosen = histograms[:: -(-len(histograms) // SAMPLE)]
            times = [seconds(collector.get_entropy_threshold, each, collector.num_quantized_bins) for each in chosen]
            found[bins] = Search.of([1000 * each for each in times])
    return found


@contextmanager
def _collected(model: Path, method: str, batches: Batches, **options: int) -> Iterator[Any]:
    """ONNX Runtime's calibrator, with its data collected."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            model, augmented_model_path=augmented, calibrate_method=CalibrationMethod[method], extra_options=options
        )
        calibrator.collect_data(_Reader(batches))
        yield calibrator


class _Reader:
    """Batches one after the other, as ONNX Runtime's ``CalibrationDataReader`` gives them: None at the end."""

    def __init__(self, batches: Batches) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._batches, None)
