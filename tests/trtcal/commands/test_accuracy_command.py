"""`trtcal accuracy` as users meet it, on real models and images."""

import json
import math
import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from calibrators.files import sha256_of
from trtcal.data.preprocess import Preprocess
from trtcal.tables.images import NOT_STATED


@pytest.fixture
def resnet8(shared_data):
    return shared_data / "models" / "mlperf_tiny_resnet8.onnx"


@pytest.fixture
def cifar(shared_data):
    return shared_data / "images" / "cifar10_test_2000.npz"


@pytest.fixture
def rough(resnet8, tmp_path):
    """resnet8 with weights of 3 bits."""
    model = onnx.load(resnet8)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            step = np.abs(values).max() / 3
            tensor.CopyFrom(numpy_helper.from_array((np.round(values / step) * step).astype(values.dtype), tensor.name))
    path = tmp_path / "rough.onnx"
    onnx.save(model, path)
    return path


def linear(path, weights):
    """x @ weights, saved at `path`."""
    weights = np.asarray(weights, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def of_one_line(err):
    return err.startswith("trtcal: ") and err.count("\n") == 1


def table_of(out):
    """The rows of a table, its headings first."""
    return [line for line in out.splitlines() if line[:1] in "│┃" and line]


def test_numbers_stay_whole_in_a_narrow_terminal(command, resnet8, rough, cifar, terminal):
    options = ["--images", cifar, "--preprocess", "raw", "--count", "100"]
    wide = command("accuracy", resnet8, rough, *options)[1]
    terminal(80)
    code, out, _ = command("accuracy", resnet8, rough, *options)
    assert code == 0
    assert max(map(len, table_of(out))) <= 80
    headings, *rows = ([cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out))
    assert headings == ["model", "top-1", "95 % CI", "drop", "lost", "gained", "agree", "SQNR"]
    assert [row[0] for row in rows] == ["1", "2"]
    legend = out.splitlines()[out.splitlines().index("1: mlperf_tiny_resnet8.onnx") - 1 :]
    assert legend[0].startswith("└")
    assert legend[2] == "2: rough.onnx"
    assert all(cell in wide for row in rows for cell in row[1:])


def test_json_of_one_model(command, resnet8, cifar):
    code, out, err = command("accuracy", resnet8, "--images", cifar, "--preprocess", "raw", "--json")
    assert (code, err) == (0, "")
    value = json.loads(out)
    assert value["reference"] is None
    assert value["count"] == 2000
    assert len(value["digest"]) == 64
    assert Preprocess.from_dict(value["preprocess"]).scale == 1
    (model,) = value["models"]
    assert model["name"] == "mlperf_tiny_resnet8.onnx"
    assert model["top1"]["percent"] == pytest.approx(86.80)
    low, high = model["top1"]["interval95"]
    assert (low, high) == pytest.approx((85.25, 88.21), abs=0.01)
    assert model["top5"]["percent"] > 99
    assert model["drop"] is model["agreement"] is None


def test_table_of_two_models(command, resnet8, rough, cifar):
    code, out, _ = command("accuracy", resnet8, rough, "--images", cifar, "--preprocess", "raw", "--count", "100")
    assert code == 0
    assert "drop in points of top-1, images lost and gained, agreement, SQNR: against mlperf_tiny_resnet8.onnx" in out
    headings, first, second = ([cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out))
    assert headings == ["model", "top-1", "95 % CI", "top-5", "drop", "lost", "gained", "agree", "SQNR"]
    assert first[0] == "mlperf_tiny_resnet8.onnx"
    assert first[4:7] == ["-"] * 3
    assert float(second[4]) == int(second[5]) - int(second[6])  # of 100 images
    assert "NaN" not in out
    assert "100 samples of" in " ".join(out.split())


def test_the_drop_decides_the_exit_code(command, resnet8, rough, cifar):
    options = ["--images", cifar, "--preprocess", "raw", "--count", "200", "--json"]
    code, out, err = command("accuracy", rough, "--reference", resnet8, "--max-drop", "0.5", *options)
    assert code == 1
    assert of_one_line(err)
    assert "rough.onnx drops top-1 by" in err
    assert "more than the 0.5 points allowed" in err
    models = json.loads(out)["models"]
    assert [each["name"] for each in models] == ["mlperf_tiny_resnet8.onnx", "rough.onnx"]
    assert models[1]["drop"]["points"] > 0.5
    code, _, err = command("accuracy", resnet8, rough, "--max-drop", "100", *options)
    assert (code, err) == (0, "")


def test_without_labels_the_bound_is_on_agreement(command, resnet8, rough, cifar, tmp_path):
    with np.load(cifar) as data:
        np.save(tmp_path / "images.npy", data["images"][:60])
    options = ["--images", tmp_path / "images.npy", "--preprocess", "raw"]
    code, out, err = command("accuracy", resnet8, rough, *options, "--max-drop", "1")
    assert code == 1
    assert of_one_line(err)
    assert "rough.onnx differs from the reference's class for" in err
    assert "agreement, SQNR: against mlperf_tiny_resnet8.onnx" in out
    assert "agree " in out
    assert "top-1" not in out


def test_the_reference_may_be_among_the_models(command, resnet8, rough, cifar):
    options = ["--images", cifar, "--preprocess", "raw", "--count", "20", "--json"]
    _, out, _ = command("accuracy", rough, resnet8, "--reference", resnet8, *options)
    value = json.loads(out)
    assert value["reference"] == "mlperf_tiny_resnet8.onnx"
    assert [each["name"] for each in value["models"]] == ["rough.onnx", "mlperf_tiny_resnet8.onnx"]


def test_a_folder_with_a_class_per_sub_folder(command, shared_data, cifar, tmp_path):
    """Files give what the same images give as arrays; a missing class, which would renumber the others, is refused."""
    with np.load(cifar) as data:
        images, labels = data["images"][:200], data["labels"][:200]
    np.savez(tmp_path / "same.npz", images=images, labels=labels)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "images" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04}.png")
    model = shared_data / "models" / "cifar10_resnet20.onnx"
    results = []
    for source in ("images", "same.npz"):
        code, out, _ = command("accuracy", model, "--images", tmp_path / source, "--preprocess", "cifar10", "--json")
        assert code == 0
        results.append(json.loads(out)["models"][0]["top1"])
    assert results[0] == results[1]
    assert results[0]["total"] == 200
    shutil.rmtree(tmp_path / "images" / "class3")
    code, out, err = command("accuracy", model, "--images", tmp_path / "images", "--preprocess", "cifar10")
    assert (code, out) == (2, "")
    assert of_one_line(err)
    assert "there are 9 class names" in err
    assert "give class numbers with --labels" in err


def test_a_detector_has_distortions_by_output(command, shared_data, tmp_path):
    path = shared_data / "models" / "ultraface_rfb_320.onnx"
    options = ["--images", shared_data / "images" / "faces", "--preprocess", "imagenet-tf"]
    code, out, _ = command("accuracy", path, path, *options)
    assert code == 0
    assert "SQNR by output" in out
    assert "boxes" in out
    assert "agree" not in out
    code, _, err = command("accuracy", path, path, *options, "--max-drop", "1")
    assert code == 2
    assert of_one_line(err)
    assert "needs class scores" in err


def test_nan_is_loud(command, tmp_path):
    good = linear(tmp_path / "good.onnx", np.eye(3))
    bad = linear(tmp_path / "bad.onnx", np.diag([1, 1, math.nan]))
    np.savez(tmp_path / "data.npz", x=np.eye(3, dtype=np.float32), labels=np.arange(3))
    code, out, err = command("accuracy", good, bad, "--images", tmp_path / "data.npz")
    assert code == 0
    headings, *rows = ([cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out))
    assert [row[headings.index("NaN/Inf")] for row in rows] == ["-", "3"]
    assert "warning: bad.onnx gives NaN or infinity for 3 of 3 images" in err
    code, out, err = command("accuracy", good, bad, "--images", tmp_path / "data.npz", "--json", "--max-drop", "1")
    assert code == 1
    assert json.loads(out)["models"][1]["nonfinite_samples"] == 3
    assert "bad.onnx drops top-1 by 100.00 points (3 of 3 images)" in err


def record(model, preset, **more):
    """Write what `trtcal quantize` records beside a model."""
    content = {"sha256": sha256_of(model), "preprocess": Preprocess.load(preset).to_dict(), **more}
    model.with_name(f"{model.name}.json").write_text(json.dumps(content))


class TestRecordedPreprocessing:
    """What a side-car says is used again, and a different one is warned of."""

    @pytest.fixture
    def int8(self, resnet8, tmp_path):
        path = tmp_path / "resnet8.int8.onnx"
        shutil.copy(resnet8, path)
        record(path, "raw")
        return path

    def test_is_used_again(self, command, int8, cifar):
        code, out, err = command("accuracy", int8, "--images", cifar, "--json", "--count", "200")
        assert code == 0
        assert Preprocess.from_dict(json.loads(out)["preprocess"]).scale == 1
        assert err.strip() == f"Preprocessing from {int8}.json"
        assert json.loads(out)["models"][0]["top1"]["percent"] > 80

    def test_the_same_one_stated_is_no_news(self, command, int8, cifar):
        code, _, err = command("accuracy", int8, "--images", cifar, "--preprocess", "raw", "--json", "--count", "20")
        assert (code, err) == (0, "")

    def test_another_one_is_warned_of(self, command, int8, cifar):
        code, out, err = command("accuracy", int8, "--images", cifar, "--preprocess", "unit", "--json", "--count", "20")
        assert code == 0
        assert err.startswith("warning: the preprocessing is not the one of the calibration: ")
        assert err.count("\n") == 1
        assert f"{int8}.json" in err
        assert json.loads(out)["notes"] == [err.strip()]

    def test_two_that_differ_need_a_choice(self, command, int8, cifar, tmp_path):
        other = tmp_path / "other.onnx"
        shutil.copy(int8, other)
        record(other, "unit")
        code, out, err = command("accuracy", int8, other, "--images", cifar)
        assert (code, out) == (2, "")
        assert of_one_line(err)
        assert "two preprocessings are recorded" in err
        assert "choose one with --preprocess" in err

    def test_a_reference_without_a_record_is_no_conflict(self, command, int8, resnet8, cifar):
        code, _, err = command("accuracy", resnet8, int8, "--images", cifar, "--count", "20", "--json")
        assert (code, err.strip()) == (0, f"Preprocessing from {int8}.json")

    def test_one_of_another_file_is_ignored_and_said_so(self, command, int8, cifar, tmp_path):
        other = tmp_path / "other.onnx"
        shutil.copy(int8, other)
        record(other, "unit", sha256="0" * 64)
        code, out, err = command("accuracy", int8, other, "--images", cifar, "--count", "20", "--json")
        said = [
            f"note: {other}.json is ignored: it describes another file than other.onnx",
            f"Preprocessing from {int8}.json",
        ]
        assert (code, err.splitlines()) == (0, said)
        assert json.loads(out)["notes"] == said


class TestBadInput:
    def check(self, result, *messages):
        code, out, err = result
        assert (code, out) == (2, "")
        assert of_one_line(err)
        for message in messages:
            assert message in err

    def test_models_that_are_none(self, command, cifar, tmp_path):
        (tmp_path / "corrupt.onnx").write_bytes(b"nothing")
        self.check(
            command("accuracy", tmp_path / "missing.onnx", "--images", cifar), "missing.onnx: there is no such file"
        )
        self.check(command("accuracy", tmp_path / "corrupt.onnx", "--images", cifar), "corrupt.onnx", "cannot open")
        self.check(
            command("accuracy", tmp_path / "m.engine", "--images", cifar),
            "m.engine: there is no such file; give an engine",
        )

    def test_images_that_are_none(self, command, resnet8, tmp_path):
        self.check(command("accuracy", resnet8, "--images", tmp_path), f"no image in {tmp_path}")
        self.check(command("accuracy", resnet8, "--images", tmp_path / "nowhere"), "nowhere")

    def test_nothing_to_measure(self, command, shared_data):
        path = shared_data / "models" / "ultraface_rfb_320.onnx"
        result = command("accuracy", path, "--images", shared_data / "images" / "faces")
        self.check(
            result, "has no labels", "give --labels, a folder per class, --annotations with --task, or --reference"
        )

    def test_another_number_of_classes(self, command, tmp_path):
        three, two = linear(tmp_path / "three.onnx", np.eye(3)), linear(tmp_path / "two.onnx", np.eye(3)[:, :2])
        np.savez(tmp_path / "data.npz", x=np.eye(3, dtype=np.float32), labels=np.arange(3))
        result = command("accuracy", three, two, "--images", tmp_path / "data.npz")
        self.check(result, "two.onnx", "three.onnx", "classes")

    def test_labels_that_are_no_classes(self, command, resnet8, cifar, tmp_path):
        with np.load(cifar) as data:
            np.save(tmp_path / "labels.npy", data["labels"].astype(np.int64) + 1)
        options = ["--images", cifar, "--preprocess", "raw", "--labels", tmp_path / "labels.npy"]
        self.check(command("accuracy", resnet8, *options), "label 10 of sample", "labels count from 0 to 9")

    def test_a_bound_without_a_reference(self, command, resnet8, cifar):
        result = command("accuracy", resnet8, "--images", cifar, "--max-drop", "1")
        self.check(result, "--max-drop needs something to compare with")

    @pytest.mark.parametrize("bound", ["-1", "101", "nan"])
    def test_a_bound_that_is_none_is_refused_before_any_work(self, command, resnet8, cifar, bound):
        result = command("accuracy", resnet8, resnet8, "--images", cifar, "--preprocess", "raw", "--max-drop", bound)
        self.check(result, "from 0 to 100 points, not")

    def test_a_preprocessing_that_is_none(self, command, resnet8, cifar):
        self.check(
            command("accuracy", resnet8, "--images", cifar, "--preprocess", "imagent"), "no preprocessing 'imagent'"
        )

    def test_bad_images_are_skipped_only_when_asked(self, command, shared_data, tmp_path):
        shutil.copytree(shared_data / "images" / "faces", tmp_path / "faces", copy_function=shutil.copy)
        (tmp_path / "faces" / "bad.jpg").write_bytes(b"no jpeg")
        path = shared_data / "models" / "ultraface_rfb_320.onnx"
        options = ["--images", tmp_path / "faces", "--preprocess", "imagenet-tf"]
        self.check(command("accuracy", path, path, *options), "bad.jpg", "--on-bad-image skip")
        code, out, err = command("accuracy", path, path, *options, "--on-bad-image", "skip", "--json")
        assert code == 0
        assert json.loads(out)["skipped"][0]["name"] == "bad.jpg"
        assert "1 images could not be read" in err


def flattening(path, size):
    """Flatten: any image of `size` x `size` is its own class scores."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3 * size * size])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_where_the_work_fails_the_error_is_all_that_is_said(command, tmp_path):
    model = flattening(tmp_path / "m.onnx", 4)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    code, _, err = command("accuracy", model, model, "--images", tmp_path / "images")
    assert (code, err.strip()) == (0, NOT_STATED)
    code, out, err = command("accuracy", model, model, "--images", tmp_path / "images", "--threads", "100000")
    assert (code, out) == (2, "")
    assert of_one_line(err)
    assert "100000 threads are too many" in err
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    code, out, err = command("accuracy", model, model, "--images", tmp_path / "images")
    assert (code, out) == (2, "")
    assert of_one_line(err)
    assert "b.png" in err


def test_arrays_fed_as_they_are_have_no_preprocessing_to_state(command, tmp_path):
    model = linear(tmp_path / "m.onnx", np.eye(3))
    np.savez(tmp_path / "x.npz", x=np.eye(3, dtype=np.float32), labels=np.arange(3))
    code, out, err = command("accuracy", model, "--images", tmp_path / "x.npz", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["notes"] == []


def test_a_model_whose_biases_overflow_is_computed_literally_and_that_is_said(command, tmp_path):
    """As another tool writes it: a scale of weights so fine that INT32 does not hold the bias."""
    model, samples = tmp_path / "fine.onnx", tmp_path / "x.npy"
    constants = {"s": np.float32(0.05), "z": np.int8(0), "t": np.float32(1e-12), "w": np.ones((8, 4), np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "t", "z"], ["v"]),
        helper.make_node("Gemm", ["d", "v", "b"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, name) for name, v in (constants | {"b": np.full(4, 0.5, np.float32)}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    np.save(samples, np.ones((4, 8), np.float32))
    code, _, err = command("accuracy", model, model, "--images", samples, "--preprocess", "none")
    assert code == 0
    assert "fine.onnx is computed as its nodes say" in err and "head" in err


def test_the_images_that_changed_most_are_named(command, resnet8, rough, cifar):
    options = ["--images", cifar, "--preprocess", "raw", "--count", "100", "--worst", "4"]
    code, out, _ = command("accuracy", resnet8, rough, *options)
    assert code == 0
    assert "Images that rough.onnx changes most against mlperf_tiny_resnet8.onnx" in out
    rows = [[cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out)]
    start = rows.index(["image", "change", "class", "label", "SQNR"])
    code, text, _ = command("accuracy", resnet8, rough, *options, "--json", "--batch-size", "3")
    reference, found = json.loads(text)["models"]
    assert reference["changed_images"] is None
    images = found["changed_images"]
    assert [row[0] for row in rows[start + 1 :]] == [image["image"] for image in images]
    assert len(images) == 4
    assert all(image["change"] == "lost" and image["label"] == image["reference_class"] for image in images)
    assert [image["sqnr_db"] for image in images] == sorted(image["sqnr_db"] for image in images)


def test_classes_have_a_line_and_on_request_a_table(command, resnet8, rough, cifar):
    options = ["--images", cifar, "--preprocess", "raw", "--count", "200"]
    _, out, _ = command("accuracy", resnet8, rough, *options)
    (line,) = [line for line in out.splitlines() if line.startswith("rough.onnx by class: ")]
    assert len(line) < 250
    _, out, _ = command("accuracy", resnet8, rough, *options, "--by-class")
    assert "rough.onnx by label" in out
    assert "rough.onnx by class" not in out
    rows = [[cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out)][-10:]
    assert [row[0] for row in rows] == [str(number) for number in range(10)]
    _, text, _ = command("accuracy", resnet8, rough, *options, "--json")
    found = json.loads(text)["models"][1]
    for column, name in ((1, "images"), (5, "lost"), (6, "gained")):
        assert [int(row[column]) for row in rows] == [row[name] for row in found["by_class"]]
    assert sum(row["images"] for row in found["by_class"]) == 200
    assert sum(row["lost"] for row in found["by_class"]) == found["drop"]["lost"]


def test_a_detector_names_its_images_in_two_passes(command, shared_data, tmp_path):
    detector = shared_data / "models" / "ultraface_rfb_320.onnx"
    model = onnx.load(detector)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array((values * 1.01).astype(values.dtype), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    options = ["--images", shared_data / "images" / "faces", "--preprocess", "imagenet", "--worst", "2", "--by-class"]
    code, out, err = command("accuracy", detector, tmp_path / "other.onnx", *options)
    assert code == 0
    *_, first, second = ([cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in table_of(out))
    assert float(first[1].split()[0]) <= float(second[1].split()[0])
    assert {first[0], second[0]} <= {path.name for path in (shared_data / "images" / "faces").iterdir()}
    assert "--by-class shows nothing: no single output holds class scores" in err


def test_without_a_reference_no_image_has_changed(command, resnet8, cifar):
    code, _, err = command("accuracy", resnet8, "--images", cifar, "--worst", "3")
    assert code == 2
    assert of_one_line(err)
    assert "--worst needs something to compare with: give two models, or --reference" in err
