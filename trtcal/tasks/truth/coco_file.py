"""COCO JSON as a file: its images, categories and annotations, each told from what is none.

Format: https://cocodataset.org/#format-data, "Object Detection" and "Keypoint Detection".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from calibrators.errors import DataError, listed, one_line
from trtcal.tasks.placement import Size
from trtcal.tasks.truth.segmentations import shown

Entry = Mapping[str, Any]
Id = int | str


class CocoFile(NamedTuple):
    """What a file holds.

    Attributes:
        images: By id, each with a `file_name`.
        categories: Names by id.
        annotations: In the file's order, each of one of the images and one of the categories.
    """

    images: Mapping[Id, Entry]
    categories: Mapping[int, str]
    annotations: list[Entry]


def read(path: Path) -> CocoFile:
    """Read COCO JSON, once and whole.

    Annotations may have any ids, 0 too, or none, but no two the same. A category that no annotation has and that is the
    `supercategory` of another is left out: Roboflow writes such.

    Raises:
        DataError: It cannot be read, is JSON of another kind, or what it says does not fit together.
    """
    content = _content(path)
    images = {each["id"]: each for each in _images(content["images"])}
    annotations = _annotations(content["annotations"], images)
    categories = _categories(content["categories"])
    used = {each["category_id"] for each in annotations}
    strange = next((each for each in annotations if each["category_id"] not in categories), None)
    if strange is not None:
        raise DataError(
            f"{called(strange)} is of category {shown(strange['category_id'])}, which is not among its "
            f"{len(categories)} categories: list it, or leave the annotation out"
        )
    above = {str(each.get("supercategory")) for each in content["categories"] if each["id"] in used}
    left = {number: name for number, name in categories.items() if number in used or name not in above}
    return CocoFile(images, left, annotations)


def called(annotation: Entry) -> str:
    """What an annotation is called in messages."""
    return f"annotation {shown(annotation['id'])}" if "id" in annotation else "an annotation without id"


def stated_size(image: Entry) -> Size | None:
    """The (height, width) that the file states for an image, if it does."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if _is_number(height) and _is_number(width) else None


def _content(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # Reading a pipe would wait for ever.
            raise DataError("it is no file: give COCO JSON, or a folder of YOLO labels or PNG masks")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(
            f"it is not JSON ({one_line(error, 80)}): give COCO JSON, or a folder of YOLO labels or PNG masks"
        ) from error
    if isinstance(content, list):
        kind = "a list of results" if content and isinstance(content[0], dict) and "score" in content[0] else "a list"
        raise DataError(f"it is {kind}, and annotations are an object of images, annotations and categories")
    missing = [key for key in ("images", "annotations", "categories") if not _is_list(content, key)]
    if missing:
        raise DataError(f"it has no list of {missing[0]}: COCO JSON has images, annotations and categories")
    return dict(content)


def _is_list(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def _images(entries: list[Any]) -> list[Entry]:
    if not entries:
        raise DataError("it lists no image")
    seen = set[Id]()
    for each in entries:
        if not isinstance(each, dict) or not _is_id(each.get("id")) or not isinstance(each.get("file_name"), str):
            raise DataError(f"an image has an id and a file_name, not {shown(each)}")
        if each["id"] in seen:
            raise DataError(
                f"two images have the id {shown(each['id'])}, one of them {listed([each['file_name']])}: number them"
            )
        seen.add(each["id"])
    return entries


def _categories(entries: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for each in entries:
        if not isinstance(each, dict) or not _is_number(each.get("id")) or not isinstance(each.get("name"), str):
            raise DataError(f"a category has an id, which is an integer, and a name, not {shown(each)}")
        if each["id"] in names:
            both = listed([names[each["id"]], each["name"]])
            raise DataError(f"two categories have the id {each['id']} ({both}): number them")
        names[each["id"]] = each["name"]
    if not names:
        raise DataError("it lists no category: annotations need the classes that they are of")
    return names


def _annotations(entries: list[Any], images: Mapping[Id, Entry]) -> list[Entry]:
    seen = set[Id]()
    for each in entries:
        if not isinstance(each, dict):
            raise DataError(f"an annotation is an object, not {shown(each)}")
        if "segments_info" in each:
            raise DataError("its annotations are panoptic: give those of instances, or PNG masks of classes")
        if not _is_id(each.get("image_id")) or each["image_id"] not in images:
            raise DataError(f"{called(each)} is of image {shown(each.get('image_id'))}, which is not among its images")
        if not _is_number(each.get("category_id")):
            raise DataError(f"{called(each)} has the category_id {shown(each.get('category_id'))}, which is no integer")
        number = each.get("id")
        if number is None:
            continue
        if not _is_id(number) or number in seen:
            raise DataError(
                f"two annotations have the id {shown(number)}: number them"
                if _is_id(number)
                else f"an annotation has the id {shown(number)}, which is no integer"
            )
        seen.add(number)
    return entries


def _is_number(value: object) -> TypeGuard[int]:
    return type(value) is int and -(2**31) < value < 2**31


def _is_id(value: object) -> bool:
    return type(value) in (int, str)
