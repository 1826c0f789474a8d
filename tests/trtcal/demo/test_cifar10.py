"""CIFAR-10's binary files, made up here: no image of it is needed."""

import numpy as np
import pytest

from calibrators.errors import DataError
from trtcal.demo.cifar10 import FOLDER, RECORD, load, read_binary


def written(path, labels, seed=0):
    """A batch of random pixels; gives them as (samples, 32, 32, 3)."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(
            bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
            for label, image in zip(labels, images, strict=True)
        )
    )
    return images


def test_records_become_images(tmp_path):
    images = written(tmp_path / "data_batch_1.bin", [3, 9, 0])
    assert (tmp_path / "data_batch_1.bin").stat().st_size == 3 * RECORD == 3 * 3073
    found = read_binary([tmp_path / "data_batch_1.bin"])
    assert found.labels.tolist() == [3, 9, 0] and found.labels.dtype == np.int64
    assert found.images.dtype == np.uint8 and found.images.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(found.images, images)


@pytest.mark.parametrize("inside", ["", FOLDER])
def test_batches_come_in_order_and_the_test_set_apart(inside, tmp_path):
    place = tmp_path / inside
    parts = [written(place / f"data_batch_{number}.bin", [number, 0], seed=number) for number in (1, 2, 3, 4, 5)]
    test = written(place / "test_batch.bin", [7])
    (place / "batches.meta.txt").write_text("airplane\n")
    data = load(tmp_path)
    assert (data.name, len(data.train), len(data.test)) == ("CIFAR-10", 10, 1)
    np.testing.assert_array_equal(data.train.images, np.concatenate(parts))
    np.testing.assert_array_equal(data.test.images, test)
    assert data.train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]


def test_where_it_is_absent_there_are_digits(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")
    for folder in (tmp_path, tmp_path / "absent"):
        data = load(folder)
        assert "digits" in data.name
        assert (data.train.images.shape, data.test.images.shape) == ((1000, 32, 32, 3), (600, 32, 32, 3))
        assert (data.train.images[..., 0] == data.train.images[..., 2]).all()
        assert set(data.test.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD + 1])
def test_what_is_cut_off_is_refused(size, tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"data_batch_1\.bin is no batch.*{size} bytes"):
        read_binary([path])


def test_a_class_that_there_is_not_is_refused(tmp_path):
    written(tmp_path / "test_batch.bin", [9, 10])
    with pytest.raises(DataError, match=r"test_batch\.bin: image 1 is of class 10"):
        read_binary([tmp_path / "test_batch.bin"])


@pytest.mark.parametrize(("there", "absent"), [("data_batch_2.bin", "test_batch"), ("test_batch.bin", "data_batch_1")])
def test_a_part_of_it_is_refused(there, absent, tmp_path):
    written(tmp_path / there, [1])
    with pytest.raises(DataError, match=f"a part of CIFAR-10, without {absent}"):
        load(tmp_path)


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    (tmp_path / "test_batch.bin").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        read_binary([tmp_path / "test_batch.bin"])
