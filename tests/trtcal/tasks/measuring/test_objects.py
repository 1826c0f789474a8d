"""What of the objects takes part: finite numbers, what lies in the image, and as many as count."""

from dataclasses import replace

import numpy as np
import pytest

from calibrators.errors import DataError
from tests.trtcal.tasks.oracle import measured
from tests.trtcal.tasks.random_scenes import SIZE, agreeing, evidence, found, sample, scenes, selected
from trtcal.tasks.found import ClassMap
from trtcal.tasks.measuring.objects import usable

BOX = (10.0, 10.0, 30.0, 30.0)
OTHER = (50.0, 50.0, 90.0, 90.0)
INVALID = [np.nan, np.inf, -np.inf]


def spoilt(objects, row, field, value):
    values = getattr(objects, field).copy()
    values[row] = value
    return replace(objects, **{field: values})


class TestNotFinite:
    @pytest.mark.parametrize("value", INVALID)
    @pytest.mark.parametrize("column", range(4))
    def test_a_box_is_never_found(self, value, column):
        """pycocotools finds boxes of NaN: they would be right wherever they lie."""
        ours = spoilt(found([BOX, OTHER], [0.9, 0.8]), (0, column), "boxes", value)
        result = evidence([sample("a", ours, found([BOX, OTHER]))]).result
        assert result.value == pytest.approx(100 * 51 / 101)
        assert result.unusable == 1

    @pytest.mark.parametrize("value", INVALID)
    def test_a_score_is_never_found(self, value):
        ours = spoilt(found([BOX, OTHER], [0.9, 0.8]), 0, "scores", value)
        result = evidence([sample("a", ours, found([BOX, OTHER]))]).result
        assert result.value == pytest.approx(100 * 51 / 101)
        assert result.unusable == 1

    def test_a_model_of_nan_finds_nothing(self):
        ours = found(np.full((5, 4), np.nan), np.full(5, np.nan), np.arange(5) % 2)
        known = found([BOX, OTHER], classes=[0, 1])
        result = evidence([sample("a", ours, known, known)]).result
        assert (result.value, result.unusable, result.reference, result.lost, result.extra) == (0, 5, 100, 2, 0)

    @pytest.mark.parametrize("measure", ["boxes", "masks", "points"])
    def test_others_count_as_if_it_were_not_there(self, measure):
        """It is wrong at the lowest rank, where it takes nothing from those before it."""
        samples = [replace(each, reference=None) for each in scenes(3)]
        first = next(number for number, each in enumerate(samples) if len(each.found) > 2)
        whole = samples[first].found
        samples[first] = replace(samples[first], found=spoilt(whole, 1, "scores", np.nan))
        without = list(samples)
        without[first] = replace(without[first], found=selected(whole, np.arange(len(whole)) != 1))
        result = evidence(samples, measure).result
        assert result.value == pytest.approx(measured(evidence(without, measure)).value, abs=1e-6)
        assert result.unusable == 1

    def test_a_point_counts_where_points_do(self):
        points = np.ones((1, 17, 3))
        points[0, 4, 0] = np.nan
        ours = found([BOX], points=points)
        assert usable(ours, "boxes").all()
        result = evidence([sample("a", ours, found([BOX], points=np.ones((1, 17, 3))))], "points").result
        assert (result.value, result.unusable) == (0, 1)

    @pytest.mark.parametrize(("annotated", "who"), [(True, "the annotations"), (False, "the float model")])
    def test_what_is_known_must_be_finite(self, annotated, who):
        known = spoilt(found([BOX]), (0, 2), "boxes", np.nan)
        with pytest.raises(DataError, match=f"^image a: a box, score or point of {who} is not a finite number$"):
            evidence([sample("a", found(), known, found())], annotated=annotated).result  # noqa: B018


class TestAgreement:
    @pytest.mark.parametrize("measure", ["boxes", "masks", "points"])
    @pytest.mark.parametrize(("classes", "most"), [(4, 12), (1, 300)])
    def test_a_model_agrees_with_itself(self, measure, classes, most):
        """More than 100 (20 with points) of a class in an image could never all be found."""
        samples = [replace(each, found=each.reference) for each in scenes(5, 12, classes, most)]
        result = agreeing(samples, measure).result
        assert result.measure.startswith("agreement ")
        assert (result.value, result.reference, result.drop) == (100, 100, 0)
        assert (result.lost, result.extra, result.moved) == (0, 0, 0)
        assert set(result.by_class.values()) == {100} == set(result.reference_by_class.values())

    def test_boxes_beside_the_image_are_no_truth(self):
        """Cut at the image's edge they have no area, and overlap nothing, not even themselves."""
        both = found([(0, 10, 0, 30), BOX], [0.9, 0.8])
        result = agreeing([sample("a", both, found(), both)]).result
        assert (result.value, result.objects, result.lost) == (100, 1, 0)

    def test_empty_masks_are_no_truth(self):
        nothing = {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}
        both = found([BOX, OTHER], [0.9, 0.8], masks=(nothing, [[50, 50, 90, 50, 90, 90]]))
        result = agreeing([sample("a", both, found(), both)], "masks").result
        assert (result.value, result.objects) == (100, 1)

    def test_points_that_the_float_model_is_not_sure_of_are_not_labelled(self):
        points = np.full((1, 17, 3), 20.0)
        points[..., 2] = np.where(np.arange(17) < 9, 0.9, 0.1)
        moved = points.copy()
        moved[0, 9:, :2] = 80
        both = found([BOX], [0.9], points=points), found([BOX], [0.9], points=moved)
        assert agreeing([sample("a", both[1], found(), both[0])], "points").result.value == 100
        assert agreeing([sample("a", both[0], found(), both[1])], "points", 0.05).result.value < 100

    def test_nothing_that_the_float_model_is_sure_of(self):
        unsure = found([BOX], [0.2])
        with pytest.raises(DataError, match=r"the float model finds nothing above 0.25 in any of the 1 image\(s\), a "):
            agreeing([sample("a", unsure, found(), unsure)]).result  # noqa: B018


class TestMisfits:
    def test_no_image(self):
        with pytest.raises(DataError, match="there is no image"):
            evidence([]).result  # noqa: B018

    def test_an_image_twice(self):
        with pytest.raises(DataError, match="image a is measured twice"):
            evidence([sample("a", found(), found([BOX]))] * 2).result  # noqa: B018

    @pytest.mark.parametrize("measure", ["masks", "points"])
    def test_boxes_alone(self, measure):
        with pytest.raises(DataError, match=f"image a: {measure} are to be compared, and there are boxes without"):
            evidence([sample("a", found([BOX]), found([BOX]))], measure).result  # noqa: B018

    def test_classes_of_pixels(self):
        with pytest.raises(DataError, match="image a: boxes are to be compared, and there are classes of pixels"):
            evidence([sample("a", ClassMap(np.zeros(SIZE, np.int64)), found([BOX]))]).result  # noqa: B018

    def test_a_mask_of_another_size(self):
        mask = {"size": [5, 4], "counts": [20]}
        ours = found([BOX], masks=(mask,))
        with pytest.raises(DataError, match=r"image a: a mask is of \[5, 4\] pixels, and the image of \[96, 128\]"):
            evidence([sample("a", ours, ours)], "masks").result  # noqa: B018
