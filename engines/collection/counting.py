"""Running samples side by side, and counting the activations that they give."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import reduce

import numpy as np

from calibrators.batches import Array
from calibrators.errors import DataError, RangeError, one_line
from calibrators.statistics.tensor import Accumulator, InfiniteError, TensorStatistics
from engines.collection.activation_sessions import Fetch
from engines.collection.fingerprint import Fingerprint, fingerprints
from engines.collection.reused_memory import Bound
from engines.collection.unbounded import Unbounded
from engines.graph.samples import Group, split


class Gathering:
    """Counts activations of groups of samples.

    Args:
        plain: Hands them out.
        blocked: Another session that may do so faster, if it gives the same values for the first group.
        inputs: The model's inputs that are counted, too.
        ceilings: By activation: where it is also counted behind a ceiling.
        turned: Activations that do not carry the samples on their first axis.
        size: Samples in a group.
        threads: Groups that run side by side.
        rule: Which of them may be infinite: they have no statistics then. None allows it of none.
    """

    def __init__(
        self,
        plain: Fetch,
        blocked: Fetch | None,
        *,
        inputs: Sequence[str],
        ceilings: Mapping[str, float],
        turned: frozenset[str],
        size: int,
        threads: int,
        rule: Unbounded | None = None,
    ) -> None:
        self._rule = rule
        self._fetch, self._faster = plain, blocked
        self._inputs, self._names = inputs, (*inputs, *plain.names)
        self._ceilings, self._turned, self._size, self._threads = ceilings, turned, size, threads
        self._workers: list[_Worker] = []
        self._own = threading.local()

    def all_of(self, groups: Iterable[Group]) -> Iterator[int]:
        """Run every group, a few at a time; yield the number of samples of each as it is done."""
        executor = ThreadPoolExecutor(self._threads, thread_name_prefix="collect")
        pending: set[Future[int]] = set()
        try:
            for group in groups:
                if self._faster is not None:
                    yield self._compared(executor, group, self._faster)
                    continue
                pending.add(executor.submit(self._one, group))
                if len(pending) > self._threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            executor.shutdown(cancel_futures=True)

    def statistics(self) -> dict[str, TensorStatistics]:
        """Of every activation that was finite."""
        return self._merged(Accumulator.statistics, self._names)

    def clipped(self) -> dict[str, TensorStatistics]:
        """Of those with a ceiling, behind it."""
        return self._merged(Accumulator.clipped, [name for name in self._names if name in self._ceilings])

    def unbounded(self) -> set[str]:
        """Activations that were infinite in some sample."""
        return set[str]().union(*(worker.unbounded for worker in self._workers))

    def _merged(
        self, of: Callable[[Accumulator], TensorStatistics], names: Iterable[str]
    ) -> dict[str, TensorStatistics]:
        unbounded = self.unbounded()
        finite = [name for name in names if name not in unbounded]
        parts = ([of(worker.accumulators[name]) for worker in self._workers] for name in finite)
        return {name: reduce(TensorStatistics.__add__, part) for name, part in zip(finite, parts, strict=True)}

    def _compared(self, executor: ThreadPoolExecutor, group: Group, faster: Fetch) -> int:
        """Run the first group in both sessions at once, and take the faster from now on if it gives the same values."""
        plain, other = executor.submit(self._first, group), executor.submit(self._trial, group, faster)
        count, expected = plain.result()
        if other.result() == expected:
            self._fetch = faster
        self._faster = None
        return count

    def _first(self, group: Group) -> tuple[int, dict[str, Fingerprint]]:
        """Run and count a group; the number of its samples, and what its activations are known by."""
        worker = self._worker(self._fetch)
        values = worker.run(group)
        return self._count(worker, group, values), fingerprints(values)

    def _trial(self, group: Group, fetch: Fetch) -> dict[str, Fingerprint] | None:
        """What a group's activations from another session are known by."""
        with suppress(DataError):
            return fingerprints(self._worker(fetch).run(group))
        return None

    def _one(self, group: Group) -> int:
        """Run and count a group; the number of its samples."""
        worker = self._worker(self._fetch)
        return self._count(worker, group, worker.run(group))

    def _worker(self, fetch: Fetch) -> "_Worker":
        """This thread's."""
        if not hasattr(self._own, "worker"):
            accumulators = {name: Accumulator(self._ceilings.get(name)) for name in self._names}
            self._own.worker = _Worker(Bound(fetch), accumulators)
            self._workers.append(self._own.worker)
        worker: _Worker = self._own.worker
        worker.use(fetch)
        return worker

    def _count(self, worker: "_Worker", group: Group, activations: Mapping[str, Array]) -> int:
        infinite: dict[str, list[str]] = {sample: [] for sample in group.names}
        faults = list[tuple[str, str]]()
        for name, array in ({name: group.arrays[name] for name in self._inputs} | dict(activations)).items():
            parts = split(array, 1 if name in self._turned else self._size)
            for sample, part in zip(group.names, parts, strict=False):
                values = part if self._rule is None else self._rule.meant(name, part)
                try:
                    worker.add(name, values)
                except InfiniteError:
                    infinite[sample].append(name)
                    if self._rule is None or self._rule.is_fault(name, values):
                        faults.append((name, sample))
                except RangeError as error:
                    self._require_none(faults, infinite)  # such as one that this comes from
                    raise _unusable(name, str(error), sample) from None
        self._require_none(faults, infinite)
        return len(group.names)

    def _require_none(self, faults: Sequence[tuple[str, str]], infinite: Mapping[str, Sequence[str]]) -> None:
        """Refuse the first of these activations, each in a sample, by the one that its infinity comes from."""
        for name, sample in faults:
            origin = name if self._rule is None else self._rule.origin(name, infinite[sample])
            raise _unusable(origin, "infinite", sample)


def _unusable(name: str, what: str, sample: str) -> DataError:
    return DataError(
        f"the activation {name} is {what} for {sample}: mend the model or its preprocessing, or leave the image out"
    )


class _Worker:
    """What one thread runs and counts in, so that no other waits for it or has its counters in a cache."""

    def __init__(self, bound: Bound, accumulators: Mapping[str, Accumulator]) -> None:
        self.bound = bound
        self.accumulators = accumulators
        self.unbounded = set[str]()

    def add(self, name: str, values: Array) -> None:
        """Count an activation's values in one sample; those of one that was infinite before are looked at only.

        Raises:
            InfiniteError: A value is infinite, and none is NaN.
            RangeError: A value is NaN.
        """
        if name not in self.unbounded:
            try:
                self.accumulators[name].add(np.asarray(values, np.float32))
            except InfiniteError:
                self.unbounded.add(name)
                raise
        elif np.isnan(values).any():
            raise RangeError("NaN")
        elif np.isinf(values).any():
            raise InfiniteError("infinite")

    def use(self, fetch: Fetch) -> None:
        """Run this session from now on."""
        if self.bound.fetch is not fetch:
            self.bound = self.bound.moved_to(fetch)

    def run(self, group: Group) -> Mapping[str, Array]:
        """The activations of a group, until the next one."""
        try:
            return self.bound.run(group.arrays)
        except Exception as error:
            raise DataError(
                f"ONNX Runtime could not run the model on {group.names[0]}: {one_line(error, 300)}"
            ) from error
