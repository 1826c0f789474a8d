"""What of a difference between two models may be chance: bootstraps over the images that both have run on."""

import math
from statistics import NormalDist

from trtcal.tasks.sample import percent

Interval = tuple[float, float]
"""The low and the high end, in points."""

CONFIDENCE = 0.95

FEW = 5
"""Under so many images the interval is all that is possible: what differs between a few says nothing of others."""

RESAMPLES = (100, 1_000)
"""The least and the most. The standard error of 100 is right to a fourteenth of it, of 1,000 to a forty-fifth."""

WORK = 100_000_000
"""Detections to go through for an interval, all resamples together: some 20 s on two cores."""

SEED = 0


def resamples(detections: int) -> int:
    """How often to resample images with so many detections of both models."""
    least, most = RESAMPLES
    return min(max(WORK // max(detections, 1), least), most)


def interval(difference: float, error: float, images: int, least: float = -100.0) -> Interval:
    """The 95 % interval of a difference between two models, in points.

    A bootstrap takes the spread of n images for that of all, so its standard error is too small by
    ``sqrt((n - 1) / n)``: the interval is ``difference +- t sqrt(n / (n - 1)) error``, t being Student's quantile of
    n - 1 (T. Hesterberg, "What Teachers Should Know About the Bootstrap", American Statistician, 2015). Its middle is
    what was measured: the resamples' own middle lies off it, as the average precision of images that are there twice is
    not that of others.

    Args:
        difference: What was measured, from -1 to 1.
        error: The standard deviation of the resamples' differences.
        images: n. Under `FEW` of them the interval is all that is possible.
        least: The least difference that is possible, in points.
    """
    if images < FEW:
        return least, 100.0
    reach = _student(images - 1) * math.sqrt(images / (images - 1)) * error
    return max(percent(difference - reach), least), min(percent(difference + reach), 100.0)


def _student(freedom: int) -> float:
    """Student's quantile for 95 %: M. Abramowitz and I. Stegun, 26.7.5; right to 0.01 from 4 degrees of freedom on."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
