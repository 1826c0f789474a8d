"""YOLO labels: boxes, polygons and points in the images' own pixels, and each mistake by file and line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrators.errors import DataError
from trtcal.tasks.found import Found
from trtcal.tasks.truth.opening import opened_truth
from trtcal.tasks.truth.truth import Truth

SIZES = {"a.jpg": (100, 200), "b.jpg": (50, 50), "c.jpg": (10, 10)}


def labelled(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "labels"


def opened(folder: Path, names: tuple[str, ...] = tuple(SIZES), **options: Any) -> Truth:
    asked = {"classes": None, "class_names": (), "kind": "detect", **options}
    return opened_truth(folder, names=names, sizes=lambda name: SIZES.get(name, (100, 100)), **asked)


def objects(truth: Truth, name: str) -> Found:
    found = truth.of(name)
    assert isinstance(found, Found)
    return found


def said(folder: Path, files: Mapping[str, str], **options: Any) -> str:
    labels = labelled(folder, files)
    with pytest.raises(DataError) as error:
        opened(labels, **options)
    assert str(error.value).startswith(f"annotations {labels}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"annotations {labels}: ")


# --- what is read


def test_boxes(tmp_path: Path) -> None:
    labels = labelled(
        tmp_path, {"a.txt": "2 0.5 0.5 0.1 0.2\n\n0 0.25 0.75 0.5 0.5\n", "b.txt": "", "more.txt": "words"}
    )
    truth = opened(labels)
    assert truth.measure == "boxes"
    assert truth.classes == ()
    assert truth.notes == (
        "classes are the labels' own numbers",
        "1 of 3 images have no label file, and so no object: c.jpg",
    )
    a = objects(truth, "a.jpg")
    assert np.allclose(a.boxes, [[90, 40, 110, 60], [0, 50, 100, 100]], atol=1e-9)
    assert a.classes.tolist() == [2, 0]
    assert a.scores.tolist() == [1, 1]
    assert (a.masks, a.points, a.crowds, a.areas) == (None, None, None, None)
    assert [len(objects(truth, name)) for name in ("b.jpg", "c.jpg")] == [0, 0]


def test_polygons(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"a.txt": "1 0.1 0.1 0.3 0.1 0.3 0.5\n0 0 0 1 0 1 1 0 1\n", "b.txt": "0 0 0 1 0 1 1\n"})
    truth = opened(labels, kind="segment")
    assert truth.measure == "masks"
    a = objects(truth, "a.jpg")
    assert a.masks is not None
    assert np.allclose(a.masks[0], [[20, 10, 60, 10, 60, 50]])
    assert np.allclose(a.boxes, [[20, 10, 60, 50], [0, 0, 200, 100]])
    assert a.areas is not None
    assert np.allclose(a.areas, [800, 20000])
    assert objects(truth, "c.jpg").masks == ()
    assert np.allclose(objects(opened(labels), "a.jpg").boxes, a.boxes)
    assert objects(opened(labels), "a.jpg").masks is None


@pytest.mark.parametrize("stated", [True, False])
def test_points_with_visibility(tmp_path: Path, stated: bool) -> None:
    row = "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 1 0 0 0\n"
    labels = labelled(tmp_path, {"a.txt": row, "b.txt": row})
    if stated:
        (tmp_path / "data.yaml").write_text("kpt_shape: [3, 3]\nnames: [person]\n")
    truth = opened(labels, kind="keypoints")
    assert truth.measure == "points"
    a = objects(truth, "a.jpg")
    assert a.points is not None
    assert np.allclose(a.points, [[[80, 40, 2], [120, 60, 1], [0, 0, 0]]])
    assert np.allclose(a.boxes, [[80, 40, 120, 60]])
    nothing = objects(truth, "c.jpg").points
    assert nothing is not None
    assert nothing.shape == (0, 3, 3)
    assert np.allclose(objects(opened(labels), "a.jpg").boxes, [[80, 40, 120, 60]])


def test_points_without_visibility(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"a.txt": "0 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6\n0 0.5 0.5 0.2 0.2 0.4 0.4 0 0\n"})
    points = objects(opened(labels, kind="keypoints"), "a.jpg").points
    assert points is not None
    assert np.allclose(points, [[[80, 40, 2], [120, 60, 2]], [[80, 40, 2], [0, 0, 0]]])
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 2]\nnames: [person]\n")
    assert np.allclose(objects(opened(labels), "a.jpg").boxes, [[80, 40, 120, 60]] * 2)


def test_a_row_that_stands_twice_counts_once(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"a.txt": "0 0.5 0.5 0.1 0.1\n0  0.5 0.5 0.1 0.1\n", "b.txt": "", "c.txt": ""})
    truth = opened(labels)
    assert len(objects(truth, "a.jpg")) == 1
    assert truth.notes[1:] == ("1 rows stand twice in their file, and count once",)


def test_boxes_outside(tmp_path: Path) -> None:
    labels = labelled(
        tmp_path, {"a.txt": "0 0.05 0.5 0.2 0.2\n0 0.5 0.5 0 0.1\n", "b.txt": "0 0.005 0.5 0.02 0.1\n", "c.txt": ""}
    )
    truth = opened(labels)
    assert np.allclose(objects(truth, "a.jpg").boxes, [[0, 40, 30, 60], [100, 45, 100, 55]])
    assert np.allclose(objects(truth, "b.jpg").boxes, [[-0.25, 22.5, 0.75, 27.5]])
    assert truth.notes[1:] == (
        "the box of a.txt, line 1 is more than a pixel outside of the image, and cut at its edges",
        "the box of a.txt, line 2 is without area in the image: nothing matches such, it counts as missed",
    )


# --- classes


def test_names_of_classes(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"a.txt": "2 0.5 0.5 0.1 0.2\n", "b.txt": "0 0.5 0.5 0.1 0.2\n"})
    (tmp_path / "data.yaml").write_text("names: [person, cat, dog]\n")
    truth = opened(labels)
    assert truth.classes == ("person", "cat", "dog")
    assert truth.notes[0] == f"classes are the labels' own numbers, named in {tmp_path / 'data.yaml'}"
    by_name = opened(labels, classes=4, class_names=("dog", "Person", "x", "y"))
    assert [objects(by_name, name).classes.tolist() for name in ("a.jpg", "b.jpg")] == [[0], [1]]
    assert by_name.classes == ("dog", "Person", "x", "y")
    with pytest.raises(
        DataError, match=r"1 of its categories are none of the model's 2 classes, or may be several: dog"
    ):
        opened(labels, class_names=("person", "cat"))


def test_names_of_the_model(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"a.txt": "1 0.5 0.5 0.1 0.2\n"})
    truth = opened(labels, classes=2, class_names=("cat", "dog"))
    assert truth.classes == ("cat", "dog")
    assert objects(truth, "a.jpg").classes.tolist() == [1]


def test_classes_beyond(tmp_path: Path) -> None:
    files = {"a.txt": "0 0.5 0.5 0.1 0.2\n80 0.5 0.5 0.1 0.2\n"}
    assert said(tmp_path, files, classes=80) == (
        "a.txt, line 2: class 80 is beyond the 80 classes that the model tells apart, from 0"
    )
    (tmp_path / "data.yaml").write_text("names: [person, cat, dog]\n")
    assert said(tmp_path, files) == f"a.txt, line 2: {tmp_path / 'data.yaml'} names 3 classes, and not 80"


# --- which file belongs to which image


@pytest.mark.parametrize(
    ("names", "files", "place"),
    [
        (("sub/A b.JPG", "sub/\u00fc.png"), ("sub/A b.txt", "sub/u\u0308.txt"), "labels"),
        (("images/val/1.jpg", "images/train/1.jpg"), ("val/1.txt", "train/1.TXT"), "."),
        (("1.jpg", "2.jpg"), ("val/1.txt", "val/2.txt"), "labels"),
        (("a.tar.jpg", "b.jpg"), ("a.tar.txt", "b.txt"), "labels"),
        (("a.jpg", "b.jpg"), ("a.jpg.txt", "b.jpg.txt"), "labels"),
        (("sample 0", "sample 1"), ("sample 0.txt", "sample 1.txt"), "labels"),
    ],
)
def test_files_beside_images(tmp_path: Path, names: tuple[str, ...], files: tuple[str, ...], place: str) -> None:
    labels = labelled(tmp_path, {files[0]: "0 0.5 0.5 0.1 0.2\n", files[1]: "1 0.5 0.5 0.1 0.2\n"})
    truth = opened(labels.parent / place, names)
    assert [objects(truth, name).classes.tolist() for name in names] == [[0], [1]]


def test_folders_of_train_and_val(tmp_path: Path) -> None:
    for part, number in (("train", 0), ("val", 1)):
        (tmp_path / part / "labels").mkdir(parents=True)
        (tmp_path / part / "labels" / "1.txt").write_text(f"{number} 0.5 0.5 0.1 0.2\n")
    (tmp_path / "val" / "labels" / "2.txt").write_text("2 0.5 0.5 0.1 0.2\n")
    truth = opened(tmp_path, ("train/images/1.jpg", "val/images/1.jpg", "val/images/2.jpg"))
    assert [objects(truth, f"{name}.jpg").classes.tolist() for name in ("train/images/1", "val/images/1")] == [[0], [1]]


def test_a_file_that_may_be_of_several_images(tmp_path: Path) -> None:
    files = {"x/1.txt": "0 0.5 0.5 0.1 0.2\n", "y/1.txt": "", "x/2.txt": ""}
    assert said(tmp_path, files, names=("1.jpg", "2.jpg")) == (
        "which file belongs to 1.jpg is not clear: give the folder of its labels"
    )


def test_labels_of_other_images(tmp_path: Path) -> None:
    files = {"x.txt": "0 0.5 0.5 0.1 0.2\n"}
    assert said(tmp_path, files) == (
        "it has a .txt of YOLO labels of none of these 3 images, such as a.jpg: a file is called as its image is"
    )
    (tmp_path / "labels" / "instances.json").write_text("{}")
    assert said(tmp_path, files, kind="segment") == (
        "it has a .txt of YOLO labels or a .png mask of none of these 3 images, such as a.jpg: a file is called as its "
        f"image is; or is it {tmp_path / 'labels' / 'instances.json'}"
    )


# --- rows that are none

ROW = "0 0.5 0.5 0.1 0.1\n"

FAULTS = {
    "pixels": (
        f"{ROW}0 320 240 64 48\n",
        "detect",
        "a.txt, line 2: 320 is above 1: numbers are parts of the image's width and height, not pixels",
    ),
    "a number below 0": (
        "0 -0.5 0.5 0.1 0.1\n",
        "detect",
        "a.txt, line 1: -0.5 is no part of the image's width or height, which are 0 to 1",
    ),
    "NaN": (
        "0 nan 0.5 0.1 0.1\n",
        "detect",
        "a.txt, line 1: nan is no part of the image's width or height, which are 0 to 1",
    ),
    "a width below 0": ("0 0.5 0.5 -0.005 0.1\n", "detect", "a.txt, line 1: a width or height is below 0"),
    "words": (
        "dog 0.5 0.5 0.1 0.1\n",
        "detect",
        "a.txt, line 1: 'dog 0.5 0.5 0.1 0.1' is no row of numbers: a row is class, x, y, width, height, or",
    ),
    "commas": ("0,0.5,0.5,0.1,0.1\n", "detect", "a.txt, line 1: '0,0.5,0.5,0.1,0.1' is no row of numbers: a row"),
    "a class below 0": ("-1 0.5 0.5 0.1 0.1\n", "detect", "a.txt, line 1: the class -1 is no number from 0 up"),
    "a class between": ("0.5 0.5 0.5 0.1 0.1\n", "detect", "a.txt, line 1: the class 0.5 is no number from 0 up"),
    "a class of NaN": ("nan 0.5 0.5 0.1 0.1\n", "detect", "a.txt, line 1: the class nan is no number from 0 up"),
    "too few columns": ("0 0.5 0.5 0.1\n", "detect", "a.txt, line 1: it has 4 columns: a row is class, x, y, width,"),
    "predictions": (
        f"{ROW}0 0.5 0.5 0.1 0.1 0.9\n",
        "detect",
        "a.txt, line 2: it has 6 columns, and a row is class, x, y, width, height, or class and x and y of three "
        "points or more; predictions with a score are no labels",
    ),
    "boxes for masks": (ROW, "segment", "a.txt, line 1: it is a box and no mask: give rows of class and polygon"),
    "boxes for points": (
        ROW,
        "keypoints",
        "a.txt, line 1: it has 5 columns: rows with points are class, x, y, width, height and then x, y and perhaps",
    ),
    "different points": (
        "0 0.5 0.5 0.1 0.1 0.5 0.5 2\n0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 2\n",
        "keypoints",
        "a.txt, line 1: it has 8 columns: rows with points are",
    ),
    "points in pixels": (
        "0 0.5 0.5 0.1 0.1 0.5 0.5 2\n0 0.5 0.5 0.1 0.1 100 0.5 2\n",
        "keypoints",
        "a.txt, line 2: 100 is above 1: numbers are parts of the image's width and height, not pixels",
    ),
    "empty files": ("", "detect", "the 1 files of these 3 images are empty: there is nothing to find"),
}


@pytest.mark.parametrize(("text", "kind", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_in_one_line(tmp_path: Path, text: str, kind: str, reason: str) -> None:
    assert said(tmp_path, {"a.txt": text}, kind=kind).startswith(reason)


def test_points_that_are_not_as_stated(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 3]\nnames: [person]\n")
    files = {"a.txt": "0 0.5 0.5 0.1 0.1 0.5 0.5 2\n"}
    assert said(tmp_path, files, kind="keypoints") == (
        "a.txt, line 1: it has 8 columns, and 2 points of 3 numbers make 11"
    )
    (tmp_path / "data.yaml").write_text("kpt_shape: [1, 3]\nnames: [person]\n")
    assert said(tmp_path, {"a.txt": "0 0.5 0.5 0.1 0.1 0.5 0.5 0.7\n"}, kind="keypoints") == (
        "a.txt, line 1: visibility is 0, 1 or 2"
    )


def test_no_text(tmp_path: Path) -> None:
    labels = labelled(tmp_path, {"b.txt": ROW})
    (labels / "a.txt").write_bytes(b"\xff\xfe0 1")
    with pytest.raises(DataError, match=r"labels: a\.txt: it is not text: labels are rows of numbers"):
        opened(labels)
