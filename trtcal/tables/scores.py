"""Scores of models as the cells of a table, under the same headings wherever scores are shown."""

import math
from collections.abc import Iterable, Sequence

from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share
from trtcal.tasks.measuring.result import TaskResult

DETAILS = ("top-5", "mAP 75", "mAP 50", "extra", "moved")
"""Headings that go first where a terminal has too little room."""


def cells(name: str, each: Score, reference: str | None) -> dict[str, str]:
    """A score's cells by heading, empty where nothing was measured."""
    interval = drop = lost = gained = ""
    found: dict[str, str] = {}
    if each.task is not None:
        result = each.task.result
        found = {result.measure: measured_value(result)}
        found |= {part: f"{value:.2f} %" for part, value in result.parts.items()}
        if result.drop is not None and reference not in (None, name):
            drop = f"{round(result.drop, 2) + 0.0:.2f}" if result.percent else f"{result.drop:.6g}"
        found["drop"] = drop
        lost, extra, moved = (
            "" if count is None else str(count) for count in (result.lost, result.extra, result.moved)
        )
        found |= {"lost": lost, "extra": extra, "moved": moved}
    if each.top1.total:
        low, high = each.top1.interval()
        interval = f"{low:.2f}-{high:.2f}"
        if reference not in (None, name):
            drop, lost, gained = f"{each.drop:.2f}", str(each.lost), str(each.gained)
    return {
        "model": name,
        **found,
        "top-1": _percent(each.top1),
        "95 % CI": interval,
        "top-5": _percent(each.top5),
        "drop": drop,
        "lost": lost,
        "gained": gained,
        "agree": "" if found else _percent(each.agreement),
        "SQNR": _sqnr(each) if each.counted else "",
        "NaN/Inf": str(each.nonfinite or ""),
    }


def measured_value(result: TaskResult) -> str:
    """The measure of a task as a cell."""
    return f"{result.value:.2f} %" if result.percent else f"{result.value:.6g}"


def by_output(each: Score) -> dict[str, Distortion]:
    """The distortion of each output, or group of its channels that are alike; those that do not count at the end."""
    return {**each.groups, **{name: part for name, part in each.distortions.items() if name in each.uncounted}}


def of_the_worst(each: Score, name: str) -> list[str]:
    """A line on which output an SQNR is of, where there are several or groups of channels.

    Args:
        each: The score of a model.
        name: What the line calls it.
    """
    if len(each.groups) < 2:
        return []
    return [f"SQNR is that of the worst of {len(each.groups)} outputs or groups of channels: of {name}, {each.worst}"]


def of_integers(each: Score, name: str, reference: str) -> list[str]:
    """A line for each output of integers, such as class numbers, whose values are not all the reference's."""
    return [
        f"{output} of {name} holds integers, {share.percent:.2f} % of them {reference}'s; they are in no other number"
        for output, share in each.integers.items()
        if share.hits < share.total
    ]


def of_other_sizes(scores: Iterable[Score], reference: str) -> list[str]:
    """What is to be said of outputs whose size depends on the data: a line for those that differ in as many samples."""
    found = [each for each in scores if each.unlike or each.uncounted]
    alike = dict[tuple[int, int, bool], list[str]]()
    for name in dict.fromkeys(name for each in found for name in (*each.unlike, *sorted(each.uncounted))):
        counts = [each.unlike[name].samples if name in each.unlike else 0 for each in found]
        alike.setdefault((min(counts), max(counts), any(name in each.counted for each in found)), []).append(name)
    samples = max((each.samples for each in found), default=0)
    return [_of_other_size(names, *how, samples, reference) for how, names in alike.items()]


def _of_other_size(names: Sequence[str], least: int, most: int, counts: bool, samples: int, reference: str) -> str:
    count = f"{most}" if least == most else f"{least} to {most}"
    which = names[0] if len(names) == 1 else f"each of {', '.join(names)}"
    said = f"the size of {which} depends on the data: it is not {reference}'s in {count} of {samples} samples"
    if most:
        said += ", which cannot be compared"
    if counts:
        return f"{said} and count as lost in SQNR"
    return f"{said}; SQNR is that of the other outputs"


def _sqnr(each: Score) -> str:
    return decibels(each.sqnr) if each.sqnr < math.inf or each.identical else "inf"


def _percent(share: Share) -> str:
    return f"{share.percent:.2f} %" if share.total else ""


def decibels(value: float) -> str:
    """A signal to noise ratio as a cell."""
    return "identical" if value == math.inf else f"{round(value, 1) + 0.0:.1f} dB"  # never -0.0
