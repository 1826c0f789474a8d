"""Calibration without a GPU: a model is run over data, and its activations are counted into statistics."""
