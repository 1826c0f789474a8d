import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.errors import CheckFailedError, TrtcalError
from tests.trtcal.tasks.squares import detector, letterbox, photographs
from trtcal.measure.bound import check_drop


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"float": {}, "soft": {"sharpness": 6.0}, "dead": {"gain": 0.0}}
    return {name: detector(folder / f"{name}.onnx", **kind) for name, kind in kinds.items()}


@pytest.fixture
def loader(images: Path, models: dict[str, Path], tmp_path: Path):
    return partial(trtcal.ImageLoader, images, preprocess=letterbox(tmp_path / "box.toml"), model=models["float"])


def test_boxes_are_found_in_the_images_own_pixels(images, models, loader) -> None:
    task = trtcal.Task("detect:yolov8", annotations=images.parent / "annotations.json")
    report = trtcal.evaluate({"float": models["float"]}, loader(), task=task)
    result = report.scores["float"].task.result
    assert (result.measure, report.criterion) == ("mAP 50-95", "task")
    assert result.value == pytest.approx(100)
    assert result.by_class == {"red": pytest.approx(100), "green": pytest.approx(100)}
    assert result.objects == 36


def test_without_annotations_the_float_model_is_the_truth(models, loader) -> None:
    report = trtcal.evaluate(models, loader(), reference="float", task=trtcal.Task("detect"))
    results = {name: score.task.result for name, score in report.scores.items()}
    assert {result.measure for result in results.values()} == {"agreement mAP 50-95"}
    assert results["float"].value == pytest.approx(100)
    assert results["float"].drop is None
    assert results["dead"].value == 0
    assert results["dead"].drop == pytest.approx(100)
    assert (results["dead"].lost, results["dead"].extra) == (36, 0)
    assert any("yolov8" in note for note in report.notes)


def test_classes_are_called_as_the_model_calls_them(models, loader, tmp_path) -> None:
    model = onnx.load(models["float"])
    onnx.helper.set_model_props(model, {"names": "{0: 'rouge', 1: 'vert'}"})
    onnx.save(model, tmp_path / "named.onnx")
    named = {"float": tmp_path / "named.onnx", "dead": models["dead"]}
    report = trtcal.evaluate(named, loader(), reference="float", task=trtcal.Task("detect"))
    assert report.scores["dead"].task.result.by_class == {"rouge": 0, "vert": 0}


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_the_batch_size_changes_nothing(batch_size, models, loader, images) -> None:
    task = trtcal.Task("detect", annotations=images.parent / "annotations.json")
    names = {name: models[name] for name in ("float", "soft")}
    report = trtcal.evaluate(names, loader(batch_size=batch_size), reference="float", task=task)
    alone = trtcal.evaluate(names, loader(), reference="float", task=task)
    assert report.scores["soft"].task.result == alone.scores["soft"].task.result


@pytest.mark.parametrize("layout", [{"normalized": True}, {"outputs": 2}, {"outputs": 2, "normalized": True}, {}])
def test_a_detector_with_dead_scores_fails_every_check_whatever_its_boxes(layout, loader, tmp_path) -> None:
    alive, dead = (detector(tmp_path / f"{gain}.onnx", gain=gain, **layout) for gain in (1.0, 0.0))
    report = trtcal.evaluate({"float": alive, "dead": dead}, loader(), reference="float")
    assert report.scores["dead"].sqnr == 0, report.scores["dead"].groups
    assert "scores" in report.scores["dead"].worst


def test_the_drop_is_bounded(models, loader) -> None:
    names = {name: models[name] for name in ("float", "dead")}
    report = trtcal.evaluate(names, loader(), reference="float", task=trtcal.Task("detect"))
    with pytest.raises(
        CheckFailedError, match=r"dead drops agreement mAP 50-95 by 100\.00 points: more than the 1 poi"
    ):
        check_drop(report, 1)
    same = {"float": models["float"], "same": models["float"]}
    check_drop(trtcal.evaluate(same, loader(), reference="float", task=trtcal.Task("detect")), 0)


def test_what_fits_nothing_is_said(models, loader) -> None:
    evaluate = partial(trtcal.evaluate, {"float": models["float"], "other": models["soft"]}, reference="float")
    with pytest.raises(TrtcalError, match=r"the outputs \(output0 8x6x84\) are not what detect:detr reads: .*not"):
        evaluate(loader(), task=trtcal.Task("detect:detr"))
    with pytest.raises(TrtcalError, match="task classify needs class scores"):
        evaluate(loader(), task=trtcal.Task("classify"))
    arrays = [np.zeros((2, 3, 64, 64), np.float32)]
    with pytest.raises(TrtcalError, match="annotations are found by the names of images"):
        evaluate(arrays, task=trtcal.Task("detect", annotations="truth.json"))
    with pytest.raises(TrtcalError, match="nothing to measure task detect by: give --annotations, or the float model"):
        trtcal.evaluate({"float": models["float"]}, loader(), task=trtcal.Task("detect"))


def test_annotations_of_another_kind_are_refused(images, loader, tmp_path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["images", "w"], ["scores"], name="conv")],
        "segment",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("scores", 1, ["N", 3, 64, 64])],
        [onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32)[..., None, None], "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "segment.onnx")
    truth = json.loads((images.parent / "annotations.json").read_text())
    for each in truth["annotations"]:
        left, top, width, height = each["bbox"]
        corners = [left, top, left + width, top, left + width, top + height, left, top + height]
        each["segmentation"] = [corners]
    (tmp_path / "masks.json").write_text(json.dumps(truth))
    task = trtcal.Task("segment:semantic", annotations=tmp_path / "masks.json")
    with pytest.raises(TrtcalError, match=r"tell masks, and segment:semantic finds pixels: .*a folder of PNG masks"):
        trtcal.evaluate({"float": tmp_path / "segment.onnx"}, loader(), task=task)
