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
    """Do the whole job with a small network on handwritten digits, in less than a minute and without a GPU.

    Writes the digits as images, and does what `trtcal optimize` does with them: calibrates, quantizes, measures, builds
    engines, decides and writes a report. Then it says where each file is, and what to type next. With --task detect or
    segment, the images are scenes of 160x160 pixels with up to eight digits, annotations lie beside them, and six are
    drawn with what both models find. Exits with 1 if no engine loses one point of top-1, mAP 50-95 or mIoU at most.
    """
    from trtcal.machine.abilities import runs_rtx
    from trtcal.machine.nvml import nvidia
    from trtcal.optimization.demonstration import demonstrate, files_of, next_step
    from trtcal.optimization.showing import as_dict, show

    prepared, done = demonstrate(output, task, step=console.progress)
    if json:
        console.emit_json({**as_dict(done), "files": files_of(prepared.places)})
    else:
        show(done, measured_elsewhere=False)
        console.say(f"what each file is: {prepared.places.about}")
        console.say(f"next: {next_step(prepared.places, done, gpu=runs_rtx(nvidia().gpus))}")
    done.require_chosen()
