"""Scores kept in a file: keys of content, whole files, and nothing lost."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.encoding import Encoding
from calibrators.errors import CacheError, OutputError
from calibrators.grid import Grid
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from tests.engines.networks import classifier
from trtcal.analysis import trial_cache
from trtcal.analysis.trial_cache import TrialCache, trial_context, trial_key
from trtcal.data.images import ImageLoader
from trtcal.measure.class_counts import ClassCounts
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share

ROOT = Path(__file__).resolve().parents[3]

COUNTS = st.integers(0, 2**40)
SHARES = st.tuples(COUNTS, COUNTS).map(lambda pair: Share(min(pair), max(pair)))
DISTORTIONS = st.dictionaries(st.text(), st.builds(Distortion, st.floats(), st.floats()), max_size=3)
BY_CLASS = st.dictionaries(st.integers(0, 999), st.builds(ClassCounts, *[COUNTS] * 6), max_size=3)
SCORES = st.builds(
    Score, COUNTS, COUNTS, top1=SHARES, top5=SHARES, agreement=SHARES, lost=COUNTS, gained=COUNTS,
    distortions=DISTORTIONS, nonfinite=COUNTS, by_class=BY_CLASS,
)  # fmt: skip

SCORE = Score(samples=7, classes=3, top1=Share(4, 7), agreement=Share(5, 7), distortions={"y": Distortion(0.1, 1e-300)})


@given(SCORES)
def test_a_score_comes_back_as_it_was(tmp_path_factory, score):
    path = tmp_path_factory.mktemp("trials") / "trials.json"
    with TrialCache(path) as cache:
        cache.put("key", score)
    found = TrialCache(path).get("key")
    assert repr(found) == repr(score)  # NaN is not equal to itself
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_without_a_file_it_keeps_in_memory(tmp_path):
    with TrialCache() as cache:
        assert cache.get("key") is None
        cache.put("key", SCORE)
        assert (cache.get("key"), len(cache), "key" in cache, "other" in cache) == (SCORE, 1, True, False)
    assert not list(tmp_path.iterdir())


def test_it_is_written_as_time_goes_on_and_at_the_end(tmp_path, monkeypatch):
    path, clock = tmp_path / "trials.json", [0.0]
    monkeypatch.setattr(trial_cache.time, "monotonic", lambda: clock[0])
    cache = TrialCache(path)
    cache.put("first", SCORE)
    assert not path.exists()
    clock[0] = trial_cache.EVERY
    cache.put("second", SCORE)
    assert len(TrialCache(path)) == 2
    cache.put("third", SCORE)
    assert len(TrialCache(path)) == 2
    with pytest.raises(KeyboardInterrupt), cache:
        raise KeyboardInterrupt
    assert len(TrialCache(path)) == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["trials.json", "trials.json.lock"]


def test_runs_that_share_a_file_keep_the_scores_of_all(tmp_path, monkeypatch):
    path = tmp_path / "trials.json"
    with TrialCache(path) as one, TrialCache(path) as other:
        one.put("of one", SCORE)
        other.put("of the other", SCORE)
        other.save()
        assert "of one" not in other
    assert set(TrialCache(path)._scores) == {"of one", "of the other"}
    assert "of the other" in one, "it need not be measured again"


def test_processes_that_share_a_file_keep_the_scores_of_all(tmp_path):
    path = tmp_path / "trials.json"
    program = f"""
import sys
from trtcal.analysis import trial_cache
from trtcal.measure.measures import Score
trial_cache.EVERY = 0.0
with trial_cache.TrialCache({str(path)!r}) as cache:
    for number in range(15):
        cache.put(f"{{sys.argv[1]}} {{number}}", Score())
"""
    running = [subprocess.Popen([sys.executable, "-c", program, name], cwd=ROOT) for name in "abc"]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert len(TrialCache(path)) == 45


def test_what_another_put_in_its_place_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "trials.json"
    cache = TrialCache(path)
    cache.put("key", SCORE)
    path.write_text("notes of mine")
    with pytest.raises(CacheError, match="holds no trials"):
        cache.save()
    assert path.read_text() == "notes of mine"


def test_a_lock_that_is_not_let_go_is_told(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(trial_cache, "PATIENCE", 0.1)
    cache = TrialCache(tmp_path / "trials.json")
    cache.put("key", SCORE)
    with FileLock(tmp_path / "trials.json.lock"), pytest.raises(OutputError, match="give --resume another file"):
        cache.save()


def test_nothing_kept_is_nothing_written(tmp_path):
    with TrialCache(tmp_path / "trials.json"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"3",
        b'{"scores": {}}',
        b'{"trtcal_trials": 99, "scores": {}}',
        b'{"trtcal_trials": 1, "scores": []}',
        b'{"trtcal_trials": 1, "scores": {}}',
        b'{"trtcal_trials": 1, "scores": {"a": {}}}',
        b'{"trtcal_trials": 1, "scores": {"a": null}}',
        b"[" * 100_000,
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "trials.json"
    path.write_bytes(content)
    with pytest.raises(CacheError, match="holds no trials that this trtcal reads") as refused:
        TrialCache(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == content


@given(st.data())
def test_a_damaged_file_is_refused_or_holds_the_same(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("trials") / "trials.json"
    with TrialCache(path) as cache:
        cache.put("key", SCORE)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        assert TrialCache(path).get("key") == SCORE
    except CacheError as error:
        assert "holds no trials" in str(error)


@pytest.mark.parametrize(("field", "value"), [("samples", -1), ("lost", 1.5), ("top1", [3, 2]), ("nonfinite", True)])
def test_numbers_that_no_score_has_are_refused(tmp_path, field, value):
    path = tmp_path / "trials.json"
    with TrialCache(path) as cache:
        cache.put("key", SCORE)
    content = json.loads(path.read_text())
    content["scores"]["key"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(CacheError, match="holds no trials"):
        TrialCache(path)


@pytest.mark.parametrize(("field", "value"), [("samples", 1000), ("top1", [0, 0]), ("distortions", {"y": [1, -1]})])
def test_numbers_that_were_changed_are_refused(tmp_path, field, value):
    """A score may have them, this one has not."""
    path = tmp_path / "trials.json"
    with TrialCache(path) as cache:
        cache.put("key", SCORE)
    content = json.loads(path.read_text())
    content["scores"]["key"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(CacheError, match="its numbers are not those that were written"):
        TrialCache(path)


def test_a_path_that_is_no_file_is_refused_at_once(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        TrialCache(tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        TrialCache(tmp_path / "absent" / "trials.json")
    with pytest.raises(OutputError, match="a device or a pipe"):
        TrialCache("/dev/zero")


def form(scale=0.5, bits=8, **others):
    return LayerForm(activation=Encoding(np.float32(scale), np.int32(0), Grid(bits=bits)), **others)


def test_keys_are_of_content():
    keys = [
        trial_key("context", each)
        for each in (
            {},
            {"a": form()},
            {"b": form()},
            {"a": form(), "b": form()},
            {"a": form(np.nextafter(np.float32(0.5), np.float32(1)))},
            {"a": form(bits=4)},
            {"a": form(half=True)},
            {"a": LayerForm(half=True)},
            {"a": LayerForm(weight=form().activation)},
            {"a": LayerForm(weight=Encoding(np.ones(3, np.float32), np.zeros(3, np.int32), axis=0))},
            {"a": LayerForm(weight=Encoding(np.ones(3, np.float32), np.zeros(3, np.int32), axis=1))},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert trial_key("other", {}) not in keys
    assert trial_key("context", {"b": form(), "a": form(), "c": FLOAT}) == keys[3]


@pytest.fixture
def material(tmp_path):
    """Opens the simulation and the images anew, after something was done to the model or to the arrays."""
    model = classifier()
    values = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)

    def opened(*, change=None, first=0.0, labels=(0, 1, 0, 1, 0, 1), batch_size=4, place="."):
        (tmp_path / place).mkdir(exist_ok=True)
        other = onnx.ModelProto()
        other.CopyFrom(model)
        if change is not None:
            change(other)
        path = tmp_path / place / "test.npz"
        given = values.copy()
        given[0, 0, 0, 0] += first
        np.savez(path, image=given, labels=np.array(labels))
        return Simulation(other), ImageLoader(path, preprocess="none", batch_size=batch_size)

    return opened


def heavier(model):
    tensor = next(each for each in model.graph.initializer if each.name == "b_w")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(np.inf))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def test_the_context_is_of_content(material):
    same = trial_context(*material())
    assert trial_context(*material(batch_size=1, place="elsewhere")) == same
    others = [
        trial_context(*material(change=heavier)),
        trial_context(*material(first=1e-3)),
        trial_context(*material(labels=(0, 1, 0, 1, 0, 0))),
        trial_context(*material(), labelled=False),
    ]
    assert len({same, *others}) == 5
    simulation, images = material()
    assert trial_context(simulation, images.sampled(5)) not in (same, *others)


def test_the_context_follows_what_scores_depend_on(material, monkeypatch):
    simulation, images = material()
    path = images.source.with_name("pixels.npz")
    np.savez(path, image=np.zeros((2, 16, 16, 3), np.uint8))
    found = {trial_context(simulation, ImageLoader(path, preprocess=name)) for name in ("unit", "raw")}
    monkeypatch.setattr(trial_cache, "VERSION", trial_cache.VERSION + 1)
    found.add(trial_context(simulation, ImageLoader(path, preprocess="unit")))
    assert len(found) == 3


def test_keys_are_the_same_in_another_process(material, tmp_path):
    simulation, images = material()
    onnx.save(simulation.floats, tmp_path / "model.onnx")
    code = (
        "import sys; from engines.simulation.simulated_model import Simulation; "
        "from trtcal.data.images import ImageLoader; "
        "from trtcal.analysis.trial_cache import trial_context; "
        "print(trial_context(Simulation(sys.argv[1]), ImageLoader(sys.argv[2], preprocess='none')))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "model.onnx"), str(images.source)]
    found = {
        subprocess.run(
            arguments, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {trial_context(Simulation(tmp_path / "model.onnx"), images)}


def test_the_noise_of_nan_is_kept_as_nan(tmp_path):
    with TrialCache(tmp_path / "trials.json") as cache:
        cache.put("key", Score(distortions={"y": Distortion(math.inf, math.nan)}))
    found = TrialCache(tmp_path / "trials.json").get("key")
    assert found.distortions["y"].signal == math.inf
    assert math.isnan(found.distortions["y"].noise)
