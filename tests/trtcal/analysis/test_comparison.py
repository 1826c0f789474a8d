"""Range methods, ranked: the best first, by what the INT8 model does on other images."""

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.errors import CacheMismatchError, ModelError, RangeError
from calibrators.ranges import METHODS, calibrate
from calibrators.statistics.file import Statistics
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, classifier
from trtcal.analysis import comparison, judged_methods
from trtcal.analysis.comparison import compare, named, units
from trtcal.analysis.judged_methods import REFERENCE
from trtcal.analysis.selection import Compared
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate
from trtcal.measure.measures import Share
from trtcal.tables.comparison import remarks


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, its statistics over 20 samples, and a loader of 30 others with the model's own classes for labels."""
    folder = tmp_path_factory.mktemp("work")
    onnx.save(classifier(classes=4), folder / "model.onnx")
    values = np.random.default_rng(1).standard_normal((50, 3, 16, 16)).astype(np.float32)
    values[:20, 0, 0, 0] *= 100  # an outlier in each image that is calibrated on: methods differ
    with OnnxRuntimeSession(folder / "model.onnx") as session:
        inputs = session.inputs
        labels = session.run({"image": values[20:]})["scores"].argmax(axis=1)
    np.savez(folder / "test.npz", image=values[20:], labels=labels.astype(np.int64))
    statistics = trtcal.collect(folder / "model.onnx", [values[:20]])
    return folder / "model.onnx", statistics, open_images(folder / "test.npz", inputs, batch_size=8)


def scores(found):
    return [(each.method, each.rank, each.score, each.same_as) for each in found.ranking]


def notes(found, statistics):
    """What a reader of the ranking is told."""
    return remarks(Compared(found, statistics, None, 0.0))


def test_every_method_is_ranked_and_the_best_comes_first(work):
    model, statistics, test = work
    found = compare(model, statistics, test)
    assert sorted(each.method for each in found.ranking) == sorted(METHODS)
    assert found.winner is found.ranking[0]
    assert found.winner.rank == 1
    keys = [(each.rank, -each.score.distortion.sqnr) for each in found.ranking]
    assert keys == sorted(keys)
    assert len(set(keys)) > 1
    assert {each.method for each in found.tied} == {each.method for each in found.ranking[1:] if each.rank == 1}
    assert found.criterion == "top-1"
    assert (found.reference.top1, found.reference.samples) == (Share(30, 30), 30)


def test_the_scores_are_those_of_the_quantized_models(work, tmp_path):
    model, statistics, test = work
    found = compare(model, statistics, test)
    for each in (found.winner, found.ranking[-1]):
        cache = calibrate(statistics, each.method)
        assert each.cache == cache
        assert each.cache.sidecar == cache.sidecar
        trtcal.quantize(model, cache, output=tmp_path / "int8.onnx")
        report = evaluate({"fp32": model, "int8": tmp_path / "int8.onnx"}, test, reference="fp32")
        score = report.scores["int8"]
        assert each.score.top1 == score.top1
        assert each.score.distortion.sqnr == pytest.approx(score.distortion.sqnr, abs=0.05)


def test_neither_the_batch_size_nor_how_many_are_open_at_once_changes_anything(work, monkeypatch):
    model, statistics, test = work
    expected = scores(compare(model, statistics, test))
    for size in (1, 7, 30):
        other = open_images(test.source, OnnxRuntimeSession(model).inputs, batch_size=size)
        assert scores(compare(model, statistics, other)) == expected
    assert units(model, test, METHODS) == 30
    monkeypatch.setattr(judged_methods, "AT_ONCE", 1)
    assert units(model, test, METHODS) == 30 * len(METHODS)
    assert scores(compare(model, statistics, test)) == expected


def test_what_the_bar_is_told(work):
    model, statistics, test = work
    told = []
    compare(model, statistics, test, methods=["entropy", "minmax"], progress=told.append)
    assert sum(told) == units(model, test, ["entropy", "minmax"]) == 30


def test_a_fixed_batch_is_run_whole(work, tmp_path):
    model, statistics, test = work
    fixed = onnx.load(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, tmp_path / "fixed.onnx")
    statistics = Statistics(statistics, groups=statistics.groups, explicit_groups=statistics.explicit_groups)
    found = []
    for size in (3, 8):
        other = open_images(test.source, OnnxRuntimeSession(tmp_path / "fixed.onnx").inputs, batch_size=size)
        found.append(compare(tmp_path / "fixed.onnx", statistics, other))
    assert scores(found[0]) == scores(found[1])
    assert found[0].reference.samples == 30
    for fixed_one, free in zip(found[0].ranking, compare(model, statistics, test).ranking, strict=True):
        assert fixed_one.score.top1 == free.score.top1


def test_without_labels_agreement_ranks(work):
    model, statistics, test = work
    labelled, found = compare(model, statistics, test), compare(model, statistics, test, labelled=False)
    assert found.criterion == "agreement"
    assert not found.reference.top1.total
    hits = {each.method: each.score.agreement for each in found.ranking}
    assert hits == {each.method: each.score.top1 for each in labelled.ranking}  # labels are the float model's classes


@pytest.mark.parametrize(("lucky", "winner"), [(2, "aciq"), (20, "minmax")])
def test_a_few_images_of_luck_make_no_winner(tmp_path, lucky, winner):
    """Labels that the coarser model gets right by luck, and the float model wrong: of a few images, or of many."""
    model = tmp_path / "model.onnx"
    net = Net()
    net.node("Flatten", net.input("image", ("N", 3, 16, 16)), "flat")
    net.node("MatMul", f"flat {net.weight('w', 768, 16)}", "scores")
    onnx.save(net.model("scores"), model)
    rng = np.random.default_rng(3)
    values = rng.standard_normal((240, 3, 16, 16)).astype(np.float32)
    values[:40, 0, 0, 0] *= 30
    statistics = trtcal.collect(model, [values[:40]])
    tests, chosen = values[40:], {}
    for method in ("minmax", "aciq"):
        trtcal.quantize(model, calibrate(statistics, method), output=tmp_path / f"{method}.onnx")
    for path in (model, tmp_path / "minmax.onnx", tmp_path / "aciq.onnx"):
        with OnnxRuntimeSession(path) as session:
            chosen[path.stem] = session.run({"image": tests})["scores"].argmax(axis=1)
            inputs = session.inputs
    labels, others = chosen["model"], chosen["minmax"]
    flipped = np.flatnonzero((labels != others) & (labels == chosen["aciq"]))
    assert len(flipped) >= 20
    labels[flipped[:lucky]] = others[flipped[:lucky]]
    sure = (labels == others) | (labels != chosen["aciq"])
    kept = np.flatnonzero(sure & ((labels == chosen["aciq"]) | np.isin(np.arange(len(tests)), flipped[:lucky])))
    np.savez(tmp_path / "lucky.npz", image=tests[kept], labels=labels[kept].astype(np.int64))
    found = compare(model, statistics, open_images(tmp_path / "lucky.npz", inputs), methods=["minmax", "aciq"])
    by_name = {each.method: each for each in found.ranking}
    assert by_name["minmax"].score.top1.hits > by_name["aciq"].score.top1.hits
    assert by_name["minmax"].score.distortion.sqnr < by_name["aciq"].score.distortion.sqnr
    assert found.winner.method == winner
    assert len(found.tied) == (lucky == 2)
    told = [each for each in notes(found, statistics) if "more images to rank on tell finer" in each]
    assert [each.split("; ")[0] for each in told] == [
        "minmax is tied with aciq: the difference in top-1 may be chance, so SQNR decides" for _ in found.tied
    ]


def test_no_difference_at_all_is_not_called_chance(work):
    model, statistics, test = work
    found = compare(model, statistics, test, methods=["mse", "sqnr"])
    first, second = found.ranking
    assert first.score.top1 == second.score.top1
    told = f"{second.method} has the same top-1 as {first.method}, so SQNR decides; more images to rank on tell finer"
    assert told in notes(found, statistics)
    one, two, three = (each.method for each in compare(model, statistics, test, methods=["mse", "sqnr", "emd"]).ranking)
    several = compare(model, statistics, test, methods=["mse", "sqnr", "emd"])
    assert any(each.startswith(f"{two}, {three} have the same top-1 as {one}, ") for each in notes(several, statistics))


def test_without_class_scores_sqnr_ranks(tmp_path):
    net = Net()
    net.conv(net.input("x", ("N", 3, 8, 8)), "y", 4, 3, 3, 3)
    onnx.save(net.model("y"), tmp_path / "model.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32))
    test = open_images(tmp_path / "x.npz", OnnxRuntimeSession(tmp_path / "model.onnx").inputs)
    found = compare(tmp_path / "model.onnx", trtcal.collect(tmp_path / "model.onnx", test), test)
    assert (found.criterion, found.tied) == ("SQNR", ())
    noise = [each.score.distortion.noise for each in found.ranking]
    assert noise == sorted(noise)


def test_the_same_ranges_are_run_once_and_share_a_rank(work, monkeypatch):
    model, statistics, test = work
    opened = []
    session = judged_methods.OnnxRuntimeSession

    def opening(source, **options):
        opened.append(source)
        return session(source, **options)

    monkeypatch.setattr(judged_methods, "OnnxRuntimeSession", opening)
    monkeypatch.setattr(comparison, "calibrate", lambda found, method: calibrate(found, "minmax"))
    found = compare(model, statistics, test, methods=["minmax", "entropy"])
    assert len(opened) == 2
    assert [(each.method, each.rank, each.same_as) for each in found.ranking] == [
        ("minmax", 1, None),
        ("entropy", 1, "minmax"),
    ]
    assert found.ranking[0].score == found.ranking[1].score


def test_a_parameter_and_an_order_of_ones_own(work):
    model, statistics, test = work
    found = compare(model, statistics, test, methods=["percentile:90", "minmax", "percentile:90"])
    assert sorted(each.method for each in found.ranking) == ["minmax", "percentile:90"]
    clipped = next(each for each in found.ranking if each.method == "percentile:90")
    assert clipped.cache.amax("image") < 3 < calibrate(statistics, "minmax").amax("image")
    assert clipped.cache.sidecar.method == "percentile:90"


def test_what_best_picked_is_told(work):
    model, statistics, test = work
    found = compare(model, statistics, test, methods=["best", "minmax"])
    picks = {each.method: each.picks for each in found.ranking}
    assert picks["minmax"] == {}
    assert sum(picks["best"].values()) == len(statistics)
    assert set(picks["best"]) < set(METHODS)


@pytest.mark.parametrize("methods", [["entropie"], ["minmax", ""], [], ["percentile:40"], ["auto"]])
def test_methods_that_there_are_not(methods):
    with pytest.raises(RangeError):
        named(methods)


def test_no_statistics(work):
    with pytest.raises(RangeError, match="no statistics"):
        compare(work[0], Statistics({}), work[2])


def test_statistics_of_another_model(work, tmp_path):
    onnx.save(classifier(classes=4, seed=1), tmp_path / "other.onnx")
    with pytest.raises(CacheMismatchError, match="gathered from another model"):
        compare(tmp_path / "other.onnx", work[1], work[2])


def test_a_model_that_gives_no_scores(work, tmp_path):
    model = onnx.load(work[0])
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["N"]))
    onnx.save(model, tmp_path / "class.onnx")
    statistics = trtcal.collect(tmp_path / "class.onnx", work[2])
    with pytest.raises(ModelError, match="no float output"):
        compare(tmp_path / "class.onnx", statistics, work[2])


def test_the_reference_is_no_method():
    assert REFERENCE not in METHODS
