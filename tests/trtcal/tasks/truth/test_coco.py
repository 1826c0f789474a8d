"""COCO JSON: boxes, masks and points by image, and each mistake in one line."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrators.errors import DataError
from trtcal.tasks.found import Found
from trtcal.tasks.truth.opening import opened_truth
from trtcal.tasks.truth.truth import Truth

SIZE = (48, 64)

SOUND: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 48, "width": 64},
        {"id": 3, "file_name": "b.jpg", "height": 48, "width": 64},
        {"id": 9, "file_name": "empty.jpg", "height": 48, "width": 64},
        {"id": 1, "file_name": "not asked.jpg", "height": 1, "width": 1},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 44, "name": "bottle"}],
    "annotations": [
        {
            "id": 0, "image_id": 3, "category_id": 18, "bbox": [1, 2, 10, 20.5], "area": 150.25, "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 22.5]], "keypoints": [1, 2, 2, 0, 0, 0, 11, 22, 1], "num_keypoints": 2,
        },
        {
            "id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 64, 48], "area": 3072, "iscrowd": 1,
            "segmentation": {"size": [48, 64], "counts": [0, 3072]}, "keypoints": [0, 0, 0, 0, 0, 0, 0, 0, 0],
        },
        {
            "id": 6, "image_id": 3, "category_id": 44, "bbox": [30, 8, 4, 4],
            "segmentation": [[30, 8, 34, 8, 34, 12, 30, 12], [0, 0, 2, 0, 2, 2]],
            "keypoints": [1, 1, 1, 2, 2, 2, 3, 3, 2],
        },
        {"id": 8, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
    ],
}  # fmt: skip

NAMES = ("a.jpg", "b.jpg", "empty.jpg")


def opened(folder: Path, content: Any, names: tuple[str, ...] = NAMES, **options: Any) -> Truth:
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    asked = {"sizes": lambda name: SIZE, "classes": None, "class_names": (), "kind": "detect", **options}
    return opened_truth(path, names=names, **asked)


def objects(truth: Truth, name: str) -> Found:
    found = truth.of(name)
    assert isinstance(found, Found)
    return found


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(SOUND)
    change(content)
    return content


def said(folder: Path, content: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        opened(folder, content, **options)
    start = f"annotations {folder / 'instances.json'}: "
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(start)


# --- what is read


def test_boxes_by_image(tmp_path: Path) -> None:
    truth = opened(tmp_path, SOUND)
    assert truth.measure == "boxes"
    assert truth.classes == ("person", "dog", "bottle")
    assert truth.notes == ("the 3 categories are classes 0 to 2 in the order of their ids",)
    b = objects(truth, "b.jpg")
    assert b.boxes.tolist() == [[1, 2, 11, 22.5], [30, 8, 34, 12]]
    assert b.classes.tolist() == [1, 2]
    assert b.scores.tolist() == [1, 1]
    assert b.crowds is not None
    assert b.crowds.tolist() == [False, False]
    assert b.areas is not None
    assert b.areas.tolist() == [150.25, 16]
    assert b.masks is None
    assert b.points is None
    assert b.boxes.dtype == b.scores.dtype == b.areas.dtype == np.float64
    assert b.classes.dtype == np.int64
    a = objects(truth, "a.jpg")
    assert a.crowds is not None
    assert (a.boxes.tolist(), a.crowds.tolist()) == ([[0, 0, 64, 48]], [True])
    nothing = objects(truth, "empty.jpg")
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)


def test_masks_by_image(tmp_path: Path) -> None:
    truth = opened(tmp_path, SOUND, kind="segment")
    assert truth.measure == "masks"
    b = objects(truth, "b.jpg")
    assert b.masks == (SOUND["annotations"][0]["segmentation"], SOUND["annotations"][2]["segmentation"])
    assert b.areas is not None
    assert b.areas.tolist() == [150.25, 18]  # the second one's own: 16 and a triangle of 2
    assert objects(truth, "a.jpg").masks == ({"size": [48, 64], "counts": [0, 3072]},)
    assert objects(truth, "empty.jpg").masks == ()


def test_compressed_runs(tmp_path: Path) -> None:
    from pycocotools import mask

    pixels = np.zeros(SIZE, np.uint8, order="F")
    pixels[5:9, 10:40] = 1
    runs = mask.encode(pixels)
    counts = runs["counts"].decode()

    def change(content: dict[str, Any]) -> None:
        one = content["annotations"][1]
        one["segmentation"] = {"size": [48, 64], "counts": counts}
        del one["bbox"], one["area"]

    truth = opened(tmp_path, changed(change), kind="segment")
    a = objects(truth, "a.jpg")
    assert a.masks is not None
    assert np.array_equal(mask.decode(a.masks[0]), pixels)
    assert a.boxes.tolist() == [[10, 5, 40, 9]]
    assert a.areas is not None
    assert a.areas.tolist() == [120]


def test_points_by_image(tmp_path: Path) -> None:
    truth = opened(tmp_path, SOUND, kind="keypoints")
    assert truth.measure == "points"
    b = objects(truth, "b.jpg")
    assert b.points is not None
    assert b.points.tolist() == [[[1, 2, 2], [0, 0, 0], [11, 22, 1]], [[1, 1, 1], [2, 2, 2], [3, 3, 2]]]
    nothing = objects(truth, "empty.jpg").points
    assert nothing is not None
    assert nothing.shape == (0, 3, 3)
    some = changed(lambda content: content["annotations"][1].pop("keypoints"))
    without = objects(opened(tmp_path, some, kind="keypoints"), "a.jpg").points
    assert without is not None
    assert without.tolist() == [[[0, 0, 0]] * 3]


def test_the_same_as_pycocotools_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    truth = opened(tmp_path, SOUND)
    coco = COCO(str(tmp_path / "instances.json"))
    for image in coco.loadImgs([7, 3, 9]):
        known = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        ours = objects(truth, image["file_name"])
        sides = np.concatenate([ours.boxes[:, :2], ours.boxes[:, 2:] - ours.boxes[:, :2]], axis=1)
        assert sides.tolist() == [each["bbox"] for each in known]
        assert [truth.classes[number] for number in ours.classes] == [
            coco.loadCats(each["category_id"])[0]["name"] for each in known
        ]


# --- images


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("sub/a 1.JPG", "sub/ü.png"), ("sub/a 1.JPG", "sub/u\u0308.png")),
        (("a.jpg", "b.jpg"), ("val2017/a.jpg", "val2017/b.jpg")),
        (("x/1.jpg", "y/1.jpg"), ("images\\x\\1.jpg", "./images/y/1.jpg")),
        (("val/x/1.jpg", "val/y/1.jpg"), ("x/1.jpg", "y/1.jpg")),
        (("cats/1.jpg", "dogs/2.jpg"), ("images/1.jpg", "images/2.jpg")),
    ],
)
def test_images_are_found_by_their_paths(tmp_path: Path, names: tuple[str, ...], files: tuple[str, ...]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"], content["images"][1]["file_name"] = files

    truth = opened(tmp_path, changed(change), names=names)
    assert [len(objects(truth, name)) for name in names] == [1, 2]


def test_other_images(tmp_path: Path) -> None:
    assert said(tmp_path, SOUND, names=("x.png", "y.png")) == (
        "it is of other images: it knows none of these 2, such as x.png, but 4 others, such as a.jpg; a file_name is "
        "a path relative to the folder of images"
    )
    assert said(tmp_path, SOUND, names=("a.jpg", "x.png", "y.png")).startswith(
        "2 of 3 images are not among its images, such as x.png: list them, with no annotation where there is nothing"
    )
    shared = changed(lambda content: content["images"][0].update(file_name="z/1.jpg"))
    assert "it knows none of these 2, such as x/1.jpg" in said(tmp_path, shared, names=("x/1.jpg", "y/1.jpg"))


def test_images_of_another_size(tmp_path: Path) -> None:
    assert said(tmp_path, SOUND, sizes=lambda name: (96, 128)) == (
        "it says that a.jpg is 48x64 (height x width), and the image is 96x128: give the images that were annotated"
    )
    assert "and the image is 64x48, which EXIF turns: give" in said(tmp_path, SOUND, sizes=lambda name: (64, 48))
    unsaid = changed(lambda content: [each.pop("height") for each in content["images"]])
    assert opened(tmp_path, unsaid, sizes=lambda name: (96, 128)).measure == "boxes"


def test_an_image_that_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    def sizes(name: str) -> tuple[int, int]:
        if name == "a.jpg":
            raise DataError("cannot read image a.jpg")
        return SIZE

    truth = opened(tmp_path, SOUND, sizes=sizes)
    assert len(objects(truth, "b.jpg")) == 2
    with pytest.raises(DataError, match=r"^cannot read image a\.jpg$"):
        truth.of("a.jpg")
    with pytest.raises(DataError, match=r"instances\.json: there are no annotations of c\.jpg"):
        truth.of("c.jpg")
    with pytest.raises(DataError, match=r"^cannot read image a\.jpg$"):
        opened(tmp_path, SOUND, sizes=sizes, names=("a.jpg",))


# --- classes


def test_class_numbers(tmp_path: Path) -> None:
    by_name = opened(tmp_path, SOUND, classes=4, class_names=("Bottle", "cat", "dog", "Person"))
    assert objects(by_name, "b.jpg").classes.tolist() == [2, 0]
    assert by_name.classes == ("Bottle", "cat", "dog", "Person")
    assert by_name.notes == ("categories are told by the names of the model's classes",)
    by_id = opened(tmp_path, SOUND, classes=45)
    assert objects(by_id, "b.jpg").classes.tolist() == [18, 44]
    assert (by_id.classes[44], by_id.classes[2], len(by_id.classes)) == ("bottle", "2", 45)
    assert by_id.notes == ("the ids of the 3 categories are class numbers, as the model tells 45 classes apart",)
    for classes in (3, 44, None):
        in_order = opened(tmp_path, SOUND, classes=classes)
        assert objects(in_order, "b.jpg").classes.tolist() == [1, 2]


def test_a_category_that_only_stands_above_others_is_no_class(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"] = [
            {"id": 0, "name": "things", "supercategory": "none"},
            *({**each, "supercategory": "things"} for each in content["categories"]),
        ]

    assert opened(tmp_path, changed(change), classes=3).classes == ("person", "dog", "bottle")


def test_classes_that_do_not_fit(tmp_path: Path) -> None:
    assert said(tmp_path, SOUND, classes=2) == (
        "it has 3 categories, and the model tells 2 classes apart: bottle (id 44) would be class 2; give annotations "
        "of the model's classes"
    )
    assert said(tmp_path, SOUND, class_names=("person", "cat")) == (
        "2 of its categories are none of the model's 2 classes, or may be several: dog, bottle, where the model has "
        "person, cat; give annotations with the model's names"
    )


# --- boxes that are not as they should be


def test_boxes_outside(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [-4, 2, 10, 20]
        content["annotations"][1]["bbox"] = [-0.4, 0, 64.9, 48]
        content["annotations"][2]["bbox"] = [100, 10, 5, 5]
        content["annotations"].append({"id": 99, "image_id": 9, "category_id": 1, "bbox": [3, 3, 0, 9]})

    truth = opened(tmp_path, changed(change))
    assert objects(truth, "b.jpg").boxes.tolist() == [[0, 2, 6, 22], [64, 10, 64, 15]]
    assert objects(truth, "a.jpg").boxes.tolist() == [[-0.4, 0, 64.5, 48]]  # rounding, as annotators leave it
    assert objects(truth, "empty.jpg").boxes.tolist() == [[3, 3, 3, 12]]
    assert truth.notes[1:] == (
        "the box of annotation 0 (b.jpg) is more than a pixel outside of the image, and cut at its edges",
        "2 boxes, such as that of annotation 6 (b.jpg), are without area in the image: nothing matches such, it counts "
        "as missed",
    )


# --- what is no sound file

FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no categories": (
        lambda content: content.pop("categories"),
        "it has no list of categories: COCO JSON has images, annotations and categories",
    ),
    "empty categories": (
        lambda content: content["categories"].clear(),
        "it lists no category: annotations need the classes that they are of",
    ),
    "a category without name": (
        lambda content: content["categories"][0].pop("name"),
        "a category has an id, which is an integer, and a name, not {'id': 18}",
    ),
    "two categories of one id": (
        lambda content: content["categories"][0].update(id=1),
        "two categories have the id 1 (dog, person): number them",
    ),
    "a category that is not listed": (
        lambda content: content["categories"].pop(0),
        "annotation 0 is of category 18, which is not among its 2 categories: list it, or leave the annotation out",
    ),
    "a category that is no number": (
        lambda content: content["annotations"][0].update(category_id="dog"),
        "annotation 0 has the category_id 'dog', which is no integer",
    ),
    "an image that is not listed": (
        lambda content: content["annotations"][0].update(image_id=4),
        "annotation 0 is of image 4, which is not among its images",
    ),
    "two annotations of one id": (
        lambda content: content["annotations"][0].update(id=6),
        "two annotations have the id 6: number them",
    ),
    "two images of one id": (
        lambda content: content["images"][1].update(id=7),
        "two images have the id 7, one of them b.jpg: number them",
    ),
    "an image without name": (
        lambda content: content["images"][0].pop("file_name"),
        "an image has an id and a file_name, not {'id': 7, 'height': 48, 'width': 64}",
    ),
    "no image": (lambda content: content["images"].clear(), "it lists no image"),
    "no annotation": (
        lambda content: content["annotations"].clear(),
        "it has no annotation of these 3 images: there is nothing to find",
    ),
    "panoptic": (
        lambda content: content.update(annotations=[{"image_id": 7, "segments_info": []}]),
        "its annotations are panoptic: give those of instances, or PNG masks of classes",
    ),
    "an annotation that is none": (
        lambda content: content["annotations"].append([1]),
        "an annotation is an object, not [1]",
    ),
    "a box of three": (
        lambda content: content["annotations"][0].update(bbox=[1, 2, 3]),
        "annotation 0: bbox is x, y, width and height, four finite numbers, not [1, 2, 3]",
    ),
    "no box": (
        lambda content: content["annotations"][0].update(bbox=None, segmentation=None),
        "annotation 0: bbox is x, y, width and height, four finite numbers, not None",
    ),
    "a box of words": (
        lambda content: content["annotations"][0].update(bbox=["1", 2, 3, 4]),
        "annotation 0: bbox is x, y, width and height, four finite numbers, not ['1', 2, 3, 4]",
    ),
    "NaN": (
        lambda content: content["annotations"][0].update(bbox=[1, float("nan"), 3, 4]),
        "annotation 0: bbox is x, y, width and height, four finite numbers, not [1, nan, 3, 4]",
    ),
    "a number of hundreds of digits": (
        lambda content: content["annotations"][0].update(bbox=[1, 10**400, 3, 4]),
        "annotation 0: bbox is x, y, width and height, four finite numbers, not [1, 1000000",
    ),
    "a negative width": (
        lambda content: content["annotations"][0].update(bbox=[5, 5, -3, 4]),
        "annotation 0: bbox is x, y, width and height, and none is below 0 as in [5, 5, -3, 4]",
    ),
    "a negative area": (
        lambda content: content["annotations"][0].update(area=-1),
        "annotation 0: area is a number of square pixels, not -1",
    ),
}


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_in_one_line(tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    assert said(tmp_path, changed(change)).startswith(reason)


@pytest.mark.parametrize(
    ("key", "value", "kind", "reason"),
    [
        ("segmentation", None, "segment", "segmentation must be polygons or a run-length encoding, not None"),
        ("segmentation", [[1, 2, 3, 4]], "segment", "a polygon is x and y of three points or more, not [1, 2, 3, 4]"),
        ("segmentation", [[1, 2, 3, 4, 5, None]], "segment", "a polygon is of finite numbers, not [1, 2, 3"),
        ("segmentation", {"counts": [1]}, "segment", "a run-length encoding has a size of [height, width], not None"),
        (
            "segmentation",
            {"size": [64, 48], "counts": [3072]},
            "segment",
            "its mask is 64x48 (height x width), and the image 48x64",
        ),
        (
            "segmentation",
            {"size": [48, 64], "counts": [9999]},
            "segment",
            "its run-length encoding cannot be read: invalid RLE",
        ),
        ("segmentation", {"size": [48, 64]}, "segment", "its run-length encoding cannot be read: "),
        ("keypoints", 7, "keypoints", "keypoints are x, y and visibility of each, finite numbers, not 7"),
        ("keypoints", [1, 2], "keypoints", "keypoints are x, y and visibility of each, finite numbers, not [1, 2]"),
        ("keypoints", [1, 2, 3], "keypoints", "visibility is 0, 1 or 2, not [3]"),
    ],
)
def test_masks_and_points_that_are_none(tmp_path: Path, key: str, value: object, kind: str, reason: str) -> None:
    content = changed(lambda content: content["annotations"][0].update({key: value}))
    assert said(tmp_path, content, kind=kind).startswith(f"annotation 0: {reason}")


def test_objects_of_different_keypoints(tmp_path: Path) -> None:
    content = changed(lambda content: content["annotations"][2].update(keypoints=[1, 2, 2]))
    assert said(tmp_path, content, kind="keypoints") == (
        "annotation 6 has another number of keypoints than annotation 0, which has 3: objects of one kind have the same"
    )


def test_neither_masks_nor_points(tmp_path: Path) -> None:
    content = changed(lambda content: [each.update(segmentation=[], keypoints=[]) for each in content["annotations"]])
    assert said(tmp_path, content, kind="segment").startswith("its annotations have boxes and no masks: give")
    assert said(tmp_path, content, kind="keypoints").startswith("its annotations have no keypoints: give")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("words", "it is not JSON (Expecting value: line 1 column 1 (char 0)): give COCO JSON, or a folder of YOLO"),
        ("", "it is not JSON (Expecting value"),
        ("[" * 100_000, "it is not JSON ("),
        ('{"images": ' + "1" * 10_000 + "}", "it is not JSON ("),
        ("[]", "it is a list, and annotations are an object of images, annotations and categories"),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
            "it is a list of results, and annotations are an object of images, annotations and categories",
        ),
        ("3", "it has no list of images: COCO JSON has images, annotations and categories"),
        ('{"images": {}}', "it has no list of images"),
    ],
)
def test_what_is_no_coco_json(tmp_path: Path, content: str, reason: str) -> None:
    assert said(tmp_path, content).startswith(reason)


def test_two_images_of_one_name_are_told(tmp_path: Path) -> None:
    twice = changed(lambda content: content["images"][3].update(file_name="a.jpg"))
    assert said(tmp_path, twice) == "two of its images are called a.jpg: list each once"
    aside = changed(lambda content: content["images"].append({"id": 2, "file_name": "not asked.jpg"}))
    assert opened(tmp_path, aside).measure == "boxes"


def test_no_file(tmp_path: Path) -> None:
    options: dict[str, Any] = {"sizes": lambda name: SIZE, "classes": None, "class_names": (), "kind": "detect"}
    with pytest.raises(DataError, match=r"^annotations .*absent\.json: it is no file: give COCO JSON, or a folder"):
        opened_truth(tmp_path / "absent.json", names=NAMES, **options)
    with pytest.raises(DataError, match="annotations: no path but of type dict"):
        opened_truth(SOUND, names=NAMES, **options)  # type: ignore[arg-type]


def test_a_mark_at_the_beginning_and_annotations_without_ids(tmp_path: Path) -> None:
    content = changed(lambda content: [each.pop("id") for each in content["annotations"]])
    assert len(objects(opened(tmp_path, "\ufeff" + json.dumps(content)), "b.jpg")) == 2
    content["annotations"][0]["bbox"] = None
    content["annotations"][0]["segmentation"] = None
    assert said(tmp_path, content).startswith("an annotation without id: bbox is")
