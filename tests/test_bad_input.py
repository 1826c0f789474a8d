"""Bad input, through the command line: one line, the documented exit code, and every file as it was before."""

import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import trtcal
from tests.engines.networks import Net, classifier

ROOT = Path(__file__).resolve().parents[1]

CALIBRATE = "calibrate {model} --images {images} -o {out}"
QUANTIZE = "quantize {model} --cache {cache} -o {out}"
BUILD = "build {model} --cache {cache} -o {out}"
BUILD_ON_IMAGES = "build {model} --images {images} -o {out}"
ACCURACY = "accuracy {model} --images {images}"
CONVERT = "cache convert {cache} {model} --to qdq -o {out}"

VERBS = {
    "calibrate": CALIBRATE,
    "quantize": QUANTIZE,
    "build": BUILD,
    "build --images": BUILD_ON_IMAGES,
    "accuracy": ACCURACY,
    "cache convert": CONVERT,
}
ON_IMAGES = {name: line for name, line in VERBS.items() if "{images}" in line}
FROM_A_CACHE = {name: line for name, line in VERBS.items() if "{cache}" in line}
WRITING = {name: line for name, line in VERBS.items() if "{out}" in line}


def each(lines):
    return pytest.mark.parametrize("line", lines.values(), ids=lines)


@pytest.fixture
def folder(job):
    """The job with its calibration cache, and in `out` what an earlier run has left."""
    loader = trtcal.ImageLoader(job / "images", preprocess="unit")
    trtcal.calibrate(trtcal.collect(job / "model.onnx", loader)).save(job / "ranges.cache")
    (job / "out").write_text("good")
    (job / "out.json").write_text('{"as": "good"}')
    return job


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(command, folder):
    """Runs a verb and checks that it refuses in one line; gives the line."""

    def run(line, *options, code=2, **paths):
        if line.startswith("build"):
            pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
        places = {"model": folder / "model.onnx", "images": folder / "images", "cache": folder / "ranges.cache"}
        places = {**places, "out": folder / "out", **paths}
        before = contents(folder)
        result = command(*(word.format(**places) for word in line.split()), *options)
        assert result[:2] == (code, ""), result
        message = result[2]
        assert message.startswith("trtcal: ")
        assert message.count("\n") == 1
        assert message.endswith("\n")
        assert "Traceback" not in message
        assert contents(folder) == before
        return message

    return run


class TestModels:
    @each(VERBS)
    def test_missing(self, refused, folder, line):
        assert "missing.onnx" in refused(line, model=folder / "missing.onnx")

    @each(VERBS)
    def test_a_folder(self, refused, folder, line):
        assert str(folder / "images") in refused(line, model=folder / "images")

    @each(VERBS)
    @pytest.mark.parametrize(
        "damage", [lambda data: b"", lambda data: b"no model", lambda data: data[: len(data) // 2]]
    )
    def test_corrupt(self, refused, folder, line, damage):
        path = folder / "corrupt.onnx"
        path.write_bytes(damage((folder / "model.onnx").read_bytes()))
        assert str(path) in refused(line, model=path)

    @each(VERBS)
    def test_without_its_external_data(self, refused, folder, line):
        path = folder / "apart.onnx"
        onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        (folder / "weights.bin").unlink()
        (folder / "ranges.cache.json").unlink()
        assert "weights.bin" in refused(line, model=path)

    @pytest.mark.parametrize("line", [CALIBRATE + " --tensors quantizable", QUANTIZE, BUILD, BUILD_ON_IMAGES])
    def test_nothing_to_quantize(self, refused, folder, line):
        net = Net()
        net.node("Relu", net.input("image", ("N", 3, 16, 16)), "y")
        onnx.save(net.model("y"), folder / "relu.onnx")
        (folder / "ranges.cache.json").unlink()
        message = refused(line, model=folder / "relu.onnx")
        assert "the model has no layer to quantize (Conv, " in message

    @pytest.mark.parametrize(
        "line, word", [(QUANTIZE, "is quantized already: give the float model"), (BUILD, "has Q/DQ nodes already")]
    )
    def test_quantized_already(self, refused, folder, line, word):
        trtcal.quantize(folder / "model.onnx", folder / "ranges.cache", output=folder / "int8.onnx")
        (folder / "ranges.cache.json").unlink()
        assert word in refused(line, model=folder / "int8.onnx")


class TestImages:
    @each(ON_IMAGES)
    def test_missing(self, refused, folder, line):
        assert "nowhere" in refused(line, images=folder / "nowhere")

    @each(ON_IMAGES)
    def test_an_empty_folder(self, refused, folder, line):
        (folder / "empty").mkdir()
        assert "no image in" in refused(line, images=folder / "empty")

    @each(ON_IMAGES)
    @pytest.mark.parametrize("name", ["notes.txt", "photo.png"])
    def test_a_folder_of_no_images(self, refused, folder, line, name):
        for kind in ("cat", "dog"):
            (folder / "texts" / kind).mkdir(parents=True)
            (folder / "texts" / kind / name).write_text("no image")
        message = refused(line, images=folder / "texts")
        assert ("no image in" if name == "notes.txt" else "photo.png") in message

    @each(ON_IMAGES)
    def test_one_that_is_damaged(self, refused, folder, line):
        path = folder / "images" / "dog" / "9.png"
        path.write_bytes((folder / "images" / "dog" / "1.png").read_bytes()[:100])
        message = refused(line)
        assert str(path) in message
        assert "--on-bad-image skip" in message

    @each(ON_IMAGES)
    @pytest.mark.parametrize("shape", [(4, 3, 17, 16), (4, 16, 16, 3), (4, 3, 16), (0, 3, 16, 16)])
    def test_arrays_of_another_size(self, refused, folder, line, shape):
        np.save(folder / "arrays.npy", np.zeros(shape, np.float32))
        np.save(folder / "labels.npy", np.zeros(shape[0], np.int64))
        options = ["--labels", folder / "labels.npy"] if line == ACCURACY else []
        message = refused(line, *options, images=folder / "arrays.npy")
        assert "image:Nx3x16x16" in message or "no sample" in message

    @each(ON_IMAGES)
    def test_arrays_of_another_name(self, refused, folder, line):
        zeros = np.zeros((4, 3, 16, 16), np.float32)
        np.savez(folder / "arrays.npz", pixels=zeros, more=zeros)
        assert "image" in refused(line, images=folder / "arrays.npz")

    @pytest.mark.parametrize("line", [CALIBRATE, BUILD_ON_IMAGES])
    def test_numbers_that_are_none(self, refused, folder, line):
        arrays = np.zeros((4, 3, 16, 16), np.float32)
        arrays[2, 0, 3, 3] = np.nan
        np.save(folder / "arrays.npy", arrays)
        message = refused(line, images=folder / "arrays.npy")
        assert "the activation image is NaN for sample 2" in message


class TestPreprocessing:
    @each(ON_IMAGES)
    @pytest.mark.parametrize(
        "text, word",
        [
            ('channels = "grey"', "takes three channels, not grey"),
            ('layout = "NHWC"', "layout NHWC is stated, but input image:Nx3x16x16 is NCHW"),
            ('resize = {mode = "exact", size = [20, 20]}', "takes images of 16x16"),
            ('dtype = "uint8"', "dtype uint8 is stated"),
            ("mean = [1, 2]", "mean"),
            ("sclae = 2", "sclae"),
            ("scale = ", "preprocess.toml"),
        ],
    )
    def test_that_does_not_fit_the_model(self, refused, folder, line, text, word):
        (folder / "preprocess.toml").write_text(text)
        assert word in refused(line, "--preprocess", folder / "preprocess.toml")

    @each(ON_IMAGES)
    @pytest.mark.parametrize("name", ["imagent", "missing.toml"])
    def test_that_there_is_not(self, refused, line, name):
        assert name in refused(line, "--preprocess", name)

    @each(ON_IMAGES)
    def test_of_one_channel_for_three(self, refused, line):
        assert "three channels" in refused(line, "--preprocess", "mnist")

    @pytest.mark.parametrize("line", [CALIBRATE, BUILD_ON_IMAGES])
    def test_images_for_a_model_that_takes_none(self, refused, folder, line):
        net = Net()
        net.weight("w", 8, 8)
        net.node("MatMul", net.input("features", ("N", 8)) + " w", "y")
        onnx.save(net.model("y"), folder / "features.onnx")
        message = refused(line, model=folder / "features.onnx")
        assert "features:Nx8 takes no images" in message
        assert "--preprocess none" in message

    @each(ON_IMAGES)
    def test_images_of_many_sizes_for_a_model_of_any(self, refused, folder, line):
        net = Net()
        net.conv(net.input("image", ("N", 3, "H", "W")), "y", 4, 3, 3, 3)
        onnx.save(net.model("y"), folder / "any.onnx")
        Image.new("RGB", (30, 20)).save(folder / "images" / "cat" / "wide.png")
        (folder / "own.toml").write_text('scale = 1.0\nresize = "none"\n')
        shapes = ["--shapes", "image:1x3x16x16"] if line.startswith("build") else []
        refused(line, "--preprocess", folder / "own.toml", *shapes, model=folder / "any.onnx")


class TestCaches:
    @each(FROM_A_CACHE)
    def test_of_another_model(self, refused, folder, line):
        onnx.save(classifier(seed=1), folder / "other.onnx")
        assert "made of another model" in refused(line, model=folder / "other.onnx", code=1)

    @each(FROM_A_CACHE)
    def test_of_another_model_without_a_side_car(self, refused, folder, line):
        net = Net()
        net.conv(net.input("pixels", ("N", 3, 16, 16)), "z", 8, 3, 3, 3)
        onnx.save(net.model("z"), folder / "other.onnx")
        (folder / "ranges.cache.json").unlink()
        message = refused(line, model=folder / "other.onnx")
        assert "usable scale for none of the 1 tensors to quantize, such as pixels" in message

    @each(FROM_A_CACHE)
    def test_missing(self, refused, folder, line):
        assert "missing.cache" in refused(line, cache=folder / "missing.cache")

    @each(FROM_A_CACHE)
    @pytest.mark.parametrize(
        "text",
        ["", "TRT-8601-EntropyCalibration2\n", "TRT-8601-EntropyCalibration2\nimage 3c010204\n", "image: 3c010204\n"],
    )
    def test_malformed(self, refused, folder, line, text):
        (folder / "bad.cache").write_text(text)
        assert str(folder / "bad.cache") in refused(line, cache=folder / "bad.cache")

    @each(FROM_A_CACHE)
    def test_a_damaged_side_car(self, refused, folder, line):
        (folder / "ranges.cache.json").write_text('{"format": 1, ')
        assert "ranges.cache.json" in refused(line)


class TestOutputs:
    @each(WRITING)
    def test_a_missing_folder(self, refused, folder, line):
        assert "does not exist; make it first" in refused(line, out=folder / "missing" / "out")

    @each(WRITING)
    def test_a_folder(self, refused, folder, line):
        assert "it is a folder; give the name of a file" in refused(line, out=folder / "images")

    @each(WRITING)
    def test_a_file_for_a_folder(self, refused, folder, line):
        assert "cannot write" in refused(line, out=folder / "model.onnx" / "out")

    @each(WRITING)
    def test_a_folder_in_place_of_the_side_car(self, refused, folder, line):
        (folder / "other.json").mkdir()
        assert "other.json" in refused(line, out=folder / "other")
        assert not (folder / "other").exists()

    @each(WRITING)
    def test_a_folder_without_permission(self, refused, folder, line):
        (folder / "locked").mkdir(mode=0o500)
        if os.access(folder / "locked", os.W_OK):
            pytest.skip("this user may write anywhere")
        assert "no permission to write" in refused(line, out=folder / "locked" / "out")

    @each(WRITING)
    def test_the_model_that_is_read(self, refused, folder, line):
        assert str(folder / "model.onnx") in refused(line, out=folder / "model.onnx")

    @each(FROM_A_CACHE)
    def test_the_cache_that_is_read(self, refused, folder, line):
        assert str(folder / "ranges.cache") in refused(line, out=folder / "ranges.cache")


@contextmanager
def small_disk(size):
    """Files of this process grow to `size` bytes at most: EFBIG, which is handled as ENOSPC is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class TestAFullDisk:
    @each(WRITING)
    def test_nothing_changes(self, refused, line):
        with small_disk(50):
            message = refused(line)
        assert "no space left on the disk; what was there before is unchanged" in message

    @each({name: line for name, line in WRITING.items() if line != CALIBRATE})
    def test_nor_where_the_side_car_alone_has_room(self, refused, line):
        with small_disk(2500):
            message = refused(line)
        assert "no space left" in message

    def test_nor_do_statistics(self, refused, folder):
        (folder / "model.npz").write_text("good")
        with small_disk(3000):
            message = refused(CALIBRATE, "--statistics", folder / "model.npz")
        assert "no space left" in message


class TestCtrlC:
    """A real process, interrupted as soon as its progress bar is there."""

    @pytest.fixture
    def long(self, folder):
        """20,000 images: seconds of work."""
        pixels = np.random.default_rng(0).integers(0, 256, (2000, 16, 16, 3), np.uint8)
        np.save(folder / "many.npy", np.tile(pixels, (10, 1, 1, 1)))
        return folder

    @pytest.mark.parametrize("line", [CALIBRATE, BUILD_ON_IMAGES])
    def test_leaves_everything_as_it_was(self, long, line):
        if line == BUILD_ON_IMAGES:
            pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
        before = contents(long)
        places = {"model": long / "model.onnx", "images": long / "many.npy", "out": long / "out"}
        words = [word.format(**places) for word in line.split()]
        terminal, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", "from trtcal.cli import main; main()", *words, "--count", "20000"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(long)},
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        said = b""
        while b"Calibrating" not in said:
            said += os.read(terminal, 1000)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        said += drained(terminal)
        assert (process.returncode, out) == (130, b"")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r", "\n")
        assert "Traceback" not in text
        assert text.rstrip().splitlines()[-1] == "trtcal: interrupted; no file is half-written"
        assert contents(long) == before

    def test_a_second_run_does_the_job(self, folder, command):
        """What an interrupted run leaves is no obstacle, not even a temporary file of a process that was killed."""
        (folder / ".out.killed.tmp").write_text("half")
        shutil.copy(folder / "ranges.cache", folder / "expected")
        options = ["--images", folder / "images", "--preprocess", "unit", "-o", folder / "out"]
        assert command("calibrate", folder / "model.onnx", *options)[0] == 0
        assert (folder / "out").read_bytes() == (folder / "expected").read_bytes()


def drained(terminal):
    """What is left to read of a terminal whose other end is closed."""
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # Linux says so at its end
        pass
    os.close(terminal)
    return said
