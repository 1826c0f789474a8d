from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrators.batches import IMAGE, Batch, TensorSpec, bind, fitted
from calibrators.errors import DataError

FLOAT = np.dtype(np.float32)
IMAGES = TensorSpec("data", ("N", 3, 8, 8), FLOAT)
WORDS = TensorSpec("words", (None, "length"), np.dtype(np.int64))


def images(count: int = 2) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(count * 3 * 8 * 8, dtype=np.float32).reshape(count, 3, 8, 8)


def test_a_batch_knows_its_samples() -> None:
    batch = Batch({"a": images(2), "b": np.zeros((2, 5))}, names=["x.png", "y.png"], labels=np.array([3, 1]))
    assert batch.size == 2
    assert batch.names == ("x.png", "y.png")
    assert batch.labels is not None and batch.labels.tolist() == [3, 1]
    assert list(batch) == ["a", "b"]


def test_samples_without_names_are_numbered() -> None:
    batch = Batch({IMAGE: images(3)})
    assert batch.names == ("sample 0", "sample 1", "sample 2")
    assert batch.labels is None
    assert (Batch({}).size, Batch({}).names) == (0, ())


def test_a_specification_is_a_value_that_reads_well() -> None:
    assert str(IMAGES) == "data:Nx3x8x8"
    assert str(WORDS) == "words:?xlength"
    assert str(TensorSpec("s", (), FLOAT)) == "s:"
    assert TensorSpec("data", ("N", 3, 8, 8), FLOAT) == IMAGES
    with pytest.raises(FrozenInstanceError):
        IMAGES.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize("batch", [images(), {IMAGE: images()}, {"data": images()}, Batch({IMAGE: images()})])
def test_a_lone_array_goes_to_a_lone_input(batch: Any) -> None:
    bound = bind(batch, [IMAGES])
    assert list(bound) == ["data"]
    assert np.array_equal(bound["data"], images())


def test_several_inputs_are_bound_by_name() -> None:
    bound = bind({"words": np.ones((2, 7), np.int64), "data": images()}, [IMAGES, WORDS])
    assert {name: array.shape for name, array in bound.items()} == {"data": (2, 3, 8, 8), "words": (2, 7)}


def test_an_input_that_is_named_image_is_an_input() -> None:
    spec = TensorSpec(IMAGE, (1, 2), FLOAT)
    assert bind({IMAGE: np.ones((1, 2), np.float32)}, [spec])[IMAGE].shape == (1, 2)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_samples_is_not_checked_here(count: int) -> None:
    fixed = TensorSpec("data", (4, 3, 8, 8), FLOAT)
    assert bind(images(count), [fixed])["data"].shape[0] == count


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.float32, np.float16),
        (np.int32, np.int64),
        (np.uint16, np.uint8),
    ],
)
def test_another_width_of_the_same_kind_is_converted(given: type, wanted: type) -> None:
    bound = bind(np.array([[1, 2, 3]], given), [TensorSpec("x", ("N", 3), np.dtype(wanted))])["x"]
    assert bound.dtype == wanted
    assert bound.tolist() == [[1, 2, 3]]


def test_what_the_model_gets_is_contiguous() -> None:
    given = np.ones((2, 8, 8, 3), np.float32).transpose(0, 3, 1, 2)
    assert not given.flags.c_contiguous
    assert bind(given, [IMAGES])["data"].flags.c_contiguous
    assert bind(images()[::-1], [IMAGES])["data"].flags.c_contiguous


def test_an_array_that_fits_is_not_copied() -> None:
    given = images()
    assert bind(given, [IMAGES])["data"] is given


@pytest.mark.parametrize(
    ("batch", "inputs", "reason"),
    [
        (
            images(),
            [IMAGES, WORDS],
            "the data holds image, but the model's inputs are data, words: name each array as its input",
        ),
        (
            {"picture": images()},
            [IMAGES],
            "the data holds picture, but the model's inputs are data: name each array as its input",
        ),
        (
            {"data": images(), "words": np.ones((2, 7), np.int64), "b": images(), "a": images()},
            [IMAGES, WORDS],
            "the data holds a, b, data, words, but the model's inputs are data, words: name each array as its input",
        ),
        (
            {"data": images()},
            [],
            "the data holds data, but the model's inputs are nothing: name each array as its input",
        ),
        ({}, [IMAGES], "the data holds nothing, but the model's inputs are data: name each array as its input"),
        (
            np.zeros((2, 8, 8, 3), np.float32),
            [IMAGES],
            "the model takes data:Nx3x8x8, not 2x8x8x3: change the preprocessing (size, layout, channels) or the data",
        ),
        (
            np.zeros((2, 3, 8), np.float32),
            [IMAGES],
            "the model takes data:Nx3x8x8, not 2x3x8: change the preprocessing (size, layout, channels) or the data",
        ),
        (
            {"data": images(), "words": np.ones(2, np.int64)},
            [IMAGES, WORDS],
            "the model takes words:?xlength, not 2: change the preprocessing (size, layout, channels) or the data",
        ),
        (
            np.zeros((2, 3, 8, 8), np.uint8),
            [IMAGES],
            "input data takes float32, not uint8: change the data or `dtype`",
        ),
        (
            np.zeros((1, 4)),
            [WORDS],
            "input words takes int64, not float64: change the data or `dtype`",
        ),
        (
            {"data": images(), 1: images()},
            [IMAGES],
            "a batch holds an array under 1, which is no name: name each array as its input",
        ),
        (
            [[[1.0, 2.0], [3.0]]],
            [IMAGES],
            "what a batch holds as image is no array: its parts differ in size; give an array",
        ),
        (
            np.array([["a", "b"]]),
            [WORDS],
            "input words takes int64, not <U1: change the data or `dtype`",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(batch: Any, inputs: list[TensorSpec], reason: str) -> None:
    with pytest.raises(DataError) as error:
        bind(batch, inputs)
    assert str(error.value) == reason
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"names": ["a", "b"]}, "a batch of 3 samples has 2 names: give one per sample"),
        ({"labels": np.arange(4)}, "a batch of 3 samples has 4 labels: give one per sample"),
    ],
)
def test_names_and_labels_are_as_many_as_the_samples(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as error:
        Batch({"data": images(3)}, **options)
    assert str(error.value) == reason


def test_a_single_number_is_no_sample() -> None:
    with pytest.raises(DataError) as error:
        Batch({"data": np.array(1.0)})
    assert str(error.value) == "array data of a batch is a single number: samples are on its first axis"
    with pytest.raises(DataError, match="the model takes data:Nx3x8x8, not a single number: change"):
        bind(np.array(1.0), [IMAGES])


@pytest.mark.parametrize(
    ("given", "dtype", "reason"),
    [
        (np.array([[1, 2**31]]), np.int32, "input x takes int32, which does not hold 2147483648: change the data"),
        (np.array([[-(2**31) - 1]]), np.int32, "input x takes int32, which does not hold -2147483649: change the data"),
        (np.array([[256]], np.uint16), np.uint8, "input x takes uint8, which does not hold 256: change the data"),
        (
            np.array([[7e4]], np.float32),
            np.float16,
            "input x takes float16, and the data holds numbers too large for it: change the data",
        ),
    ],
)
def test_numbers_that_the_input_does_not_hold_are_refused(given: Any, dtype: Any, reason: str) -> None:
    with pytest.raises(DataError) as error:
        bind(given, [TensorSpec("x", ("N", None), np.dtype(dtype))])
    assert str(error.value) == reason


def test_numbers_at_the_limits_are_kept() -> None:
    limits = np.array([[-(2**31), 2**31 - 1]])
    bound = bind(limits, [TensorSpec("x", ("N", 2), np.dtype(np.int32))])["x"]
    assert (bound.dtype, bound.tolist()) == (np.int32, limits.tolist())
    spec = TensorSpec("x", ("N", 2), np.dtype(np.float16))
    assert np.isinf(bind(np.array([[np.inf, 1.0]]), [spec])["x"]).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        (images(), "the data is one array: give an iterable of batches, such as [array]"),
        ({"data": images()}, "the data is one batch (data): give an iterable of batches, such as [batch]"),
        (Batch({IMAGE: images()}), "the data is one batch (image): give an iterable of batches, such as [batch]"),
        ("images", "the data is a path, 'images': open it with trtcal.ImageLoader"),
        (Path("images"), "the data is a path, 'images': open it with trtcal.ImageLoader"),
        (7, "the data is of type int: give an iterable of batches, such as [array]"),
    ],
)
def test_what_is_no_iterable_of_batches_is_refused(batches: Any, reason: str) -> None:
    with pytest.raises(DataError) as error:
        fitted(batches, [IMAGES])
    assert str(error.value) == reason


def test_an_iterable_of_batches_is_taken_as_it_is() -> None:
    for batches in ([images()], iter([{"data": images()}])):
        assert fitted(batches, [IMAGES]) is batches
