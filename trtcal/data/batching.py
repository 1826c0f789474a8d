"""Batches: made ahead of who takes them, joined and split; an image's numbers depend on no batch."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from calibrators.batches import Batch
from calibrators.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, stop: threading.Event
) -> Generator[Result, None, None]:
    """`work(item)` for each item, in order, begun by threads before it is asked for.

    At most one result more than there are threads is made or waits. An exception comes out where its result would. When
    the generator ends or is closed, `stop` is set for the work in progress, and the threads are gone.
    """
    threads = min(4, os.cpu_count() or 1)
    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="trtcal-images")
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def joined(left: Batch, right: Batch) -> Batch:
    """The samples of `left`, then those of `right`.

    Raises:
        DataError: They differ in shape.
    """
    if not left.size or not right.size:
        return left if left.size else right
    for name, array in right.items():
        check_alike(array.shape[1:], right.names[0], left[name].shape[1:], left.names[0])
    return Batch(
        {name: np.concatenate([left[name], array]) for name, array in right.items()},
        names=left.names + right.names,
        labels=None if left.labels is None or right.labels is None else np.concatenate([left.labels, right.labels]),
    )


def split(batch: Batch, size: int) -> tuple[Batch, Batch]:
    """The first `size` samples, and the rest."""
    if batch.size == size:
        return batch, Batch({})
    first, rest = (
        Batch(
            {name: array[part] for name, array in batch.items()},
            names=batch.names[part],
            labels=None if batch.labels is None else batch.labels[part],
        )
        for part in (slice(size), slice(size, None))
    )
    return first, rest


def check_alike(shape: tuple[int, ...], where: str, first_shape: tuple[int, ...], first: str) -> None:
    """Refuse a sample of another shape than the first.

    Args:
        shape: The sample's.
        where: Its place, for the message.
        first_shape: The first sample's.
        first: Its place.

    Raises:
        DataError: They make no batch.
    """
    if shape != first_shape:
        one, other = ("x".join(map(str, sizes)) for sizes in (shape, first_shape))
        raise DataError(
            f"{where} gives {one} and {first} {other}, which make no batch: state a resize, or batch size 1"
        )
