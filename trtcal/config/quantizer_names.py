"""Names of the quantizers that `trtcal.qat` trains with; known where PyTorch is not installed, too."""

TRAINED_ACTIVATIONS = ("lsq", "lsq+", "pact", "learned-range", "moving-average-absmax")
TRAINED_WEIGHTS = ("lsq", "lsq+", "learned-range")
"""Beside "absmax", which is a method without training, too."""
