"""Settings to train with, and some steps of training."""

import torch

from tests.trtcal.qat.networks import images
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import pact_penalty


def settings(activation="lsq", weight="lsq", bits=8, **more):
    return QuantConfig(
        LayerSettings(activation=activation, weight=weight, activation_bits=bits, weight_bits=bits, **more)
    )


def train(model, x, steps=20, rate=0.02, penalty=0.0, target=None):
    """Losses of some steps towards random targets."""
    torch.manual_seed(0)  # dropout
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses = []
    for _ in range(steps):
        result = model(x)
        target = images(*result.shape, seed=5) if target is None else target
        loss = ((result - target) ** 2).mean() + penalty * pact_penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
