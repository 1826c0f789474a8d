"""How the demo measures what its models find in scenes."""

import numpy as np
import pytest

from trtcal.demo.measuring import boxes_in, classes_in, measured
from trtcal.demo.scenes import SIDE, Scene
from trtcal.demo.subjects import judged_scenes
from trtcal.tasks.found import ClassMap, Found

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return judged_scenes(20)


def known(scene: Scene, moved: float = 0.0) -> Found:
    return Found(scene.boxes + moved, np.ones(len(scene)), scene.classes)


def test_what_is_there_is_found_and_what_is_moved_is_found_less(scenes: list[Scene]) -> None:
    results = measured({"float": list(map(known, scenes)), "int8": [known(scene, 1.0) for scene in scenes]}, scenes)
    assert results["float"].value == pytest.approx(100) and results["float"].reference is None
    assert 40 < results["int8"].value < 90
    assert results["int8"].drop == pytest.approx(100 - results["int8"].value)
    assert results["int8"].lost == results["int8"].extra == 0
    assert results["int8"].moved is not None and results["int8"].moved > 20


def test_a_class_that_is_found_as_another_is_lost_and_extra(scenes: list[Scene]) -> None:
    wrong = [Found(each.boxes, np.ones(len(each)), (each.classes + 1) % 10) for each in scenes]
    results = measured({"float": list(map(known, scenes)), "int8": wrong}, scenes)
    count = sum(map(len, scenes))
    assert (results["int8"].lost, results["int8"].extra, results["int8"].value) == (count, count, 0)


def test_pixels_are_measured_where_class_maps_are_found(scenes: list[Scene]) -> None:
    right = [ClassMap(scene.class_map.astype(np.int64)) for scene in scenes]
    blank = [ClassMap(np.zeros((SIDE, SIDE), np.int64)) for _ in scenes]
    results = measured({"float": right, "int8": blank}, scenes)
    assert (results["float"].measure, results["float"].value) == ("mIoU", 100)
    assert results["int8"].by_class["ground"] > 80 and results["int8"].by_class["3"] == 0


def test_boxes_are_read_from_a_detectors_output_without_their_overlaps() -> None:
    output = np.zeros((2, 14, 525), np.float32)
    output[1, :4, 10:13] = np.array([[20, 30, 8, 10], [20.5, 30, 8, 10], [90, 90, 8, 10]]).T
    output[1, 4 + 7, 10:13] = 0.8, 0.9, 0.3
    nothing, found = boxes_in({"found": output})
    assert len(nothing) == 0
    np.testing.assert_allclose(found.boxes, [[16.5, 25, 24.5, 35], [86, 85, 94, 95]])
    assert found.classes.tolist() == [7, 7]
    np.testing.assert_allclose(found.scores, [0.9, 0.3], rtol=1e-6)


def test_classes_are_those_of_the_highest_score() -> None:
    scores = np.zeros((1, 11, 2, 2), np.float32)
    scores[0, 4, 0, 1] = scores[0, 10, 1, 1] = 1
    (found,) = classes_in({"scores": scores})
    assert found.classes.tolist() == [[0, 4], [0, 10]]
