"""The whole job on the demo's network: decided, written, resumed; with a bound that INT8 misses."""

import json
import shlex

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.errors import BuildError, DataError, OutputError, TrtcalError
from calibrators.files import sha256_of
from engines.inspection.engine_record import Engine
from tests.engines.networks import classifier
from tests.trtcal.optimizing import digits_job
from trtcal.demo import DETECTOR
from trtcal.demo.digits import load_split
from trtcal.demo.scenes import make_scenes
from trtcal.measure.accuracy import evaluate
from trtcal.optimization import building, ladder, reporting, stages
from trtcal.optimization.places import Places
from trtcal.optimization.request import precisions_named


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return digits_job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def done(job, tmp_path_factory):
    """An optimization of it, with one of a kind of all sections."""
    return optimize(job, tmp_path_factory.mktemp("done") / "out")


def optimize(job, folder, **options):
    return trtcal.optimize(
        job["model"],
        job["images"],
        folder,
        **{"test_images": job["test_images"], "preprocess": "unit", "max_drop": 5.0, **options},
    )


def made(folder):
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_it_decides_and_writes_all_of_it(done, job):
    assert done.chosen is not None and done.chosen.name == "int8"
    assert [each.name for each in done.candidates] == ["int8", "fp16", "fp32"]
    assert [each.name for each in done.steps] == ["default"]
    places = Places(done.folder, "digits")
    assert Engine.load(places.engine).record.precision == "int8"
    assert places.engine.read_bytes() == done.chosen.engine.read_bytes()
    assert {"QuantizeLinear"} <= {node.op_type for node in onnx.load(places.quantized).graph.node}
    assert trtcal.CalibrationCache.load(places.cache).sidecar.float_layers
    record = json.loads(places.record.read_text())
    assert record["verdict"]["chosen"] == "int8"
    sections = {"verdict", "images", "ranges", "layers", "sensitivity", "accuracy", "engines", "how"}
    assert sections <= record.keys()
    assert places.page.read_text().startswith("<!doctype html>") and places.page.stat().st_size < 5e6
    assert done.to_measure and all(line.startswith("trtcal ") for line in done.to_measure)
    assert shlex.split(done.commands[0])[:3] == ["trtcal", "optimize", str(job["model"])]


def test_its_figures_are_those_of_the_other_commands(done, job):
    places, int8 = Places(done.folder, "digits"), done.candidates[0]
    with trtcal.OnnxRuntimeSession(job["model"]) as session:
        loader = trtcal.ImageLoader(job["test_images"], preprocess="unit", inputs=session.inputs)
    halves = loader.divided(40)
    assert (done.steps[0].measured.images, int8.measured.images) == (40, 40)
    for images, measured in ((halves[0], done.steps[0].measured), (halves[1], int8.measured)):
        score = evaluate({"fp32": job["model"], "int8": places.quantized}, images, reference="fp32").scores["int8"]
        assert measured.accuracy == pytest.approx(score.top1.percent)
        assert measured.drop == pytest.approx(score.drop)
        assert measured.sqnr == pytest.approx(score.sqnr, abs=1e-6)


def test_a_second_run_does_nothing_again(done, job, monkeypatch):
    before = made(done.folder)
    for place, name in ((stages, "calibrate_model"), (building, "build_engine"), (stages, "side_by_side")):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("done again"))
    again = optimize(job, done.folder)
    after = made(done.folder)
    assert again.chosen.name == "int8" and all(each.reused for each in again.steps)
    assert {name: digest for name, digest in before.items() if not name.startswith("report")} == {
        name: digest for name, digest in after.items() if not name.startswith("report")
    }


def test_another_bound_keeps_what_does_not_depend_on_it(done, job, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in done.folder.rglob("*"):
        target = folder / path.relative_to(done.folder)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    other = optimize(job, folder, max_drop=4.0)
    first, second = (json.loads((each / "optimize.json").read_text())["stages"] for each in (done.folder, folder))
    kept = {name for name in first if first[name] == second.get(name)}
    assert {"calibration", "engine int8", "engine fp16", "engine fp32"} <= kept
    assert "step default" not in kept and not other.steps[0].reused


@pytest.mark.parametrize("stage", ["calibration", "step", "engine", "accuracy"])
def test_an_interrupted_run_goes_on(job, tmp_path, monkeypatch, stage):
    places = {
        "calibration": (stages, "calibrate_model"),
        "step": (ladder, "quantize"),
        "engine": (building, "build_engine"),
        "accuracy": (stages, "pictures"),
    }
    place, name = places[stage]
    calls = []
    real = getattr(place, name)

    def interrupted(*given, **options):
        calls.append(name)
        if stage == "engine" and len(calls) == 1:
            return real(*given, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(place, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimize(job, tmp_path / "out", precisions=("int8", "fp16"))
    known = json.loads((tmp_path / "out" / "optimize.json").read_text())["stages"]
    done = optimize(job, tmp_path / "out", precisions=("int8", "fp16"))
    assert done.chosen.name == "int8"
    after = json.loads((tmp_path / "out" / "optimize.json").read_text())["stages"]
    assert all(after[each] == known[each] for each in known)  # with the very seconds that it took then
    expected = {"calibration": set(), "step": {"calibration"}, "engine": {"engine int8"}, "accuracy": {"engine fp16"}}
    assert expected[stage] <= known.keys()


def test_a_bound_that_int8_misses_is_climbed_for(tmp_path):
    """A random network's classes change easily: not one of them may."""
    onnx.save(classifier(classes=40), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((240, 3, 16, 16)).astype(np.float32))
    done = trtcal.optimize(tmp_path / "model.onnx", tmp_path / "x.npy", tmp_path / "out", max_drop=0.0, count=120)
    names = [each.name for each in done.steps]
    order = ["default", "ranges", "float10", "float20", "recovered", "mixed"]
    assert len(names) > 1 and names == order[: len(names)]
    assert [each.holds for each in done.steps[:-1]] == [False] * (len(names) - 1)
    assert all(each.told for each in done.steps)
    assert done.measure == "agreement"
    if not done.steps[-1].holds:
        assert not done.candidates[0].holds and done.chosen.name == "fp16"
        assert "int8 does not hold it" in done.sentence
    only = trtcal.optimize(
        tmp_path / "model.onnx", tmp_path / "x.npy", tmp_path / "only", max_drop=0.0, count=120, precisions=["int8"]
    )
    assert (only.chosen is None) == (not only.steps[-1].holds)
    if only.chosen is None:
        assert only.gap > 0 and (tmp_path / "only" / "model.engine").is_file()
        with pytest.raises(trtcal.TrtcalError, match="no candidate holds the bound"):
            only.require_chosen()


def test_what_cannot_be_optimized_is_told_before_any_work(job, done, tmp_path):
    def refused(kind, match, **options):
        with pytest.raises(kind, match=match):
            optimize(job, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    refused(TrtcalError, "from 0 to 100", max_drop=-1.0)
    refused(TrtcalError, "no precision 'int4'", precisions=("int4",))
    refused(TrtcalError, "give some of int8", precisions=())
    refused(DataError, "no preprocessing", preprocess="imagenett")
    refused(BuildError, "nonsense", shapes="nonsense:1x1x32x32")
    quantized = {**job, "model": Places(done.folder, "digits").quantized}
    with pytest.raises(BuildError, match="has Q/DQ nodes already"):
        optimize(quantized, tmp_path / "out")
    with pytest.raises(OutputError, match="is read from it"):
        optimize(job, job["model"].parent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        optimize(job, tmp_path / "other")


def test_outputs_without_classes_need_a_task(tmp_path):
    from tests.engines.networks import Net

    net = Net()
    onnx.save(net.model(net.conv(net.input("x", ("N", 3, 8, 8)), "conv", 4, 3, 3, 3)), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", np.zeros((8, 3, 8, 8), np.float32) + np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1))
    with pytest.raises(TrtcalError, match="say what it finds with --task"):
        trtcal.optimize(tmp_path / "model.onnx", tmp_path / "x.npy", tmp_path / "out")


def test_an_engine_that_the_builder_refuses_is_named_and_the_others_are_built(job, tmp_path, monkeypatch):
    real = building.build_engine

    def refusing(model, *, precision, **options):
        if precision == "int8":
            raise BuildError("no kernel for it")
        return real(model, precision=precision, **options)

    monkeypatch.setattr(building, "build_engine", refusing)
    done = optimize(job, tmp_path / "out", precisions=("int8", "fp16"))
    assert [each.name for each in done.candidates] == ["fp16"] and done.chosen.name == "fp16"
    assert "there is no INT8 engine: no kernel for it" in done.notes
    with pytest.raises(BuildError, match="no kernel for it"):
        optimize(job, tmp_path / "other", precisions=("int8",))


def test_without_the_extra_there_is_no_page_and_a_note_says_so(job, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    done = optimize(job, tmp_path / "out", precisions=("fp32",))
    assert not (tmp_path / "out" / "report.html").exists()
    assert any("no report.html was written" in note and "[report]" in note for note in done.notes)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {each["precision"] for each in record["layers"]["nodes"]} == {"fp32", "none"}


def test_a_detector_without_annotations_keeps_what_the_float_model_finds(tmp_path):
    """With a bound that no step holds: all are taken, and the page shows each."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")
    split = load_split()
    for name, digits, count in (("images", split.train, 24), ("test", split.test, 24)):
        scenes = np.stack([scene.image for scene in make_scenes(digits, count, seed=5)])
        np.savez(tmp_path / f"{name}.npz", image=scenes)
    done = trtcal.optimize(
        DETECTOR,
        tmp_path / "images.npz",
        tmp_path / "out",
        test_images=tmp_path / "test.npz",
        preprocess="unit",
        task=trtcal.Task("detect"),
        max_drop=0.0,
        precisions=("int8",),
    )
    assert done.measure.startswith("agreement") or "mAP" in done.measure
    names = [each.name for each in done.steps]
    if done.chosen is None:
        assert names == ["default", "ranges", "float10", "float20", "recovered", "mixed"] and done.gap > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(f"<b>{name}</b>" in page for name in names)
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert record["accuracy"]["pictures"] and "confusion" not in record["accuracy"]


def test_a_lone_precision_of_a_detector(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")
    scenes = np.stack([scene.image for scene in make_scenes(load_split().test, 8, seed=6)])
    np.savez(tmp_path / "images.npz", image=scenes)
    done = trtcal.optimize(
        DETECTOR,
        tmp_path / "images.npz",
        tmp_path / "out",
        preprocess="unit",
        task=trtcal.Task("detect"),
        precisions=["fp32"],
    )
    assert done.chosen.name == "fp32" and done.chosen.measured.drop == 0 and done.steps == ()


def test_precisions_are_in_the_order_of_what_they_cost():
    assert precisions_named(["fp32", "int8", "int8"]) == ("int8", "fp32")
