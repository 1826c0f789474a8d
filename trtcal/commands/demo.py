"""`trtcal demo`: the whole main job on the bundled model and images."""

from pathlib import Path
from typing import Annotated

import typer

from trtcal.commands import options
from trtcal.tables import console


def demo(
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write: a new one, an empty one, or that of an earlier demo.",
            metavar="DIR",
        ),
    ] = Path("trtcal-demo"),
    json: options.Json = False,
) -> None:
    """Calibrate, quantize, build and check a small network on handwritten digits, in under a minute and without a GPU.

    Writes the digits as images, then does what `calibrate`, `quantize`, `build`, `accuracy` and `benchmark` do, and
    shows what came of it, what that means and where each file is. Exits with 1 if INT8 loses more than one point of
    top-1.
    """
    from trtcal.demo.run import MAX_DROP, run
    from trtcal.machine.abilities import runs_rtx
    from trtcal.machine.nvml import nvidia
    from trtcal.measure.bound import check_drop
    from trtcal.speed.benchmark import remarks
    from trtcal.tables.demo import as_dict, show

    outcome = run(output, step=console.progress)
    if json:
        console.emit_json(as_dict(outcome))
    else:
        show(outcome, gpu=runs_rtx(nvidia().gpus))
    for remark in remarks(outcome.latencies, []):  # of INT8 on a CPU, the verdict speaks
        console.note(f"note: {remark}")
    check_drop(outcome.accuracy, MAX_DROP)
