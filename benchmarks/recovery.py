"""``python -m benchmarks.recovery``: what recovery brings back, on real networks and real test data.

1. A ResNet-20 for CIFAR-10 with weights of 4 bits, one scale for each whole weight: a hard case made on purpose.
2. A depthwise separable network (MobileNet's blocks) that hears keywords, its channels rescaled by seeded factors
   (`benchmarks.unequal`) without changing its function: INT8 with one scale for each whole weight.

Both are learned from some samples and judged by others; the figures are of further ones. Nothing rests on these but
the choice of mixed precision, which must hold on them too.
"""

import json as codec
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import onnx
import typer

from calibrators.errors import DataError, TrtcalError
from trtcal.data.images import ImageLoader
from trtcal.data.split import Parts
from trtcal.measure.measures import Score
from trtcal.tables import console

WEIGHTS = '[default]\nweight_bits = {bits}\ngranularity = "tensor"\n'
SPREAD = 1.0
"""Channels are rescaled by up to ten times, up or down."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network, its data, and how it is quantized.

    Attributes:
        title: What stands over its table.
        model: Its file.
        images: To learn from, and to judge by where `test_images` is None.
        test_images: To judge by, and for the figures.
        preprocess: What images go through.
        bits: Of weights.
        counts: To learn from, and to judge by.
        max_drop: What mixed precision is asked for; None leaves it out.
    """

    title: str
    model: Path
    images: Path
    test_images: Path | None
    preprocess: str
    bits: int
    counts: tuple[int, int]
    max_drop: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A version of a network, and how it does; None where there is none."""

    name: str
    score: Score | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        from trtcal.measure.report import score_as_dict

        measured = None if self.score is None else score_as_dict(self.name, self.score, is_reference=False)
        return {"name": self.name, "note": self.note, "score": measured}


def cases(data: Path, folder: Path) -> Iterator[Case]:
    """The two of them; the second network is written into `folder`."""
    from benchmarks.unequal import unequal
    from engines.simulation.simulated_model import Simulation

    images, models = data / "images", data / "models"
    yield Case(
        "ResNet-20, weights of 4 bits, one scale per tensor",
        models / "cifar10_resnet20.onnx",
        images / "cifar10_train_512.npz",
        images / "cifar10_test_2000.npz",
        "cifar10",
        bits=4,
        counts=(500, 500),
        max_drop=1.0,
    )
    path = folder / "kws_unequal.onnx"
    onnx.save(unequal(Simulation(models / "mlperf_tiny_kws_dscnn.onnx").floats, spread=SPREAD), path)
    yield Case(
        "depthwise separable network, channels rescaled, INT8, one scale per tensor",
        path,
        images / "kws01_1000.npz",
        None,
        "none",
        bits=8,
        counts=(300, 300),
    )


def rows(case: Case) -> Iterator[Row]:
    """The float network; quantized; rounded in closed form alone; recovered by all steps; and in mixed precision."""
    from calibrators.ranges import calibrate
    from engines.collection.collect import collect
    from engines.simulation.simulated_model import Simulation
    from trtcal.analysis.judging import opened_parts
    from trtcal.analysis.trials import Trials
    from trtcal.config.settings import QuantConfig
    from trtcal.data.split import ImageChoice
    from trtcal.pipeline import quantize
    from trtcal.recovery.run import quantize_recovered

    count, test_count = case.counts
    chosen = {"preprocess": case.preprocess, "count": count, "test_count": test_count, "test_images": case.test_images}
    config = QuantConfig.parse(WEIGHTS.format(bits=case.bits))
    parts = opened_parts(case.model, ImageChoice(case.images, **chosen)).parts
    trials = Trials(Simulation(case.model), untouched(parts))
    yield Row("FP32", trials.reference, f"{trials.samples} samples")
    statistics = collect(case.model, parts.calibration)
    cache = calibrate(statistics)
    plain = quantize(case.model, cache, config=config)
    yield Row("quantized", trials.score_of(plain.model))
    quick = quantize_recovered(case.model, cache, case.images, config=config, steps="rounding", **chosen).recovered
    yield Row(
        "rounded in closed form", trials.score_of(quick.quantized.model), f"{quick.attempts[0].seconds:.0f} s, alone"
    )
    recovered = quantize_recovered(case.model, cache, case.images, config=config, **chosen).recovered
    steps = (f"{each.name}: {each.seconds:.0f} s{'' if each.kept else ', left out'}" for each in recovered.attempts)
    yield Row("recovered", trials.score_of(recovered.quantized.model), "; ".join(steps))
    if case.max_drop is not None:
        yield _mixed(case, trials, statistics, config, chosen)


def untouched(parts: Parts) -> ImageLoader:
    """The samples of the source that nothing is learned from or judged by."""
    calibration, test = parts.calibration, parts.test
    used = set(test.names) | set(calibration.names if calibration.source == test.source else ())
    return test.sampled(None, without=used)


def _mixed(case: Case, trials: Any, statistics: Any, config: Any, chosen: Mapping[str, Any]) -> Row:
    from trtcal.pipeline import quantize
    from trtcal.precision.run import choose_precisions

    name = f"mixed precision, --max-drop {case.max_drop:g}"
    found = choose_precisions(case.model, case.images, max_drop=case.max_drop, config=config, **chosen).result
    if found.config is None:
        return Row(name, None, "no choice reaches it")
    made = quantize(case.model, statistics, config=found.config)
    settings = found.config.settings(trials.simulation.layers).layers.values()
    weights = Counter(
        f"{each.weight_bits} bits" if each.precision == "int8" else each.precision
        for layer, each in zip(trials.simulation.layers, settings, strict=True)
        if layer.weight is not None
    )
    shares = ", ".join(f"{count} in {what}" for what, count in sorted(weights.items()))
    note = f"weights: {shares}; {len(found.points)} choices tried"
    return Row(name, trials.score_of(made.model), note)


def bench(
    *,
    data: Annotated[Path, typer.Option(help="The folder with models/ and images/.")] = Path("../shared/data"),
    only: Annotated[
        int | None, typer.Option(help="Measure one of the two alone: 1 or 2.", min=1, max=2, show_default=False)
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all figures here.", metavar="FILE", show_default=False)
    ] = None,
) -> None:
    """Measure what recovery brings back."""
    from calibrators.files import require_writable, write_whole
    from trtcal.tables.scores import cells

    if not (data / "models").is_dir():
        raise DataError(f"{data} holds no models/: give the folder with the real models and images, --data DIR")
    if json is not None:
        require_writable(json)
    figures: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="trtcal-") as folder:
        for number, case in enumerate(cases(data, Path(folder)), 1):
            if only not in (None, number):
                continue
            found = list(rows(case))
            figures[case.title] = [row.to_dict() for row in found]
            shown = [cells(row.name, row.score, "FP32") if row.score else {"model": row.name} for row in found]
            headings = ("model", "top-1", "95 % CI", "drop", "agree", "SQNR")
            console.table(
                case.title,
                [*headings, ""],
                [
                    [each.get(key) or "-" for key in headings] + [row.note]
                    for each, row in zip(shown, found, strict=True)
                ],
                numeric=headings[1:],
            )
    if json is not None:
        write_whole(json, codec.dumps(figures, indent=2) + "\n")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(bench)

if __name__ == "__main__":
    try:
        app(prog_name="python -m benchmarks.recovery")
    except TrtcalError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        sys.exit(error.exit_code)
