"""Recovery: what each step brings is measured, what hurts is left out."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from calibrators.encoding import Encoding
from calibrators.errors import TrtcalError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.graph.model import input_specs
from engines.qdq.weights import Granularity, WeightOptions
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import Net
from trtcal.analysis.step import unshown
from trtcal.analysis.trials import Trials
from trtcal.data.split import ImageChoice, parted
from trtcal.demo import MODEL
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share
from trtcal.recovery.plan import named_steps, recover
from trtcal.recovery.steps import STEPS, Steps

PER_TENSOR = WeightOptions(granularity=Granularity("tensor"))


def coarse(bits):
    return WeightOptions(granularity=Granularity("tensor"), bits=bits)


def parts_of(folder, model, arrays, test, *, batch_size=8, **labels):
    """Parts from arrays: the first to learn from, the other to measure on."""
    np.savez(folder / "learn.npz", image=arrays)
    np.savez(folder / "test.npz", image=test, **labels)
    choice = ImageChoice(
        folder / "learn.npz",
        test_images=folder / "test.npz",
        count=len(arrays),
        test_count=len(test),
        batch_size=batch_size,
        preprocess="none",
    )
    return parted(choice, input_specs(model))


def recovered(model, parts, method="minmax", **options):
    cache = calibrate(collect(model, parts.calibration), method)
    return recover(model, cache, parts, **options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demo's network, which has MobileNet's blocks and ReLU6, and handwritten digits for it."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install trtcal[demo]")
    from trtcal.demo.digits import load_split

    split, model = load_split(), Simulation(MODEL).floats
    arrays = [
        part.images[:count, None].astype(np.float32) / 255 for part, count in ((split.train, 64), (split.test, 200))
    ]
    folder = tmp_path_factory.mktemp("digits")
    return model, parts_of(folder, model, *arrays, labels=split.test.labels[:200])


def without_clips(model):
    """The model with Relu for ReLU6, as some train it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for node in made.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Relu"
            del node.input[1:]
    return made


def test_unequal_channels_of_a_mobilenet(digits):
    """INT8 with a scale per tensor collapses; equalization brings it back to within a point."""
    from benchmarks.unequal import unequal

    model, parts = digits
    made = unequal(without_clips(model), spread=2.0)
    same = Trials(Simulation(without_clips(model)), parts.test)
    assert same.score_of(made).distortion.sqnr > 100
    found = recovered(made, parts, weights=PER_TENSOR, steps=["equalization"])
    assert found.reference.top1.percent > 98
    assert found.plain.top1.percent < 60
    assert found.score.top1.percent >= found.reference.top1.percent - 1
    assert found.kept == ("equalization",)


def test_weights_of_three_bits(digits):
    model, parts = digits
    found = recovered(model, parts, weights=coarse(3), steps=["bias-correction", "equalization"])
    assert found.plain.top1.percent < 50
    assert found.score.top1.percent > found.plain.top1.percent + 40
    assert [each.name for each in found.attempts] == ["equalization", "equalization", "bias-correction"]
    relu, channel = found.attempts[:2]
    assert (relu.variant, channel.variant) == ("Relu for Clip", "Clip by channel")
    assert sum(each.kept for each in found.attempts[:2]) <= 1
    assert relu.details["float_sqnr_db"] < 60 < channel.details["float_sqnr_db"]
    assert relu.details["clips"] == channel.details["clips"] > 0
    again = Trials(Simulation(model), parts.test).score_of(found.quantized.model)
    assert again == found.score
    assert found.attempts[-1].before.top1 == max(found.plain, relu.after, channel.after, key=lambda s: s.top1.hits).top1


def images(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, 16, 16)).astype(np.float32)


def labels_of(model, arrays):
    """What the model itself says: it is always right."""
    with OnnxRuntimeSession(model) as session:
        return session.run({"image": arrays})["scores"].argmax(axis=1).astype(np.int64)


@pytest.fixture
def small(tmp_path):
    """A network of random weights, which is right about each of 64 images."""
    net = Net()
    net.conv(net.input("image", ("N", 3, 16, 16)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.node("MaxPool", "a_relu", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "b", 8, 8, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.node("GlobalAveragePool", "b_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 8, 6)
    net.node("MatMul", "flat w", "scores")
    model, test = net.model("scores"), images(64, seed=1)
    return model, lambda size=8: parts_of(
        tmp_path, model, images(32), test, batch_size=size, labels=labels_of(model, test)
    )


def test_a_few_images_of_luck_keep_no_step(small):
    """A step is kept for top-1 beyond chance, or for SQNR where the difference in top-1 may be chance."""
    model, parts = small
    images = parts()
    run = Steps(
        model,
        images,
        lambda found: (calibrate(found, "minmax"), {}),
        labelled=True,
        task=None,
        seed=0,
        step=unshown,
    )
    cache = calibrate(collect(model, images.calibration), "minmax")
    state = run.state(run.simulation.floats, cache, {}, {})

    def scored(lost, gained, decibels):
        score = Score(
            samples=640, classes=6, top1=Share(600 - lost + gained, 640), agreement=Share(640 - lost - gained, 640),
            lost=lost, gained=gained, distortions={"scores": Distortion(1.0, 10 ** (-decibels / 10))},
        )  # fmt: skip
        return replace(state, score=score)

    before = scored(4, 0, 20)
    lucky, finer, worse, better = scored(4, 3, 15), scored(6, 0, 30), scored(60, 0, 40), scored(0, 30, 10)
    assert run.best(before, [lucky, worse]) is before
    assert run.best(before, [lucky, finer, worse]) is finer
    assert run.best(before, [finer, better]) is better
    assert run.best(before, []) is before


def test_all_steps_and_what_is_told(small):
    model, parts = small
    found = recovered(model, parts(), weights=coarse(3), steps=STEPS)
    assert found.score.top1.hits >= found.plain.top1.hits
    assert found.score.distortion.sqnr > found.plain.distortion.sqnr + 3
    kept = [name for name in found.kept if name in ("rounding", "adaround")]
    assert kept
    rounded = {name for name, choice in found.layers.items() if isinstance(choice, Encoding)}
    told = found.to_dict()
    layers = next(each["layers"] for each in told["steps"] if each["step"] == kept[-1])
    assert {name for name, each in layers.items() if each["rounded"]} == rounded != set()
    assert all(each["seconds"] >= 0 for each in layers.values())
    assert (told["criterion"], told["kept"]) == ("top-1", list(found.kept))
    assert told["recovered"]["top1"]["hits"] == found.score.top1.hits
    assert [each["step"] for each in told["steps"]] == list(STEPS)
    assert told["steps"][0]["before"]["top1"]["hits"] == found.plain.top1.hits
    onnx.checker.check_model(found.model, full_check=True)
    assert [layer.name for layer in Simulation(found.model).layers] == [
        layer.name for layer in Simulation(model).layers
    ]


def test_twice_and_in_other_batches_it_is_the_same(small):
    model, parts = small
    one, same, other = (
        recovered(model, parts(size), weights=coarse(4)).quantized.model.SerializeToString(deterministic=True)
        for size in (8, 8, 5)
    )
    assert one == same == other


def test_steps_are_taken_in_their_order(small):
    model, parts = small
    one, other = (
        recovered(model, parts(), weights=coarse(4), steps=steps)
        for steps in (["bias-correction", "equalization"], ["equalization", "bias-correction"])
    )
    assert [each.name for each in one.attempts] == ["equalization", "bias-correction"]
    assert one.score == other.score


def test_without_labels_by_agreement(small, tmp_path):
    model, _ = small
    parts = parts_of(tmp_path, model, images(32), images(64, seed=1))
    found = recovered(model, parts, weights=coarse(3), steps=["bias-correction"])
    assert found.criterion == "agreement"
    assert found.score.agreement.hits >= found.plain.agreement.hits


def hurt_by_equalization():
    """A channel that small weights give and a large bias: rescaled, it leaves no levels for the others."""
    net = Net()
    net.conv(net.input("image", ("N", 3, 16, 16)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "b")
    net.conv("b", "c", 6, 8, 3, 3)
    net.node("GlobalAveragePool", "c", "p")
    net.node("Flatten", "p", "scores")
    net.constants["a_w"][3] *= 1e-4
    net.constants["a_b"][3] = 1
    return net.model("scores")


def test_what_hurts_is_left_out(tmp_path):
    model = hurt_by_equalization()
    parts = parts_of(tmp_path, model, images(32), images(64, seed=1))
    found = recovered(model, parts, steps=["equalization"])
    (attempt,) = found.attempts
    assert not attempt.kept
    assert attempt.after.distortion.sqnr < attempt.before.distortion.sqnr - 10
    assert found.kept == ()
    assert found.score == found.plain
    assert found.model.SerializeToString() == Simulation(model).floats.SerializeToString()


def test_what_cannot_be_done_is_told(tmp_path):
    net = Net()
    net.weight("w", 16, 16)
    net.node("MatMul", f"{net.input('image', ('N', 16))} w", "scores")
    model = net.model("scores")
    random = np.random.default_rng(0)
    learn, test = (random.standard_normal((count, 16)).astype(np.float32) for count in (32, 32))
    parts = parts_of(tmp_path, model, learn, test)
    found = recovered(model, parts, steps=["equalization", "adaround"])
    assert [(each.after, each.kept) for each in found.attempts] == [(None, False)] * 2
    assert found.attempts[0].note == (
        "no two layers to equalize: scores/MatMul, for its output scores is the model's too"
    )
    assert "rounding to the nearest costs it little" in found.attempts[1].note
    given = {"scores/MatMul": Encoding.symmetric(3.0, PER_TENSOR.grid)}
    assert recovered(model, parts, layers=given, steps=["bias-correction"]).layers == given


def test_an_encoding_that_is_given_stays(small):
    model, parts = small
    layers = {"b/Conv": Encoding.symmetric(1.0, PER_TENSOR.grid)}
    found = recovered(model, parts(), layers=layers, steps=["equalization"])
    assert found.attempts[0].note == "the weight encoding of b/Conv is given, and would not fit other weights"
    assert found.layers["b/Conv"] == layers["b/Conv"]


def test_a_layer_in_float_stays_so(small):
    model, parts = small
    found = recovered(model, parts(), weights=coarse(3), layers={"b/Conv": "so it is"})
    assert found.quantized.left_float["b/Conv"] == "so it is"
    assert "fewer than 16 rows or columns" in found.quantized.left_float["scores/MatMul"]
    assert set(found.attempts[-1].details["layers"]) == {"a/Conv"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("all", STEPS),
        ("adaround, equalization", ("equalization", "adaround")),
        (["bias-correction", "bias-correction"], ("bias-correction",)),
        ("all,adaround", STEPS),
    ],
)
def test_steps_by_name(given, wanted):
    assert named_steps(given) == wanted


@pytest.mark.parametrize("given", ["", "equalisation", ["adaround", "x"], []])
def test_no_steps_of_that_name(given):
    with pytest.raises(TrtcalError, match=r"there is no step '.*' of recovery: choose among equalization, "):
        named_steps(given)


@pytest.mark.slow
class TestRealModels:
    """What recovery brings real models; `python -m benchmarks.recovery` measures it on more."""

    @pytest.mark.parametrize("step", ["adaround", "rounding"])
    def test_resnet20_in_four_bits(self, shared_data, step):
        path = shared_data / "models" / "cifar10_resnet20.onnx"
        choice = ImageChoice(
            shared_data / "images" / "cifar10_train_512.npz",
            test_images=shared_data / "images" / "cifar10_test_2000.npz",
            count=64,
            test_count=300,
            preprocess="cifar10",
        )
        parts = parted(choice, input_specs(onnx.load(path)))
        found = recovered(path, parts, method="entropy", weights=coarse(4), steps=[step])
        assert found.kept == (step,)
        assert found.plain.top1.percent < found.reference.top1.percent - 3
        assert found.score.top1.percent > found.reference.top1.percent - 2
        assert found.score.distortion.sqnr > found.plain.distortion.sqnr + 6

    def test_a_depthwise_separable_network_of_unequal_channels(self, shared_data):
        from benchmarks.unequal import unequal

        model = unequal(Simulation(shared_data / "models" / "mlperf_tiny_kws_dscnn.onnx").floats, spread=1.0)
        images = shared_data / "images" / "kws01_1000.npz"
        parts = parted(ImageChoice(images, count=200, test_count=800, preprocess="none"), input_specs(model))
        found = recovered(model, parts, method="entropy", weights=PER_TENSOR, steps=["equalization"])
        assert found.plain.top1.percent < 50
        assert found.score.top1.percent >= found.reference.top1.percent - 1
