"""The bundled detector and segmentation model: what they are, and what they find in scenes that they have not seen."""

from collections import Counter
from pathlib import Path

import onnx
import pytest

import trtcal
from engines.graph.model import input_specs, load_model, output_specs
from trtcal.demo import DETECTOR, SEGMENTER
from trtcal.demo.scene_files import write_annotations, write_class_maps, write_scenes
from trtcal.demo.scenes import CLASSES, SIDE
from trtcal.demo.subjects import judged_scenes
from trtcal.tasks.adapters.yolo import yolov8

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")


def test_the_detector_has_what_real_ones_have() -> None:
    model = load_model(DETECTOR)
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators.keys() >= {"Conv", "BatchNormalization", "Sigmoid", "Mul", "Resize", "Concat", "Softmax"}
    groups = [item.i for node in model.graph.node for item in node.attribute if item.name == "group"]
    assert sum(group > 1 for group in groups) == 21  # depthwise
    assert [(spec.name, spec.shape) for spec in input_specs(model)] == [("image", ("N", 3, SIDE, SIDE))]


def test_its_output_is_that_of_yolov8() -> None:
    (found,) = output_specs(load_model(DETECTOR))
    assert (found.name, found.shape) == ("found", ("N", 4 + len(CLASSES), 20 * 20 + 10 * 10 + 5 * 5))
    shapes = {"found": (None, 14, 525)}
    assert yolov8.ADAPTER.misfit(shapes, (SIDE, SIDE)) == ""
    assert yolov8.ADAPTER.classes(shapes) == len(CLASSES)


def test_the_detector_is_small_and_says_nothing_of_the_machine_it_was_made_on() -> None:
    content = DETECTOR.read_bytes()
    assert len(content) < 600_000
    assert not any(word in content for word in (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages", b'.py"'))


def test_the_detector_finds_the_digits(tmp_path: Path) -> None:
    scenes = judged_scenes(100)
    write_scenes(scenes, tmp_path / "scenes")
    write_annotations(scenes, tmp_path / "annotations.json")
    task = trtcal.Task("detect:yolov8", annotations=tmp_path / "annotations.json")
    images = trtcal.ImageLoader(tmp_path / "scenes", preprocess="unit")
    result = trtcal.evaluate(DETECTOR, images, task=task).scores[DETECTOR.name].task.result
    assert result.objects == sum(map(len, scenes))
    assert result.value > 75 and result.parts["mAP 50"] > 93
    assert min(result.by_class.values()) > 60


def test_the_segmentation_model_is_one() -> None:
    model = load_model(SEGMENTER)
    onnx.checker.check_model(model, full_check=True)
    assert Counter(node.op_type for node in model.graph.node)["Resize"] == 4
    assert [(spec.name, spec.shape) for spec in input_specs(model)] == [("image", ("N", 3, SIDE, SIDE))]
    assert [(spec.name, spec.shape) for spec in output_specs(model)] == [("scores", ("N", 11, SIDE, SIDE))]
    content = SEGMENTER.read_bytes()
    assert len(content) < 300_000
    assert not any(word in content for word in (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages", b'.py"'))


def test_the_segmentation_model_finds_the_pixels(tmp_path: Path) -> None:
    scenes = judged_scenes(100)
    write_scenes(scenes, tmp_path / "scenes")
    write_class_maps(scenes, tmp_path / "masks")
    task = trtcal.Task("segment:semantic", annotations=tmp_path / "masks")
    images = trtcal.ImageLoader(tmp_path / "scenes", preprocess="unit")
    result = trtcal.evaluate(SEGMENTER, images, task=task).scores[SEGMENTER.name].task.result
    assert result.objects == 100 * SIDE * SIDE
    assert result.value > 50 and result.parts["pixel accuracy"] > 97
    assert len(result.by_class) == 11
