"""Measures against closed forms, scikit-learn and properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcal.measure.distortion import Distortion, distortion
from trtcal.measure.measures import Score, Share, agreeing, in_top, score
from trtcal.tasks.class_scores import class_output

NAN, INF = math.nan, math.inf


def floats(*rows):
    return np.array(rows, np.float32)


class TestShare:
    @pytest.mark.parametrize(
        ("hits", "total", "low", "high"),
        [
            (81, 263, 25.5, 36.6),  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
            (15, 148, 6.2, 16.0),
            (0, 20, 0.0, 16.1),
            (1, 29, 0.6, 17.2),
        ],
    )
    def test_wilson_interval_of_the_literature(self, hits, total, low, high):
        assert Share(hits, total).interval() == pytest.approx((low, high), abs=0.05)

    @given(st.integers(1, 10**6), st.data())
    def test_interval_is_the_solution_of_its_equation(self, total, data):
        """Its ends are the p0 with (p - p0)² = z² p0 (1 - p0) / n, within 0..100 and around the share."""
        share = Share(data.draw(st.integers(0, total)), total)
        low, high = share.interval(z=2.0)
        assert 0 <= low <= share.percent + 1e-9
        assert share.percent - 1e-9 <= high <= 100
        for end in (low / 100, high / 100):
            assert (share.hits / total - end) ** 2 == pytest.approx(4 * end * (1 - end) / total, rel=1e-6, abs=1e-12)

    def test_shares_add_up(self):
        assert Share(3, 4) + Share(1, 6) == Share(4, 10)
        assert Share(4, 10).percent == 40


class TestTop:
    def test_ties_go_to_the_first_class_as_in_argmax(self):
        scores = floats([1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0])
        labels = np.array([0, 1, 0, 2])
        np.testing.assert_array_equal(in_top(scores, labels, 1), [True, False, True, False])
        np.testing.assert_array_equal(in_top(scores, labels, 2), [True, True, True, False])

    def test_a_row_with_nan_is_wrong_even_where_argmax_points_at_it(self):
        scores = floats([NAN, 1, 0], [5, NAN, 0], [INF, 1, 0])
        np.testing.assert_array_equal(in_top(scores, np.array([0, 0, 0]), 1), [False, False, True])

    @given(st.integers(0, 2**32 - 1), st.integers(1, 7))
    def test_equals_sorting_with_ties_in_order(self, seed, k):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 4, (20, 7)).astype(np.float32)
        labels = rng.integers(0, 7, 20)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(in_top(scores, labels, k), (best == labels[:, None]).any(axis=1))

    def test_equals_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(0)
        scores, labels = rng.standard_normal((500, 20)), rng.integers(0, 20, 500)
        for k in (1, 5):
            assert in_top(scores, labels, k).mean() == metrics.top_k_accuracy_score(
                labels, scores, k=k, labels=range(20)
            )

    def test_agreement(self):
        ours, theirs = (
            floats([1, 2], [2, 1], [1, 1], [NAN, 1], [0, 1]),
            floats([0, 9], [0, 9], [1, 0], [1, 0], [NAN, 1]),
        )
        np.testing.assert_array_equal(agreeing(ours, theirs), [True, False, True, False, False])


class TestDistortion:
    def test_closed_forms(self):
        reference = floats([3, 4])
        assert distortion(reference, reference).sqnr == INF
        assert distortion(reference, reference * np.float32(1.5)).sqnr == pytest.approx(10 * math.log10(4))
        assert distortion(reference, 0 * reference).sqnr == 0
        assert distortion(0 * reference, reference).sqnr == -INF
        assert distortion(0 * reference, 0 * reference).sqnr == INF

    def test_uniform_rounding_gives_six_decibels_per_bit(self):
        """A uniform signal on [-1, 1] rounded to steps d has power 1/3 and noise d²/12."""
        signal = np.random.default_rng(0).uniform(-1, 1, 200_000)
        for bits in (4, 8):
            step = 2.0 ** (1 - bits)
            rounded = np.round(signal / step) * step
            assert distortion(signal, rounded).sqnr == pytest.approx(10 * math.log10(4 / step**2), abs=0.05)

    @given(st.integers(0, 2**32 - 1), st.integers(1, 9))
    def test_adds_up_over_any_split(self, seed, cut):
        rng = np.random.default_rng(seed)
        reference = rng.standard_normal((10, 3)).astype(np.float32)
        values = (reference + 0.1 * rng.standard_normal((10, 3))).astype(np.float32)
        split = distortion(reference[:cut], values[:cut]) + distortion(reference[cut:], values[cut:])
        assert split.sqnr == pytest.approx(distortion(reference, values).sqnr, abs=1e-9)

    def test_numbers_that_are_none(self):
        assert math.isnan(distortion(floats([1, 1]), floats([1, NAN])).sqnr)
        assert distortion(floats([1, 1]), floats([1, INF])).sqnr == -INF
        assert distortion(floats([2, -INF]), floats([1, -INF])) == Distortion(4, 1)

    def test_half_precision_does_not_overflow(self):
        assert distortion(np.array([60000], np.float16), np.array([-60000], np.float16)).sqnr == pytest.approx(
            -6.0206, abs=1e-3
        )


class TestClassOutput:
    def test_the_only_output(self):
        assert class_output({"prob": np.zeros((4, 10), np.float32)}) == "prob"
        assert class_output({"prob": np.zeros((4, 1000, 1, 1), np.float16)}) == "prob"

    def test_the_one_of_two_axes(self):
        outputs = {"features": np.zeros((4, 64, 7, 7), np.float32), "prob": np.zeros((4, 10), np.float32)}
        assert class_output(outputs) == "prob"

    def test_a_detector_has_none(self):
        assert class_output({"scores": np.zeros((1, 4420, 2)), "boxes": np.zeros((1, 4420, 4))}) is None

    @pytest.mark.parametrize(
        "outputs",
        [
            {"a": np.zeros((4, 10)), "b": np.zeros((4, 3))},  # two heads
            {"class": np.zeros((4, 10), np.int64)},
            {"logit": np.zeros((4, 1))},
            {"depth": np.zeros((4, 1, 8, 8))},
            {"count": np.zeros(4)},
        ],
    )
    def test_what_holds_no_class_scores(self, outputs):
        assert class_output(outputs) is None


class TestScore:
    def test_by_hand(self):
        reference = {"y": floats([2, 1], [2, 1], [1, 2], [1, 2])}
        outputs = {"y": floats([2, 1], [1, 2], [2, 1], [1, 2])}
        result = score(outputs, labels=np.array([0, 0, 0, 0]), reference=reference)
        assert result.top1 == Share(2, 4)
        assert result.agreement == Share(2, 4)
        assert (result.lost, result.gained, result.drop) == (1, 1, 0)
        assert result.distortions["y"] == Distortion(20, 4)
        assert result.top5 == Share()
        assert (result.samples, result.classes, result.nonfinite) == (4, 2, 0)

    def test_five_classes_have_no_top5(self):
        labels = np.array([5])
        assert score({"y": np.zeros((1, 6), np.float32)}, labels=labels).top5 == Share(0, 1)
        assert score({"y": np.zeros((1, 5), np.float32)}, labels=labels - 1).top5 == Share()

    def test_a_detector_has_distortions_only(self):
        reference = {"scores": np.ones((2, 5, 2)), "boxes": np.full((2, 5, 4), 2.0), "count": np.ones(2, np.int64)}
        outputs = {"scores": np.ones((2, 5, 2)), "boxes": np.full((2, 5, 4), 2.2), "count": np.zeros(2, np.int64)}
        result = score(outputs, reference=reference)
        assert result.agreement == result.top1 == Share()
        assert list(result.distortions) == ["scores", "boxes"]
        assert result.distortions["boxes"].sqnr == pytest.approx(20)
        assert result.distortion.sqnr == pytest.approx(10 * math.log10((20 + 160) / 1.6))

    def test_counts_samples_with_nan_and_infinity(self):
        outputs = {"a": floats([1, NAN], [1, 1], [1, 1]), "b": np.array([[[1, 1]], [[INF, INF]], [[1, 1]]])}
        assert score(outputs).nonfinite == 2
        assert score({"a": np.array([1.0, 2.0, 3.0]), "b": np.array([NAN])}).nonfinite == 3

    def test_one_number_for_all_samples(self):
        whole = {"y": np.array(2.0)}
        result = score({"y": np.array(NAN)}, reference=whole, samples=5)
        assert (result.samples, result.classes, result.nonfinite) == (5, 0, 5)
        assert score(whole, reference={"y": np.array(1.0)}, samples=5).distortions["y"] == Distortion(1, 1)

    @given(st.integers(0, 2**32 - 1), st.integers(1, 29))
    def test_adds_up_over_any_split(self, seed, cut):
        rng = np.random.default_rng(seed)
        reference = rng.integers(-3, 4, (30, 7)).astype(np.float64)
        values = reference + rng.integers(-1, 2, (30, 7))
        labels = rng.integers(0, 7, 30)
        whole = score({"y": values}, labels=labels, reference={"y": reference})
        parts = [
            score({"y": values[part]}, labels=labels[part], reference={"y": reference[part]})
            for part in (slice(cut), slice(cut, None))
        ]
        assert parts[0] + parts[1] == whole == whole + Score()
        assert whole.drop == pytest.approx(
            100 * (in_top(reference, labels, 1).mean() - in_top(values, labels, 1).mean())
        )


class TestIntegers:
    """Outputs of class numbers, as TopK and ArgMax give them."""

    def test_are_compared_value_by_value(self):
        exact = {"values": np.array([[3.0, 2.0], [3.0, 1.0]]), "labels": np.array([[4, 1], [0, 2]])}
        found = score({**exact, "labels": np.array([[4, 1], [2, 0]])}, reference=exact)
        assert found.distortion.noise == 0
        assert found.integers == {"labels": Share(2, 4)}
        assert not found.identical
        assert score(exact, reference=exact).identical
        assert (found + found).integers == {"labels": Share(4, 8)}

    def test_scores_that_are_sorted_by_class_are_none_of_classes(self):
        assert class_output({"values": np.ones((2, 5)), "indices": np.ones((2, 5), np.int64)}) is None
        assert class_output({"values": np.ones((2, 5)), "label": np.ones((2,), np.int64)}) == "values"
