"""Models side by side: on real data, and on sessions whose outputs are known."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.batches import IMAGE, Batch, TensorSpec
from calibrators.errors import CheckFailedError, DataError, ModelError, TrtcalError
from engines.collection.collect import collect
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import classifier
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate
from trtcal.measure.bound import check_drop
from trtcal.measure.measures import Score, Share
from trtcal.measure.report import Report


def linear(weights, *, name="y", input_name="x") -> OnnxRuntimeSession:
    """A model that gives x @ weights."""
    weights = np.asarray(weights, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [input_name, "w"], [name])],
        "g",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", weights.shape[0]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return OnnxRuntimeSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def batches(x, labels=None, size=2):
    x = np.asarray(x, np.float32)
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        yield Batch({"x": x[part]}, labels=None if labels is None else np.asarray(labels, np.int64)[part])


ONE_HOT = np.eye(3, dtype=np.float32)
SWAPPED = ONE_HOT[[1, 0, 2]]
"""Calls class 0 class 1, and class 1 class 0."""


@pytest.mark.parametrize(
    ("model", "data", "preprocess", "top1"),
    [
        ("cifar10_resnet20", "cifar10_test_2000", "cifar10", 91.55),
        ("mlperf_tiny_resnet8", "cifar10_test_2000", "raw", 86.80),
        ("mnist_cnn", "mnist_test_2000", "raw", 98.40),
        ("lenet_mnist", "mnist_test_2000", "mnist", 96.15),
    ],
)
def test_real_models_reach_their_known_accuracy(shared_data, model, data, preprocess, top1):
    """The figures of ../shared/data/README.md."""
    with OnnxRuntimeSession(shared_data / "models" / f"{model}.onnx") as session:
        loader = open_images(
            shared_data / "images" / f"{data}.npz", session.inputs, preprocess=preprocess, batch_size=64
        )
        report = evaluate({model: session}, loader)
    assert report.scores[model].top1 == Share(round(20 * top1), 2000)
    assert report.scores[model].top1.percent == pytest.approx(top1)


def test_arrays_named_as_the_input_reach_the_known_accuracy(shared_data, tmp_path):
    with np.load(shared_data / "images" / "kws01_1000.npz") as data:
        np.savez(tmp_path / "kws.npz", input_1=data["features"])
        np.save(tmp_path / "labels.npy", data["labels"].astype(np.int64))
    with OnnxRuntimeSession(shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx") as session:
        loader = open_images(tmp_path / "kws.npz", session.inputs, labels=tmp_path / "labels.npy")
        report = evaluate({"kws": session}, loader)
    assert report.scores["kws"].top1 == Share(915, 1000)
    assert report.scores["kws"].top5.percent > 99


def test_by_hand():
    models = {"right": linear(ONE_HOT), "swapped": linear(SWAPPED)}
    report = evaluate(models, batches(ONE_HOT, [0, 1, 1]), reference="right")
    right, swapped = report.scores["right"], report.scores["swapped"]
    assert (right.top1, swapped.top1) == (Share(2, 3), Share(0, 3))
    assert swapped.agreement == Share(1, 3)
    assert (swapped.lost, swapped.gained, swapped.drop) == (2, 0, pytest.approx(200 / 3))
    assert swapped.distortion.sqnr == pytest.approx(10 * math.log10(3 / 4))
    assert right.agreement == Share()
    assert not right.distortions


def test_the_batch_size_and_progress_change_nothing():
    x = np.random.default_rng(0).standard_normal((10, 3))
    labels = np.arange(10) % 3
    models = {"a": linear(ONE_HOT), "b": linear(SWAPPED)}
    done = []
    one = evaluate(models, batches(x, labels, size=1), reference="a", progress=done.append)
    all_at_once = evaluate(models, batches(x, labels, size=10), reference="a")
    assert done == [1] * 10
    assert one.scores["b"].top1 == all_at_once.scores["b"].top1
    assert one.scores["b"].distortion.sqnr == pytest.approx(all_at_once.scores["b"].distortion.sqnr)


def test_without_labels_there_is_agreement():
    report = evaluate({"a": linear(ONE_HOT), "b": linear(SWAPPED)}, batches(ONE_HOT), reference="a")
    assert report.scores["b"].top1 == Share()
    assert report.scores["b"].agreement == Share(1, 3)


def test_plain_dictionaries_and_other_names_will_do():
    """Any iterable of arrays; a lone input and outputs may be called otherwise in each model."""
    models = {"a": linear(ONE_HOT), "b": linear(ONE_HOT, name="logits", input_name="pixels")}
    report = evaluate(models, [{IMAGE: ONE_HOT}], reference="a")
    assert report.scores["b"].agreement == Share(3, 3)
    assert report.scores["b"].distortion.sqnr == math.inf
    assert list(report.scores["b"].distortions) == ["y"]


def test_outputs_are_paired_by_name_before_place(shared_data):
    """A detector whose outputs stand in another order."""
    path = shared_data / "models" / "ultraface_rfb_320.onnx"
    turned = onnx.load(path)
    outputs = list(turned.graph.output)
    del turned.graph.output[:]
    turned.graph.output.extend(reversed(outputs))
    models = {"a": OnnxRuntimeSession(path), "b": OnnxRuntimeSession(turned)}
    loader = open_images(shared_data / "images" / "faces", models["a"].inputs, preprocess="imagenet-tf", count=2)
    score = evaluate(models, loader, reference="a").scores["b"]
    assert [(name, part.sqnr) for name, part in score.distortions.items()] == [
        ("scores", math.inf),
        ("boxes", math.inf),
    ]
    assert score.agreement == score.top1 == Share()


def test_nan_is_counted_and_wrong():
    x = ONE_HOT.copy()
    x[1] = math.nan
    report = evaluate({"a": linear(ONE_HOT), "b": linear(ONE_HOT)}, batches(x, [0, 0, 2]), reference="a")
    score = report.scores["b"]
    assert (score.nonfinite, score.top1, score.agreement) == (1, Share(2, 3), Share(2, 3))
    assert math.isnan(score.distortion.sqnr)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["models"][1]["sqnr_db"] is None


def test_json_has_the_measures():
    report = evaluate({"a": linear(ONE_HOT), "b": linear(SWAPPED)}, batches(ONE_HOT, [0, 1, 1]), reference="a")
    value = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert value["reference"] == "a"
    first, second = value["models"]
    assert first["top1"]["percent"] == pytest.approx(200 / 3)
    assert first["drop"] is first["agreement"] is first["sqnr_db"] is first["top5"] is None
    assert second["drop"] == {"points": pytest.approx(200 / 3), "images": 2, "lost": 2, "gained": 0}
    assert second["sqnr_db_by_output"] == {"y": pytest.approx(second["sqnr_db"])}
    assert second["identical"] is False


class TestWhatDoesNotFit:
    def test_different_numbers_of_classes(self):
        models = {"three": linear(ONE_HOT), "two": linear(ONE_HOT[:, :2])}
        with pytest.raises(
            ModelError, match="output y is 2x2 in two and 2x3 in three: compare models with the same classes"
        ):
            evaluate(models, batches(ONE_HOT), reference="three")

    def test_different_outputs(self, shared_data):
        models = {"face": OnnxRuntimeSession(shared_data / "models" / "ultraface_rfb_320.onnx"), "y": linear(ONE_HOT)}
        with pytest.raises(ModelError, match="y has the outputs y and face has scores, boxes"):
            evaluate(models, batches(ONE_HOT), reference="face")

    @pytest.mark.parametrize("label", [3, -1])
    def test_a_label_that_is_no_class(self, label):
        with pytest.raises(
            DataError, match=f"label {label} of sample 1 is none of the 3 classes of a: labels count from 0 to 2"
        ):
            evaluate({"a": linear(ONE_HOT)}, batches(ONE_HOT, [0, label, 0]))

    def test_another_number_of_class_names(self):
        with pytest.raises(DataError, match=r"there are 2 class names .* but a has 3 classes: .* give class numbers"):
            evaluate({"a": linear(ONE_HOT)}, batches(ONE_HOT, [0, 1, 0]), class_names=("cat", "dog"))

    def test_a_reference_that_is_none_of_the_models(self):
        with pytest.raises(ModelError, match="the reference c is not among the models: a"):
            evaluate({"a": linear(ONE_HOT)}, batches(ONE_HOT), reference="c")

    def test_no_samples(self):
        with pytest.raises(DataError, match="there are no samples"):
            evaluate({"a": linear(ONE_HOT)}, [])

    def test_another_size(self):
        with pytest.raises(DataError, match="the model takes x:Nx3, not 2x2"):
            evaluate({"a": linear(ONE_HOT)}, batches(np.ones((2, 2))))

    def test_a_model_that_folds_the_samples(self):
        class Folding:
            inputs = (TensorSpec("x", ("N", 3), np.dtype(np.float32)),)
            outputs = (TensorSpec("y", (1, 3), np.dtype(np.float32)),)

            def run(self, batch):
                return {"y": ONE_HOT[:1]}

        with pytest.raises(ModelError, match="a gives 1 rows of y for 2 samples: run it with a batch size of 1"):
            evaluate({"a": Folding()}, batches(ONE_HOT))


class TestCheckDrop:
    @staticmethod
    def report(lost, gained=0, total=2000):
        reference = Score(samples=total, top1=Share(total - 100, total))
        other = Score(samples=total, top1=Share(total - 100 - lost + gained, total), lost=lost, gained=gained)
        return Report({"fp32": reference, "int8": other}, "fp32")

    @pytest.mark.parametrize(
        ("lost", "gained", "bound"), [(10, 0, 0.5), (12, 5, 0.35), (0, 3, 0), (0, 0, 0), (2000, 0, 100)]
    )
    def test_within_the_bound(self, lost, gained, bound):
        check_drop(self.report(lost, gained), bound)

    def test_over_the_bound(self):
        with pytest.raises(
            CheckFailedError,
            match=r"int8 drops top-1 by 0.55 points \(11 of 2000 images\): more than the 0.5 points allowed",
        ) as caught:
            check_drop(self.report(13, 2), 0.5)
        assert caught.value.exit_code == 1

    @pytest.mark.parametrize("total", [800, 1000, 1999, 2000, 10_000, 50_000])
    def test_rounding_never_decides(self, total):
        """For every drop of whole images: allowed as its own bound, refused for one image more."""
        for lost in range(0, 60):
            check_drop(self.report(lost, total=total), 100 * lost / total)
            with pytest.raises(CheckFailedError):
                check_drop(self.report(lost + 1, total=total), 100 * lost / total)

    def test_every_model_that_fails_is_named(self):
        reference, bad = Score(samples=10, top1=Share(9, 10)), Score(samples=10, top1=Share(5, 10), lost=4)
        with pytest.raises(CheckFailedError, match=r"a drops .*; b drops"):
            check_drop(Report({"ref": reference, "a": bad, "b": bad}, "ref"), 1)

    def test_without_labels_the_bound_is_on_agreement(self):
        report = Report({"ref": Score(samples=100), "int8": Score(samples=100, agreement=Share(98, 100))}, "ref")
        check_drop(report, 2)
        with pytest.raises(
            CheckFailedError,
            match=r"int8 differs from the reference's class for 2.00 % \(2 of 100 images\): more than the 1 % allowed",
        ):
            check_drop(report, 1)

    @pytest.mark.parametrize("bound", [-0.1, 100.1, math.nan, math.inf])
    def test_a_bound_that_is_none(self, bound):
        with pytest.raises(TrtcalError, match="from 0 to 100 points, not"):
            check_drop(self.report(0), bound)

    def test_nothing_to_hold_against_the_bound(self):
        with pytest.raises(TrtcalError, match="needs class scores, and no single output of int8 holds them"):
            check_drop(Report({"ref": Score(samples=1), "int8": Score(samples=1)}, "ref"), 1)
        with pytest.raises(TrtcalError, match="needs a reference beside the model"):
            check_drop(Report({"int8": Score(samples=1, top1=Share(1, 1))}), 1)


def test_quantized_models_are_told_from_float_ones(shared_data, tmp_path: Path):
    """Rounding resnet8's weights to 3 bits costs accuracy that every measure shows."""
    path = shared_data / "models" / "mlperf_tiny_resnet8.onnx"
    rough = onnx.load(path)
    for tensor in rough.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            step = np.abs(values).max() / 3
            tensor.CopyFrom(numpy_helper.from_array((np.round(values / step) * step).astype(values.dtype), tensor.name))
    models = {"fp32": OnnxRuntimeSession(path), "rough": OnnxRuntimeSession(rough)}
    images = shared_data / "images" / "cifar10_test_2000.npz"
    loader = open_images(images, models["fp32"].inputs, preprocess="raw", batch_size=64, count=500)
    report = evaluate(models, loader, reference="fp32")
    score = report.scores["rough"]
    assert score.drop > 1
    assert score.agreement.percent < 95
    assert score.distortion.sqnr < 15
    assert score.lost - score.gained == report.scores["fp32"].top1.hits - score.top1.hits
    with pytest.raises(CheckFailedError):
        check_drop(report, 0.5)


class TestModels:
    """By path, as a session, or several of them by name."""

    @pytest.fixture
    def path(self, tmp_path):
        onnx.save(classifier(), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    @pytest.fixture
    def data(self):
        return [Batch({IMAGE: np.zeros((2, 3, 16, 16), np.float32)})]

    def test_a_path_goes_by_its_name(self, path, data):
        for model in (path, str(path)):
            assert {name: each.samples for name, each in evaluate(model, data).scores.items()} == {"model.onnx": 2}

    def test_a_session_stays_open(self, path, data):
        with OnnxRuntimeSession(path) as session:
            assert list(evaluate(session, data).scores) == ["model"]
            report = evaluate({"a": session, "b": path}, data, reference="a")
            assert report.scores["b"].distortion.noise == 0
            assert session.run(data[0])

    def test_what_is_opened_is_closed(self, path, data, monkeypatch):
        closed = []
        close = OnnxRuntimeSession.close
        monkeypatch.setattr(OnnxRuntimeSession, "close", lambda self: (closed.append(self), close(self)))
        evaluate({"a": path, "b": str(path)}, data)
        assert len(closed) == 2
        with pytest.raises(ModelError, match=r"absent\.onnx: there is no such file"):
            evaluate({"a": path, "b": path.with_name("absent.onnx")}, data)
        assert len(closed) == 3

    @pytest.mark.parametrize("models", [7, None, ["model.onnx"], {"a": 7}, classifier()])
    def test_anything_else_is_refused_in_one_line(self, models, data):
        with pytest.raises(TrtcalError, match=r"^cannot evaluate a [A-Za-z]+: give the path of a model, a session, or"):
            evaluate(models, data)

    def test_a_bare_array_is_no_iterable_of_batches(self, path, data):
        with pytest.raises(DataError, match=r"the data is one array: give an iterable of batches, such as \[array\]"):
            evaluate(path, data[0][IMAGE])
        with pytest.raises(DataError, match=r"the data is one array: give an iterable of batches, such as \[array\]"):
            collect(path, data[0][IMAGE])


class TestByClass:
    def test_by_hand(self):
        models = {"right": linear(ONE_HOT), "swapped": linear(SWAPPED)}
        report = evaluate(models, batches(ONE_HOT, [0, 1, 1]), reference="right", class_names=["a", "b", "c"])
        found = report.by_class("swapped")
        assert {number: (found.images(number), found.loss(number)) for number in found.classes} == {
            0: (1, 1),
            1: (2, 1),
        }
        assert [row["name"] for row in found.rows()] == ["a", "b"]
        assert report.by_class("right").compared is False
        told = report.to_dict()
        assert told["class_names"] == ["a", "b", "c"]
        assert [len(each["by_class"]) for each in told["models"]] == [2, 2]

    def test_without_labels_the_classes_are_the_references(self):
        report = evaluate({"a": linear(ONE_HOT), "b": linear(SWAPPED)}, batches(ONE_HOT), reference="a")
        assert [(row["class"], row["agreement"]) for row in report.by_class("b").rows()] == [(0, 0), (1, 0), (2, 100)]
        assert report.to_dict()["models"][0]["by_class"] is None


def two_outputs(scores):
    """A model of a box of four pixels and of two scores, at five places each, in one output; its scores are scaled."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 5])],
        [numpy_helper.from_array(np.array([1.001] * 4 + [scores] * 2, np.float32)[:, None], "w")],
    )
    return OnnxRuntimeSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


class TestChangedImages:
    X = np.random.default_rng(5).standard_normal((40, 3)).astype(np.float32)
    LABELS = np.arange(40) % 3

    def named(self, order, size, **settings):
        models = {"a": linear(ONE_HOT), "b": linear(SWAPPED * 0.9), "c": linear(ONE_HOT * 1.1)}
        parts = [order[start : start + size] for start in range(0, 40, size)]
        given = [
            Batch({"x": self.X[part]}, names=[f"{place}.png" for place in part], labels=self.LABELS[part])
            for part in parts
        ]
        return evaluate(models, given, reference="a", worst=7, **settings).changed_images

    def test_neither_the_order_nor_the_batches_change_them(self):
        found = self.named(np.arange(40), 40)
        assert list(found) == ["b", "c"]
        assert [len(images) for images in found.values()] == [7, 7]
        assert {image.change for image in found["b"]} <= {"lost", "gained"}
        assert {image.change for image in found["c"]} == {"outputs"}
        for size in (1, 7):
            again = self.named(np.random.default_rng(size).permutation(40), size)
            for name, images in found.items():
                assert [image.name for image in images] == [image.name for image in again[name]]

    def test_unnamed_samples_go_by_their_position(self):
        models = {"a": linear(ONE_HOT), "b": linear(SWAPPED)}
        x = np.eye(3, dtype=np.float32)[[2, 2, 2, 0, 2]]
        for given in ([{"x": x[:2]}, {"x": x[2:]}], batches(x, np.argmax(x, axis=1))):
            (image,) = evaluate(models, given, reference="a", worst=5).changed_images["b"]
            assert (image.name, image.before, image.now) == ("sample 3", 0, 1)

    def test_boxes_do_not_hide_scores_however_few_there_are(self):
        rng = np.random.default_rng(0)
        x = np.concatenate([rng.uniform(50, 600, (30, 4, 5)), rng.random((30, 2, 5))], axis=1).astype(np.float32)
        models = {"a": two_outputs(1.0), "b": two_outputs(1.0), "c": two_outputs(0.5)}
        done = []
        given = [{"x": x[:11]}, {"x": x[11:]}]
        report = evaluate(models, given, reference="a", worst=30, progress=done.append)
        assert report.changed_images["b"] == ()
        assert sum(done) == 60, "the reference runs over all samples before"
        images = report.changed_images["c"]
        assert report.scores["c"].worst == "y channels 4-5"
        assert [image.sqnr for image in images] == [pytest.approx(6.02, abs=0.01)] * 30

    def test_what_is_read_once_cannot_tell_channels_apart_before(self):
        models = {"a": two_outputs(1.0), "b": two_outputs(0.5)}
        with pytest.raises(DataError, match="give batches that can be iterated twice"):
            evaluate(models, iter([{"x": np.ones((2, 6, 5), np.float32)}]), reference="a", worst=1)

    def test_they_are_null_where_they_were_not_asked_for(self):
        report = evaluate({"a": linear(ONE_HOT), "b": linear(SWAPPED)}, batches(ONE_HOT), reference="a")
        assert [each["changed_images"] for each in report.to_dict()["models"]] == [None, None]

    @pytest.mark.parametrize(("worst", "reference", "said"), [(0, "a", "1 or more, not 0"), (3, None, "--worst needs")])
    def test_nothing_to_name_is_refused(self, worst, reference, said):
        models = {"a": linear(ONE_HOT), "b": linear(SWAPPED)}
        with pytest.raises(TrtcalError, match=said):
            evaluate(models, batches(ONE_HOT), reference=reference, worst=worst)
