"""The interval of a difference is as wide as what differs between images drawn anew."""

import numpy as np

from tests.trtcal.tasks.random_scenes import evidence, found, sample
from trtcal.tasks.measuring.evidence import tied

IMAGES, OBJECTS = 20, 4


def model(random, truth):
    """What a model of a given quality finds: each object nine times in ten, somewhat beside its place."""
    samples = []
    for number, boxes in enumerate(truth):
        seen = boxes[random.random(len(boxes)) < 0.9]
        scores = np.sort(random.random(len(seen)))[::-1]
        moved = found(seen + random.normal(0, 4, seen.shape), scores, np.zeros(len(seen), int))
        samples.append(sample(f"{number:02}", moved, found(boxes, np.ones(len(boxes)), np.zeros(len(boxes), int))))
    return evidence(samples)


def test_models_of_equal_quality_are_tied_nineteen_times_in_twenty():
    random, times = np.random.default_rng(0), 100
    equal = 0
    for _ in range(times):
        corners = random.uniform(0, 100, (IMAGES, OBJECTS, 2))
        truth = np.concatenate([corners, corners + random.uniform(20, 60, corners.shape)], axis=2)
        equal += tied(model(random, truth), model(random, truth))
    assert equal >= 91  # 95, less two standard errors
