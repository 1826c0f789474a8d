"""Names of the quantizers that `trtcal.qat` trains with; known where PyTorch is not installed, too."""

from calibrators.methods.names import QUANTIZERS, WEIGHTS, among, canonical

TRAINED_ACTIVATIONS = tuple(QUANTIZERS)
TRAINED_WEIGHTS = ("lsq", "lsq+", "learned-range")
"""Beside "absmax", which is a method without training, too."""


def activation_named(name: str) -> str:
    """The name that a quantizer or a range method has here: what other tools call it is understood."""
    return among(QUANTIZERS, canonical(name))


def weight_named(name: str) -> str:
    """Likewise, of what quantizes weights."""
    return among({**WEIGHTS, **{each: QUANTIZERS[each] for each in TRAINED_WEIGHTS}}, name)
