"""`--task` and `--annotations` of every command that judges."""

import json

import pytest

from tests.trtcal.tasks.squares import detector, letterbox, photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("squares")
    photographs(place / "photographs", 16)
    letterbox(place / "box.toml")
    detector(place / "model.onnx")
    detector(place / "dead.onnx", gain=0.0)
    return place


@pytest.fixture
def judged(command, folder):
    """Runs a command on the detector of squares, judged by a task."""

    def run(name, *options, model="model.onnx", task=("--task", "detect")):
        settings = ["--images", folder / "photographs", "--preprocess", folder / "box.toml"]
        return command(name, folder / model, *settings, *task, *options)

    return run


@pytest.fixture
def annotations(folder):
    return ("--annotations", folder / "annotations.json")


def test_accuracy_measures_what_is_annotated(judged, folder, annotations):
    code, out, err = judged("accuracy", folder / "dead.onnx", *annotations, "--worst", "2")
    assert code == 0, err
    assert "drop in points of mAP 50-95, detections lost, extra and moved, SQNR: against model.onnx" in out
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│ ")]
    assert [rows[0][2].strip(), rows[1][2].strip(), rows[1][5].strip()] == ["100.00 %", "0.00 %", "100.00"]
    assert "Images that dead.onnx changes most against model.onnx" in out
    assert "note: the outputs output0 (N, 6, 84) are read by the adapter yolov8" in err
    assert "categories" in err


def test_accuracy_shows_the_measure_of_each_class(judged, folder, annotations):
    code, out, err = judged("accuracy", folder / "dead.onnx", *annotations, "--by-class")
    assert code == 0, err
    table = out[out.index("mAP 50-95 by class") :].splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if line.startswith("│ ")]
    assert rows[:2] == [["red", "100.00 %", "0.00 %"], ["green", "100.00 %", "0.00 %"]]
    assert "--by-class shows nothing" not in err


def test_a_measure_of_ones_own_is_not_in_points_and_loses_no_detections(judged, folder, tmp_path):
    (tmp_path / "own.py").write_text(
        "def largest(outputs, reference_outputs):\n"
        "    return outputs['output0'].max(axis=(1, 2))\n\n\n"
        "largest.better = 'higher'\n"
    )
    code, out, err = judged(
        "accuracy", folder / "dead.onnx", "--by-class", task=("--task", f"{tmp_path}/own.py:largest")
    )
    assert code == 0, err
    assert "drop of largest, SQNR: against model.onnx" in out
    assert "note: --by-class shows nothing" in err


def test_accuracy_tells_all_in_json(judged, folder, annotations):
    code, out, err = judged("accuracy", folder / "dead.onnx", *annotations, "--worst", "2", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["criterion"] == "mAP 50-95"
    floats, dead = told["models"]
    assert floats["task"]["value"] == pytest.approx(100)
    assert floats["task"]["by_class"] == {"red": pytest.approx(100), "green": pytest.approx(100)}
    assert (dead["task"]["value"], dead["task"]["drop"], dead["task"]["lost"]) == (0, pytest.approx(100), 48)
    assert [image["lost"] for image in dead["changed_images"]] == [3, 3]


def test_max_drop_bounds_points_of_the_measure(judged, folder):
    code, _, err = judged("accuracy", folder / "dead.onnx", "--max-drop", "1")
    assert code == 1
    assert err.splitlines()[-1] == (
        "trtcal: dead.onnx drops agreement mAP 50-95 by 100.00 points: more than the 1 points allowed"
    )
    assert judged("accuracy", folder / "model.onnx", "--max-drop", "0")[0] == 0


def test_a_model_alone_is_measured_by_annotations(judged, annotations):
    code, out, err = judged("accuracy", *annotations)
    assert code == 0, err
    assert "100.00 %" in out
    code, _, err = judged("accuracy")
    assert code == 2
    assert "--annotations" in err


def test_compare_ranks_by_the_task(judged, annotations):
    code, out, err = judged("compare", "--methods", "minmax,entropy", *annotations, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["criterion"] == "mAP 50-95"
    assert told["reference"]["task"]["value"] == pytest.approx(100)
    assert {method["method"] for method in told["methods"]} == {"minmax", "entropy"}
    drops = {method["method"]: method["task"]["drop"] for method in told["methods"]}
    assert told["winner"] == min(drops, key=drops.get)


def test_calibrate_auto_and_build_auto_take_the_task(judged, folder, tmp_path, annotations):
    code, out, err = judged("calibrate", "--method", "auto", *annotations, "-o", tmp_path / "a.cache")
    assert code == 0, err
    code, _, err = judged("calibrate", "--method", "mse", *annotations, "-o", tmp_path / "b.cache")
    assert code == 2
    assert "goes with --method auto" in err
    code, out, err = judged("build", "--method", "auto", *annotations, "-o", tmp_path / "a.engine")
    assert code == 0, err
    assert "note: ranges by " in err
    assert "INT8" in out


def test_sensitivity_ranks_layers_by_the_task_and_goes_on(judged, tmp_path, annotations):
    options = [*annotations, "--resume", tmp_path / "trials.json", "--json"]
    code, out, err = judged("sensitivity", *options)
    assert code == 0, err
    told = json.loads(out)
    assert told["sensitivity"]["criterion"] == "mAP 50-95"
    first = told["sensitivity"]["layers"]
    assert all("interval95" in layer["alone"]["task"] for layer in first)
    again = json.loads(judged("sensitivity", *options)[1])
    assert again["trials"]["run"] == 0
    assert again["sensitivity"]["layers"] == first


def test_mixed_precision_reaches_a_drop_of_the_task(judged, tmp_path, annotations):
    options = [*annotations, "--max-drop", "1", "--resume", tmp_path / "trials.json", "-o", tmp_path / "quant.toml"]
    code, out, err = judged("mixed-precision", *options)
    assert code == 0, err
    assert "chosen: row " in out
    assert "mAP 50-95" in out
    code, again, err = judged("mixed-precision", *options)
    assert code == 0, err
    assert again == out


def test_mixed_precision_wants_annotations_for_an_accuracy(judged, tmp_path, annotations):
    options = ["--target-accuracy", "90", "-o", tmp_path / "quant.toml"]
    code, _, err = judged("mixed-precision", *options)
    assert code == 2
    assert "give --annotations, or --max-drop" in err
    assert judged("mixed-precision", *options, *annotations)[0] == 0


def test_recovery_is_judged_by_the_task(command, judged, folder, tmp_path, annotations):
    settings = ["--images", folder / "photographs", "--preprocess", folder / "box.toml"]
    assert command("calibrate", folder / "model.onnx", *settings, "-o", tmp_path / "m.cache")[0] == 0
    options = ["--cache", tmp_path / "m.cache", "-o", tmp_path / "m.onnx", "--recover", "bias-correction"]
    code, out, err = judged("quantize", *options, *annotations)
    assert code == 0, err
    assert "by mAP 50-95, then SQNR" in out


def test_annotations_without_a_task_are_refused(judged, annotations):
    for name in ("accuracy", "compare", "sensitivity"):
        code, _, err = judged(name, *annotations, task=())
        assert code == 2
        assert "annotations are for detect, segment and keypoints, not for task auto" in err


def test_a_task_that_does_not_fit_is_refused_before_any_work(judged):
    for name in ("compare", "sensitivity"):
        code, out, err = judged(name, task=("--task", "detect:detr"))
        assert (code, out) == (2, "")
        assert "are not what detect:detr reads" in err


def test_a_measure_of_ones_own(judged, folder, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n\n"
        "def distance(outputs, reference_outputs):\n"
        "    return np.abs(outputs['output0'] - reference_outputs['output0']).max(axis=(1, 2))\n\n\n"
        "distance.better = 'lower'\n"
    )
    task = ("--task", f"{tmp_path / 'mine.py'}:distance")
    code, out, err = judged("accuracy", folder / "dead.onnx", "--json", task=task)
    assert code == 0, err
    floats, dead = json.loads(out)["models"]
    assert floats["task"]["value"] == 0
    assert dead["task"]["measure"] == "distance"
    assert dead["task"]["drop"] == dead["task"]["value"] > 0.9
    code, out, err = judged("compare", "--methods", "minmax,entropy", task=task)
    assert code == 0, err
    assert "by distance, then SQNR" in out
