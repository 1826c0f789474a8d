"""Models whose outputs have a size that depends on the data, as users meet them: every command that compares."""

import json

import numpy as np
import onnx
import pytest

from tests.engines.networks import selector

SAMPLES = np.random.default_rng(3).standard_normal((24, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def run(command, tmp_path):
    """Runs a command on a selector, which is written first; gives code, output, messages."""
    np.savez(tmp_path / "x.npz", x=SAMPLES)

    def run(verb, *options, images=("--images", tmp_path / "x.npz", "--preprocess", "none", "--count", 8), **network):
        onnx.save(selector(**network), tmp_path / "m.onnx")
        return command(verb, tmp_path / "m.onnx", *options, *images)

    return run


@pytest.mark.parametrize(
    "options",
    [
        ("compare", "--methods", "minmax,mse"),
        ("sensitivity",),
        ("mixed-precision", "--target-sqnr", 20, "--confirm-count", 0),
        ("calibrate", "--task", "outputs"),
    ],
)
def test_what_can_be_compared_is_and_the_rest_is_named(run, tmp_path, options):
    code, _, err = run(*options, "-o", tmp_path / "found")
    assert code == 0, err
    told = [line for line in err.splitlines() if "depends on the data" in line]
    assert len(told) == 1
    assert "picked, places" in told[0]
    assert "of 16 samples" in told[0]
    assert "SQNR is that of the other outputs" in told[0]


def test_accuracy_and_recovery(run, command, tmp_path):
    assert run("calibrate", "-o", tmp_path / "m.cache")[0] == 0
    steps = ["--recover", "equalization,bias-correction,adaround", "--cache", tmp_path / "m.cache"]
    code, out, err = run("quantize", *steps, "-o", tmp_path / "q.onnx", "--json")
    assert code == 0, err
    assert "SQNR is that of the other outputs" in err
    bias, rounding = json.loads(out)["recovery"]["steps"][-2:]
    why = "the size of what it reads depends on the data (nz/NonZero)"
    assert bias["skipped"] == rounding["skipped"] == {"picked/MatMul": why}
    images = ["--images", tmp_path / "x.npz", "--preprocess", "none"]
    code, out, err = command("accuracy", tmp_path / "m.onnx", tmp_path / "q.onnx", *images, "--json")
    assert code == 0, err
    found = json.loads(out)["models"][1]
    assert found["other_size"]["picked"] > 0
    assert found["sqnr_db"] == pytest.approx(found["sqnr_db_by_output"]["c"])


def test_trials_are_remembered_with_what_could_not_be_compared(run, tmp_path):
    first, again = (run("sensitivity", "--resume", tmp_path / "t.json", "--json") for _ in range(2))
    assert first[0] == again[0] == 0, again[2]
    one, two = (json.loads(each[1]) for each in (first, again))
    assert two["trials"]["run"] == 0
    assert two["sensitivity"] == one["sensitivity"]


@pytest.mark.parametrize("verb", ["sensitivity", "compare"])
def test_a_model_that_selects_nothing(run, verb):
    code, out, err = run(verb, threshold=1e6, dense=False)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "what nz/NonZero reads as outputs too" in err
