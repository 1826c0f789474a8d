"""Batches: work is begun ahead, and what goes wrong comes out in its place."""

import threading

import pytest

from calibrators.errors import DataError
from trtcal.data.batching import ahead


def test_work_is_begun_ahead_and_not_too_far() -> None:
    begun = []
    stop = threading.Event()
    made = ahead(lambda item: begun.append(item) or item, range(1000), stop=stop)  # type: ignore[func-returns-value]
    assert next(made) == 0
    assert next(made) == 1
    made.close()
    assert stop.is_set()
    assert 1 < len(begun) <= 7  # two results, and at most four threads and one more


def test_an_exception_comes_out_in_its_place() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise DataError("three")
        return item

    made = ahead(work, range(100), stop=threading.Event())
    assert [next(made), next(made), next(made)] == [0, 1, 2]
    with pytest.raises(DataError, match="three"):
        next(made)
