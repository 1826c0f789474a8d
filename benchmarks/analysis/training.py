"""A step of training with LSQ beside a float step. Needs PyTorch, for both commits the same, as on PYTHONPATH."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from benchmarks.analysis.job import Figures, Job

STEPS = Path(__file__).with_name("training_steps.py")
BAR = 1.5
"""Of the time of a float step, what a quantized one may take."""


def prepare(folder: Path) -> None:
    """What both run: the old commit has no such script."""
    shutil.copy(STEPS, folder)


def judge(old: Path, new: Path) -> Figures:
    """How many float steps a quantized one takes, on as many threads."""
    before, now = (json.loads((folder / "stdout").read_text()) for folder in (old, new))
    return {
        f"float steps on {threads} threads (at most {BAR})": f"{now[threads]:.2f}, before {before[threads]:.2f}"
        for threads in now
    }


JOBS = (
    (
        Job(
            name="training of ResNet-20 with LSQ",
            prepare=prepare,
            old=(STEPS.name,),
            new=(STEPS.name,),
            bar=1.3,  # a float step goes with each quantized one: (1 + 2.3) / (1 + 1.5)
            judge=judge,
        ),
    )
    if find_spec("torch")
    else ()
)
