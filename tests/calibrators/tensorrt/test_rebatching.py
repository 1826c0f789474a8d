from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import Array, Batch, TensorSpec
from calibrators.errors import DataError
from calibrators.tensorrt.rebatching import Once, batch_size, recut, require_whole, samples_of

FLOAT = np.dtype(np.float32)


def specs(size: int, *names: str) -> list[TensorSpec]:
    return [TensorSpec(name, (size, 2), FLOAT) for name in names or ("x",)]


def numbered(*sizes: int) -> list[Array]:
    """Batches of these sizes, whose samples are (0, 0.5), (1, 1.5), ..."""
    samples = np.arange(sum(sizes), dtype=np.float32)[:, None] + np.array([0, 0.5], np.float32)
    return np.split(samples, np.cumsum(sizes)[:-1])


def taken(batches: Iterator[dict[str, Array]]) -> tuple[list[dict[str, Array]], DataError | None]:
    """Copies of what came, and what was raised in the end."""
    came = []
    try:
        for batch in batches:
            came.append({name: array.copy() for name, array in batch.items()})
    except DataError as error:
        return came, error
    return came, None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 8))
def test_every_sample_comes_once_and_in_order(sizes: list[int], size: int) -> None:
    data = numbered(*sizes)
    came, error = taken(recut(data, specs(size)))
    whole = np.concatenate(data)
    assert len(came) == len(whole) // size
    assert all(batch["x"].shape == (size, 2) and batch["x"].flags.c_contiguous for batch in came)
    if came:
        assert np.array_equal(np.concatenate([batch["x"] for batch in came]), whole[: len(came) * size])
    assert (error is None) == (len(whole) > 0 and len(whole) % size == 0)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 4))
def test_a_loader_may_use_its_array_again(sizes: list[int], size: int) -> None:
    def reusing() -> Iterator[Array]:
        memory = np.empty((5, 2), np.float32)
        for batch in numbered(*sizes):
            memory[: len(batch)] = batch
            yield memory[: len(batch)]
            memory[:] = -1

    came, _ = taken(recut(reusing(), specs(size)))
    whole = np.concatenate(numbered(*sizes))[: len(came) * size]
    assert np.array_equal(np.concatenate([batch["x"] for batch in came] or [whole]), whole)


def test_inputs_stay_together() -> None:
    (x,) = numbered(6)
    came, error = taken(recut([{"y": -x[:4], "x": x[:4]}, {"x": x[4:], "y": -x[4:]}], specs(3, "x", "y")))
    assert error is None
    assert [batch["x"].tolist() for batch in came] == [x[:3].tolist(), x[3:].tolist()]
    assert all(np.array_equal(batch["y"], -batch["x"]) for batch in came)


def test_inputs_with_different_numbers_of_samples_are_refused() -> None:
    x, y = numbered(4, 3)
    with pytest.raises(DataError, match=r"different numbers of samples \(\[3, 4\]\)"):
        next(recut([{"x": x, "y": y}], specs(1, "x", "y")))


@pytest.mark.parametrize(
    ("samples", "size", "advice"),
    [
        (500, 8, "4 would be left over; give 496 or 504 samples, or calibrate in batches of 5"),
        (7, 8, "7 would be left over; give 8 samples, or calibrate in batches of 7"),
        (13, 4, "1 would be left over; give 12 or 16 samples, or calibrate in batches of 1"),
    ],
)
def test_samples_that_are_left_over_are_named_with_what_to_do(samples: int, size: int, advice: str) -> None:
    with pytest.raises(DataError) as raised:
        require_whole(samples, size)
    assert str(raised.value).startswith(f"{samples} samples do not fill batches of {size}, ")
    assert str(raised.value).endswith(advice)


def test_no_sample_is_an_error() -> None:
    assert taken(recut([], specs(1)))[1] is not None
    with pytest.raises(DataError, match="no sample to calibrate on: give at least one image"):
        require_whole(0, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_without_size_is_refused_by_the_name_of_its_sample(bad: float) -> None:
    first, second = numbered(2, 3)
    second[1, 1] = bad
    with pytest.raises(DataError, match=r"^input x is NaN or infinite for sample 3: mend its preprocessing"):
        list(recut([first, second], specs(1)))
    with pytest.raises(DataError, match=r"^input x is NaN or infinite for b\.png:"):
        list(recut([Batch({"x": second}, names=["a.png", "b.png", "c.png"])], specs(1)))


def test_integers_are_taken_as_they_are() -> None:
    words = TensorSpec("words", (2, 3), np.dtype(np.int64))
    ((batch),), error = taken(recut([np.arange(6).reshape(2, 3)], [words]))
    assert error is None and batch["words"].dtype == np.int64


def test_the_batch_size_is_that_of_all_inputs() -> None:
    assert batch_size([TensorSpec("x", (4, 3), FLOAT), TensorSpec("y", (4,), FLOAT)]) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "has no input"),
        ([TensorSpec("x", (), FLOAT)], "input x: has none"),
        ([TensorSpec("x", ("N", 3), FLOAT)], "input x:Nx3 has none"),
        ([TensorSpec("x", (0, 3), FLOAT)], "input x:0x3 has none"),
        ([TensorSpec("x", (4, 3), FLOAT), TensorSpec("y", (1, 3), FLOAT)], "this one has x:4x3, y:1x3"),
    ],
)
def test_a_profile_without_one_batch_size_is_refused(wrong: list[TensorSpec], message: str) -> None:
    with pytest.raises(DataError, match=message):
        batch_size(wrong)


class Loader:
    count = 20

    def __iter__(self) -> Iterator[Array]:
        return iter(numbered(20))


def test_samples_are_counted_where_nothing_is_read() -> None:
    assert samples_of(Loader()) == 20
    assert samples_of(numbered(3, 4)) == 7
    assert samples_of([{"x": numbered(3)[0]}, {"x": numbered(2)[0]}]) == 5
    assert samples_of(()) == 0
    assert samples_of(Once(iter(numbered(3)))) is None
    assert samples_of([np.float32(1)]) is None


def test_a_generator_is_read_once() -> None:
    once = Once(batch for batch in numbered(2, 2))
    once.require_unread()
    assert len(list(once)) == 2
    with pytest.raises(DataError, match=r"a generator that has been read already: give what can be read again"):
        iter(once)
    with pytest.raises(DataError):
        once.require_unread()
