"""Images with random class maps, from a seed."""

import numpy as np

from tests.trtcal.tasks.random_scenes import sample
from trtcal.tasks.found import ClassMap
from trtcal.tasks.measuring.sample import Sample

SIZE = (24, 32)


def maps(seed: int, images: int = 20, classes: int = 5) -> list[Sample]:
    """Of each image a few classes; some pixels are not known, and the models are wrong about some."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(images):
        mine = random.integers(0, classes, 3)
        known = np.repeat(np.repeat(mine[random.integers(0, 3, (6, 8))], 4, axis=0), 4, axis=1)
        models = [_wrong(random, known, classes + 1, share) for share in (0.3, 0.15)]
        known = np.where(random.random(SIZE) < 0.1, -1, known)
        made.append(sample(f"{number:04}.png", ClassMap(models[0]), ClassMap(known), ClassMap(models[1]), SIZE))
    return made


def _wrong(random, known, classes, share):
    """Wrong by a share that differs from image to image."""
    wrong = random.random(SIZE) < share * random.uniform(0, 2)
    return np.where(wrong, random.integers(0, classes, SIZE), known)
