"""Samples as models are measured on them: in groups of one size, so that no result depends on how they were batched."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from calibrators.batches import IMAGE, Array, Batch, Batches, TensorSpec, bind
from engines.graph.chunks import filled
from trtcal.tasks.placement import Placement


class Runs(Protocol):
    """What runs a model."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""
        ...

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, for arrays by input name."""
        ...


class Singles:
    """The samples of batches in groups of `size`, however many they hold; without labels where these do not count.

    Attributes:
        names: All samples', where the loader knows them.
        placement: Where a sample lies in the model's input; None where the loader does not know.
    """

    def __init__(self, loader: Iterable[Batch], size: int, *, labelled: bool = True) -> None:
        self._loader = loader
        self._size = size
        self.names: Sequence[str] = getattr(loader, "names", ())
        self.placement: Callable[[str], Placement] | None = getattr(loader, "placement", None)
        self._labelled = labelled

    def __iter__(self) -> Generator[Batch, None, None]:
        held: list[Batch] = []
        for batch in self._loader:
            for index in range(batch.size):
                held.append(self._sample(batch, slice(index, index + 1)))
                if len(held) == self._size:
                    yield _joined(held)
                    held = []
        if held:
            yield _joined(held)

    def _sample(self, batch: Batch, part: slice) -> Batch:
        labels = batch.labels[part] if self._labelled and batch.labels is not None else None
        return Batch({name: array[part] for name, array in batch.items()}, names=batch.names[part], labels=labels)


def numbered(batches: Batches) -> Iterator[Batch]:
    """Batches; samples without a name go by their position, in all batches."""
    done = 0
    for each in batches:
        batch = each if isinstance(each, Batch) else Batch(each if isinstance(each, Mapping) else {IMAGE: each})
        if done and batch.names == Batch(batch).names:
            names = [f"sample {done + place}" for place in range(batch.size)]
            batch = Batch(batch, names=names, labels=batch.labels)
        done += batch.size
        yield batch


def _joined(samples: Sequence[Batch]) -> Batch:
    if len(samples) == 1:
        return samples[0]
    labels = [sample.labels for sample in samples if sample.labels is not None]
    return Batch(
        {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]},
        names=[name for sample in samples for name in sample.names],
        labels=np.concatenate(labels) if labels else None,
    )


def run_group(
    session: Runs, batch: Mapping[str, Array], *, count: int, size: int | None, sized: Collection[str] = ()
) -> dict[str, Array]:
    """The outputs of a session for a group of `count` samples.

    Where the session takes `size` at a time, the last sample is repeated. What the repeats give is cut off where the
    samples are on the first axis; of other outputs, and those of a size that depends on the data (`sized`), it stands
    beside the rest.
    """
    if size is None or count >= size:
        return session.run(batch)
    fed = {name: filled(array, size) for name, array in bind(batch, session.inputs).items()}
    outputs = session.run(fed)
    return {
        name: value[:count] if value.ndim and len(value) == size and name not in sized else value
        for name, value in outputs.items()
    }
