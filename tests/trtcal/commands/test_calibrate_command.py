"""`trtcal calibrate`: what it writes and what it says."""

import json

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.statistics.file import Statistics
from engines.graph.model import activations, load_model, model_digest
from tests.engines.networks import Net
from trtcal.data.preprocess import Preprocess

FEW = (
    "note: 12 images are few to calibrate on; ranges settle with some hundreds\n"
    "note: ranges by mse: with fewer than 256 images, methods are not judged\n"
)


@pytest.fixture
def calibrate(command, job):
    """Calibrates the job's model with further options; gives code, output, messages."""

    def run(*options, images=job / "images", output=job / "model.cache"):
        source = [] if images is None else ["--images", images]
        if images is not None and "--preprocess" not in options:
            source += ["--preprocess", "unit"]
        return command("calibrate", job / "model.onnx", "-o", output, *source, *options)

    return run


def test_writes_a_cache_of_every_activation_and_its_side_car(calibrate, job):
    code, out, err = calibrate()
    assert (code, err) == (0, FEW)
    cache = CalibrationCache.load(job / "model.cache")
    assert tuple(cache) == activations(load_model(job / "model.onnx"))
    assert (cache.algorithm, cache.version) == ("MinMaxCalibration", 101600)
    assert out.splitlines()[0] == f"{job / 'model.cache'}: {len(cache)} tensors from 12 images by mse"
    assert out.splitlines()[1].startswith("preprocessing: unit")
    sidecar = Sidecar.beside(job / "model.cache")
    assert sidecar.model_sha256 == model_digest(job / "model.onnx")
    assert (sidecar.method, sidecar.tensors, sidecar.images, sidecar.seed) == ("mse", "all", 12, 0)
    assert sidecar.cache_sha256 == cache.sha256
    assert set(sidecar.versions) >= {"onnxruntime", "numpy"}
    assert Preprocess.from_dict(sidecar.preprocess).scale == pytest.approx(1 / 255)


def test_a_preprocessing_that_was_not_stated_is_said(command, job):
    code, _, err = command("calibrate", job / "model.onnx", "-o", job / "c", "--images", job / "images")
    assert code == 0
    assert err.startswith("warning: no --preprocess was given; taken by the model's input: imagenet")
    assert Preprocess.from_dict(Sidecar.beside(job / "c").preprocess).mean == Preprocess.load("imagenet").mean


def test_a_choice_of_images_is_said(calibrate):
    code, _, err = calibrate("--count", 4)
    assert code == 0
    assert err.startswith("note: 4 of 12 images, by --count and --seed\nnote: 4 images are few")


def test_is_what_python_gives(calibrate, job):
    calibrate("--method", "minmax")
    loader = trtcal.ImageLoader(job / "images", preprocess="unit")
    cache = trtcal.calibrate(trtcal.collect(job / "model.onnx", loader), method="minmax")
    assert CalibrationCache.load(job / "model.cache").dumps() == cache.dumps()
    assert cache.amax("image") == pytest.approx(1)


def test_json_alone_is_on_standard_output(calibrate, job):
    code, out, err = calibrate("--json")
    assert (code, err) == (0, FEW)
    result = json.loads(out)
    assert result["cache"] == str(job / "model.cache")
    assert (result["tensors"], result["images"], result["method"]) == (10, 12, "mse")
    assert (result["skipped"], result["zero"], result["statistics"]) == ([], [], None)


def test_best_tells_which_methods_it_took(calibrate, job):
    _, out, _ = calibrate("--method", "best")
    (line,) = [line for line in out.splitlines() if line.startswith("best took ")]
    picks = json.loads(calibrate("--method", "best", "--json")[1])["picks"]
    assert line == f"best took {', '.join(f'{name} for {count}' for name, count in picks.items())} tensors"
    assert sum(picks.values()) == len(CalibrationCache.load(job / "model.cache"))
    assert json.loads(calibrate("--json")[1])["picks"] == {}


@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_batch_size_changes_no_byte(calibrate, job, size):
    calibrate()
    expected = (job / "model.cache").read_bytes()
    calibrate("--batch-size", size)
    assert (job / "model.cache").read_bytes() == expected


def test_the_seed_chooses_images(calibrate, job):
    caches = []
    for seed in (0, 0, 1):
        assert json.loads(calibrate("--count", 4, "--seed", seed, "--json")[1])["images"] == 4
        caches.append((job / "model.cache").read_bytes())
    assert caches[0] == caches[1] != caches[2]


def test_only_the_quantizable_tensors(calibrate, job):
    calibrate("--tensors", "quantizable")
    cache = CalibrationCache.load(job / "model.cache")
    assert set(cache) == {"image", "a_relu", "pooled", "b_relu", "average", "flat"}
    assert cache.sidecar.tensors == "quantizable"


class TestStatistics:
    def test_another_method_follows_from_them_without_the_images(self, calibrate, job):
        kept = job / "model.stats.npz"
        code, out, _ = calibrate("--statistics", kept, "--json")
        assert (code, json.loads(out)["statistics"]) == (0, str(kept))
        calibrate("--method", "minmax", "--float-budget", 0, output=job / "direct.cache")
        code, _, err = calibrate("--statistics-from", kept, "--method", "minmax", images=None)
        assert (code, err.count("\n")) == (0, 1)
        assert "no layer was tried in float, as statistics hold no images" in err
        for name in ("cache", "cache.json"):
            assert (job / f"model.{name}").read_bytes() == (job / f"direct.{name}").read_bytes()

    def test_shards_give_what_one_pass_gives(self, calibrate, job):
        for name in ("cat", "dog"):
            calibrate("--statistics", job / f"{name}.npz", images=job / "images" / name)
        calibrate(output=job / "whole.cache")
        code, out, _ = calibrate("--statistics-from", job / "cat.npz", job / "dog.npz", "--json", images=None)
        assert (code, json.loads(out)["images"]) == (0, 12)
        assert (job / "model.cache").read_bytes() == (job / "whole.cache").read_bytes()

    def test_merged_statistics_can_be_kept(self, calibrate, job):
        calibrate("--statistics", job / "cat.npz", images=job / "images" / "cat")
        options = ["--statistics-from", job / "cat.npz", "--statistics", job / "again.npz"]
        assert calibrate(*options, images=None)[0] == 0
        assert dict(Statistics.load(job / "again.npz")) == dict(Statistics.load(job / "cat.npz"))

    def test_what_they_were_gathered_with_is_said_again(self, calibrate, job):
        _, direct, _ = calibrate("--statistics", job / "kept.npz", "--float-budget", 0)
        assert direct.splitlines()[2] == f"statistics: {job / 'kept.npz'}"
        code, out, _ = calibrate("--statistics-from", job / "kept.npz", images=None)
        told = direct.splitlines()[1].replace("unit: ", "")
        assert (code, out.splitlines()[1:]) == (0, [told])
        _, out, _ = calibrate("--statistics-from", job / "kept.npz", "--json", images=None)
        assert f"preprocessing: {json.loads(out)['preprocess']}" == told

    @pytest.mark.parametrize(
        "option, value",
        [
            ("--preprocess", "raw"),
            ("--count", 3),
            ("--batch-size", 8),
            ("--seed", 0),
            ("--tensors", "quantizable"),
            ("--on-bad-image", "skip"),
        ],
    )
    def test_what_goes_with_images_is_refused(self, calibrate, job, option, value):
        calibrate("--statistics", job / "kept.npz")
        before = (job / "model.cache").read_bytes()
        code, out, err = calibrate("--statistics-from", job / "kept.npz", option, value, images=None)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{option} goes with --images: give images to calibrate on, or leave it out" in err
        assert (job / "model.cache").read_bytes() == before

    @pytest.mark.parametrize(
        "spoil, message",
        [
            (lambda path: path.unlink(), "no statistics file"),
            (lambda path: path.write_bytes(b"PK no zip"), "is not a statistics file"),
            (lambda path: np.savez(path, header=np.zeros(3)), "is not a statistics file"),
        ],
    )
    def test_a_file_that_is_none(self, calibrate, job, spoil, message):
        path = job / "model.stats.npz"
        path.write_bytes(b"")
        spoil(path)
        code, out, err = calibrate("--statistics-from", path, images=None)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err

    def test_those_of_another_model(self, calibrate, command, job):
        calibrate("--statistics", job / "model.npz")
        net = Net()
        net.conv(net.input("image", ("N", 3, 16, 16)), "y", 8, 3, 3, 3)
        onnx.save(net.model("y"), job / "other.onnx")
        options = ["--statistics-from", job / "model.npz", "-o", job / "other.cache"]
        code, out, err = command("calibrate", job / "other.onnx", *options)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "gathered from another model (SHA-256 " in err
        assert not (job / "other.cache").exists()

    def test_the_same_shard_twice(self, calibrate, job):
        calibrate("--statistics", job / "cat.npz", images=job / "images" / "cat")
        code, _, err = calibrate("--statistics-from", job / "cat.npz", job / "cat.npz", images=None)
        assert (code, err.count("\n")) == (2, 1)
        assert "give each shard once" in err

    def test_an_output_that_is_read(self, calibrate, job):
        calibrate("--statistics", job / "cat.npz")
        before = (job / "cat.npz").read_bytes()
        code, _, err = calibrate("--statistics-from", job / "cat.npz", images=None, output=job / "cat.npz")
        assert (code, err.count("\n")) == (2, 1)
        assert "it is read, and would be lost" in err
        assert (job / "cat.npz").read_bytes() == before


class TestChoices:
    @pytest.mark.parametrize("options", [[], ["--statistics-from", "some.npz"]])
    def test_images_or_statistics_but_not_both(self, calibrate, job, options):
        code, out, err = calibrate(*options, images=job / "images" if options else None)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "give either --images or --statistics-from" in err

    def test_a_method_by_the_name_of_another_tool(self, calibrate, job):
        code, out, err = calibrate("--method", "tf_enhanced")
        assert (code, err) == (0, FEW.splitlines(keepends=True)[0])
        assert "12 images by sqnr" in out
        assert Sidecar.beside(job / "model.cache").method == "sqnr"
        calibrate("--method", "sqnr", output=job / "same.cache")
        assert (job / "same.cache").read_bytes() == (job / "model.cache").read_bytes()
        code, out, err = calibrate("--method", "hist", images=job / "nowhere")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "no range method 'hist': PaddleSlim's is percentile:99.9 here" in err

    def test_a_method_that_there_is_not(self, calibrate, job):
        code, out, err = calibrate("--method", "entropie", images=job / "nowhere")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "no range method 'entropie': choose among entropy, minmax" in err

    @pytest.mark.parametrize("statistics", ["model.cache", "model.cache.json"])
    def test_one_file_for_two_outputs(self, calibrate, job, statistics):
        code, _, err = calibrate("--statistics", job / statistics)
        assert (code, err.count("\n")) == (2, 1)
        assert "two outputs would be this one file" in err
        assert not (job / "model.cache").exists()


def test_images_that_are_skipped_are_named(calibrate, job):
    (job / "images" / "dog" / "bad.png").write_bytes(b"no image")
    code, out, err = calibrate("--on-bad-image", "skip")
    assert code == 0
    assert "from 12 images" in out
    assert err.startswith("skipped dog/bad.png: ")
    code, out, err = calibrate("--on-bad-image", "skip", "--json")
    assert json.loads(out)["skipped"][0]["image"] == "dog/bad.png"


def test_tensors_that_were_always_zero_are_named(command, tmp_path):
    net = Net()
    net.node("Abs", net.input("x", ("N", 8, 8, 8)), "a")
    net.node("Neg", "a", "b")
    net.node("Relu", "b", "dead")
    net.conv("dead", "y", 8, 8, 3, 3, bias=False)
    onnx.save(net.model("y"), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", np.ones((3, 8, 8, 8), np.float32))
    options = ["--images", tmp_path / "x.npy", "--preprocess", "none", "-o", tmp_path / "model.cache"]
    code, _, err = command("calibrate", tmp_path / "model.onnx", *options)
    assert code == 0
    assert "note: dead was zero in every image; its scale is 0, and it will stay in float" in err
    assert "\ndead: 0\n" in (tmp_path / "model.cache").read_text()


def test_a_mask_of_minus_infinity_is_noted_and_left_out(command, tmp_path):
    net = Net()
    net.input("x", ("N", 6, 8))
    net.input("mask", ("N", 6, 6))
    net.node("MatMul", f"x {net.weight('w', 8, 6)}", "scores")
    net.node("Add", "scores mask", "masked")
    onnx.save(net.model(net.node("Softmax", "masked", "p")), tmp_path / "masked.onnx")
    mask = np.where(np.tri(6, dtype=bool), 0, -np.inf).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=np.ones((4, 6, 8), np.float32), mask=np.stack([mask] * 4))
    options = ["--images", tmp_path / "data.npz", "--preprocess", "none", "-o", tmp_path / "masked.cache"]
    code, out, err = command("calibrate", tmp_path / "masked.onnx", *options, "--json")
    assert code == 0
    assert json.loads(out)["unbounded"] == ["mask", "masked"]
    assert "note: 2 tensor(s), such as mask, were infinite in some image" in err
    assert set(CalibrationCache.load(tmp_path / "masked.cache")) == {"x", "scores", "p"}
