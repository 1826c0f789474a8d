"""`trtcal demo`: the whole main job on a bundled model and images."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trtcal.commands import options
from trtcal.tables import console

Task = Literal["classify", "detect", "segment"]


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
    task: Annotated[
        Task,
        typer.Option(
            help="What the network is for: classify reads one digit an image; detect finds the digits of a scene, and "
            "segment their pixels.",
        ),
    ] = "classify",
    json: options.Json = False,
) -> None:
    """Calibrate, quantize, build and check a small network on handwritten digits, in about a minute and without a GPU.

    Writes the digits as images, then does what `calibrate`, `quantize`, `build`, `accuracy` and `benchmark` do, and
    shows what came of it, what that means and where each file is. With --task detect or segment, the images are scenes
    of 160x160 pixels with up to eight digits, annotations lie beside them, and six are drawn with what both models
    find. Exits with 1 if INT8 loses more than one point of top-1, mAP 50-95 or mIoU.
    """
    from trtcal.demo.run import check, run
    from trtcal.machine.abilities import runs_rtx
    from trtcal.machine.nvml import nvidia
    from trtcal.speed.benchmark import remarks
    from trtcal.tables.demo import as_dict, show

    outcome = run(output, task, step=console.progress)
    if json:
        console.emit_json(as_dict(outcome))
    else:
        show(outcome, gpu=runs_rtx(nvidia().gpus))
    for remark in remarks(outcome.latencies, []):  # of INT8 on a CPU, the verdict speaks
        console.note(f"note: {remark}")
    check(outcome)
