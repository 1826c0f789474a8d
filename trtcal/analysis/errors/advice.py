"""What to try where a tensor looks wrong."""

from collections.abc import Mapping
from typing import Literal

Reason = Literal[
    "outliers",
    "wide range",
    "saturation",
    "few levels",
    "dead channels",
    "lost channels",
    "channel spread",
    "weight channel spread",
    "dead weights",
    "noisy weight",
    "lost weights",
    "error jump",
    "not finite",
]
"""Why a tensor looks wrong."""

HARMFUL: Mapping[Reason, str] = {
    "outliers": "--method percentile:99.9 or mse",
    "wide range": "a --method that clips more, such as percentile:99.9 or mse",
    "saturation": "--method minmax or mse, or more images to calibrate on",
    "few levels": "a --method that clips more, or the layer in FP16",
    "dead channels": "nothing",
    "lost channels": "quantize --recover bias-correction, or the layer in FP16",
    "channel spread": "quantize --recover equalization, or the layer in FP16",
    "weight channel spread": "--granularity channel, a scale for each output channel",
    "dead weights": "nothing",
    "noisy weight": "quantize --weights mse or --recover adaround",
    "lost weights": "quantize --recover adaround, or the layer in FP16",
    "error jump": "the layer in FP16",
    "not finite": "the float model on these images: is it finite there?",
}
"""By reason, what helps most often; FP16 for some layers is what mixed-precision finds, and a configuration says."""

HARMLESS: Mapping[Reason, str] = {
    "outliers": "nothing, as the range leaves them out; if they matter, --method minmax",
    "channel spread": "nothing yet; if the layer turns out to hurt, quantize --recover equalization",
    "weight channel spread": "nothing, as long as each channel has its own scale",
    "dead channels": "nothing for accuracy; the channels could be pruned",
    "dead weights": "nothing for accuracy; the channels could be pruned",
}
"""The same, where it costs no accuracy."""


def advice(reason: Reason, *, harms: bool) -> str:
    """What to try about a tensor that looks wrong, or that is merely worth knowing."""
    return HARMFUL[reason] if harms else HARMLESS.get(reason, HARMFUL[reason])
