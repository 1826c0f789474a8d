"""Statistics of a few tensors from any number of samples, such as a shard of a collection gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from calibrators.statistics.file import Provenance, ScaleGroup, Statistics
from calibrators.statistics.tensor import TensorStatistics

GROUPS = (ScaleGroup(("pool_in", "pool_out"), ("pool_in",)), ScaleGroup(("a", "b", "concat"), ("a", "b")))
EXPLICIT = (ScaleGroup(("a", "b", "concat"), ("a", "b")),)
NAMES = ("pool_in", "pool_out", "a", "b", "concat", 'names with "quotes": 1, ünïcode, /slashes/ and \udcff')
SHARD = Provenance(
    model="0123456789abcdef" * 4,
    preprocess={"resize": [224, 224], "mean": [0.485, 0.456, 0.406], "layout": "NCHW", "crop": None},
    images=("a" * 64,),
    count=10,
    seed=7,
    tensors="quantizable",
)


def some(first: int = 0, *, count: int = 10, images: tuple[str, ...] = ("a" * 64,), **provenance: Any) -> Statistics:
    """Statistics of the samples from number `first` on; each is drawn from its own seed."""
    tensors = {
        name: TensorStatistics.of(
            *(scale * np.random.default_rng(first + i).standard_normal(300) for i in range(count))
        )
        for scale, name in enumerate(NAMES)
    }
    return Statistics(
        tensors,
        groups=GROUPS,
        explicit_groups=EXPLICIT,
        provenance=replace(SHARD, images=images, count=count, **provenance),
    )


SOME = some()


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one == other
    assert list(one) == list(other)
    assert (one.groups, one.explicit_groups) == (other.groups, other.explicit_groups)
    assert one.provenance == other.provenance


def saved(statistics: Statistics, path: Path) -> bytes:
    statistics.save(path)
    return path.read_bytes()
