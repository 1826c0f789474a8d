"""`trtcal compare` as users meet it."""

import json
import shutil

import numpy as np
import onnx
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.ranges import METHODS
from calibrators.statistics.file import Statistics
from tests.engines.networks import Net, classifier


@pytest.fixture
def compare(command, job):
    """Compares methods on the job's model with further options; gives code, output, messages."""

    def run(*options, images=job / "images", model=job / "model.onnx"):
        preprocess = [] if "--preprocess" in options else ["--preprocess", "unit"]
        return command("compare", model, "--images", images, *preprocess, *options)

    return run


def timeless(out):
    """The JSON without what takes time."""
    value = json.loads(out)
    assert value.pop("collection_seconds") > 0
    for each in value["methods"]:
        assert each.pop("milliseconds") >= 0
    return value


def refused(result, *messages):
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("trtcal: ")
    for message in messages:
        assert message in err, err


def test_what_it_says(compare, job):
    code, out, err = compare()
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == (f"calibrated on 6 of 12 images of {job / 'images'}, ranked on 6 others by top-1, then SQNR")
    assert lines[1].startswith("preprocessing: unit")
    assert "statistics collected in " in lines[1]
    table = [line for line in lines if line.startswith(("│", "┃"))]
    for heading in ("rank", "method", "top-1", "95 % CI", "drop", "agree", "SQNR", "ranges"):
        assert heading in table[0]
    assert "FP32" in table[1]
    assert len(table) == 2 + len(METHODS)
    assert {line.split()[3] for line in table[2:]} == set(METHODS)
    winner = table[2].split()[3]
    assert table[2].split()[1] == "1"
    assert f"winner: {winner}, of the highest SQNR among those tied in rank 1" in lines
    tied = [line.split()[3] for line in table[3:] if line.split()[1] == "1"]
    said = next(line for line in err.splitlines() if "so SQNR decides" in line)
    assert said.startswith(f"note: {', '.join(tied)} ")
    assert said.count(f"{winner}") == 1
    hits = {line.split()[5] for line in table[2:] if line.split()[1] == "1"}
    assert ("have the same top-1" in said) == (len(hits) == 1), table
    assert f"note: {job / 'images'} holds 12 samples, not the 500 to calibrate on and 500 others" in err
    assert "note: 6 images are few to calibrate on" in err


def test_json_says_all_of_it(compare, job):
    code, out, _ = compare("--json", "--count", 4, "--test-count", 8)
    assert code == 0
    value = timeless(out)
    assert (value["model"], value["criterion"]) == (str(job / "model.onnx"), "top-1")
    assert (value["calibration"]["count"], value["test"]["count"]) == (4, 8)
    assert value["calibration"]["digest"] != value["test"]["digest"]
    assert value["preprocess"]["scale"] == pytest.approx(1 / 255)
    assert value["reference"]["top1"]["total"] == 8
    assert value["winner"] == value["methods"][0]["method"]
    assert {each["method"] for each in value["methods"]} == set(METHODS)
    for each in value["methods"]:
        assert each["agreement"]["total"] == each["top1"]["total"] == each["samples"] == 8
        assert set(each["sqnr_db_by_output"]) == {"scores"}
        assert each["left_float"] == {}
    assert (value["cache"], value["statistics"]) == (None, None)


def test_twice_and_with_other_batches_it_is_the_same(compare):
    outs = [timeless(compare("--json", *options)[1]) for options in ([], [], ["--batch-size", 1], ["--batch-size", 5])]
    assert outs[0] == outs[1] == outs[2] == outs[3]
    assert timeless(compare("--json", "--seed", 1)[1])["test"]["digest"] != outs[0]["test"]["digest"]


def test_the_winners_cache_is_what_calibrate_gives(compare, command, job):
    code, out, _ = compare("-o", job / "best.cache", "--statistics", job / "kept.npz", "--count", 5, "--json")
    value = json.loads(out)
    assert (code, value["cache"], value["statistics"]) == (0, str(job / "best.cache"), str(job / "kept.npz"))
    cache = CalibrationCache.load(job / "best.cache")
    assert (cache.sidecar.method, cache.sidecar.images, cache.sidecar.tensors) == (value["winner"], 5, "all")
    assert Statistics.load(job / "kept.npz").provenance.count == 5
    given = [
        "--images",
        job / "images",
        "--preprocess",
        "unit",
        "--count",
        5,
        "--method",
        value["winner"],
        "--float-budget",
        0,
    ]
    assert command("calibrate", job / "model.onnx", *given, "-o", job / "plain.cache")[0] == 0
    given = ["--statistics-from", job / "kept.npz", "--method", value["winner"]]
    assert command("calibrate", job / "model.onnx", *given, "-o", job / "later.cache")[0] == 0
    for name in ("plain", "later"):
        for suffix in ("cache", "cache.json"):
            assert (job / f"{name}.{suffix}").read_bytes() == (job / f"best.{suffix}").read_bytes()


def test_only_some_methods(compare):
    value = timeless(compare("--methods", "minmax, percentile:99,minmax,abs_max", "--json")[1])
    assert sorted(each["method"] for each in value["methods"]) == ["minmax", "percentile:99"]


def test_other_images_to_rank_on(compare, job):
    (job / "other").mkdir()
    for index, name in enumerate(("cat", "dog")):
        shutil.move(job / "images" / name / "0.png", job / "other" / f"{index}.png")
    code, out, err = compare("--test-images", job / "other", "--json")
    value = timeless(out)
    assert code == 0
    assert (value["calibration"]["count"], value["test"]["count"]) == (10, 2)
    assert (value["criterion"], value["reference"]["top1"]) == ("agreement", None)
    shutil.copy(job / "images" / "cat" / "1.png", job / "other" / "again.png")
    code, out, err = compare("--test-images", job / "other", "--json")
    assert json.loads(out)["test"]["count"] == 2
    assert "1 images, such as again.png, are copies of some that are calibrated on" in err


def test_a_label_file(compare, job):
    onnx.save(classifier(classes=2), job / "model.onnx")
    for other in (job / "images").glob("other*"):
        other.rmdir()
    rows = [f"{name}/{index}.png,{label}" for label, name in enumerate(("dog", "cat")) for index in range(6)]
    (job / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    plain, other = (
        timeless(compare("--json", *options)[1])["reference"]["top1"]
        for options in ([], ["--labels", job / "labels.csv"])
    )
    assert plain["hits"] + other["hits"] == plain["total"] == other["total"]


def test_folders_that_are_no_classes_are_no_labels(compare, job):
    onnx.save(classifier(classes=5), job / "five.onnx")
    code, out, err = compare("--json", model=job / "five.onnx")
    value = timeless(out)
    assert (code, value["criterion"]) == (0, "agreement")
    assert "note: the sub-folders are not taken for classes: there are 16 class names" in err


@pytest.mark.slow
class TestRealModels:
    def ranked(self, result, criterion, **shares):
        code, out, err = result
        assert code == 0, err
        value = timeless(out)
        assert value["criterion"] == criterion
        assert {each["method"] for each in value["methods"]} == set(METHODS)
        assert value["methods"][0]["rank"] == 1
        return value

    def test_resnet20_with_labels(self, command, shared_data):
        value = self.ranked(
            command(
                "compare", shared_data / "models" / "cifar10_resnet20.onnx", "--preprocess", "cifar10",
                "--images", shared_data / "images" / "cifar10_train_512.npz", "--count", 60,
                "--test-images", shared_data / "images" / "cifar10_test_2000.npz", "--test-count", 100, "--json",
            ),
            "top-1",
        )  # fmt: skip
        assert value["reference"]["top1"]["percent"] > 85
        assert value["methods"][0]["drop"]["points"] <= 1
        assert value["methods"][0]["sqnr_db"] > 20

    def test_keywords_from_arrays(self, command, shared_data):
        value = self.ranked(
            command(
                "compare", shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx",
                "--images", shared_data / "images" / "kws01_1000.npz", "--count", 100, "--test-count", 200, "--json",
            ),
            "top-1",
        )  # fmt: skip
        assert value["preprocess"] is not None
        assert value["test"]["count"] == 200
        assert value["reference"]["top1"]["percent"] > 85

    def test_a_detector_without_labels(self, command, shared_data):
        value = self.ranked(
            command(
                "compare", shared_data / "models" / "ultraface_rfb_320.onnx",
                "--images", shared_data / "images" / "faces", "--preprocess", "unit", "--json",
            ),
            "SQNR",
        )  # fmt: skip
        assert (value["calibration"]["count"], value["test"]["count"]) == (3, 3)
        assert value["reference"]["agreement"] is None
        sqnr = [each["worst"]["sqnr_db"] for each in value["methods"]]
        assert sqnr == sorted(sqnr, reverse=True)
        assert {len(each["sqnr_db_by_output"]) for each in value["methods"]} == {2}


class TestBadInput:
    def test_methods_that_there_are_not(self, compare, job):
        refused(compare("--methods", "entropy,entropie", images=job / "nowhere"), "no range method 'entropie'")
        refused(compare("--methods", "", images=job / "nowhere"), "no range method ''")
        refused(compare("--methods", "auto", images=job / "nowhere"), "no range method 'auto'")

    def test_nothing_to_rank_on(self, compare, job, tmp_path):
        for path in [*(job / "images" / "cat").iterdir()][1:]:
            path.unlink()
        refused(compare(images=job / "images" / "cat"), "holds 1 sample", "give two or more")
        refused(
            compare("--test-images", job / "images" / "dog", images=job / "images" / "dog"),
            "no image of", "is left to judge by",
        )  # fmt: skip

    def test_images_that_are_none(self, compare, job):
        (job / "empty").mkdir()
        refused(compare(images=job / "empty"), f"no image in {job / 'empty'}")
        refused(compare(images=job / "nowhere"), f"there is no {job / 'nowhere'}")
        refused(compare("--test-images", job / "empty"), f"no image in {job / 'empty'}")

    def test_a_model_that_is_none(self, compare, job):
        (job / "broken.onnx").write_bytes(b"nothing")
        refused(compare(model=job / "broken.onnx"), "broken.onnx")
        refused(compare(model=job / "missing.onnx"), "missing.onnx")

    def test_a_model_that_is_quantized_already(self, compare, command, job):
        command("calibrate", job / "model.onnx", "--images", job / "images", "-o", job / "model.cache")
        command("quantize", job / "model.onnx", "--cache", job / "model.cache", "-o", job / "int8.onnx")
        refused(compare(model=job / "int8.onnx"), "Q/DQ nodes already")

    def test_a_model_with_nothing_to_quantize(self, compare, job):
        net = Net()
        net.node("Relu", net.input("image", ("N", 3, 16, 16)), "y")
        onnx.save(net.model("y"), job / "relu.onnx")
        refused(compare(model=job / "relu.onnx"))

    def test_labels_that_are_no_classes(self, compare, job):
        rows = [f"{name}/{index}.png,17" for name in ("dog", "cat") for index in range(6)]
        (job / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
        refused(compare("--labels", job / "labels.csv"), "label 17 of", "16 classes")

    def test_labels_in_arrays_that_are_no_classes(self, compare, job):
        images = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)
        np.savez(job / "data.npz", image=images, labels=np.arange(6) + 14)
        refused(compare("--preprocess", "none", images=job / "data.npz"), "is none of the 16 classes")

    @pytest.mark.parametrize("name", ["model.onnx", "images/cat/0.png"])
    def test_an_output_that_is_read(self, compare, job, name):
        before = (job / name).read_bytes()
        for option in ("-o", "--statistics"):
            refused(compare(option, job / name), "it is read, and would be lost")
        assert (job / name).read_bytes() == before

    @pytest.mark.parametrize("option", ["--count", "--test-count"])
    def test_no_images_at_all(self, compare, option):
        refused(compare(option, 0), option)

    def test_an_image_that_cannot_be_read(self, compare, job):
        for name in ("cat", "dog"):
            for path in [*(job / "images" / name).iterdir()][3:]:
                path.write_bytes(b"no image")
        refused(compare(), "cannot read image", "--on-bad-image skip")
        code, out, err = compare("--on-bad-image", "skip", "--json")
        assert code == 0, err
        value = json.loads(out)
        left_out = [*value["calibration"]["skipped"], *value["test"]["skipped"]]
        assert len(left_out) == err.count("skipped ") > 0
        assert value["reference"]["samples"] == value["test"]["count"] - len(value["test"]["skipped"])


def test_images_on_which_the_float_model_breaks_are_told_of(compare, job):
    shape = [each.dim_value for each in onnx.load(job / "model.onnx").graph.input[0].type.tensor_type.shape.dim[1:]]
    rng = np.random.default_rng(0)
    good, broken = (rng.normal(size=(4, *shape)).astype(np.float32) for _ in range(2))
    broken[2] = np.nan
    np.savez(job / "good.npz", x=good)
    np.savez(job / "broken.npz", x=broken)
    options = ("--preprocess", "none", "--test-images", job / "broken.npz", "--methods", "minmax")
    code, _, err = compare(*options, images=job / "good.npz")
    assert code == 0, err
    assert "note: the float model itself gives NaN or infinity for 1 of 4 images" in err
