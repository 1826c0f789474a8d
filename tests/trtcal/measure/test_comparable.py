"""Outputs whose size depends on the data: what can be compared is, what cannot is counted, and rewards no model."""

import math

import numpy as np
import onnx
import pytest

from calibrators.batches import TensorSpec
from calibrators.errors import ModelError
from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.write import quantize
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import Simulation
from tests.engines.networks import selector
from tests.trtcal.planted import formed
from trtcal.analysis.errors.error_report import errors_by_layer
from trtcal.analysis.trials import Trials
from trtcal.data.images import open_images
from trtcal.measure.accuracy import evaluate
from trtcal.measure.comparable import counted_alike
from trtcal.measure.distortion import Distortion, Unlike
from trtcal.measure.measures import Score, score
from trtcal.measure.report import score_as_dict
from trtcal.quantsim.simulator import QuantSim

SAMPLES = np.random.default_rng(3).standard_normal((13, 3, 8, 8)).astype(np.float32)
SAMPLES[5] = 0
"""One in which nothing is selected, at the thresholds of these tests."""


def int8(model, method="minmax"):
    return quantize(model, calibrate(collect(model, [{"x": SAMPLES}]), method)).model


def judged(model, other, size=4):
    """What `evaluate` finds of another model, samples in batches of a size."""
    batches = [{"x": SAMPLES[start : start + size]} for start in range(0, len(SAMPLES), size)]
    with OnnxRuntimeSession(model) as one, OnnxRuntimeSession(other) as two:
        return evaluate({"float": one, "int8": two}, batches, reference="float").scores["int8"]


def by_hand(model, other):
    """Of `picked`: samples of another size, and the noise in those of the same; and the noise in `c`."""
    unlike, noise, dense = 0, 0.0, 0.0
    with OnnxRuntimeSession(model) as one, OnnxRuntimeSession(other) as two:
        for sample in SAMPLES:
            r, x = (session.run({"x": sample[None]}) for session in (one, two))
            if r["picked"].shape == x["picked"].shape:
                noise += float(((r["picked"].astype(np.float64) - x["picked"]) ** 2).sum())
            else:
                unlike += 1
            if "c" in r:
                dense += float(((r["c"].astype(np.float64) - x["c"]) ** 2).sum())
    return unlike, noise, dense


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("size", [1, 4, 13])
def test_samples_of_one_size_are_compared_whatever_the_batches(batch, size):
    model = selector(batch)
    other = int8(model)
    unlike, noise, dense = by_hand(model, other)
    assert 0 < unlike < len(SAMPLES) - 1
    found = judged(model, other, size)
    assert (found.unlike["picked"].samples, found.unlike["places"].samples) == (unlike, unlike)
    assert found.distortions["picked"].noise == pytest.approx(noise)
    assert found.distortion.noise == pytest.approx(dense, rel=1e-6), "the dense output alone counts"
    told = score_as_dict("int8", found, is_reference=False)
    assert told["other_size"] == {"picked": unlike, "places": unlike}
    assert told["sqnr_db"] == pytest.approx(found.distortions["c"].sqnr)
    assert not told["identical"]


def test_a_fixed_batch_and_a_last_group_that_is_not_full():
    """13 samples, four at a time: the selection of a group cannot be cut, and `c` is cut to the samples there are."""
    model = selector(4)
    found = judged(model, int8(model))
    assert found.samples == 13
    single = judged(selector(1), int8(selector(1)))
    assert found.distortions["c"].noise == pytest.approx(single.distortions["c"].noise)


def test_detections_are_no_class_scores():
    """One row of 16 for one sample looks like scores of 16 classes, and is none."""
    model = selector(1, dense=False)
    found = judged(model, int8(model))
    assert (found.classes, found.agreement.total) == (0, 0)


def test_where_nothing_else_counts_a_sample_of_another_size_is_lost():
    model = selector(dense=False)
    other = int8(model)
    unlike, noise, _ = by_hand(model, other)
    found = judged(model, other)
    assert not found.uncounted
    lost = found.unlike["picked"]
    assert lost.samples == unlike
    assert found.distortion.noise == pytest.approx(noise + lost.signal + lost.power)


def test_to_be_left_out_rewards_nobody():
    """Of two models that differ alike where they can be compared, the one with more of another size is worse."""
    r = np.float32([[3, 4]])
    alike = score({"y": r + 0.1}, reference={"y": r}, samples=1)
    other = score({"y": np.float32([[3, 4], [0.1, 0]])}, reference={"y": r}, samples=1)
    gone = score({"y": np.zeros((0, 2), np.float32)}, reference={"y": r}, samples=1)
    assert (other.unlike["y"], gone.unlike["y"]) == (Unlike(1, 25, pytest.approx(25.01)), Unlike(1, 25, 0))
    assert math.isclose((alike + gone).distortion.noise, alike.distortion.noise + 25, rel_tol=1e-6)
    assert (alike + alike).distortion.sqnr > (alike + gone).distortion.sqnr > (alike + other).distortion.sqnr


def test_models_side_by_side_are_compared_by_the_same_outputs():
    one = Score(1, distortions={"c": Distortion(1, 0.5), "p": Distortion(1, 0)})
    other = Score(1, distortions={"c": Distortion(1, 0.25)}, unlike={"p": Unlike(1, 1, 1)})
    found = counted_alike({"one": one, "other": other}, {})
    assert [each.distortion for each in found.values()] == [Distortion(1, 0.5), Distortion(1, 0.25)]
    assert {each.uncounted for each in found.values()} == {frozenset("p")}


def test_nothing_to_compare_is_an_error_with_the_way_out():
    """Quantized so coarsely that no sample keeps its number of places."""
    model = selector(dense=False, threshold=0.5)
    other = selector(dense=False, threshold=0.9)
    nothing = "the size of picked, places depends on the data, and in no sample int8 can be compared with float"
    with pytest.raises(ModelError, match=f"{nothing}: give models that have what nz/NonZero reads as outputs too"):
        batches = [{"x": SAMPLES[:5]}]
        with OnnxRuntimeSession(model) as one, OnnxRuntimeSession(other) as two:
            evaluate({"float": one, "int8": two}, batches, reference="float")


def test_other_classes_are_no_other_size():
    class Given:
        inputs = (TensorSpec("x", ("N", 3), np.dtype(np.float32)),)

        def __init__(self, *shape):
            self.outputs = (TensorSpec("y", (None,) * len(shape), np.dtype(np.float32)),)
            self.shape = shape

        def run(self, batch):
            return {"y": np.ones(self.shape, np.float32)}

    for shape in ((2, 10), (2, 10, 4)):
        with pytest.raises(ModelError, match="compare models with the same classes and outputs"):
            evaluate({"a": Given(2, 1000), "b": Given(*shape)}, [{"x": np.ones((2, 3))}], reference="a")


class TestTrials:
    @staticmethod
    def trials(model, folder, size=4, samples=SAMPLES):
        np.save(folder / "x.npy", samples)
        with OnnxRuntimeSession(model) as session:
            images = open_images(folder / "x.npy", session.inputs, preprocess="none", batch_size=size)
        return Trials(Simulation(model), images), images

    def test_they_rank_by_outputs_whose_size_is_the_same(self, tmp_path):
        model = selector()
        simulation, _, forms = formed(model, SAMPLES)
        measured = [self.trials(model, tmp_path, size)[0].score(forms.forms) for size in (1, 5)]
        assert measured[0] == measured[1]
        assert measured[0].unlike["picked"].samples > 0
        assert list(measured[0].counted) == ["c"]
        assert simulation.layers[-1].type == "MatMul"

    def test_a_float_model_that_selects_nothing(self, tmp_path):
        with pytest.raises(ModelError, match=r"the sizes of .* picked depend on the data.* what nz/NonZero reads"):
            self.trials(selector(dense=False, threshold=1e6), tmp_path)

    def test_errors_of_layers_that_read_a_selection(self, tmp_path):
        model = selector()
        simulation, statistics, forms = formed(model, SAMPLES)
        _, images = self.trials(model, tmp_path)
        report = errors_by_layer(simulation, forms.forms, images, statistics=statistics)
        assert report.unlike == ("picked/MatMul",)
        last = report.layers[-1]
        assert (last.arrives.arrays, last.arrives.unlike) == (13, report.score.unlike["picked"].samples)
        assert math.isfinite(last.gives.sqnr)


def test_a_simulation_is_compared_too():
    model = selector()
    sim = QuantSim(model)
    sim.compute_encodings([{"x": SAMPLES}])
    with OnnxRuntimeSession(model) as session, sim:
        found = evaluate({"float": session, "sim": sim}, [{"x": SAMPLES}], reference="float").scores["sim"]
    assert found.uncounted == {"picked"}
    assert math.isfinite(found.distortion.sqnr)


def test_a_tensor_of_no_values_anywhere_is_calibrated(tmp_path):
    """No sample has a detection: the layer that reads them has the range of nothing."""
    model = selector(threshold=1e6)
    onnx.save(model, tmp_path / "m.onnx")
    found = collect(tmp_path / "m.onnx", [{"x": SAMPLES}])
    assert found["rows"].amax == 0
