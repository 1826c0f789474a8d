"""What the suites about builds share: data, and what a world was told."""

import numpy as np

from calibrators.ranges import calibrate
from engines.collection.collect import collect


def batches(count=4, size=2):
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (size, 16, 8, 8)).astype(np.float32) for _ in range(count)]


def flags(world):
    return {flag.name for flag in world.flags} - {"TF32"}


def nodes(world):
    return [layer.name for layer in world._building.layers]


def cache_of(plain, tensors="all"):
    return calibrate(collect(plain, batches(), tensors=tensors))


def left_alone(target):
    return not list(target.parent.iterdir())
