"""Pictures of what both models find: each box in its model's colour, where it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrators.errors import OutputError
from trtcal.demo.drawing import FP32, GAP, INT8, LEGEND, PALETTE, PICTURES, SCALE, picture, write_pictures
from trtcal.demo.scene_files import file_name
from trtcal.demo.scenes import SIDE, Scene
from trtcal.demo.subjects import judged_scenes
from trtcal.tasks.found import ClassMap, Found

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return judged_scenes(12)


def found(boxes: list[list[float]], score: float) -> Found:
    return Found(np.array(boxes, float).reshape(-1, 4), np.full(len(boxes), score), np.full(len(boxes), 3))


def coloured(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image[: SIDE * SCALE] == colour).all(2)


def test_each_box_is_drawn_in_its_models_colour(scenes: list[Scene]) -> None:
    image = np.asarray(picture(scenes[0], found([[20, 40, 60, 80]], 0.9), found([[100, 90, 120, 130]], 0.8)))
    assert image.shape == (SIDE * SCALE + LEGEND, SIDE * SCALE, 3)
    blue, orange = coloured(image, FP32), coloured(image, INT8)
    for row, column in ((40, 30), (79, 30), (50, 20), (50, 59)):  # on the edges
        assert blue[row * SCALE + 1, column * SCALE + 1]
    assert orange[90 * SCALE + 4, 110 * SCALE] and orange[110 * SCALE, 100 * SCALE + 4]
    rows, columns = np.nonzero(blue)
    assert rows.max() < 90 * SCALE and columns.max() < 70 * SCALE


def test_boxes_of_a_low_score_are_not_drawn(scenes: list[Scene]) -> None:
    image = np.asarray(picture(scenes[0], found([[20, 40, 60, 80]], 0.24), found([], 0)))
    assert not coloured(image, FP32).any() and not coloured(image, INT8).any()


@pytest.mark.parametrize("box", [[0, 0, 160, 160], [0, 0, 1, 1], [158, 158, 160, 160], [-20, -20, 300, 300]])
def test_boxes_at_the_edges_are_drawn(scenes: list[Scene], box: list[float]) -> None:
    image = np.asarray(picture(scenes[0], found([box], 1), found([box], 1)))
    assert image.shape == (SIDE * SCALE + LEGEND, SIDE * SCALE, 3)


def test_class_maps_are_drawn_beside_the_scene(scenes: list[Scene]) -> None:
    scene = next(scene for scene in scenes if len(scene))
    maps = ClassMap(scene.class_map.astype(np.int64))
    image = np.asarray(picture(scene, maps, maps))
    side = SIDE * SCALE
    assert image.shape == (side + LEGEND, 3 * side + 2 * GAP, 3)
    for panel in (1, 2):
        drawn = image[1:side:SCALE, panel * (side + GAP) : panel * (side + GAP) + side : SCALE]
        np.testing.assert_array_equal(drawn, np.array(PALETTE)[scene.class_map])


def test_the_first_scenes_with_digits_are_written(scenes: list[Scene], tmp_path: Path) -> None:
    empty = replace(scenes[0], masks=scenes[0].masks[:0], classes=scenes[0].classes[:0])
    several = [empty, *(scene for scene in scenes if len(scene))]
    nothing = [found([], 0)] * len(several)
    paths = write_pictures(several, nothing, nothing, tmp_path / "pictures")
    assert [path.name for path in paths] == [file_name(number) for number in range(2, 2 + PICTURES)]
    assert sorted(paths) == sorted((tmp_path / "pictures").iterdir())


def test_pictures_cannot_be_written_where_the_folder_is_a_file(scenes: list[Scene], tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*pictures: "):
        write_pictures(scenes, [], [], tmp_path / "pictures")
