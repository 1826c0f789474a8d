"""Quantizers by name, grids for them, and values to quantize."""

import torch

from calibrators.grid import Grid
from trtcal.qat.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS

INT4 = Grid(4)
UINT4 = Grid(4, signed=False, symmetric=False)
ASYMMETRIC = Grid(8, symmetric=False)
WEIGHTS4 = Grid(4, narrow=True)


def normal(*shape, seed=0):
    return torch.randn(shape or (8, 3, 6, 6), generator=torch.Generator().manual_seed(seed))


def activation(name, grid, **options):
    return ACTIVATION_QUANTIZERS[name](grid, name="the input of conv1", **options)


def weight(name, shape, axis=0):
    grid = WEIGHTS4
    channels = 0 if axis is None else shape[axis]
    return WEIGHT_QUANTIZERS[name](grid, of="weight", axis=axis, channels=channels, name="the weight of conv1")
