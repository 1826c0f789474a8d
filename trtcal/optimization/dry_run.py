"""What an optimization would do, and about how long that would take."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from calibrators.batches import bind
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.measure.groups import Singles
from trtcal.optimization.ladder import rungs
from trtcal.optimization.ledger import Ledger
from trtcal.optimization.request import Checked
from trtcal.optimization.stages import inputs_of

PASSES = {"calibration": 4.0, "measuring": 4.0, "default": 2.0}
"""How many times a float pass over as many images the stages take, about: as measured on ResNet-20 and MobileNetV2."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage that would be done.

    Attributes:
        about: It, in words.
        seconds: That it would take, about; None where that cannot be told before.
        stands: Whether an earlier run has done it.
    """

    about: str
    seconds: float | None
    stands: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would be done.

    Attributes:
        stages: In order.
        notes: What a user should know, one line each.
    """

    stages: tuple[Planned, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def forecast(job: Checked) -> Forecast:
    """What would be done of a request; nothing is written.

    Raises:
        OutputError: The folder holds something else.
    """
    each = _seconds(job)
    stands = False
    if job.places.ledger.is_file():
        stands = Ledger(job.places).stands("calibration", inputs_of(job))
    elif job.places.folder.exists():
        job.places.claim()  # which makes nothing where the folder is there
    told = f"a float pass takes {1000 * each:.1f} ms an image, measured on two; the rest is estimated from it"
    return Forecast(tuple(_stages(job, each, stands)), (told, *job.notes))


def _stages(job: Checked, each: float, stands: bool) -> Iterator[Planned]:
    parts, others = job.judged.parts, 0 if job.verdict is None else job.verdict.count
    images = parts.calibration.count
    yield Planned(
        f"calibrate on {images} images, choose layers in float", PASSES["calibration"] * each * images, stands
    )
    if "int8" in job.request.precisions:
        judged = PASSES["measuring"] * each * (parts.test.count + others)
        first, *further = rungs()
        yield Planned(f"quantize by {first.about}; measure on {parts.test.count} and {others} other images", judged)
        for rung in further:
            yield Planned(f"only if the bound of {job.request.max_drop:g} is missed: {rung.about}", None)
    for precision in job.request.precisions:
        yield Planned(f"build the {precision.upper()} engine with {job.backend}", None)
    accuracy = PASSES["measuring"] * each * job.last.count * len(job.request.precisions)
    yield Planned(f"measure all engines' models side by side on {job.last.count} images", accuracy)


def _seconds(job: Checked) -> float:
    """That the float model takes for an image."""
    with OnnxRuntimeSession(job.request.model) as session:
        loader = job.judged.parts.test.sampled(2)
        size = session.fixed_batch or 1
        with closing(iter(Singles(loader.for_model(session.inputs), size, labelled=False))) as samples:
            batches = [bind(batch, session.inputs) for batch in samples]
        session.run(batches[0])
        began = time.perf_counter()
        for batch in batches:
            session.run(batch)
        return (time.perf_counter() - began) / (len(batches) * size)
