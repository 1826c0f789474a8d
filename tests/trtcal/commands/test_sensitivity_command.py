"""`trtcal sensitivity` as users meet it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.engines.networks import classifier
from tests.trtcal.planted import rescaled
from trtcal.config.settings import QuantConfig

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sensitivity(command, job):
    """Runs it on the job's model with further options; gives code, output, messages."""

    def run(*options, images=job / "images", model=job / "model.onnx", preprocess="unit"):
        return command("sensitivity", model, "--images", images, "--preprocess", preprocess, *options)

    return run


def refused(result, *messages):
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("trtcal: ")
    for message in messages:
        assert message in err, err


def rows(out):
    """The cells of each table's lines."""
    return [[cell.strip() for cell in line[1:-1].split(line[0])] for line in out.splitlines() if line[:1] in "│┃"]


def test_what_it_says(sensitivity, job):
    code, out, err = sensitivity()
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"calibrated on 6 images of {job / 'images'}, judged by 6 of {job / 'images'}"
    assert lines[1].startswith("preprocessing: unit")
    cells = rows(out)
    assert [row[0] for row in cells[:3]] == ["model", "FP32", "INT8"]
    assert cells[3][:4] == ["layer", "operator", "input", "rounding"]
    assert [row[0] for row in cells[4:7]] == ["a/Conv", "b/Conv", "scores/MatMul"]
    assert cells[4][2] == "same"
    assert cells[7][:5] == ["rank", "layer", "operator", "drop", "95 % CI"]
    assert sorted(row[1] for row in cells[8:]) == ["a/Conv", "b/Conv", "scores/MatMul"]
    assert "note: 6 images are few to calibrate on" in err
    assert err.endswith("\n")


def test_json_says_all_of_it(sensitivity, job):
    code, out, err = sensitivity("--json", "-o", job / "found.json", "--method", "minmax", "--exhaustive")
    assert code == 0, err
    value = json.loads(out)
    assert json.loads((job / "found.json").read_text()) == value
    assert (value["method"], value["trials"], value["left_float"]) == ("minmax", {"run": 13, "known": 0}, {})
    assert (value["calibration"]["count"], value["test"]["count"]) == (6, 6)
    assert value["calibration"]["digest"] != value["test"]["digest"]
    assert [each["layer"] for each in value["errors"]["layers"]] == ["a/Conv", "b/Conv", "scores/MatMul"]
    found = value["sensitivity"]
    assert (found["criterion"], value["reference"]["top1"]["total"]) == ("top-1", 6)
    assert value["int8"]["sqnr_db"] == pytest.approx(found["whole"]["sqnr_db"], rel=1e-3)
    for each in found["layers"]:
        assert set(each) > {"alone", "activation", "weight", "rest", "rank", "rest_rank"}
        assert each["alone"]["drop"]["interval95"][0] < each["alone"]["drop"]["interval95"][1]
    assert "null" in out  # the first layer's input is the float model's own, at no finite SQNR


def test_errors_alone(sensitivity, job):
    code, out, err = sensitivity("--errors")
    assert code == 0, err
    assert "rank" not in out
    value = json.loads(sensitivity("--errors", "--json", "--resume", job / "kept.json")[1])
    assert (value["sensitivity"], value["trials"]) == (None, {"run": 0, "known": 0})
    assert not (job / "kept.json").exists()


def test_twice_and_with_other_batches_it_is_the_same(sensitivity):
    outs = [sensitivity("--json", *options)[1] for options in ([], [], ["--batch-size", 1], ["--batch-size", 5])]
    assert outs[0] == outs[1] == outs[2] == outs[3]


def test_it_goes_on_from_its_file(sensitivity, job):
    every = ("--json", "--exhaustive", "--resume", job / "kept.json")
    first, again = (json.loads(sensitivity(*every)[1]) for _ in range(2))
    assert (first.pop("trials"), again.pop("trials")) == ({"run": 13, "known": 0}, {"run": 0, "known": 13})
    assert again.pop("notes") == [*first.pop("notes"), "13 of 13 trials were done before"]
    assert again == first
    other = json.loads(sensitivity(*every, "--method", "minmax")[1])
    assert other["trials"]["known"] == 3  # weights alone have the same scales by any method
    shutil.move(job / "model.onnx", job / "moved.onnx")
    moved = json.loads(
        sensitivity("--json", "--exhaustive", "--resume", job / "kept.json", model=job / "moved.onnx")[1]
    )
    assert moved["trials"] == {"run": 0, "known": 13}


def test_few_trials_go_on_from_their_file(sensitivity, job):
    first, again = (json.loads(sensitivity("--json", "--resume", job / "kept.json")[1]) for _ in range(2))
    assert (first.pop("trials")["known"], again.pop("trials")["run"]) == (0, 0)
    (told,) = {*again.pop("notes")} - {*first.pop("notes")}
    assert "were done before" in told
    assert again == first


def test_a_planted_layer_is_named(sensitivity, tmp_path):
    onnx.save(rescaled(), tmp_path / "broken.onnx")
    values = np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "arrays.npz", image=values)
    options = ["--count", 64, "--test-count", 32, "--method", "minmax"]
    code, out, err = sensitivity(
        *options, model=tmp_path / "broken.onnx", images=tmp_path / "arrays.npz", preprocess="none"
    )
    assert code == 0, err
    assert "suspicious: a_relu (b/Conv): channel spread: channel 2 reaches" in out
    assert "worth knowing: a_w (a/Conv): weight channel spread: output channel 2 reaches" in out
    first = next(row for row in rows(out) if row[0] == "1")
    assert (first[1], rows(out)[-3][3]) == ("b/Conv", "agree")


def test_a_detector_is_ranked_by_sqnr(sensitivity, job):
    model = onnx.load(job / "model.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info("b_relu", onnx.TensorProto.FLOAT, ("N", 16, 8, 8)))
    del model.graph.node[-3:]
    del model.graph.output[0]
    onnx.save(model, job / "detector.onnx")
    code, out, err = sensitivity("--json", model=job / "detector.onnx")
    assert code == 0, err
    assert json.loads(out)["sensitivity"]["criterion"] == "SQNR"
    refused(sensitivity("--by", "agreement", model=job / "detector.onnx"), "rank by SQNR")


def test_one_number_for_all_images(sensitivity, job):
    model = onnx.load(job / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ()))
    onnx.save(model, job / "mean.onnx")
    code, out, err = sensitivity("--json", model=job / "mean.onnx")
    assert code == 0, err
    value = json.loads(out)
    assert (value["reference"]["samples"], value["sensitivity"]["criterion"]) == (6, "SQNR")


def test_what_is_skipped_is_not_tried(sensitivity):
    code, out, err = sensitivity("--json", "--skip", "names=b/*", "--skip", "types=MatMul")
    assert code == 0, err
    value = json.loads(out)
    assert set(value["left_float"]) == {"b/Conv", "scores/MatMul"}
    assert [each["layer"] for each in value["sensitivity"]["layers"]] == ["a/Conv"]
    refused(sensitivity("--skip", "b/*"), "names=b/*")


def test_what_the_configuration_says(sensitivity, job):
    config = QuantConfig().add_name_config("b/*", precision="float")
    config.add_type_config(["Gelu", "MatMul"], weight_bits=4).save(job / "quant.toml")
    code, out, err = sensitivity("--json", "--config", job / "quant.toml")
    assert code == 0, err
    value = json.loads(out)
    assert value["left_float"] == {"b/Conv": "the configuration has it in float"}
    assert any("type 'Gelu'" in note for note in value["notes"])
    assert [each["layer"] for each in value["errors"]["layers"]] == ["a/Conv", "scores/MatMul"]
    assert value["errors"]["layers"][1]["weight"]["bits"] == 4


def test_labels_of_their_own(sensitivity, job):
    names = [path.relative_to(job / "images").as_posix() for path in sorted((job / "images").rglob("*.png"))]
    (job / "labels.csv").write_text("".join(f"{name},{index % 2}\n" for index, name in enumerate(names)))
    value = json.loads(sensitivity("--json", "--labels", job / "labels.csv")[1])
    assert value["reference"]["top1"]["total"] == 6


def test_bad_input_is_refused_in_a_line(sensitivity, job):
    (job / "other.json").write_text("{}")
    refused(sensitivity("--resume", job / "other.json"), "other.json holds no trials", "delete it")
    assert (job / "other.json").read_text() == "{}"
    refused(sensitivity("--resume", job / "model.onnx"), "model.onnx: it is read")
    refused(sensitivity("-o", job / "a.json", "--resume", job / "a.json"), "two outputs would be this one file")
    refused(sensitivity("--resume", job), "is a folder")
    refused(sensitivity("--method", "median"), "there is no range method 'median'")
    refused(sensitivity("--by", "loss"), "--by")
    refused(sensitivity("--config", job / "absent.toml"), "absent.toml")
    refused(sensitivity(model=job / "absent.onnx"), "no model")
    refused(sensitivity(images=job / "absent"), "there is no")
    (job / "float.toml").write_text('[default]\nprecision = "float"\n')
    refused(sensitivity("--config", job / "float.toml"), "no layer is quantized")


def test_ctrl_c_keeps_what_was_done(job):
    """A run that is interrupted in its trials says where they are, and the next one takes them."""
    arguments = [
        "sensitivity",
        "model.onnx",
        "--images",
        "images",
        "--preprocess",
        "unit",
        "--resume",
        "kept.json",
        "--exhaustive",
    ]
    code = (
        "import sys, time; import trtcal.analysis.trial_cache as store; put = store.TrialCache.put\n"
        "def slow(self, key, score):\n"
        "    put(self, key, score)\n"
        "    print('kept', flush=True)\n"
        "    time.sleep(0.5)\n"
        "store.TrialCache.put = slow\n"
        "from trtcal.cli import main; main()"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=job, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout.readline() == "kept\n"
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "kept.json holds the trials that were done" in err
    assert "interrupted" in err.splitlines()[-1]
    done = 1 + out.count("kept")
    assert done < 13
    assert len(json.loads((job / "kept.json").read_text())["scores"]) == done
    again = subprocess.run(
        [sys.executable, "-c", "from trtcal.cli import main; main()", *arguments, "--json"],
        cwd=job, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(again.stdout)["trials"] == {"run": 13 - done, "known": done}


def test_help_is_there(command):
    code, out, _ = command("sensitivity", "--help")
    assert code == 0
    for option in ("--errors", "--resume", "--by", "--config", "--test-images", "--json"):
        assert option in out


def test_a_real_network(command, shared_data, tmp_path):
    code, out, err = command(
        "sensitivity", shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx", "--json",
        "--images", shared_data / "images" / "kws01_1000.npz", "--preprocess", "none",
        "--count", 200, "--test-count", 100, "--method", "entropy",
    )  # fmt: skip
    assert code == 0, err
    value = json.loads(out)
    assert value["sensitivity"]["layers"][0]["layer"] == "conv0/conv"
    assert any(each["tensor"] == "input_1" and each["reason"] == "saturation" for each in value["errors"]["suspicions"])
    assert not re.search("NaN|Infinity", out)


def test_its_tables_have_room_in_a_terminal_of_80_columns(sensitivity, terminal, job, monkeypatch):
    monkeypatch.chdir(job)  # a path may be longer than a line
    onnx.save(classifier(classes=4), job / "model.onnx")  # with five and more, top-5 takes a column
    terminal(80)
    code, out, err = sensitivity(images="images", model="model.onnx")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
