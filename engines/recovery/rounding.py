"""Rounding the weights of one matrix product up or down, for the least error of its result."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engines.graph.cores import usable_cores

STEPS = 1000
RATE = 0.03
BATCH = 256
"""Places that each step looks at."""

REGULARIZER = 0.01
SHARE = 1e-3
"""Of the squared error of rounding to the nearest, for each weight: what the squared error is measured in."""

WARM_UP = 0.2
BETAS = 20.0, 2.0
STRETCH = 1.2, -0.1
"""h = clip(1.2 sigmoid(a) - 0.1, 0, 1): both ends are reached."""

SHARED_OUT = 2**17
"""Weights from which more than one thread gains time: with fewer, threads cost more than they do, above all where
others want the cores."""

_DECAY = 0.9, 0.999
_TINY = 1e-8
"""Adam's."""

Singles = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Product:
    """y = f(W x + b), group by group, and what it should be.

    Attributes:
        weight: W, shape (groups, outputs, inputs).
        scale: Of each weight.
        zero: Its zero point, as a float.
        ends: The lowest and highest level.
        x: Shape (places, groups, inputs).
        y: What W x + b should be, shape (places, groups, outputs).
        bias: Shape (groups, outputs).
        bounds: Between which f cuts off; infinite where it does not.
    """

    weight: Singles
    scale: Singles
    zero: Singles
    ends: tuple[int, int]
    x: Singles
    y: Singles
    bias: Singles
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def nearest(self) -> Levels:
        """Each weight's nearest level."""
        return np.asarray(np.clip(np.rint(self.weight / self.scale) + self.zero, *self.ends), np.int32)

    def floats(self, levels: Levels) -> Singles:
        """The weights that levels stand for."""
        return (levels - self.zero) * self.scale

    def result(self, weight: Singles) -> Singles:
        """W x, shape (groups, outputs, places)."""
        found: Singles = np.matmul(weight, self.x.transpose(1, 2, 0))
        return found

    def error(self, weight: Singles) -> float:
        """Mean over places of the squared error of y, summed over channels."""
        target = self.y.transpose(1, 2, 0)
        got = np.clip(self.result(weight) + self.bias[:, :, None], *self.bounds)
        return float(np.square(got - np.clip(target, *self.bounds), dtype=np.float64).sum() / len(self.x))

    def energy(self) -> float:
        """Mean over places of y squared, summed over channels."""
        return float(np.square(np.clip(self.y, *self.bounds), dtype=np.float64).sum() / len(self.x))

    def settled(self, weight: Singles) -> "Product":
        """With what W x + b lacks in the mean, for this W, in its bias."""
        return replace(self, bias=self.bias + self.remainder(weight))

    def remainder(self, weight: Singles) -> Singles:
        """Mean over places of what W x + b lacks, shape (groups, outputs)."""
        lacks = self.y.transpose(1, 2, 0) - self.result(weight) - self.bias[:, :, None]
        return np.asarray(lacks.mean(axis=2, dtype=np.float64), np.float32)

    def noise(self, weight: Singles) -> float:
        """DB of W x over the error that other weights make in it; both less their means."""
        signal, noise = (
            float(found.var(axis=2, dtype=np.float64).sum())
            for found in (self.result(self.weight), self.result(self.weight - weight))
        )
        if noise == 0:
            return float("inf")
        return float("-inf") if signal == 0 else float(10 * np.log10(signal / noise))


def learned(product: Product, *, seed: int = 0, steps: int = STEPS) -> Levels:
    """Levels for W by AdaRound.

    Args:
        product: The matrix product.
        seed: Of the places that each step looks at.
        steps: Of Adam.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if product.weight.size < SHARED_OUT else usable_cores(), user_api="blas"):
        return _learned(product, seed, steps)


def _learned(product: Product, seed: int, steps: int) -> Levels:
    random = np.random.default_rng(seed)
    highest, lowest = STRETCH
    ends, scale = product.ends, product.scale
    base = np.floor(product.weight / scale) + product.zero
    rest = product.weight / scale + product.zero - base
    a = -np.log(highest / (rest - lowest) - 1)
    momentum, square = np.zeros_like(a), np.zeros_like(a)
    unit = np.float32(SHARE * a.size / max(product.error(product.floats(product.nearest())), np.finfo(float).tiny))
    low, high = product.bounds
    target = np.clip(product.y, low, high)
    for step in range(steps):
        chosen = random.integers(0, len(product.x), BATCH)
        x, y = product.x[chosen].transpose(1, 2, 0), target[chosen].transpose(1, 2, 0)
        share = 1 / (1 + np.exp(-a))
        h = np.clip(highest * share + lowest, 0, 1)
        levels = base + h
        weight = (np.clip(levels, *ends) - product.zero) * scale
        z = np.matmul(weight, x) + product.bias[:, :, None]
        difference = np.where((z > low) & (z < high), np.clip(z, low, high) - y, np.float32(0))
        gradient = np.matmul(difference, x.swapaxes(1, 2)) * (2 / BATCH * unit) * scale
        gradient *= (levels >= ends[0]) & (levels <= ends[1])
        if (beta := _beta(step / steps)) is not None:
            u = 2 * h - 1
            gradient -= (2 * REGULARIZER * beta) * np.sign(u) * np.abs(u) ** (beta - 1)
        gradient *= highest * share * (1 - share) * ((h > 0) & (h < 1))
        momentum = _DECAY[0] * momentum + (1 - _DECAY[0]) * gradient
        square = _DECAY[1] * square + (1 - _DECAY[1]) * gradient * gradient
        mean, spread = (
            each / (1 - decay ** (step + 1)) for each, decay in zip((momentum, square), _DECAY, strict=True)
        )
        a -= RATE * mean / (np.sqrt(spread) + _TINY)
    return np.asarray(np.clip(base + (a >= 0), *ends), np.int32)


def _beta(progress: float) -> float | None:
    """The exponent of the regularizer; None while there is none."""
    if progress < WARM_UP:
        return None
    first, last = BETAS
    return last + (first - last) * (1 + float(np.cos(np.pi * (progress - WARM_UP) / (1 - WARM_UP)))) / 2
