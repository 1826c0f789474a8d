"""Scores of models as the cells of a table, under the same headings wherever scores are shown."""

import math

from trtcal.measure.measures import Score, Share


def cells(name: str, each: Score, reference: str | None) -> dict[str, str]:
    """A score's cells by heading, empty where nothing was measured."""
    interval = drop = lost = gained = ""
    if each.top1.total:
        low, high = each.top1.interval()
        interval = f"{low:.2f}-{high:.2f}"
        if reference not in (None, name):
            drop, lost, gained = f"{each.drop:.2f}", str(each.lost), str(each.gained)
    return {
        "model": name,
        "top-1": _percent(each.top1),
        "95 % CI": interval,
        "top-5": _percent(each.top5),
        "drop": drop,
        "lost": lost,
        "gained": gained,
        "agree": _percent(each.agreement),
        "SQNR": decibels(each.distortion.sqnr) if each.distortions else "",
        "NaN/Inf": str(each.nonfinite or ""),
    }


def _percent(share: Share) -> str:
    return f"{share.percent:.2f} %" if share.total else ""


def decibels(value: float) -> str:
    """A signal to noise ratio as a cell."""
    return "identical" if value == math.inf else f"{round(value, 1) + 0.0:.1f} dB"  # never -0.0
