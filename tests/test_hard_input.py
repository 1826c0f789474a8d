"""Long lines, long numbers and numbers beyond a float: read or refused within seconds, in one line."""

import json
import threading
import time

import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError, TrtcalError, repeated
from calibrators.statistics.file import Statistics
from engines.backends.shapes import parse_shapes
from trtcal.analysis.trial_cache import TrialCache, _sha256
from trtcal.config.settings import QuantConfig
from trtcal.config.toml_file import parse_toml
from trtcal.conversion import read
from trtcal.data.preprocess import Preprocess

LONG = 100_000

SECONDS = 20  # a fraction of one here, where such a file took minutes before


def said(function, *arguments):
    """The refusal, which comes soon."""
    answers = []

    def attempt():
        try:
            answers.append(repr(function(*arguments)))
        except Exception as error:  # noqa: BLE001 - told below
            answers.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert answers, "it takes too long"
    assert isinstance(answers[0], TrtcalError), answers[0]
    assert "\n" not in str(answers[0])
    return str(answers[0])


@pytest.mark.parametrize(
    "text",
    [
        "TRT-8601-EntropyCalibration2" + " " * LONG + "x\na: 3c010a14\n",
        "1" + " " * LONG + "x\na: 3c010a14\n",
        "1 aa\n" + " " * LONG + "x\n",
        "a: " + "1" * LONG + "x\n" + "b: 1.5\n" * 3,
        "a " + "1" * LONG + "x\n" + "b 1.5\n" * 3,
        "a" + " 111" * 1000 + " x\n",
        "a " + "1" * LONG + "x\n",
        "TRT-8601-EntropyCalibration2\n" + "a: 1" * LONG + "x\n",
        "{" + ", ".join(f'"k{i}": 1' for i in range(LONG)) + f', "k{LONG - 1}": 1}}',
    ],
    ids=["header", "old header", "old cache", "ranges", "table", "ncnn", "ncnn digits", "colons", "keys"],
)
def test_a_long_line_in_the_place_of_scales(text, tmp_path):
    path = tmp_path / "scales"
    path.write_text(text)
    assert str(path) in said(read, path)


def test_a_version_of_many_digits_is_no_version_that_is_known():
    with pytest.raises(CacheError, match="is no header of a calibration cache"):
        CalibrationCache.parse("TRT-" + "9" * 5000 + "-EntropyCalibration2\na: 3c010a14\n")
    assert CalibrationCache.parse("TRT-" + "9" * 90 + "-EntropyCalibration2\na: 3c010a14\n").version is None
    spaced = "TRT-8601-EntropyCalibration2" + " " * LONG + "\na: 3c010a14\n"
    assert CalibrationCache.parse(spaced).dumps().decode() == spaced


@pytest.mark.parametrize(
    "scale", ["1e400", "-1e400", "1e999999999", "1e-999999999", "1/1e999999999", "nan", "9" * 5000]
)
@pytest.mark.parametrize("load", [Preprocess.load, lambda path: Preprocess.from_dict(parse_toml(path.read_text()))])
def test_a_scale_beyond_a_float(scale, load, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(f'scale = "{scale}"\n')
    assert "scale" in said(load, path)


@pytest.mark.parametrize(
    "text",
    [
        "mean = 1e400",
        "mean = -1e999999999",
        "mean = 0x" + "f" * 10_000,
        "crop = 0x" + "f" * 16,
        "crop = 4294967296",
        "mean = [" + "9" * 5000 + "]",
        "a." * LONG + "a = 1",
        "[" + "a." * LONG + "a]",
        "b = { " + "a." * LONG + "a = 1 }",
    ],
)
@pytest.mark.parametrize("load", [Preprocess.load, QuantConfig.load])
def test_settings_with_numbers_or_keys_that_have_no_end(text, load, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(text + "\n")
    assert str(path) in said(load, path)


def test_names_of_layers_may_have_many_dots():
    name = "block." * 100 + "conv"
    assert parse_toml(f'name = ["{name}", "{name}"]') == {"name": [name, name]}


@pytest.mark.parametrize(
    "changed",
    [
        {"images": 10**400},
        {"seed": -(10**400)},
        {"explicit": {"a": 1e300}},
        {"explicit": {"a": float("inf")}},
        {"preprocess": {"scale": float("inf")}},
    ],
)
def test_a_side_car_with_numbers_beyond_a_float(changed):
    whole = {"format": 1, "model_sha256": "", "method": "entropy", "tensors": "all", "image_sets": [], "images": 1}
    assert "<text>" in said(Sidecar.parse, json.dumps({**whole, "versions": {}, "cache_sha256": "", **changed}))


@pytest.mark.parametrize("share", [[10**400, 10**401], [1, 10**400]])
def test_trials_with_numbers_beyond_a_float(share, tmp_path):
    counts = dict.fromkeys(("samples", "classes", "lost", "gained", "nonfinite"), 1)
    shares = dict.fromkeys(("top1", "top5", "agreement"), share)
    scores = {"key": {**counts, **shares, "distortions": {"y": [10**400, 1]}}}
    path = tmp_path / "a.trials.json"
    path.write_text(json.dumps({"trtcal_trials": 1, "sha256": _sha256(scores), "scores": scores}))
    assert str(path) in said(TrialCache, path)


def test_sizes_of_many_digits():
    assert "shape" in said(parse_shapes, "x:" + "9" * 5000)


def test_the_first_name_that_is_repeated():
    begun = time.perf_counter()
    assert repeated([*map(str, range(LONG)), "7", "3"]) == "7"
    assert repeated(map(str, range(LONG))) is None
    assert time.perf_counter() - begun < SECONDS


def test_statistics_of_more_images_than_a_float_counts(tmp_path, monkeypatch):
    path = tmp_path / "a.stats.npz"
    statistics = Statistics({})
    object.__setattr__(statistics.provenance, "count", 10**400)
    statistics.save(path)
    assert str(path) in said(Statistics.load, path)
