"""Labels: rows and arrays, and each mistake by line and file."""

from pathlib import Path

import numpy as np
import pytest

from calibrators.errors import DataError
from trtcal.data.labels import read_csv, read_npy

NAMES = ("a.png", "sub/b.png", "sub/c.png")


def csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,3\nsub/b.png,0\nsub/c.png,12\n",
        "a.png,3\r\nsub/b.png,0\r\nsub/c.png,12",
        "\ufeffFile, Label\n\n ./a.png , 3\n\nsub/c.png,12\nsub/b.png,0\nsub/b.png,0\n",
    ],
)
def test_numbers(tmp_path: Path, text: str) -> None:
    labels, classes = read_csv(csv(tmp_path, text), NAMES)
    assert labels.tolist() == [3, 0, 12]
    assert labels.dtype == np.int64
    assert classes == ()


def test_names_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    labels, classes = read_csv(csv(tmp_path, 'a.png,zebra\nsub/b.png,"ant, red"\nsub/c.png,zebra\n'), NAMES)
    assert labels.tolist() == [1, 0, 1]
    assert classes == ("ant, red", "zebra")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png,1\nsub/b.png,1\n", "1 of 3 images have none, the first is sub/c.png"),
        (
            "a.png,1\nb.png,2\nsub/b.png,1\nsub/c.png,1\n",
            "line 2: no image b.png in the folder; paths are relative to it",
        ),
        ("a.png,1\na.png,2\nsub/b.png,1\nsub/c.png,1\n", "line 2: a.png has another label on a line above; keep one"),
        (
            "a.png,1\nsub/b.png,cat\nsub/c.png,1\n",
            "line 2: 'cat' is a name where other lines have numbers; use one kind",
        ),
        ("a.png,1\nsub/b.png,-1\nsub/c.png,1\n", "line 2: '-1' is a name where other lines have numbers"),
        ("a.png;1\n", "line 1: a row is `file,label`, not 'a.png;1'"),
        ("a.png,1,2\n", "line 1: a row is `file,label`, not 'a.png,1,2'"),
        ("a.png,\n", "line 1: a row is `file,label`, not 'a.png,'"),
        ('"a.png,1\n', "it is no CSV file in UTF-8"),
        ("file,label\n", "it has no row; a row is `file,label`"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(DataError) as error:
        read_csv(path, NAMES)
    assert str(error.value).startswith(f"labels {path}")
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: No such file"):
        read_csv(tmp_path / "absent.csv", NAMES)
    with pytest.raises(DataError, match=r"absent\.npy: No such file"):
        read_npy(tmp_path / "absent.npy", 3)
    (tmp_path / "latin.csv").write_bytes(b"\xe9.png,1\n")
    with pytest.raises(DataError, match="it is no CSV file in UTF-8"):
        read_csv(tmp_path / "latin.csv", NAMES)
    (tmp_path / "text.npy").write_text("1,2,3")
    with pytest.raises(DataError, match=r"it is no \.npy file of plain numbers"):
        read_npy(tmp_path / "text.npy", 3)


def test_an_npy_of_class_numbers(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, np.array([2, 0, 1], np.uint8))
    assert read_npy(path, 3).tolist() == [2, 0, 1]
    assert read_npy(path, 3).dtype == np.int64


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([1, 2]), "int64 of 2, not one class number for each of 3 samples"),
        (np.array([[1], [2], [3]]), "int64 of 3x1, not one class number"),
        (np.array([0.0, 1.0, 2.0]), "float64 of 3, not one class number"),
        (np.array([0, -1, 2]), "the class number -1 is below 0"),
        (np.array(["a", None, 2], object), r"it is no .npy file of plain numbers"),
    ],
)
def test_other_arrays_are_no_labels(tmp_path: Path, array: np.ndarray, said: str) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, array)
    with pytest.raises(DataError) as error:
        read_npy(path, 3)
    assert str(error.value).startswith(f"labels {path}: ")
    assert said in str(error.value)


def test_an_npz_is_no_npy(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", a=np.arange(3))
    with pytest.raises(DataError, match=r"it holds several arrays; give an \.npy with one"):
        read_npy(tmp_path / "labels.npz", 3)
