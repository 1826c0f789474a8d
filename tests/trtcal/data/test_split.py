"""Images to calibrate on and images to judge by have nothing in common, whatever they are called."""

import re
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import DataError
from trtcal.data.split import ImageChoice, divided, parted

INPUTS = [TensorSpec("x", ("N", 2), np.dtype("float32"))]


@pytest.fixture
def arrays(tmp_path):
    """Writes samples that all differ, with labels of classes in the shares 3 to 1; gives the file."""

    def of(samples, name="data", start=0):
        values = np.arange(2 * start, 2 * (start + samples), dtype=np.float32).reshape(samples, 2)
        np.savez(tmp_path / f"{name}.npz", x=values, labels=(np.arange(samples) % 4 == 0).astype(np.int64))
        return tmp_path / f"{name}.npz"

    return of


def split(source, count, test_count, **options):
    return parted(ImageChoice(source, count=count, test_count=test_count, **options), INPUTS)


@given(available=st.integers(2, 10**6), count=st.integers(1, 10**6), test_count=st.integers(1, 10**6))
def test_both_parts_get_something_and_together_no_more_than_there_is(available, count, test_count):
    first, second = divided(available, count, test_count)
    assert 1 <= first <= count
    assert 1 <= second <= test_count
    assert first + second == min(available, count + test_count)
    assert first == count or second == test_count or abs(first - second) <= 1


def test_what_is_asked_for_where_there_is_enough(arrays):
    parts = split(arrays(40), 16, 8)
    assert (parts.calibration.count, parts.test.count, parts.notes) == (16, 8, ())
    assert not set(parts.calibration.names) & set(parts.test.names)


def test_each_part_gets_its_share_of_each_class(arrays):
    parts = split(arrays(40), 16, 8)
    assert Counter(parts.calibration.labels.tolist()) == {0: 12, 1: 4}
    assert Counter(parts.test.labels.tolist()) == {0: 6, 1: 2}


def test_the_calibration_part_is_what_calibrate_takes(arrays):
    from trtcal.data.images import open_images

    source = arrays(40)
    assert split(source, 16, 8, seed=3).calibration.names == open_images(source, INPUTS, count=16, seed=3).names


def test_too_few_are_divided_and_it_is_said(arrays):
    source = arrays(12)
    parts = split(source, 500, 250)
    assert (parts.calibration.count, parts.test.count) == (6, 6)
    assert parts.notes == (f"{source} holds 12 samples, not the 500 to calibrate on and 250 others",)
    assert set(parts.calibration.names) | set(parts.test.names) == {f"sample {index}" for index in range(12)}


def test_the_seed_alone_decides(arrays):
    source = arrays(40)
    chosen = [
        (parts.calibration.names, parts.test.names)
        for parts in (split(source, 10, 10, seed=seed, batch_size=size) for seed, size in ((0, 1), (0, 7), (1, 7)))
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0][0] != chosen[2][0]
    assert chosen[0][1] != chosen[2][1]


def test_a_single_sample_is_refused(arrays):
    with pytest.raises(DataError, match="holds 1 sample, which cannot be calibrated on and judged by: give two or"):
        split(arrays(1), 1, 1)


def test_another_source_to_judge_by(arrays):
    parts = split(arrays(12), 500, 5, test_images=arrays(20, "other", start=12))
    assert (parts.calibration.count, parts.test.count, parts.notes) == (12, 5, ())
    assert (parts.calibration.source.name, parts.test.source.name) == ("data.npz", "other.npz")


def test_copies_are_not_judged_by(arrays, tmp_path):
    values = np.repeat(np.arange(20, dtype=np.float32), 2).reshape(20, 2)
    values[15:] = values[0]
    np.save(tmp_path / "x.npy", values)
    parts = split(tmp_path / "x.npy", 10, 10)
    contents = [set(part.contents) for part in (parts.calibration, parts.test)]
    assert not contents[0] & contents[1]
    if any(int(name.split()[1]) in (0, *range(15, 20)) for name in parts.calibration.names):
        (note,) = parts.notes
        assert re.search(r"images, such as sample \d+, are copies of some that are calibrated on: not judged by", note)
    else:
        assert parts.notes == ()


def test_copies_of_another_source_are_replaced_by_other_images(arrays):
    parts = split(arrays(12), 500, 10, test_images=arrays(30, "other"))
    assert parts.test.count == 10
    assert {int(name.split()[1]) for name in parts.test.names} <= set(range(12, 30))
    assert "copies of some that are calibrated on" in parts.notes[0]


def test_the_same_source_twice_is_no_other_one(arrays, tmp_path):
    source = arrays(12)
    shutil.copy(source, tmp_path / "copy.npz")
    for test_images in (source, tmp_path / "copy.npz"):
        with pytest.raises(DataError, match=r"no image of .* is left to judge by: all 12 are among those"):
            split(source, 500, 500, test_images=test_images)
    parts = split(source, 8, 500, test_images=source)
    assert (parts.calibration.count, parts.test.count) == (8, 4)
    assert not set(parts.calibration.names) & set(parts.test.names)
