"""Scenes of digits: made from a seed, with what lies in them known to the pixel; as files they are what they were."""

import hashlib
import io
import json
from contextlib import redirect_stdout
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from calibrators.batches import TensorSpec
from calibrators.errors import OutputError
from trtcal.data.images import ImageLoader
from trtcal.demo.digits import load_split
from trtcal.demo.scene_files import annotations, file_name, write_annotations, write_class_maps, write_scenes
from trtcal.demo.scenes import (
    CONTRAST,
    LARGEST,
    MOST,
    OVERLAP,
    SIDE,
    SMALLEST,
    Scene,
    box_of,
    covered,
    make_scene,
    make_scenes,
)

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(make_scenes(load_split().test, 120, seed=7))


def digest(scenes: list[Scene]) -> str:
    return hashlib.sha256(
        b"".join(part.tobytes() for scene in scenes for part in (scene.image, scene.masks, scene.classes))
    ).hexdigest()


def test_scenes_are_the_same_everywhere(scenes: list[Scene]) -> None:
    assert digest(scenes[:20]) == "e70398217e2bb5a3548236f6d27bd57943386eaea951690e477b6977c8ba82fc"


def test_a_scene_depends_on_its_number_and_not_on_the_others(scenes: list[Scene]) -> None:
    digits = load_split().test
    assert digest([make_scene(digits, seed=7, number=5)]) == digest([scenes[5]])
    assert digest(list(make_scenes(digits, 3, seed=7, first=4))) == digest(scenes[4:7])
    others = [make_scene(digits, seed=8, number=5), make_scene(load_split().train, seed=7, number=5)]
    assert len({digest([each]) for each in [scenes[5], *others]}) == 3


def test_there_are_none_to_eight_digits_of_every_class_and_size(scenes: list[Scene]) -> None:
    assert {len(scene) for scene in scenes} == set(range(MOST + 1))
    assert set(np.concatenate([scene.classes for scene in scenes])) == set(range(10))
    heights = np.concatenate([scene.boxes[:, 3] - scene.boxes[:, 1] for scene in scenes if len(scene)])
    assert heights.max() <= LARGEST and heights.min() >= SMALLEST * 3 / 4
    assert np.histogram(heights, 4, (SMALLEST, LARGEST))[0].min() > 40


def test_boxes_are_tight_and_masks_share_no_pixel(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.masks.shape == (len(scene), SIDE, SIDE)
        assert scene.masks.sum(0).max(initial=0) <= 1
        for mask, (left, top, right, bottom) in zip(scene.masks, scene.boxes.astype(int), strict=True):
            assert 0 <= left < right <= SIDE and 0 <= top < bottom <= SIDE
            assert mask[top:bottom, left:right].sum() == mask.sum()
            for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]):
                assert edge.any()


def test_digits_cover_little_of_each_other(scenes: list[Scene]) -> None:
    parts = [covered(*pair) for scene in scenes for pair in combinations(map(tuple, scene.boxes.tolist()), 2)]
    assert 0 < max(parts) <= OVERLAP


def test_ink_differs_from_the_ground_around_it(scenes: list[Scene]) -> None:
    differences = []
    for scene in (scene for scene in scenes if len(scene)):
        grey, ground = scene.image.mean(2), scene.class_map == 0
        differences += [abs(float(grey[mask].mean() - grey[ground].mean())) for mask in scene.masks]
    assert np.median(differences) > CONTRAST * 2 / 3  # strokes are thin, and fade towards their edges
    assert min(differences) > CONTRAST / 6


def test_the_class_map_holds_each_digit_where_its_mask_is(scenes: list[Scene]) -> None:
    for scene in scenes:
        found = scene.class_map
        assert found.dtype == np.uint8 and (found > 0).sum() == scene.masks.sum()
        for mask, label in zip(scene.masks, scene.classes, strict=True):
            assert (found[mask] == label + 1).all()


def test_the_boxes_of_masks_count_from_edges() -> None:
    mask = np.zeros((5, 9), bool)
    mask[1, 2:4] = mask[3, 7] = True
    assert box_of(mask) == (2, 1, 8, 4)
    assert covered((0, 0, 10, 10), (8, 5, 12, 7)) == pytest.approx(0.5)
    assert covered((0, 0, 2, 2), (2, 0, 4, 2)) == 0


def test_images_and_class_maps_come_back_from_their_files(scenes: list[Scene], tmp_path: Path) -> None:
    from PIL import Image

    write_scenes(scenes[:12], tmp_path / "new" / "images")
    write_class_maps(scenes[:12], tmp_path / "masks")
    image = TensorSpec("image", ("N", 3, SIDE, SIDE), np.dtype(np.float32))
    (batch,) = ImageLoader(tmp_path / "new" / "images", preprocess="unit", inputs=[image], batch_size=12)
    assert list(batch.names) == [file_name(number) for number in range(1, 13)]
    expected = np.stack([scene.image for scene in scenes[:12]]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    np.testing.assert_allclose(batch["image"], expected, rtol=1e-6)
    for number, scene in enumerate(scenes[:12], 1):
        with Image.open(tmp_path / "masks" / file_name(number)) as png:
            assert png.mode == "L"
            np.testing.assert_array_equal(np.asarray(png), scene.class_map)


def test_annotations_are_what_pycocotools_reads(scenes: list[Scene], tmp_path: Path) -> None:
    coco_of = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra [dev])").COCO
    write_annotations(scenes, tmp_path / "annotations.json")
    with redirect_stdout(io.StringIO()):
        coco = coco_of(str(tmp_path / "annotations.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list("0123456789")
    assert coco.getImgIds() == list(range(1, len(scenes) + 1))
    assert coco.getAnnIds() == list(range(1, sum(map(len, scenes)) + 1))
    for number, scene in enumerate(scenes, 1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [each["category_id"] - 1 for each in found] == scene.classes.tolist()
        for each, mask, box in zip(found, scene.masks, scene.boxes, strict=True):
            np.testing.assert_array_equal(coco.annToMask(each), mask)
            assert (each["area"], each["iscrowd"]) == (mask.sum(), 0)
            left, top, width, height = each["bbox"]
            assert [left, top, left + width, top + height] == box.tolist()


def test_annotations_of_no_digits_are_annotations(scenes: list[Scene]) -> None:
    empty = annotations([scene for scene in scenes if not len(scene)])
    assert empty["images"] and empty["annotations"] == [] and len(empty["categories"]) == 10
    assert json.loads(json.dumps(empty)) == empty


def test_scenes_cannot_be_written_where_the_folder_is_a_file(scenes: list[Scene], tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*images: "):
        write_scenes(scenes[:1], tmp_path / "images")
