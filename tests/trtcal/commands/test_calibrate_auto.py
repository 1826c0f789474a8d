"""`trtcal calibrate --method auto` by a task, with any method, and from shards on the command line."""

import json
from itertools import product

import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.ranges import METHODS

ALL_IN_INT8 = "note: no layer was tried in float, as statistics hold no images to try it on: all will be in INT8\n"


@pytest.fixture
def calibrate(command, job):
    """Calibrates the job's model with further options; gives code, output, messages."""

    def run(*options, images=job / "images", output=job / "model.cache"):
        source = [] if images is None else ["--images", images, "--preprocess", "unit"]
        return command("calibrate", job / "model.onnx", "-o", output, *source, *options)

    return run


def test_auto_takes_the_winner(calibrate, command, job):
    code, out, err = calibrate("--task", "classify", "--statistics", job / "kept.npz", "--float-budget", 0)
    assert code == 0, err
    cache = CalibrationCache.load(job / "model.cache")
    winner = cache.sidecar.method
    assert winner in METHODS
    assert cache.sidecar.images == 6  # the other six were ranked on
    lines = out.splitlines()
    assert lines[0] == f"{job / 'model.cache'}: {len(cache)} tensors from 6 images by {winner}"
    assert lines[2].startswith(
        f"calibrated on 6 of 12 images of {job / 'images'}, ranked on 6 others by top-1, then SQNR: 1 {winner} ("
    )
    for name in METHODS:
        assert f" {name} (" in lines[2]
    assert "holds 12 samples, not the 500 to calibrate on and 500 others" in err
    assert calibrate("--statistics-from", job / "kept.npz", "--method", winner, images=None, output=job / "c")[0] == 0
    for suffix in ("", ".json"):
        assert (job / f"c{suffix}").read_bytes() == (job / f"model.cache{suffix}").read_bytes()


def test_auto_is_what_compare_finds(calibrate, command, job):
    ranking = json.loads(calibrate("--method", "auto", "--task", "classify", "--float-budget", 0, "--json")[1])
    given = ["--images", job / "images", "--preprocess", "unit", "--json", "-o", job / "compare.cache"]
    compared = json.loads(command("compare", job / "model.onnx", *given)[1])
    assert ranking["method"] == compared["winner"]
    assert [each["method"] for each in ranking["ranking"]] == [each["method"] for each in compared["methods"]]
    for suffix in ("", ".json"):
        assert (job / f"compare.cache{suffix}").read_bytes() == (job / f"model.cache{suffix}").read_bytes()


def test_auto_for_nodes_alone(calibrate, job):
    assert calibrate("--task", "classify", "--tensors", "quantizable")[0] == 0
    assert set(CalibrationCache.load(job / "model.cache")) == {"image", "a_relu", "pooled", "b_relu", "average", "flat"}


def test_a_named_method_ranks_nothing(calibrate):
    code, out, _ = calibrate("--method", "minmax", "--json")
    assert (code, json.loads(out)["ranking"]) == (0, None)


def test_statistics_hold_no_images_to_judge_methods_on(calibrate, job):
    calibrate("--statistics", job / "kept.npz")
    code, _, err = calibrate("--method", "auto", "--statistics-from", job / "kept.npz", images=None)
    assert (code, CalibrationCache.load(job / "model.cache").sidecar.method) == (0, "mse")
    judged = "note: ranges by mse: statistics hold no images to judge methods on; --method names another\n"
    assert err == judged + ALL_IN_INT8
    code, out, err = calibrate("--task", "classify", "--statistics-from", job / "kept.npz", images=None)
    assert (code, out) == (2, "")
    assert "--task goes with --images" in err


def test_auto_refuses_a_single_image(calibrate, job):
    for path in [*(job / "images" / "cat").iterdir()][1:]:
        path.unlink()
    code, out, err = calibrate("--task", "classify", images=job / "images" / "cat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds 1 sample" in err


@pytest.mark.parametrize("method", [*METHODS, "percentile:99.9", "absmax", "KL"])
def test_every_method_writes_a_cache(calibrate, job, method):
    code, _, err = calibrate("--method", method)
    assert code == 0, err
    cache = CalibrationCache.load(job / "model.cache")
    assert all(scale > 0 for scale in cache.values())


@pytest.mark.parametrize("form", ["one after the other", "repeated", "with equals signs", "mixed"])
def test_shards_on_the_command_line(calibrate, job, form):
    shards = []
    for index, (name, odd) in enumerate(product(("cat", "dog"), (0, 1))):
        folder = job / f"shard{index}" / name
        folder.mkdir(parents=True)
        for number in range(odd, 6, 2):
            (folder / f"{number}.png").write_bytes((job / "images" / name / f"{number}.png").read_bytes())
        shards.append(job / f"{index}.npz")
        assert calibrate("--statistics", shards[-1], images=job / f"shard{index}")[0] == 0
    option = "--statistics-from"
    given = {
        "one after the other": [option, *shards],
        "repeated": [part for path in shards for part in (option, path)],
        "with equals signs": [f"{option}={shards[0]}", *shards[1:]],
        "mixed": [option, *shards[:2], "--json", f"{option}={shards[2]}", shards[3]],
    }[form]
    for method in ("minmax", "entropy"):
        calibrate("--method", method, output=job / "whole.cache")
        code, _, err = calibrate(*given, "--method", method, images=None)
        assert (code, err) == (0, ALL_IN_INT8)
        assert CalibrationCache.load(job / "model.cache") == CalibrationCache.load(job / "whole.cache")
