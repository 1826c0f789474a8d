"""Average precision is pycocotools', whatever the images hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from calibrators.errors import DataError
from tests.trtcal.tasks.oracle import measured
from tests.trtcal.tasks.random_scenes import evidence, found, sample, scenes
from trtcal.tasks.measuring.average_precision import evaluation, sigmas
from trtcal.tasks.measuring.objects import Scenes

NAMES = {"boxes": "mAP 50-95", "masks": "mask mAP 50-95", "points": "OKS mAP 50-95"}


def same(result, oracle):
    prefix = result.measure.removesuffix("mAP 50-95")
    assert result.value == pytest.approx(oracle.value, abs=1e-6)
    assert result.parts == pytest.approx({f"{prefix}mAP 50": oracle.at_50, f"{prefix}mAP 75": oracle.at_75}, abs=1e-6)
    assert result.by_class == pytest.approx(oracle.by_class, abs=1e-6)


def with_masks_as(samples, kind):
    """Of the truth and of what is found, the fields that a measure needs."""
    fields = {"boxes": {"masks": None, "points": None}, "masks": {"points": None}, "points": {"masks": None}}[kind]
    return [
        replace(each, **{name: replace(getattr(each, name), **fields) for name in ("found", "known", "reference")})
        for each in samples
    ]


class TestPycocotools:
    @pytest.mark.parametrize("measure", NAMES)
    @pytest.mark.parametrize("seed", range(6))
    def test_random_sets(self, measure, seed):
        made = evidence(with_masks_as(scenes(seed, images=40), measure), measure)
        assert made.result.measure == NAMES[measure]
        assert 0 < made.result.value < 100
        same(made.result, measured(made))

    @pytest.mark.parametrize("measure", NAMES)
    def test_the_float_model_by_the_same_truth(self, measure):
        made = evidence(with_masks_as(scenes(7), measure), measure)
        itself = replace(made, samples=tuple(replace(each, found=each.reference) for each in made.samples))
        assert made.result.reference == pytest.approx(measured(itself).value, abs=1e-6)
        assert made.result.reference_by_class == pytest.approx(measured(itself).by_class, abs=1e-6)
        assert made.result.drop == pytest.approx(measured(itself).value - measured(made).value, abs=1e-6)

    @pytest.mark.parametrize("measure", NAMES)
    def test_more_than_count_in_an_image(self, measure):
        made = evidence(with_masks_as(scenes(8, images=3, classes=1, most=300), measure), measure)
        assert max(len(each.found) for each in made.samples) > 110
        same(made.result, measured(made))

    @settings(deadline=None, max_examples=40)
    @given(st.data())
    def test_tied_scores_follow_the_images_then_the_list(self, data):
        """All boxes are one of four, all scores one of three: the order is everything."""
        places = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [60, 60, 70, 70]], float)
        samples = []
        for number in range(data.draw(st.integers(1, 4))):
            known = data.draw(st.lists(st.sampled_from([0, 2, 3]), max_size=4))
            ours = data.draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 0.75])), max_size=6))
            boxes, scores = places[[place for place, _ in ours]], [score for _, score in ours]
            samples.append(sample(f"{number}", found(boxes, scores), found(places[known])))
        made = evidence(samples)
        if not any(len(each.known) for each in samples):
            with pytest.raises(DataError, match="no object is annotated"):
                made.result  # noqa: B018
        elif any(len(each.found) for each in samples):  # pycocotools raises on an empty list
            same(made.result, measured(made))

    @pytest.mark.parametrize("points", [1, 5])
    def test_other_points_than_a_person_has(self, points):
        made = evidence(with_masks_as(scenes(9, points=points), "points"), "points")
        same(made.result, measured(made, [1 / points] * points))

    def test_sigmas_of_a_person_are_cocos(self):
        assert sigmas(17) == pytest.approx(list(Params("keypoints").kpt_oks_sigmas))


class TestTraps:
    BOX = (10, 10, 30, 30)

    def test_the_first_annotation_is_found(self):
        assert evidence([sample("a", found([self.BOX], [0.5]), found([self.BOX]))]).result.value == 100

    @pytest.mark.parametrize("measure", NAMES)
    def test_annotations_are_whole_whatever_the_library(self, measure):
        """pycocotools never finds an annotation 0, and needs area and iscrowd."""
        samples = scenes(1)
        known = [each.known for each in samples]
        truth = evaluation(Scenes(measure, samples, True, 0.25), known, known).coco_gt.anns
        assert sorted(truth) == list(range(1, sum(map(len, known)) + 1))
        assert all({"area", "iscrowd", "bbox"} <= annotation.keys() for annotation in truth.values())
        areas = np.concatenate([each.areas for each in known])
        assert [truth[number]["area"] for number in sorted(truth)] == pytest.approx(areas.tolist())
        assert sum(annotation["iscrowd"] for annotation in truth.values()) == sum(
            int(each.crowds.sum()) for each in known
        )

    def test_a_score_of_zero_counts(self):
        assert evidence([sample("a", found([self.BOX], [0.0]), found([self.BOX]))]).result.value == 100

    @pytest.mark.parametrize("measure", NAMES)
    def test_nothing_found_is_zero(self, measure):
        made = evidence([replace(each, found=found(), reference=None) for each in scenes(1)], measure)
        assert made.result.value == 0
        assert set(made.result.by_class.values()) == {0}

    def test_classes_that_are_not_annotated_are_left_out(self, capfd):
        known, ours = found([self.BOX], classes=[1]), found([self.BOX] * 2, [0.9, 0.5], [7, 1])
        result = evidence([sample("a", ours, known)], classes=("cat", "dog")).result
        assert (result.value, result.by_class) == (100, {"dog": 100})
        assert capfd.readouterr() == ("", "")

    def test_what_lies_in_a_crowd_is_not_wrong(self):
        crowd = found([self.BOX, (50, 50, 90, 90)], crowds=np.array([False, True]))
        ours = found([(60, 60, 70, 70), (55, 55, 70, 70), self.BOX], [0.9, 0.8, 0.7])
        result = evidence([sample("a", ours, crowd)]).result
        assert (result.value, result.objects) == (100, 1)

    def test_two_classes_of_one_name_stay_two(self):
        known = found([self.BOX, (50, 50, 90, 90), (0, 0, 9, 9)], classes=[0, 1, 2])
        result = evidence([sample("a", known, known)], classes=("cat", "cat")).result
        assert result.by_class == {"cat (0)": 100, "cat (1)": 100, "2": 100}

    @pytest.mark.parametrize(
        ("measure", "known"),
        [
            ("boxes", found()),
            ("boxes", found([BOX], crowds=np.array([True]))),
            ("points", found([BOX], points=np.zeros((1, 17, 3)))),
        ],
    )
    def test_nothing_that_counts_is_annotated(self, measure, known):
        ours = found([self.BOX], points=np.ones((1, 17, 3)))
        samples = [sample("a", ours, known, ours), sample("b", ours, known, ours)]
        message = r"no object is annotated in any of the 2 image\(s\), a among them"
        with pytest.raises(DataError, match=message):
            evidence(samples, measure).result  # noqa: B018
        with pytest.raises(DataError, match=message):
            evidence(samples, measure).drop_interval()

    def test_points_of_another_number(self):
        ours, known = found([self.BOX], points=np.ones((1, 5, 3))), found([self.BOX], points=np.ones((1, 17, 3)))
        with pytest.raises(DataError, match=r"objects have \d+ points each"):
            evidence([sample("a", ours, known)], "points").result  # noqa: B018
