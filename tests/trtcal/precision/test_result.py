"""Mixed precision on small networks: what it chooses is what the model needs, and is measured as it will run."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq import write as qdq
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.costs import inferred_shapes, macs
from engines.simulation.simulated_model import FLOAT, Simulation
from tests.engines.networks import Net
from trtcal.analysis.trials import Trials
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate
from trtcal.precision.ladders import modelled
from trtcal.precision.result import mixed_precision
from trtcal.precision.run import choose_precisions
from trtcal.precision.scores import noise
from trtcal.precision.target import Target


def network(*, far=1.0):
    """Class scores by four convolutions and a product; the third one raises its outputs so far, the fourth takes it
    back."""
    net = Net()
    net.conv(net.input(shape=("N", 3, 8, 8)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 8, 8, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.conv("b_relu", "c", 8, 8, 3, 3)
    for part in ("c_w", "c_b"):
        net.constants[part] *= np.float32(far)
    net.node("Relu", "c", "c_relu")
    net.conv("c_relu", "d", 8, 8, 3, 3)
    net.constants["d_w"] /= np.float32(far)
    net.node("Relu", "d", "d_relu")
    net.node("GlobalAveragePool", "d_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 8, 5, fan_in=8)
    net.node("MatMul", "flat w", "scores")
    return net.model("scores")


class Work:
    """A model, its statistics, and 240 other images with the model's own classes for labels."""

    def __init__(self, model, folder):
        self.model = model
        self.simulation = Simulation(model)
        random = np.random.default_rng(1)
        values = random.standard_normal((304, 3, 8, 8)).astype(np.float32)
        with OnnxRuntimeSession(model) as session:
            self.inputs = session.inputs
            labels = session.run({"x": values})["scores"].argmax(axis=1)
        np.savez(folder / "test.npz", x=values[64:], labels=labels[64:].astype(np.int64))
        self.statistics = collect(model, [{"x": values[:64]}])
        self.images = open_images(folder / "test.npz", self.inputs, batch_size=16)
        self.counts = macs(self.simulation.layers, inferred_shapes(self.simulation.floats))

    def search(self, target, *, config=None, further=False, **options):
        first = self.images.sampled(80) if further else self.images
        rest = [Trials(self.simulation, self.images.sampled(None, without=first.names))] if further else []
        config = deepcopy(config or QuantConfig()).add_type_config("MatMul", precision="int8")  # small, and asked for
        settings = config.settings(self.simulation.layers).layers
        return mixed_precision(
            self.simulation,
            self.statistics,
            Trials(self.simulation, first),
            target,
            modelled(self.counts, settings),
            method="minmax",
            config=config,
            further=rest,
            **options,
        )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Work(network(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory):
    """Its third convolution writes, and its fourth reads, what FP16 cannot hold."""
    return Work(network(far=3e4), tmp_path_factory.mktemp("overflowing"))


def chosen(found):
    """By layer, the name of the level it is at."""
    groups = zip(found.ladders.groups, found.best.levels, strict=True)
    return {layer: group.names[level] for group, level in groups for layer in group.layers}


COARSE = QuantConfig(LayerSettings(weight_bits=3, granularity="tensor"))


def test_coarse_weights_are_made_finer_only_where_it_takes_that(plain):
    found = plain.search(Target("target-sqnr", 15), config=COARSE)
    assert found.best.reaches
    assert found.best.score.distortion.sqnr >= 15
    names = set(chosen(found).values())
    assert names == {"config", "int8"}  # FP16 is not tried by group where INT8 does
    assert found.uniform["config"].cost < found.best.cost < found.uniform["int8"].cost
    assert not found.uniform["config"].reaches


def test_fp16_where_int8_does_not_do(plain):
    found = plain.search(Target("target-sqnr", 45))
    assert set(chosen(found).values()) == {"int8", "fp16"}
    assert not found.uniform["int8"].reaches
    assert found.uniform["fp16"].reaches
    assert found.best.cost < found.uniform["fp16"].cost


def test_fp32_for_the_layers_alone_that_fp16_overflows_in(overflowing):
    found = overflowing.search(Target("target-sqnr", 55))
    assert not found.uniform["fp16"].reaches
    assert found.uniform["fp16"].score.nonfinite > 200
    wide = {layer for layer, name in chosen(found).items() if name == "fp32"}
    assert wide - {"scores/MatMul"} == {"c/Conv", "d/Conv"}  # the product costs next to nothing
    assert "fp16" in chosen(found).values()


def test_int8_may_do_where_fp16_overflows(overflowing):
    found = overflowing.search(Target("target-sqnr", 20))
    assert set(chosen(found).values()) == {"int8"}
    assert found.evaluations == 1
    assert found.found.order == ()


def test_exhaustively_each_group_is_measured_both_ways_and_kept(plain):
    found = plain.search(Target("target-sqnr", 45), exhaustive=True)
    assert (found.found.floor, found.found.top) == ((0,) * 5, (2,) * 5)
    for group in range(5):
        alone, lifted = ([2] * 5, [0] * 5)
        alone[group], lifted[group] = 0, 2
        assert found.at(tuple(alone)).score.distortion.sqnr > found.at(tuple(lifted)).score.distortion.sqnr
    gains = [step.worth for step in found.found.order]
    assert gains == sorted(gains, reverse=True)
    assert found.evaluations == len({point.levels for point in found.points})


def test_the_front_holds_what_no_other_point_beats(plain):
    found = plain.search(Target("target-sqnr", 45))
    for point in found.points:
        beaten = [
            other
            for other in found.points
            if (other.cost < point.cost and other.worth >= point.worth)
            or (other.cost <= point.cost and other.worth > point.worth)
        ]
        assert point.front == (not beaten)
    assert [point.cost for point in found.points] == sorted(point.cost for point in found.points)


@pytest.mark.parametrize("further", [False, True])
def test_the_score_is_that_of_the_model_that_its_settings_give(plain, further):
    """To the last image and to the last bit, as ONNX Runtime runs the model on these images."""
    found = plain.search(Target("max-drop", 8), config=COARSE, further=further)
    assert found.best.score.samples == 240
    assert set(chosen(found).values()) == {"config", "int8"}
    settings = QuantConfig.parse(found.config.dumps()).settings(plain.simulation.layers).layers
    layers = {layer.name: settings[layer.name] for layer in plain.simulation.layers}
    quantized = qdq.quantize(
        plain.model,
        calibrate(plain.statistics, "minmax"),
        layers={
            name: replace(
                qdq.WeightOptions(), bits=each.weight_bits, granularity=qdq.Granularity.parse(each.granularity)
            )
            for name, each in layers.items()
        },
    )
    with OnnxRuntimeSession(plain.model) as floats, OnnxRuntimeSession(quantized.model) as written:
        report = evaluate({"FP32": floats, "INT8": written}, plain.images, reference="FP32")
    expected = report.scores["INT8"]
    for score in (found.best.score, found.written):
        assert (score.top1, score.lost, score.gained) == (expected.top1, expected.lost, expected.gained)
        assert score.distortion.sqnr == pytest.approx(expected.distortion.sqnr, rel=1e-4)


def test_fp16_layers_are_float_ones_in_the_model_that_is_written(plain):
    found = plain.search(Target("target-sqnr", 45))
    forms = {name: FLOAT if form.half else form for name, form in found.ladders.forms(found.best.levels).items()}
    assert found.written == Trials(plain.simulation, plain.images).score_of(plain.simulation.version(forms))
    assert found.written != found.best.score


def test_what_reaches_the_target_on_the_first_images_must_on_all(plain):
    found = plain.search(Target("max-drop", 2), config=COARSE, further=True)
    assert found.best.score.samples == found.reference.samples == 240
    assert found.further == sum(point.score.samples == 240 for point in found.points)
    for point in found.points:
        reaches = found.target.reaches(point.score)
        if point.score.samples == 240:
            assert point.reaches == reaches
        else:
            assert (point.score.samples, point.reaches) == (80, None if reaches else False)
    rejected = [point for point in found.points if point.score.samples == 240 and not point.reaches]
    assert all(point.cost >= found.uniform["config"].cost for point in rejected)


def test_of_all_points_that_reach_it_the_cheapest_is_taken(plain):
    for bound in (0.5, 2, 5, 10):
        found = plain.search(Target("max-drop", bound), config=COARSE)
        least = min(point.cost for point in found.points if point.reaches)
        assert least <= found.best.cost <= 1.001 * least
        assert found.best.score.drop <= bound + 1e-9


def test_where_nothing_reaches_it(plain):
    found = plain.search(Target("target-sqnr", 300), candidates=("int8", "fp16"))
    assert (found.best, found.config, found.written) == (None, None, None)
    assert {name: point.reaches for name, point in found.uniform.items()} == {"int8": False, "fp16": False}


def test_candidates_are_no_others_than_those_given(plain):
    found = plain.search(Target("target-sqnr", 15), config=COARSE, candidates=("fp32",))
    assert set(chosen(found).values()) == {"config", "fp32"}


def test_rules_that_fit_no_layer_are_told(plain):
    config = QuantConfig().add_layer_config("elsewhere", weight_bits=4)
    assert "elsewhere" in plain.search(Target("target-sqnr", 10), config=config).rule_notes[0]


def test_a_target_that_the_images_do_not_tell_is_refused(plain):
    judge = Trials(plain.simulation, plain.images, labelled=False)
    settings = QuantConfig().settings(plain.simulation.layers).layers
    with pytest.raises(Exception, match="give --labels"):
        mixed_precision(
            plain.simulation,
            plain.statistics,
            judge,
            Target("target-accuracy", 90),
            modelled(plain.counts, settings),
        )
    with pytest.raises(ModelError, match="every layer stays in float"):
        plain.search(Target("target-sqnr", 10), config=QuantConfig().skip(names="*"))


def test_noise_counts_each_output_alike(plain):
    from trtcal.measure.distortion import Distortion
    from trtcal.measure.measures import Score

    score = Score(distortions={"boxes": Distortion(1e6, 1e3), "scores": Distortion(1.0, 0.1), "none": Distortion(0, 0)})
    assert noise(score) == pytest.approx(1e-3 + 0.1)


def test_a_hard_case_of_a_real_network(shared_data):
    """ResNet-20 with weights of 4 bits and one scale each: it takes INT8's finer ones in some blocks, not in all."""
    found = choose_precisions(
        shared_data / "models" / "cifar10_resnet20.onnx",
        shared_data / "images" / "cifar10_train_512.npz",
        max_drop=1.0,
        test_images=shared_data / "images" / "cifar10_test_2000.npz",
        config=QuantConfig(LayerSettings(weight_bits=4, granularity="tensor")),
        preprocess="cifar10",
        count=64,
        test_count=80,
        confirm_count=120,
    ).result
    assert found.uniform["config"].score.drop > 3
    assert found.best.score.drop <= 1.0
    assert found.best.score.samples == 200
    assert found.uniform["config"].cost < found.best.cost < found.uniform["int8"].cost
    assert len(found.ladders.groups) == 10  # the scores of ten classes are in float
    assert found.evaluations < 60


def test_what_does_not_do_as_quantize_writes_it_is_passed_over(plain):
    """Of a target between the two scores of a choice, only the one with FP16 rounded being above it."""
    found = plain.search(Target("target-sqnr", 40))
    rounded, written = (score.distortion.sqnr for score in (found.best.score, found.written))
    assert rounded > written
    between = plain.search(Target("target-sqnr", (rounded + written) / 2))
    assert between.passed == (found.best.levels,)
    assert not between.at(found.best.levels).reaches
    for score in (between.best.score, between.written):
        assert score.distortion.sqnr >= between.target.value
